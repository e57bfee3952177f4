"""From what was asked to tasks: what will be measured, in which order, and about how long it takes."""

import itertools
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suite.bench.estimate import COMPILER_S, Speed, awaits_a_compiler, dtype_of
from suite.bench.probes import EXAMINATIONS, LARGEST_BATCH, PROBES
from suite.bench.request import Asked, Wanted
from suite.bench.tasks import Audit, Comparison, Examination, Machine, Task
from suite.core import devices, user_files
from suite.core.devices import Device
from suite.core.records import ANCHOR, Skip
from suite.core.stats import FEWEST_ROUNDS
from suite.core.workloads import PHASES, WORKLOADS, Phase, Workload
from suite.report import units
from variants import canonical
from variants.registry import published_names
from variants.spec import Spec

LEAST_SAMPLING_S = 0.8
REPEATS = 6
"""Comparisons that a second process makes again: as many as say something by themselves of what processes differ by."""
MOST_SAMPLING_S = 4.0
PATIENT_SAMPLING_S = 8.0
"""As the one before, where there is no budget."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Tasks in the order in which they run, and what is left out from the start."""

    tasks: tuple[Task, ...]
    skips: tuple[Skip, ...]


def machine_tasks(asked: Asked) -> list[Task]:
    """What comes before the plan, since its estimates stand on it."""
    return [Task(what=Machine(), device=str(device), planned_s=4.0, sampling_s=0.25) for device in asked.devices]


def _peaks_again(asked: Asked) -> list[Task]:
    """What the machine can do, to be measured again where a variant did more: it may have been busy the first time."""
    return [replace(task, label="again", planned_s=2.0, required=False) for task in machine_tasks(asked)]


def plan(asked: Asked, speed: Speed) -> Plan:
    """Tasks for what was asked.

    With a budget they stand in the order of their value, so that what a budget cuts off is worth least: of what is
    required, first the times and audits of eager float32, then the times of the other modes, then all that remains,
    the cheapest first, and among it a few comparisons in a second process; then the audits of mechanisms that are
    not timed; then eager float32 of what may be left out; then the modes that may be; last those for whose dtype
    this machine has no instructions. What is timed in another mode is timed again in eager float32 beside it, so
    that a speed-up is of the same rounds. Without a budget a mechanism has one comparison in all its modes.

    Args:
        asked: what to measure.
        speed: of this machine.
    """
    skips: list[Skip] = []
    cases: list[Case] = []
    for device, workload, wanted in itertools.product(asked.devices, asked.workloads, asked.variants):
        case = Case(wanted=wanted, workload=workload, device=device)
        reason = speed.impossible(wanted.spec, workload, str(device))
        if reason:
            skips.append(_impossible(case, reason))
        else:
            cases.append(case)
    if asked.budget_s is None:
        tasks = list(_block(asked, cases, speed, set(), sampling_s=PATIENT_SAMPLING_S))
        tasks = sorted((*tasks, *_repeats(asked, tasks, speed)), key=_turn)
        return Plan(tasks=(*tasks, *_peaks_again(asked)), skips=tuple(skips))
    if asked.devices[0].kind != "cpu" and not asked.files:
        return Plan(tasks=tuple(_on_a_gpu(asked, cases, speed, asked.budget_s)), skips=tuple(skips))
    audited: set[tuple[Spec, str]] = set()
    tasks = []
    blocks = _blocks(cases, speed)
    for block in (block for block in blocks if block[0].wanted.required):
        made = _block(asked, block, speed, audited, sampling_s=LEAST_SAMPLING_S, by_value=True)
        tasks += sorted(made, key=_turn_by_value)
    tasks += _repeats(asked, tasks, speed)
    tasks.sort(key=lambda task: _place(task, speed))
    tasks += _peaks_again(asked)
    if "masking" in asked.probes:
        tasks += sorted(_audits(_also_audited(asked), str(asked.devices[0]), speed, audited), key=_turn_by_value)
    for block in (block for block in blocks if not block[0].wanted.required):
        made = _block(asked, block, speed, audited, sampling_s=LEAST_SAMPLING_S, by_value=True)
        tasks += sorted(made, key=_turn_by_value)
    return Plan(tasks=tuple(tasks), skips=tuple(skips))


