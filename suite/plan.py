"""From what was asked to tasks: what will be measured, in which order, and about how long it takes."""

import itertools
import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suite.devices import Device
from suite.estimate import Speed, compiles
from suite.outline import plain
from suite.records import ANCHOR, Skip
from suite.request import Asked, Probe, Wanted
from suite.stats import FEWEST_ROUNDS
from suite.workloads import WORKLOADS, Phase, Workload
from variants.spec import Spec

MACHINE = "machine"
"""The task that measures what the device can do; estimates stand on it."""
LARGEST_BATCH = "largest_batch"
EXAMINATIONS: tuple[Probe, ...] = ("start", "agreement", "memory", "cost", "trace")
"""Probes that look at one variant at a time and share its worker process, in this order: a cold start comes first."""
AROUND_S = 12.0
"""Of a budget, what the start and the report take."""
LEAST_SAMPLING_S = 0.8
MOST_SAMPLING_S = 4.0
PATIENT_SAMPLING_S = 8.0
"""As the one before, where there is no budget."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one worker process does; the unit of loss and of resume."""

    probes: tuple[str, ...]
    label: str = ""
    """The mechanism of a comparison, or the variant."""
    variants: tuple[str, ...] = ()
    workload: Workload | None = None
    phase: Phase | None = None
    device: str
    planned_s: float
    sampling_s: float = 0.0
    """Of it, how long a comparison may sample."""
    least_sampling_s: float = 0.0
    """What the fewest rounds of it take, about."""
    required_variants: tuple[str, ...] = ()
    """Of a comparison, what is timed however slow it is here."""
    required: bool = True
    """Whether it is done even where the budget is spent."""
    compiles: bool = False

    @property
    def name(self) -> str:
        """Unique in a run, and the same in every run of the same request."""
        words = ("+".join(self.probes), self.label, str(self.workload or ""), self.phase or "", self.device)
        return " ".join(word for word in words if word)

    @property
    def work_s(self) -> float:
        """Of it, what takes longer on a machine that is slower than thought; sampling goes by the clock."""
        return self.planned_s - self.sampling_s

    @property
    def alone(self) -> bool:
        """Whether nothing may run beside it."""
        return self.probes[0] in (MACHINE, "timing", LARGEST_BATCH) or self.device == "cuda"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tasks in the order in which they run, and what is left out from the start."""

    tasks: tuple[Task, ...]
    skips: tuple[Skip, ...]
    budget_s: float | None


def machine_tasks(asked: Asked) -> list[Task]:
    """What comes before the plan, since its estimates stand on it."""
    return [Task(probes=(MACHINE,), device=str(device), planned_s=4.0, sampling_s=0.25) for device in asked.devices]


def plan(asked: Asked, speed: Speed, *, lanes: int = 1) -> Plan:
    """Tasks for what was asked, cut to its budget.

    Args:
        asked: what to measure.
        speed: of this machine.
        lanes: how many tasks may run side by side where none needs the machine for itself.
    """
    skips: list[Skip] = []
    cells: list[Cell] = []
    for device, workload, wanted in itertools.product(asked.devices, asked.workloads, asked.variants):
        cell = Cell(wanted=wanted, workload=workload, device=device)
        reason = speed.impossible(wanted.spec, workload)
        if reason:
            skips.append(_skip(cell, asked, reason, "impossible"))
        else:
            cells.append(cell)
    if asked.budget_s is None:
        tasks = list(_tasks(asked, cells, speed, sampling_s=PATIENT_SAMPLING_S))
        return Plan(tasks=tuple(sorted(tasks, key=_turn)), skips=tuple(skips), budget_s=None)

    room_s = asked.budget_s - AROUND_S
    chosen = [cell for cell in cells if cell.wanted.required]
    for cell in cells:
        if cell.wanted.required:
            continue
        trial = [*chosen, cell]
        if duration(_tasks(asked, trial, speed, sampling_s=LEAST_SAMPLING_S), lanes=lanes) <= room_s:
            chosen = trial
        else:
            skips.append(_skip(cell, asked, f"does not fit into {asked.budget_s:.0f} s beside the others", "budget"))
    tasks = list(_tasks(asked, chosen, speed, sampling_s=LEAST_SAMPLING_S))
    comparisons = sum(1 for task in tasks if task.probes[0] == "timing")
    spare_s = max(0.0, room_s - duration(tasks, lanes=lanes)) / max(comparisons, 1)
    # a comparison that is narrow enough before it has spent its share stops
    most_s = math.inf if asked.spends_budget else MOST_SAMPLING_S
    tasks = list(_tasks(asked, chosen, speed, sampling_s=min(LEAST_SAMPLING_S + spare_s, most_s)))
    return Plan(tasks=tuple(sorted(tasks, key=_turn)), skips=tuple(skips), budget_s=asked.budget_s)


def duration(tasks: Iterable[Task], *, lanes: int) -> float:
    """Planned seconds of tasks, those that bear company side by side."""
    apart = beside = 0.0
    for task in tasks:
        if task.alone:
            apart += task.planned_s
        else:
            beside += task.planned_s
    return apart + beside / lanes


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A variant on a workload and device."""

    wanted: Wanted
    workload: Workload
    device: Device

    @property
    def spec(self) -> Spec:
        return self.wanted.spec


