"""What one process of a run does.

A task learns what the `Machine` can do, times variants side by side in a `Comparison`, looks at one variant in an
`Examination`, or sees in an `Audit` whether one is masked correctly. Nothing here loads torch: a task is planned in one
process and done in another.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, TypedDict

from suite.bench.probes import PROBES
from suite.core import devices
from suite.core.workloads import Phase, Workload


class About(TypedDict):
    """What a record is about, as the fields of `suite.core.records.Cell`."""

    task: str
    variant: str
    workload: str
    phase: str
    device: str


@dataclass(frozen=True)
class Target:
    """What a probe of an examination looks at."""

    variant: str
    workload: Workload
    phase: Phase
    device: str
    """A label, such as ``cpu[threads=2]`` or ``cuda``."""
    task: str
    """The task that its records belong to."""
    folder: Path = Path()
    """The folder of the run, for files that it leaves beside its records."""

    @property
    def place(self) -> tuple[str, Workload, Phase, str]:
        """What is looked at, without what becomes of it."""
        return self.variant, self.workload, self.phase, self.device

    @property
    def about(self) -> About:
        """As the fields of a record."""
        return About(
            task=self.task,
            variant=self.variant,
            workload=str(self.workload),
            phase=self.phase,
            device=self.device,
        )


@dataclass(frozen=True)
class Machine:
    """Learns what a device can do; the estimates of all else stand on it."""

    probes: ClassVar[tuple[str, ...]] = ("machine",)
    variants: ClassVar[tuple[str, ...]] = ()
    workload: ClassVar[None] = None
    phase: ClassVar[None] = None


class Foreseen(NamedTuple):
    """What a variant of a comparison is thought to take, before it has run for the first time."""

    variant: str
    call_s: float
    compile_s: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Times variants of one mechanism side by side in rounds, and the anchor with them."""

    probes: ClassVar[tuple[str, ...]] = ("timing",)
    variants: tuple[str, ...]
    workload: Workload
    phase: Phase
    required: tuple[str, ...] = ()
    """Those of them that are timed however slow they are here."""
    repeats: bool = False
    """Whether another process has made it before, so that it shows what processes differ by."""
    spends: bool = False
    """Whether it samples until its time is spent, however much is known before."""
    least_sampling_s: float = 0.0
    """What the fewest rounds of it take, about."""
    deadline_s: float | None = None
    """Seconds after its start when a budget ends it; None where none does."""
    foreseen: tuple[Foreseen, ...] = ()
    """With a deadline it leaves out those that would not be done before it."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Looks at one variant with some probes, one after the other."""

    probes: tuple[str, ...]
    variant: str
    workload: Workload
    phase: Phase

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant,)


@dataclass(frozen=True)
class Audit:
    """Sees whether a variant is masked correctly, whatever the workload."""

    probes: ClassVar[tuple[str, ...]] = ("masking",)
    workload: ClassVar[None] = None
    phase: ClassVar[None] = None
    variant: str

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.variant,)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one worker process does; the unit of loss and of resume."""

    what: Machine | Comparison | Examination | Audit
    label: str = ""
    """The mechanism of a comparison, or the variant."""
    device: str
    planned_s: float
    sampling_s: float = 0.0
    """The part of it in which it may sample: the clock ends that, however slow the machine is."""
    compiling_s: float = 0.0
    """The part of it that the compiler takes."""
    required: bool = True
    """Whether it is done even where the budget is spent."""
    compiles: bool = False
    room: str = ""
    """Tasks of one room that follow each other share a process, where starting one costs more than they do."""
    starts: bool = True
    """Whether it is the first of its room, and begins a process."""

    @property
    def variants(self) -> tuple[str, ...]:
        return self.what.variants

    @property
    def name(self) -> str:
        """Unique in a run, and the same in every run of the same request."""
        what = self.what
        words = ("+".join(what.probes), self.label, str(what.workload or ""), what.phase or "", self.device)
        return " ".join(word for word in words if word)

    @property
    def kind(self) -> str:
        """What it has in common with tasks that take longer than thought for the same reasons."""
        return PROBES[self.what.probes[0]].kind

    @property
    def repeats(self) -> bool:
        """Whether it is a comparison that another process has made before."""
        return isinstance(self.what, Comparison) and self.what.repeats

    @property
    def work_s(self) -> float:
        """The part of what is planned that takes longer on a machine that is slower than thought."""
        return self.planned_s - self.sampling_s - self.compiling_s

    @property
    def model(self) -> str:
        """The model of its device, where the run is on several."""
        return devices.parse(self.device).model

    @property
    def alone(self) -> bool:
        """Whether nothing may run beside it."""
        return PROBES[self.what.probes[0]].alone or not self.device.startswith("cpu")