def estimated(task: Task, speed: Speed) -> Task:
    """The task with what it takes, as far as the speed of this machine is known by now; sampling as it was."""
    specs = [canonical(name) for name in task.variants]
    match task.what:
        case Audit():
            work_s = sum(speed.audit_s(spec, task.device if task.starts else "cpu") for spec in specs)
            # a small function in fewer modes
            compiling_s = sum(COMPILER_S for spec in specs if awaits_a_compiler(spec))
        case Comparison(workload=workload, phase=phase) as what:
            work_s = speed.timing_s(specs, workload, phase, task.device, starts=task.starts)
            compiling_s = sum(speed.compile_s(spec, workload, phase, task.device) for spec in specs)
            # rounds enough to stop by the interval where they are cheap, and the fewest that have one in any case
            calls_s = sum(speed.call_s(spec, workload, phase, task.device) for spec in specs)
            least_s = (FEWEST_ROUNDS + 0.5) * calls_s
            what = replace(what, least_sampling_s=least_s)
            task = replace(task, what=what, sampling_s=max(task.sampling_s, least_s))
        case Examination(workload=workload, phase=phase) if task.kind == "examination":
            work_s = sum(speed.examine_s(spec, workload, phase, task.device, starts=task.starts) for spec in specs)
            # what was compiled before comes from the cache, for the most part
            compiling_s = sum(0.6 * speed.compile_s(spec, workload, phase, task.device) for spec in specs)
        case _:
            return task
    return replace(task, compiling_s=compiling_s, planned_s=work_s + compiling_s + task.sampling_s)


def duration(tasks: Iterable[Task], *, lanes: int, nodes: int = 1) -> float:
    """Planned seconds of tasks: those that bear company in so many lanes, the others each on one of the nodes."""
    apart = beside = 0.0
    for task in tasks:
        if task.alone:
            apart += task.planned_s
        else:
            beside += task.planned_s
    return apart / nodes + beside / lanes


@dataclass(frozen=True, kw_only=True)
class Case:
    """A variant on a workload and device: all its phases and probes."""

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
    where = devices.parse(device)
    parts.append(f"--device {replace(where, threads=1, model='')}")
    if where.threads > 1:
        parts.append(f"--threads {where.threads}")
    parts += [f"--with {shlex.quote(user_files.shown(Path(path)))}" for path in asked.files]
    return " ".join(parts)


def _impossible(case: Case, reason: str) -> Skip:
    return Skip(
        task="plan",
        variant=str(case.spec),
        workload=str(case.workload),
        device=str(case.device),
        quantity="all",
        reason=reason,
        cause="impossible",
        remedy="a smaller batch, such as --set batch=1; --largest-batch finds the largest that fits",
    )


def put_off(task: Task, asked: Asked, speed: Speed, reason: str) -> list[Skip]:
    """Skips for what a budget leaves out of a task, each with the command that measures it."""
    what = task.what
    compared = isinstance(what, Comparison)
    if isinstance(what, Comparison) and what.repeats:  # nothing is missing without it
        return []
    specs = [canonical(name) for name in what.variants]
    own = [spec for spec in specs if not compared or spec.mechanism == specs[-1].mechanism]
    # the eager form stands beside the others for their sake
    changed = [spec for spec in own if spec.transforms] or own or specs
    return [
        Skip(
            task=task.name,
            variant=str(spec),
            workload=str(what.workload or ""),
            phase=what.phase or "",
            device=task.device,
            quantity=what.probes[0],
            reason=f"{lacking(spec, speed, task.device)}{reason}",
            cause="budget",
            remedy=command(asked, str(spec), what.workload or asked.workloads[0], task.device),
        )
        for spec in changed
    ]


