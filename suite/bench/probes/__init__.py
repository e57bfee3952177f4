"""The table of what can be measured: a file of this folder each. Nothing here loads numpy or torch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Something that can be measured, and where the code of it is."""

    code: str
    """A function of a file in `suite.bench.probes`; one of an examination takes a `Target`, and yields records."""
    kind: str = "examination"
    """What is planned, and takes longer than thought, in one way: the `kind` of its task."""
    chosen: bool = True
    """Whether ``--probe`` names it; what is measured otherwise goes without asking, or has an option of its own."""
    alone: bool = False
    """Whether nothing may run beside it."""
    fresh: bool = False
    """Whether it has to be the first thing that a process does."""
    once: bool = False
    """Whether one phase, the last, shows the others too, and one form of a mechanism, eager, most of what others do."""


PROBES: Mapping[str, Probe] = {
    "machine": Probe(code="peaks.measure", kind="machine", chosen=False, alone=True),
    "timing": Probe(code="timing.compare", kind="timing", alone=True),
    "start": Probe(code="start.measure", fresh=True),
    "agreement": Probe(code="agreement.check"),
    "memory": Probe(code="memory.measure"),
    "cost": Probe(code="cost.count"),
    "trace": Probe(code="trace.record", once=True),
    "masking": Probe(code="masking.audit", kind="masking"),
    "largest_batch": Probe(code="capacity.largest", kind="largest_batch", chosen=False, alone=True),
}
"""Every probe by name; those of an examination share its process in this order, and one that fails costs no other."""

CHOICES = tuple(name for name, probe in PROBES.items() if probe.chosen)
"""What ``--probe`` may name."""
EXAMINATIONS = tuple(name for name in CHOICES if PROBES[name].kind == "examination")
LARGEST_BATCH = "largest_batch"
