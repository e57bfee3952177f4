"""A run: from a request to a run folder with its records and its report."""

import shlex
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from suite import environment, guest, interrupts, store, worker
from suite.answer import SPOKEN, Manner
from suite.errors import UserError
from suite.estimate import Speed
from suite.plan import LEAST_SAMPLING_S, MACHINE, Plan, Task, command, duration, machine_tasks, plan, shortened
from suite.probes.step import About
from suite.records import ANCHOR, Measurement, Record, Skip
from suite.report import outcome, units
from suite.report.bar import progress_bar
from suite.request import Asked, Request, understand
from suite.worker import Worker

RESULTS = Path("results")
_LANES = 2
"""Tasks that do not time anything run side by side, where there are cores for it."""
_PATIENCE = 8.0
"""A task that takes so many times as long as planned counts as hung."""
_LEAST_PATIENCE_S = 120.0


def start(
    request: Request,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    manner: Manner = SPOKEN,
) -> int:
    """Do what was asked and return the exit code.

    Args:
        request: what to measure.
        out: the run folder; under ``results`` if left out.
        resume: the folder of a run to continue with its own request instead.
        manner: in which progress and the answer are told.

    Raises:
        UserError: the request is wrong, or a folder cannot be used; before any work.
    """
    guest.warm_up()
    if resume is not None:
        if replace(request, files=()) != Request() or out is not None:
            raise UserError(f"--resume {resume} continues with the run's own arguments: give it --with at most")
        before = environment.read(resume)
        request = environment.request_of(before, request.files)
    asked = understand(request)
    described = environment.describe(request)
    if resume is not None:
        changed = environment.changes(before, described)
        if changed:
            raise UserError(f"cannot resume {resume}: {'; '.join(changed)}; start a new run")
        folder = resume
        store.drop_unfinished(folder)
        known = store.read(folder)
    else:
        folder = out or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{asked.devices[0].kind}"
        store.claim(folder)
        environment.write(folder, described)
        known = []
    resuming = f"python run_all.py --resume {shlex.quote(str(folder))}"

    def work() -> int:
        with interrupts.temporary_folder() as cache, store.Writer(folder) as writer:
            session = Session(asked, folder, cache, writer, known, manner.console())
            interrupted = session.run()
        return outcome.finish(folder, manner, interrupted=interrupted, resume=resuming)

    return outcome.seen_through(work, folder, manner, resume=resuming)