def lacking(spec: Spec, speed: Speed, device: str) -> str:
    """That this machine has no instructions for a variant's dtype, as the beginning of a sentence; or empty."""
    if speed.supports(spec, device):
        return ""
    dtype = dtype_of(spec)
    rate, float32 = (units.per_second(speed.rate(name, device), "FLOP") for name in (dtype, "float32"))
    return f"no instructions for {dtype} here: its products run at {rate}, those of float32 at {float32}; "


def _on_a_gpu(asked: Asked, cases: Sequence[Case], speed: Speed, budget_s: float) -> list[Task]:
    """The plan where starting a process costs more than what is timed in it.

    A mechanism's forms are timed in one comparison, its phases in one process, and looked at one by one in another;
    eager forms are audited on the CPU, many at once, since a mask is the same mask there. Compiled ones stand apart.
    Required is, in the order of its value, what the budget can hold on this device; the rest follows in the same order.
    """
    first = asked.workloads[0]
    chosen = any(case.wanted.chosen for case in cases)
    wanted = [
        case
        for case in cases
        if case.wanted.required and (case.wanted.chosen or speed.supports(case.spec, str(case.device)))
    ]
    tasks: list[Task] = []
    for workload in asked.workloads:
        here = [case for case in wanted if case.workload == workload]
        # what somebody chose is wanted in the same rounds, whatever it takes
        quick = [case for case in here if chosen or not awaits_a_compiler(case.spec)]
        tasks += _in_rooms(asked, quick, speed, "")
        if workload != first:
            continue
        audited: set[tuple[Spec, str]] = set()
        if "masking" in asked.probes:
            eager = [case.spec for case in quick if not case.spec.transforms]
            tasks += sorted(_audits(eager, "cpu", speed, audited, required=True), key=_turn_by_value)
        compiled = [case for case in here if case not in quick]
        tasks += _in_rooms(asked, [it for it in compiled if it.spec.mechanism == ANCHOR], speed, ", compiled")
        tasks += _looked_at(asked, quick, speed)
        if chosen:
            tasks += _audits_in_rooms(asked, quick, speed, audited, required=True)
        tasks += _in_rooms(asked, [it for it in compiled if it.spec.mechanism != ANCHOR], speed, ", compiled")
        tasks += _repeats(asked, tasks, speed)
    tasks = _as_far_as(tasks, budget_s, speed)
    known = {task.name for task in tasks}
    tasks += _peaks_again(asked)
    later = [] if chosen else [case for case in wanted if awaits_a_compiler(case.spec) and case.workload != first]
    tasks += (replace(task, required=False) for task in _in_rooms(asked, later, speed, ", compiled"))
    tasks += (replace(task, required=False) for task in _looked_at(asked, wanted, speed) if task.name not in known)
    if "masking" in asked.probes:
        tasks += sorted(_audits(_also_audited(asked), "cpu", speed, audited), key=_turn_by_value)
        tasks += _audits_in_rooms(asked, wanted, speed, audited)
    other = [case for case in cases if case not in wanted]
    for block in _blocks([replace(it, wanted=replace(it.wanted, required=False)) for it in other], speed):
        made = _block(asked, block, speed, audited, sampling_s=LEAST_SAMPLING_S, by_value=True)
        tasks += sorted(made, key=_turn_by_value)
    # each in a process that has run nothing, which costs most and says least
    fresh = tuple(probe for probe in EXAMINATIONS if probe in asked.probes and PROBES[probe].fresh)
    for case, phase in itertools.product(wanted if fresh else (), asked.phases):
        tasks.append(_examination(case, phase, fresh, speed, required=False))
    return _begun(tasks, speed)


