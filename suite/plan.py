"""From a user's request to tasks: what will be measured, in which order, and about how long it takes."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for, as typed; an empty field leaves the choice to the plan."""

    variants: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    preset: str | None = None
    shape: str | None = None
    sets: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    device: str | None = None
    threads: str = "1"
    probes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Files that register mechanisms of the user's own."""
    budget_s: float | None = None
    """Seconds to plan to; 0 measures all."""
    timeout_s: float | None = None
    largest_batch: bool = False
