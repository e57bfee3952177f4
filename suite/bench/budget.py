"""A budget is a promise: what may still begin, for how long it samples, and how much time is left.

Nothing here reads a clock: every question comes with the seconds since the process began, so that a run can be
simulated. What is not known about the machine before the first task is learnt from every task that ends, each kind of
work for itself.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from suite.bench.estimate import Speed
from suite.bench.plan import MOST_SAMPLING_S, duration, estimated, sampling_for
from suite.bench.tasks import Audit, Comparison, Foreseen, Machine, Task
from suite.core.records import Measurement, Record
from variants import canonical

LEAST_S = 30.0
"""What a budget has to be to be kept whatever comes: the start and the pages alone take a good part of it."""
_PAGES_OVER_START, _CELL_OVER_START = 0.4, 0.015
"""Making the pages takes so many times as long as starting this program, and so much more for each cell that they show:
both are Python's work on one CPU, and the machine is as slow in the one as in the other."""
_FEWEST_PAGES_S, _MOST_PAGES_S = 3.0, 60.0
_UNEXPECTED = 0.25
"""A required task begins even where only this share of its expected time is left: it may be quicker."""
_PATIENCE = 5.0
"""A first comparison that begins after the budget is spent may take so many times its expected time."""
_BEYOND_LEAST = 1.2
"""A comparison may take so many times its least, even where later tasks need that time."""
_NEVER_SHORT = 0.05
"""Share of the budget that any comparison may take, so that a cheap one gets all its rounds."""
_WORTH_A_LOOK = 0.05
"""Less than this share of a budget that is to be spent is not worth timing a comparison again."""
_SHORTEST_LOOK_S = 2.0
AGAIN = " again"
"""Ends the label of a comparison that is timed once more."""


class AtWork(Protocol):
    """A task at work."""

    @property
    def task(self) -> Task: ...

    @property
    def elapsed_s(self) -> float: ...


@dataclass(kw_only=True)
class Paces:
    """How long things take over what was planned, kind by kind, trusted the more the more was done.

    A kind of which nothing was done yet goes at the pace of all the others.
    """

    _came: dict[str, float] = field(default_factory=dict)
    _planned: dict[str, float] = field(default_factory=dict)

    def learn(self, task: Task, took_s: float, sampled_s: float = 0.0, compiled_s: float = 0.0) -> None:
        """From a task that has ended.

        Args:
            task: as it was planned.
            took_s: how long it took.
            sampled_s: of that, how long it took samples.
            compiled_s: of that, what the compiler took.
        """
        if isinstance(task.what, Machine):  # stands before the plan
            return
        self._add("sampling", sampled_s, task.sampling_s)
        self._add("compiling", compiled_s, task.compiling_s)
        self._add(task.kind, max(0.0, took_s - sampled_s - compiled_s), task.work_s)

    def _add(self, kind: str, came_s: float, planned_s: float) -> None:
        if planned_s > 0:
            self._came[kind] = self._came.get(kind, 0.0) + came_s
            self._planned[kind] = self._planned.get(kind, 0.0) + planned_s

    def of(self, kind: str) -> float:
        """Seconds that come for each planned one; 1 where nothing has been learnt."""
        if kind == "sampling":  # goes by the clock, whatever the machine
            return self._shrunk(("sampling",), 1.0, prior_s=5.0)
        others = [name for name in self._planned if name != "sampling"]
        return self._shrunk((kind,), self._shrunk(others, 1.0, prior_s=5.0), prior_s=5.0)

    def _shrunk(self, kinds: Sequence[str], towards: float, *, prior_s: float) -> float:
        came = sum(self._came.get(kind, 0.0) for kind in kinds)
        planned = sum(self._planned.get(kind, 0.0) for kind in kinds)
        return (came + towards * prior_s) / (planned + prior_s)

    def expected(self, task: Task) -> Task:
        """The task with the seconds that it will take, about."""
        sampling_s = self.of("sampling") * task.sampling_s
        compiling_s = self.of("compiling") * task.compiling_s
        return replace(
            task,
            planned_s=self.of(task.kind) * task.work_s + compiling_s + sampling_s,
            sampling_s=sampling_s,
            compiling_s=compiling_s,
        )