def _in_rooms(asked: Asked, cases: Sequence[Case], speed: Speed, called: str) -> list[Task]:
    """Comparisons of all forms of a mechanism, its phases one after the other in a process; the anchor's come first."""
    if "timing" not in asked.probes:
        return []
    groups: dict[tuple[Workload, Device, str], list[Case]] = defaultdict(list)
    for case in cases:
        groups[case.workload, case.device, case.spec.mechanism].append(case)
    rooms: dict[str, list[Task]] = defaultdict(list)
    for phase, ((workload, device, mechanism), group) in itertools.product(asked.phases, groups.items()):
        label, room = f"{mechanism}{called}", f"{called or mechanism} {workload}"
        task = _comparison(asked, group, label, workload, phase, device, speed, LEAST_SAMPLING_S, False)
        rooms[room].append(replace(task, room=room))
    order = sorted(rooms, key=lambda name: (not name.startswith(ANCHOR), sum(it.planned_s for it in rooms[name])))
    return [task for name in order for task in rooms[name]]


def _looked_at(asked: Asked, cases: Sequence[Case], speed: Speed) -> list[Task]:
    """Memory, cost and agreement of every form, those of a mechanism in one process; the cheapest come first."""
    probes = tuple(probe for probe in EXAMINATIONS if probe in asked.probes and not PROBES[probe].fresh)
    rooms: dict[str, list[Task]] = defaultdict(list)
    for case, phase in itertools.product(cases, asked.phases):
        shows_others = phase == asked.phases[-1] and not case.spec.transforms
        chosen = tuple(probe for probe in probes if shows_others or not PROBES[probe].once)
        room = f"{case.spec.mechanism}, looked at, {case.workload}"
        if chosen:
            task = _examination(case, phase, chosen, speed, required=case.wanted.required)
            rooms[room].append(replace(task, room=room))
        if asked.largest_batch:
            rooms[room].append(_examination(case, phase, (LARGEST_BATCH,), speed, required=case.wanted.required))
    order = sorted(rooms, key=lambda name: sum(task.planned_s for task in rooms[name]))
    return [task for name in order for task in rooms[name]]


def _audits_in_rooms(
    asked: Asked, cases: Sequence[Case], speed: Speed, audited: set[tuple[Spec, str]], *, required: bool = False
) -> list[Task]:
    """Audits of the other forms, on the device that they run on; those of a mechanism in one process."""
    if "masking" not in asked.probes:
        return []
    return [
        replace(task, room=f"{case.spec.mechanism}, audited")
        for case in sorted(cases, key=lambda it: it.spec.mechanism)
        if case.spec.transforms
        for task in _audits([case.spec], _audited_on(case.device), speed, audited, required=required)
    ]


def _examination(case: Case, phase: Phase, probes: tuple[str, ...], speed: Speed, *, required: bool) -> Task:
    task = Task(
        what=Examination(probes=probes, variant=str(case.spec), workload=case.workload, phase=phase),
        label=str(case.spec),
        device=str(case.device),
        planned_s=60.0,  # of the largest batch, which has no estimate: making and trying thousands of examples
        required=required,
        compiles=awaits_a_compiler(case.spec),
    )
    return task if probes == (LARGEST_BATCH,) else estimated(task, speed)


def _begun(tasks: Iterable[Task], speed: Speed) -> list[Task]:
    """The tasks, each knowing whether it begins a process."""
    found: list[Task] = []
    room = ""
    for task in tasks:
        starts = not task.room or task.room != room
        found.append(task if starts == task.starts else estimated(replace(task, starts=starts), speed))
        room = task.room
    return found


def _as_far_as(tasks: Iterable[Task], budget_s: float, speed: Speed) -> list[Task]:
    """What is required, as far as the budget holds it with the fewest rounds; what is beyond may be left out."""
    found: list[Task] = []
    room_s = _OF_A_BUDGET * budget_s
    for task in _begun(tasks, speed):
        own_s = sampling_for(task, 0.0).planned_s / (_AUDITS_AT_ONCE if isinstance(task.what, Audit) else 1)
        room_s -= own_s
        found.append(task if room_s >= 0 else replace(task, required=False))
    return found


_OF_A_BUDGET = 0.85
"""What of a budget the required tasks may take by plan: the rest is the program's start, its pages, and surprises."""
_AUDITS_AT_ONCE = 2
"""Audits on the CPU that run beside each other at least."""