class Session:
    """Tasks on their way through worker processes into the store."""

    def __init__(
        self, asked: Asked, folder: Path, cache: Path, writer: store.Writer, known: Sequence[Record], console: Console
    ) -> None:
        self._asked = asked
        self._folder = folder
        self._cache = cache
        self._writer = writer
        self._known = list(known)
        self._done = store.finished(known)
        self._console = console
        self._started = time.monotonic()
        self._foretold = False
        self._paces = Paces()
        alone = any(device.kind == "cuda" for device in asked.devices)
        self._lanes = 1 if alone else min(_LANES, environment.usable_cores())

    @property
    def records(self) -> Sequence[Record]:
        """Everything stored so far, by this session and by those that it continues."""
        return self._known

    def run(self) -> bool:
        """Work through the plan; whether the user interrupted it."""
        try:
            self.work(machine_tasks(self._asked))
            made = plan(self._asked, Speed.measured(self._known), lanes=self._lanes)
            stored = {
                (skip.task, skip.variant, skip.workload, skip.device) for skip in self._known if isinstance(skip, Skip)
            }
            self._store(
                [skip for skip in made.skips if (skip.task, skip.variant, skip.workload, skip.device) not in stored]
            )
            self._show(made)
            with progress_bar(self._console) as progress:
                self.work(made.tasks, progress)
            elapsed_s = time.monotonic() - self._started
            self._store([Measurement(task="run", quantity="run_time", unit="s", value=elapsed_s)])
        except KeyboardInterrupt:
            return True
        return False

    def work(self, tasks: Iterable[Task], progress: Progress | None = None) -> None:
        """Work through tasks, whatever becomes of their workers; those that were finished before are passed over."""
        pending = deque(self._without_culprits(task) for task in tasks if task.name not in self._done)
        running: list[Worker] = []
        planned_s = duration(pending, lanes=self._lanes)
        bar = progress.add_task("", total=planned_s, left="") if progress else None
        try:
            while pending or running:
                while pending and self._may_start(pending[0], running):
                    task = self._fitted(pending.popleft(), pending)
                    if task is not None:
                        running.append(Worker(task, self._asked.files, self._folder, self._cache))
                worker.wait_for(running, 0.25)
                for one in list(running):
                    again = self._attend(one)
                    if again is None:
                        continue
                    running.remove(one)
                    pending.extendleft(reversed(again))
                    if progress is not None and not self._foretold:
                        self._foretell(running, pending, planned_s)
                if progress is not None and bar is not None:
                    self._tell(progress, bar, running, pending)
        finally:
            for one in running:
                one.kill()

    def _without_culprits(self, task: Task) -> Task:
        """A comparison that was broken off before goes on without what broke it."""
        culprits = {skip.variant for skip in self._known if isinstance(skip, Skip) and skip.task == task.name}
        return replace(task, variants=tuple(name for name in task.variants if name not in culprits))

    def _may_start(self, task: Task, running: Sequence[Worker]) -> bool:
        if not running:
            return True
        return not task.alone and not any(one.task.alone for one in running) and len(running) < self._lanes

    def _attend(self, one: Worker) -> list[Task] | None:
        """Look after a worker: None while it works, else what its end leaves to be done."""
        ended = one.receive()
        if not ended and one.elapsed_s < self._limit_s(one.task) and one.waited_s < guest.LONGEST_START_S:
            return None
        task = one.task
        waited_s = one.elapsed_s + one.waited_s
        ending = one.end()
        if one.complete:
            self._paces.learn(task, one.elapsed_s, _sampled_s(one.records))
            self._store(self._with_remedies(one))
            self._done.add(task.name)
            return []
        if not ended:
            reason = f"no end after {waited_s:.0f} s, planned were {task.planned_s:.0f} s"
            return self._after_failure(one, Skip(**_about(one), quantity="all", reason=reason, cause="timeout"))
        return self._after_failure(one, Skip(**_about(one), quantity="all", reason=ending.reason, cause=ending.cause))

    def _limit_s(self, task: Task) -> float:
        return self._asked.timeout_s or max(_LEAST_PATIENCE_S, _PATIENCE * task.planned_s)

    def _after_failure(self, one: Worker, failure: Skip) -> list[Task]:
        """Store the failure; a comparison is measured again without its culprit."""
        task = one.task
        culprit = failure.variant
        others = tuple(name for name in task.variants if name != culprit)
        if task.probes != ("timing",) or not culprit or culprit == ANCHOR or not others:
            # an examination keeps what it found before it failed
            kept = [] if task.probes == ("timing",) else one.records
            self._store([failure, *kept, _closing(one)])
            self._done.add(task.name)
            return []
        self._store([failure])
        if others == (ANCHOR,):
            self._store([_closing(one)])
            self._done.add(task.name)
            return []
        return [replace(task, variants=others)]

    def _with_remedies(self, one: Worker) -> list[Record]:
        """The worker's records, with the command that measures what it had to skip."""
        task = one.task
        if task.workload is None:
            return one.records
        return [
            replace(record, remedy=command(self._asked, record.variant, task.workload, task.device))
            if isinstance(record, Skip) and record.cause == "budget" and not record.remedy and record.variant
            else record
            for record in one.records
        ]

    def _fitted(self, task: Task, pending: Sequence[Task]) -> Task | None:
        """The task as the rest of the budget allows; None, and a skip on record, where it does not."""
        if self._asked.budget_s is None or task.probes == (MACHINE,):
            return task
        left_s = self._asked.budget_s - (time.monotonic() - self._started)
        needed_s = self._expected_s([it for it in pending if it.required])
        own_s = self._paces.expected(task).planned_s
        if not task.required and needed_s + own_s > left_s:
            assert task.workload is not None or task.probes == ("masking",)
            self._store([self._put_off(task)])
            self._done.add(task.name)
            return None
        behind_s = needed_s + own_s - left_s
        if behind_s > 0 and task.sampling_s > LEAST_SAMPLING_S:
            return shortened(task, max(0.0, 1 - behind_s / task.sampling_s))
        return task

    def _put_off(self, task: Task) -> Skip:
        workload = task.workload
        variant = task.variants[-1]
        return Skip(
            task=task.name,
            variant=variant,
            workload=str(workload or ""),
            phase=task.phase or "",
            device=task.device,
            quantity=task.probes[0],
            reason="the budget was spent before its turn",
            cause="budget",
            remedy=command(self._asked, variant, workload or self._asked.workloads[0], task.device),
        )

    def _expected_s(self, tasks: Iterable[Task]) -> float:
        """Seconds that tasks will take, by what those before them took."""
        return duration(map(self._paces.expected, tasks), lanes=self._lanes)

    def _left_s(self, running: Sequence[Worker], pending: Iterable[Task]) -> float:
        """Seconds until the end: at this pace, unless the budget will put off or shorten what is still to come."""
        spent_s = sum(min(one.elapsed_s, self._paces.expected(one.task).planned_s) for one in running)
        under_way_s = max(0.0, self._expected_s([one.task for one in running]) - spent_s)
        pending = list(pending)
        whole_s = under_way_s + self._expected_s(pending)
        if self._asked.budget_s is None:
            return whole_s
        least_s = under_way_s + self._expected_s([shortened(task, 0.0) for task in pending if task.required])
        budget_left_s = self._asked.budget_s - (time.monotonic() - self._started)
        return min(whole_s, max(least_s, budget_left_s))

    def _store(self, records: Sequence[Record]) -> None:
        self._writer.write(records)
        self._known += records

    def _show(self, made: Plan) -> None:
        tasks = [task for task in made.tasks if task.name not in self._done]
        variants = {name for task in tasks for name in task.variants}
        workloads = ", ".join(map(str, self._asked.workloads))
        budget = f" within a budget of {units.seconds(made.budget_s)}" if made.budget_s else ""
        self._console.print(
            f"{len(variants)} variants on {workloads}, {' and '.join(self._asked.phases)}, "
            f"{', '.join(map(str, self._asked.devices))}: {len(tasks)} tasks, "
            f"about {units.seconds(duration(tasks, lanes=self._lanes))}{budget}"
        )
        for task in sorted(tasks, key=lambda task: -task.planned_s)[:3]:
            if task.planned_s > 20:
                self._console.print(f"  the longest: {task.name}, about {units.seconds(task.planned_s)}")
        put_off = [skip for skip in made.skips if skip.cause == "budget"]
        if put_off:
            self._console.print(
                f"  put off: {', '.join(skip.variant for skip in put_off)}; the report says how to measure them"
            )
        for skip in made.skips:
            if skip.cause != "budget":
                self._console.print(f"  left out: {skip.variant} on {skip.workload}: {skip.reason}")
        self._console.print(f"  into {self._folder}")

    def _tell(self, progress: Progress, bar: object, running: Sequence[Worker], pending: Sequence[Task]) -> None:
        rest_s = self._rest_s(running, pending)
        current = ", ".join(one.at or one.task.name for one in running)
        progress.update(
            bar,  # type: ignore[arg-type]  # a rich TaskID
            completed=max(0.0, (progress.tasks[0].total or 0.0) - rest_s),
            description=f"{current[:60]}",
            left=f"{units.seconds(self._left_s(running, pending))} left",
        )

    def _rest_s(self, running: Sequence[Worker], pending: Iterable[Task]) -> float:
        """Planned seconds of what is not done yet."""
        rest = duration([one.task for one in running], lanes=self._lanes) + duration(pending, lanes=self._lanes)
        spent = sum(min(one.elapsed_s, one.task.planned_s) for one in running)
        return max(rest - spent, 0.0)

    def _foretell(self, running: Sequence[Worker], pending: Sequence[Task], planned_s: float) -> None:
        """Once the first tenth is done, put the estimate on record, so that it can be held against what came."""
        if self._rest_s(running, pending) > 0.9 * planned_s:
            return
        self._foretold = True
        left_s = self._left_s(running, pending)
        elapsed_s = time.monotonic() - self._started
        self._store(
            [Measurement(task="run", quantity="time_left", unit="s", value=left_s, details={"after_s": elapsed_s})]
        )