@dataclass(kw_only=True)
class Budget:
    """The time that a run has, and what it is spent on."""

    total_s: float | None
    """From the start of the process to the last page; None where all is measured whatever it takes."""
    spends: bool = False
    """Whether comparisons sample until it is spent."""
    lanes: int = 1
    """Tasks that bear company and run side by side."""
    nodes: int = 1
    """Tasks that have to be alone and run at once, on as many machines or GPUs."""
    start_s: float = 4.0
    """What the program took to start."""
    cells: int = 0
    """How many cells the pages will show at least."""
    speed: Speed = field(default_factory=Speed)
    paces: Paces = field(default_factory=Paces)
    _cells: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Those that were timed."""
    _begun: bool = False
    """Whether a comparison has begun."""
    _until_s: float = 0.0
    """When the first one has to end, though the budget were spent before."""
    _dropped: bool = False
    """Whether something required was put off: nothing else may begin then."""
    _expected: dict[str, tuple[Task, Task]] = field(default_factory=dict)

    @property
    def strict(self) -> bool:
        """Whether it ends also what is required: a budget that holds the start and the pages at all."""
        return self.total_s is not None and self.total_s >= LEAST_S

    @property
    def pages_s(self) -> float:
        """What the report will take."""
        pages_s = (_PAGES_OVER_START + _CELL_OVER_START * max(len(self._cells), self.cells)) * self.start_s
        return min(max(pages_s, _FEWEST_PAGES_S), _MOST_PAGES_S)

    @property
    def measuring_s(self) -> float:
        """When measuring ends and the pages are begun, from the start of the process."""
        assert self.total_s is not None
        return max(self.total_s - self.pages_s, 0.4 * self.total_s)

    def learn(self, task: Task, took_s: float, records: Iterable[Record]) -> None:
        """From a task that has ended, before its records are taken into the speed of this machine."""
        records = list(records)
        # against what was thought of it a moment ago: the difference is the kind's, not the mechanism's
        self.paces.learn(estimated(task, self.speed), took_s, _sampled_s(records), _compiled_s(task, records, took_s))
        self.speed.learn(records)
        self._cells |= {
            (record.variant, record.workload, record.phase, record.device)
            for record in records
            if isinstance(record, Measurement) and record.quantity == "latency"
        }
        self._expected.clear()

    def expected(self, task: Task) -> Task:
        """The task with what it will take by all that is known now."""
        known = self._expected.get(task.name)
        if known is None or known[0] != task:
            known = (task, self.paces.expected(estimated(task, self.speed)))
            self._expected[task.name] = known
        return known[1]

    def least(self, task: Task) -> Task:
        """The same with as few samples as say something."""
        return sampling_for(self.expected(task), 0.0)

    def affords(self, task: Task, pending: Iterable[Task], elapsed_s: float) -> Task | None:
        """The task with the time that it may take; None where it has to be put off.

        Args:
            task: whose turn it is.
            pending: the tasks after it, most valuable first.
            elapsed_s: since the process began.
        """
        if self.total_s is None or (isinstance(task.what, Machine) and task.required):
            return task
        left_s = self.measuring_s - elapsed_s
        least, pending = self.least(task), list(pending)
        first = isinstance(task.what, Comparison) and not self._begun
        self._begun |= first
        required_s = self._duration(map(self.least, (it for it in pending if it.required)))
        if task.required and (first or not self.strict):
            if left_s < 1.5 * least.planned_s:  # a run has something to say, however late it is
                left_s = 1.5 * least.planned_s
                self._until_s = elapsed_s + _PATIENCE * least.planned_s
        elif task.required and left_s < _UNEXPECTED * least.planned_s:
            self._dropped = True
            return None
        elif not task.required and (self._dropped or left_s < required_s + least.planned_s):
            return None
        given = self._sampling(task, least, pending, left_s)
        return self._ending(given, self._deadline_s(given, least, pending, left_s)) if self.strict else given

    def _ending(self, task: Task, deadline_s: float) -> Task:
        """The task, told when it has to be done; what is not a comparison is ended from outside."""
        if not isinstance(task.what, Comparison):
            return task
        what = replace(task.what, deadline_s=deadline_s, foreseen=self._foreseen(task.what, task.device))
        return replace(task, what=what)

    def _deadline_s(self, task: Task, least: Task, pending: Sequence[Task], left_s: float) -> float:
        """When it has to be done: in time for the required comparisons and audits after it, but never at once."""
        after = [it for it in pending if it.required and isinstance(it.what, Comparison | Audit) and not it.repeats]
        if task.repeats or not after:
            return max(left_s, 0.0)
        fair_s = max(_BEYOND_LEAST * least.planned_s, _NEVER_SHORT * (self.total_s or 0.0))
        return max(min(left_s, max(left_s - self._duration(map(self.least, after)), fair_s)), 0.0)

    def _sampling(self, task: Task, least: Task, pending: Sequence[Task], left_s: float) -> Task:
        """Its share of what is left when all that fits has been given the least."""
        if not isinstance(task.what, Comparison):
            return task
        chosen, _ = self._divided(pending, left_s - least.planned_s)
        spare_s = max(0.0, left_s - least.planned_s - self._duration(map(self.least, chosen)))
        sampling_s = least.sampling_s + spare_s / (1 + sum(isinstance(it.what, Comparison) for it in chosen))
        if not self.spends:
            sampling_s = min(sampling_s, max(task.sampling_s, MOST_SAMPLING_S))
        return sampling_for(task, sampling_s)

    def _foreseen(self, what: Comparison, device: str) -> tuple[Foreseen, ...]:
        pace = self.paces.of("compiling")
        return tuple(
            Foreseen(
                str(spec),
                self.speed.call_s(spec, what.workload, what.phase, device),
                pace * self.speed.compile_s(spec, what.workload, what.phase, device),
            )
            for spec in map(canonical, what.variants)
        )

    def over(self, elapsed_s: float) -> bool:
        """Whether what still runs has to end."""
        # a comparison ends itself in time, and has to hand over what it has
        return self.strict and elapsed_s > max(self.measuring_s, self._until_s) + 0.01 * (self.total_s or 0.0) + 0.5

    def closer_look(self, compared: Sequence[Task], elapsed_s: float) -> Task | None:
        """A comparison to time once more, where a budget that is to be spent has time left when all is done.

        Args:
            compared: the comparisons that came to their end, most valuable first; not those that were timed again.
            elapsed_s: since the process began.
        """
        if not (self.strict and self.spends and compared):
            return None
        left_s = self.measuring_s - elapsed_s
        task = replace(compared[0], label=compared[0].label + AGAIN)
        expected = self.expected(task)
        around_s = expected.planned_s - expected.sampling_s
        shares = max(1, min(len(compared), int(left_s / (around_s + _SHORTEST_LOOK_S))))
        sampling_s = left_s / shares - around_s
        if left_s < _WORTH_A_LOOK * (self.total_s or 0.0) or sampling_s < _SHORTEST_LOOK_S / 2:
            return None
        return self._ending(sampling_for(task, sampling_s), left_s)

    def left_s(self, running: Iterable[AtWork], pending: Iterable[Task], elapsed_s: float) -> float:
        """Seconds until the last page: at this pace, unless the budget ends it before or is to be spent."""
        running = list(running)
        under_way = [self.expected(one.task) for one in running]
        spent = [
            min(one.elapsed_s, it.planned_s) * (1.0 / self.nodes if it.alone else 1.0 / self.lanes)
            for one, it in zip(running, under_way, strict=True)
        ]
        under_way_s = max(0.0, self._duration(under_way) - sum(spent))
        pending = list(pending)
        whole_s = under_way_s + self._duration(map(self.expected, pending)) + self.pages_s
        if self.total_s is None:
            return whole_s
        left_s = self.total_s - elapsed_s
        if self.strict:
            # where the start took most of it, later than that
            end_s = max(self.measuring_s, self._until_s, elapsed_s) + self.pages_s - elapsed_s
            return end_s if self.spends else min(whole_s, end_s)
        required = (self.least(task) for task in pending if task.required)
        return min(whole_s, max(left_s, under_way_s + self._duration(required) + self.pages_s))

    def put_off(self, tasks: Iterable[Task], elapsed_s: float) -> list[Task]:
        """The tasks for which there will be no time, as far as is known now."""
        return self._divided(tasks, self.measuring_s - elapsed_s)[1] if self.total_s is not None else []

    def _duration(self, tasks: Iterable[Task]) -> float:
        return duration(tasks, lanes=self.lanes, nodes=self.nodes)

    def _divided(self, tasks: Iterable[Task], room_s: float) -> tuple[list[Task], list[Task]]:
        """What fits when each has the least, and what does not."""
        fitting: list[Task] = []
        left: list[Task] = []
        for task in tasks:
            own_s = self._duration([self.least(task)])
            (fitting if own_s <= room_s else left).append(task)
            room_s -= own_s if own_s <= room_s else 0.0
        return fitting, left


def _sampled_s(records: Iterable[Record]) -> float:
    """How long a comparison took samples."""
    return sum(
        float(str(record.details.get("sampled_s", 0)))
        for record in records
        if isinstance(record, Measurement) and record.quantity == "harness_time"
    )


def _compiled_s(task: Task, records: Iterable[Record], took_s: float) -> float:
    """What the compiler took of a task, about: the first calls of what is compiled."""
    if not task.compiling_s:
        return 0.0
    quantity = "first_call" if isinstance(task.what, Comparison) else "cold_start"
    spent_s = sum(
        record.value or 0.0
        for record in records
        if isinstance(record, Measurement) and record.quantity == quantity and "+compile" in record.variant
    )
    return min(spent_s or 0.5 * took_s, took_s)