def _blocks(cases: Sequence[Case], speed: Speed) -> list[list[Case]]:
    """Cells that are measured before the next ones are begun, most valuable first."""
    blocks: dict[tuple[int, int, str], list[Case]] = defaultdict(list)
    for number, case in enumerate(cases):
        spec, wanted = case.spec, case.wanted
        supported = speed.supports(spec, str(case.device))
        if wanted.required and not spec.transforms:
            key = (0, 0, "")
        elif wanted.required and (supported or wanted.chosen):
            # what is compiled takes long, and a process that a budget ends takes its comparison along
            key = (1 if supported else 2, int(awaits_a_compiler(spec)), spec.mechanism)
        else:
            key = (5 if not supported else 4 if spec.transforms else 3, number, "")
            case = replace(case, wanted=replace(wanted, required=False))
        blocks[key].append(case)
    places = list(blocks)
    return [blocks[key] for key in sorted(blocks, key=lambda key: (*key[:2], places.index(key)))]


def _block(
    asked: Asked,
    cases: Sequence[Case],
    speed: Speed,
    audited: set[tuple[Spec, str]],
    *,
    sampling_s: float,
    by_value: bool = False,
) -> Iterator[Task]:
    """Everything about some cases: comparisons, examinations, and audits of what was not audited before."""
    places = dict.fromkeys((case.device, case.workload) for case in cases)
    for (device, workload), phase in itertools.product(places, asked.phases):
        here = [case for case in cases if (case.device, case.workload) == (device, workload)]
        if "timing" in asked.probes:
            groups = dict.fromkeys(case.spec.mechanism for case in here)
            for mechanism in groups:
                group = [case for case in here if case.spec.mechanism == mechanism]
                alone = all(case.spec == Spec(ANCHOR) for case in group)
                if not (by_value and alone and len(groups) > 1):  # it stands in every other comparison
                    yield _comparison(asked, group, mechanism, workload, phase, device, speed, sampling_s, by_value)
        yield from _examinations(asked, here, phase, speed)
    if "masking" in asked.probes:
        for case in cases:
            yield from _audits([case.spec], _audited_on(case.device), speed, audited, required=case.wanted.required)
        if not by_value:
            yield from _audits(asked.audited, _audited_on(asked.devices[0]), speed, audited)


def _examinations(asked: Asked, cases: Sequence[Case], phase: Phase, speed: Speed) -> Iterator[Task]:
    last = phase == asked.phases[-1]
    probes = tuple(probe for probe in EXAMINATIONS if probe in asked.probes and (last or not PROBES[probe].once))
    for case in cases:
        if probes:
            yield _examination(case, phase, probes, speed, required=case.wanted.required)
        if asked.largest_batch:
            yield _examination(case, phase, (LARGEST_BATCH,), speed, required=case.wanted.required)


def _comparison(
    asked: Asked,
    group: Sequence[Case],
    mechanism: str,
    workload: Workload,
    phase: Phase,
    device: Device,
    speed: Speed,
    sampling_s: float,
    by_value: bool,
) -> Task:
    # the anchor, and what each variant's speed-up is over, stand in the same rounds
    specs = list(dict.fromkeys([Spec(ANCHOR), *(case.spec.plain for case in group), *(case.spec for case in group)]))
    calls_s = sum(speed.call_s(spec, workload, phase, str(device)) for spec in specs)
    required = [spec for case in group if case.wanted.required for spec in (case.spec.plain, case.spec)]
    changed = [str(case.spec) for case in group if case.spec.transforms]
    return estimated(
        Task(
            what=Comparison(
                variants=tuple(map(str, specs)),
                workload=workload,
                phase=phase,
                required=tuple(dict.fromkeys(map(str, required))),
                spends=asked.spends_budget,
            ),
            label=", ".join(changed) if by_value and changed else mechanism,
            device=str(device),
            planned_s=0.0,
            sampling_s=max(sampling_s, min(14 * calls_s, MOST_SAMPLING_S)),
            required=bool(required),
            compiles=any(map(awaits_a_compiler, specs)),
        ),
        speed,
    )