def command(asked: Asked, variant: str, workload: Workload, device: str) -> str:
    """What measures one variant on one workload, whole."""
    parts = ["python run_all.py run", shlex.quote(variant)]
    base = WORKLOADS.get(workload.name)
    if base is None:
        parts.append(f"--shape {','.join(f'{key}={value}' for key, value in workload.overrides)}")
    else:
        parts.append(f"--workload {workload.name}")
        parts += [f"--set {key}={value}" for key, value in workload.overrides]
    kind, _, threads = device.partition("[threads=")
    parts.append(f"--device {kind}")
    if threads:
        parts.append(f"--threads {threads.rstrip(']')}")
    parts += [f"--with {shlex.quote(Path(path).name)}" for path in asked.files]
    return " ".join(parts)


def _skip(cell: Cell, asked: Asked, reason: str, cause: str) -> Skip:
    return Skip(
        task="plan",
        variant=str(cell.spec),
        workload=str(cell.workload),
        device=str(cell.device),
        quantity="all",
        reason=reason,
        cause="budget" if cause == "budget" else "impossible",
        remedy=command(asked, str(cell.spec), cell.workload, str(cell.device))
        if cause == "budget"
        else "a smaller batch, such as --set batch=1; --largest-batch finds the largest that fits",
    )


def _tasks(asked: Asked, cells: Sequence[Cell], speed: Speed, *, sampling_s: float) -> Iterator[Task]:
    first = True  # the first compilation of a run pays for the compiler's start
    places = dict.fromkeys((cell.device, cell.workload) for cell in cells)
    for device, workload in places:
        here = [cell for cell in cells if (cell.device, cell.workload) == (device, workload)]
        if "timing" in asked.probes:
            for mechanism, phase in itertools.product(
                dict.fromkeys(cell.spec.mechanism for cell in here), asked.phases
            ):
                group = [cell for cell in here if cell.spec.mechanism == mechanism]
                comparison = _comparison(group, mechanism, workload, phase, device, speed, sampling_s, first=first)
                first = first and not comparison.compiles
                yield comparison
        examinations = tuple(probe for probe in EXAMINATIONS if probe in asked.probes)
        for cell, phase in itertools.product(here, asked.phases):
            # a trace of the last phase shows the others too
            probes = tuple(probe for probe in examinations if probe != "trace" or phase == asked.phases[-1])
            if not probes:
                continue
            yield Task(
                probes=probes,
                label=str(cell.spec),
                variants=(str(cell.spec),),
                workload=workload,
                phase=phase,
                device=str(device),
                planned_s=speed.examine_s(cell.spec, workload, phase),
                required=cell.wanted.required,
                compiles=compiles(cell.spec),
            )
        for cell, phase in itertools.product(here if asked.largest_batch else (), asked.phases):
            yield Task(
                probes=(LARGEST_BATCH,),
                label=str(cell.spec),
                variants=(str(cell.spec),),
                workload=workload,
                phase=phase,
                device=str(device),
                planned_s=60.0,  # making and trying thousands of examples
                compiles=compiles(cell.spec),
            )
    if "masking" in asked.probes:
        yield from _audits(asked, cells, speed)


def _comparison(
    group: Sequence[Cell],
    mechanism: str,
    workload: Workload,
    phase: Phase,
    device: Device,
    speed: Speed,
    sampling_s: float,
    *,
    first: bool,
) -> Task:
    # the anchor, and what each variant's speed-up is over, stand in the same rounds
    specs = list(dict.fromkeys([Spec(ANCHOR), *(plain(cell.spec) for cell in group), *(cell.spec for cell in group)]))
    calls_s = sum(speed.call_s(spec, workload, phase) for spec in specs)
    # rounds enough to stop by the interval where they are cheap, and the fewest that have one in any case
    least_sampling_s = (FEWEST_ROUNDS + 0.5) * calls_s
    sampling_s = max(sampling_s, min(14 * calls_s, MOST_SAMPLING_S), least_sampling_s)
    required = [spec for cell in group if cell.wanted.required for spec in (plain(cell.spec), cell.spec)]
    return Task(
        probes=("timing",),
        label=mechanism,
        variants=tuple(map(str, specs)),
        workload=workload,
        phase=phase,
        device=str(device),
        planned_s=speed.timing_s(specs, workload, phase, first=first) + sampling_s,
        sampling_s=sampling_s,
        least_sampling_s=least_sampling_s,
        required=bool(required),
        required_variants=tuple(dict.fromkeys(map(str, required))),
        compiles=any(map(compiles, specs)),
    )


def _audits(asked: Asked, cells: Sequence[Cell], speed: Speed) -> Iterator[Task]:
    wanted = {(cell.spec, cell.device): cell.wanted.required for cell in reversed(cells)}
    wanted |= {(spec, asked.devices[0]): True for spec in asked.audited}
    for (spec, device), required in wanted.items():
        yield Task(
            probes=("masking",),
            label=str(spec),
            variants=(str(spec),),
            device=str(device),
            planned_s=speed.audit_s(spec),
            required=required,
            compiles=compiles(spec),
        )


def _turn(task: Task) -> tuple[int, int, float]:
    """Comparisons first, eager before compiled; then the rest, the longest first, so that no core waits at the end."""
    if task.probes[0] == "timing":
        return (0, int(task.compiles), 0.0)
    return (1, 0, -task.planned_s)


def shortened(task: Task, share: float) -> Task:
    """A comparison with less time to sample, where the run is behind its plan."""
    sampling_s = max(task.sampling_s * share, min(LEAST_SAMPLING_S, task.sampling_s), task.least_sampling_s)
    return replace(task, sampling_s=sampling_s, planned_s=task.planned_s - task.sampling_s + sampling_s)