@dataclass(kw_only=True)
class Paces:
    """How long things take over what was planned, trusted the more the more was done."""

    _work: list[float] = field(default_factory=lambda: [5.0, 5.0])
    """Seconds that came, and that were planned; both begin where nothing has been learnt."""
    _sampling: list[float] = field(default_factory=lambda: [5.0, 5.0])

    def learn(self, task: Task, took_s: float, sampled_s: float) -> None:
        """From a task that has ended."""
        if task.probes == (MACHINE,):  # stands before the plan
            return
        for pace, came_s, planned_s in (
            (self._work, took_s - sampled_s, task.work_s),
            (self._sampling, sampled_s, task.sampling_s),
        ):
            pace[0] += came_s
            pace[1] += planned_s

    def expected(self, task: Task) -> Task:
        """The task with the seconds that it will take, about."""
        work, sampling = (came_s / planned_s for came_s, planned_s in (self._work, self._sampling))
        sampling_s = sampling * task.sampling_s
        return replace(task, planned_s=work * task.work_s + sampling_s, sampling_s=sampling_s)


def _sampled_s(records: Iterable[Record]) -> float:
    """How long a comparison took samples."""
    return sum(
        float(str(record.details.get("sampled_s", 0)))
        for record in records
        if isinstance(record, Measurement) and record.quantity == "harness_time"
    )


def _about(one: Worker) -> About:
    task = one.task
    variant = one.at or (task.variants[0] if len(task.variants) == 1 else "")
    return About(
        task=task.name,
        variant=variant,
        workload=str(task.workload or ""),
        phase=task.phase or "",
        device=task.device,
    )


def _closing(one: Worker) -> Measurement:
    """Marks a task as done although its worker could not."""
    return Measurement(
        task=one.task.name,
        device=one.task.device,
        quantity="task_time",
        unit="s",
        value=one.elapsed_s,
        details={"planned_s": round(one.task.planned_s, 2), "failed": True},
    )