def _repeats(asked: Asked, tasks: Sequence[Task], speed: Speed) -> list[Task]:
    """The cheapest comparisons once more, eager, each in a process of its own: what processes differ by shows there."""
    again = []
    for task in tasks:
        eager = tuple(name for name in task.variants if not canonical(name).transforms)
        if isinstance(task.what, Comparison) and len(eager) > 1 and not asked.files:
            what = replace(task.what, variants=eager, required=(), repeats=True)
            label = f"{canonical(eager[-1]).mechanism}, another process"
            made = replace(task, what=what, label=label, compiles=False, room="", starts=True)
            again.append(estimated(replace(made, sampling_s=LEAST_SAMPLING_S), speed))
    unique = {task.name: task for task in again}
    return sorted(unique.values(), key=lambda task: task.planned_s)[:REPEATS]


def _audits(
    specs: Iterable[Spec], device: str, speed: Speed, audited: set[tuple[Spec, str]], *, required: bool = False
) -> Iterator[Task]:
    for spec in specs:
        if (spec, device) in audited:
            continue
        audited.add((spec, device))
        task = Task(
            what=Audit(str(spec)),
            label=str(spec),
            device=device,
            planned_s=0.0,
            required=required,
            compiles=awaits_a_compiler(spec),
        )
        yield estimated(task, speed)


def _audited_on(device: Device) -> str:
    """Where audits run, which compare with float64."""
    return "cpu" if device.kind == "mps" else str(device)


def _also_audited(asked: Asked) -> list[Spec]:
    """What is audited before anything else that may be left out: every mechanism and published form, eager."""
    return [*(wanted.spec for wanted in asked.variants if not wanted.spec.transforms), *asked.audited]


def _turn(task: Task) -> tuple[int, int, float]:
    """Comparisons first, eager before compiled, repeats last; then the rest, longest first, so that no core waits."""
    if isinstance(task.what, Comparison):
        return (0, 2 if task.what.repeats else int(task.compiles), 0.0)
    return (1, 0, -task.planned_s)


def _turn_by_value(task: Task) -> tuple[object, ...]:
    """Times before verdicts before the rest; forward first, and of comparisons the cheapest, as many as possible."""
    match task.what:
        case Comparison(phase=phase):
            return (0, PHASES.index(phase), task.planned_s)
        case Audit(variant=variant):
            return (1, int(canonical(variant).mechanism in published_names()), -task.planned_s)
    return (2, 0, -task.planned_s)


def _place(task: Task, speed: Speed) -> tuple[int, float]:
    """Of what is required: stages, and in that of examinations the cheapest first, so that most of them fit."""
    stage = _stage(task, speed)
    return stage, task.planned_s if stage == _EXAMINATIONS else 0.0


_EXAMINATIONS = 3
"""The stage of what is looked at one by one, and of comparisons that are repeated."""


def _stage(task: Task, speed: Speed) -> int:
    """Of what is required: which tasks come before all others, whatever they are about."""
    specs = [canonical(name) for name in task.variants]
    if not all(speed.supports(spec, task.device) for spec in specs):
        return 5
    changed = any(spec.transforms for spec in specs)
    if isinstance(task.what, Comparison):
        return _EXAMINATIONS if task.what.repeats else 2 if changed else 0
    return 4 if changed else 1 if isinstance(task.what, Audit) else _EXAMINATIONS


def sampling_for(task: Task, sampling_s: float) -> Task:
    """A comparison with so many seconds to sample, but never so few that nothing could be said."""
    if not isinstance(task.what, Comparison):
        return task
    sampling_s = max(sampling_s, min(LEAST_SAMPLING_S, task.sampling_s), task.what.least_sampling_s)
    return replace(task, sampling_s=sampling_s, planned_s=task.planned_s - task.sampling_s + sampling_s)
