"""A run: from a request to a run folder with its records and its report."""

import contextlib
import importlib
import shlex
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress, TaskID

from suite.bench import environment, nodes, worker
from suite.bench import where as locations
from suite.bench.budget import AGAIN, LEAST_S, Budget
from suite.bench.description import describe
from suite.bench.estimate import Speed
from suite.bench.plan import Plan, command, machine_tasks, plan, put_off
from suite.bench.request import Asked, Request, accelerator, understand
from suite.bench.tasks import About, Comparison, Machine, Task
from suite.bench.where import HERE, Where
from suite.core import interrupts, store, user_files
from suite.core.answer import SPOKEN, Manner
from suite.core.devices import Device
from suite.core.errors import UserError, printable
from suite.core.records import ANCHOR, FAILURES, Description, Measurement, Record, Skip, decode
from suite.execution import guest, loop
from suite.execution.jobs import Ending, Executor, Job
from suite.execution.local import Local, gpu_name, visible_gpus
from suite.execution.loop import Running
from suite.report import outcome, units
from suite.report.bar import progress_bar
from variants import canonical

RESULTS = Path("results")
_LANES = 2
"""Tasks that do not time anything run side by side, where there are cores for it."""
_CORES_BESIDE_A_GPU = 4
"""So many CPUs for each GPU that works at the same time as others: what launches on one must not wait for another."""
_AUDITS_BESIDE_A_GPU = 8
"""Audits on the CPU that run side by side while no GPU is timed."""
_CLOCKS_APART, _CLOCKS_APART_S = 0.5, 5.0
"""By how much of it, and by how many seconds more, a worker's own time may differ from ours: it starts and ends."""
_BESIDE_TELLING = 9.0
"""How many times as long as telling how far everything is takes, nothing is told."""
_MOST_NAMED = 6
"""Variants that one line names."""
_PATIENCE = 8.0
"""A task that takes so many times as long as planned counts as hung."""
_LEAST_PATIENCE_S = 120.0


def start(
    request: Request,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    manner: Manner = SPOKEN,
    began: float | None = None,
    where: Where = HERE,
) -> int:
    """Do what was asked and return the exit code.

    Args:
        request: what to measure.
        out: the run folder; under ``results`` if left out.
        resume: the folder of a run to continue with its own request instead.
        manner: in which progress and the answer are told.
        began: when the time that a budget counts began, on the clock of ``time.monotonic``; now if left out. A program
            of which this is all gives `suite.core.process.began`.
        where: its tasks run.

    Raises:
        UserError: the request is wrong, or a folder cannot be used; before any work.
    """
    began = time.monotonic() if began is None else began
    guest.warm_up()
    _load_pages()
    if resume is not None:
        if replace(request, files=(), elsewhere=False) != Request() or out is not None:
            raise UserError(f"--resume {resume} continues with the run's own arguments: give it --with at most")
        before = environment.read(resume)
        request = environment.request_of(before, request.files)
    request = replace(request, elsewhere=not where.here)
    locations.check(where, request.device)
    asked = understand(request)
    folder = resume or out or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{asked.devices[0].kind}"
    resuming = _continuing(folder, request, where)
    with contextlib.ExitStack() as stack:
        cluster, described = None, environment.describe(request)
        kinds: Mapping[str, Mapping[str, Any]] = {}
        if not where.here:
            device = asked.devices[0].kind
            cluster = stack.enter_context(
                locations.opened(where, folder, device=device, beside=_LANES, files=asked.files)
            )
        if resume is None:
            store.claim(folder)
        if cluster is not None:
            found = nodes.survey(cluster, say=manner.console().print)
            kinds = nodes.models(cluster, found)
            asked = asked.on_models(kinds)
            described = environment.describe(request, found.machines)
        if resume is not None:
            changed = environment.changes(before, described)
            if changed:
                raise UserError(f"cannot resume {resume}: {'; '.join(changed)}; start a new run")
            store.drop_unfinished(folder)
            known = store.read(folder)
        else:
            environment.write(folder, described)
            known = []

        def work() -> int:
            with interrupts.temporary_folder() as cache, store.Writer(folder) as writer:
                session = Session(
                    asked, folder, cache, writer, known, manner.console(), began=began, executor=cluster, kinds=kinds
                )
                interrupted = session.run()
            if cluster is not None:
                nodes.record(folder, cluster)
            code = outcome.finish(folder, manner, interrupted=interrupted, resume=resuming)
            if not interrupted:
                _record_end(folder, began, session.ended_s)
            return code

        return outcome.seen_through(work, folder, manner, resume=resuming)


def _load_pages() -> None:
    """Load what the plan and the pages need while the workers start, when this process has nothing else to do."""

    def load() -> None:
        for name in ("torch.fx.experimental.symbolic_shapes", "suite.report.page"):  # the first is for shapes alone
            importlib.import_module(name)

    threading.Thread(target=load, daemon=True, name="load pages").start()


class Session:
    """Tasks on their way through worker processes into the store."""

    def __init__(
        self,
        asked: Asked,
        folder: Path,
        cache: Path,
        writer: store.Writer,
        known: Sequence[Record],
        console: Console,
        *,
        began: float | None = None,
        executor: Executor | None = None,
        kinds: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Begin nothing yet.

        Args:
            asked: what to measure.
            folder: of the run.
            cache: for what may be thrown away.
            writer: of its records.
            known: records of the sessions that it continues.
            console: where progress is shown.
            began: as that of `start`.
            executor: where its tasks run; this machine if left out.
            kinds: what a node has to be for the times of each model of device, as `suite.bench.nodes.models` has them.
        """
        self._kinds = kinds or {}
        self._asked = asked
        self._folder = folder
        self._cache = cache
        self._writer = writer
        self._known = list(known)
        self._done = store.finished(known)
        self._console = console
        self._at_home = executor is None
        self._executor = executor or _here(asked, folder, cache)
        self._began = self._executor.now() if began is None else began
        self._foretold = False
        self._tells_again = 0.0
        self._ended_s = 0.0
        self._compared: list[Task] = []
        self._bar: tuple[Progress, TaskID] | None = None
        places = self._executor.nodes()
        self._budget = Budget(
            total_s=asked.budget_s,
            spends=asked.spends_budget,
            nodes=sum(node.beside if node.queue else 1 for node in places),
            lanes=sum(node.beside for node in places),
            start_s=self._elapsed_s(),
        )

    def _elapsed_s(self) -> float:
        """Since the process began."""
        return self._executor.now() - self._began

    @property
    def records(self) -> Sequence[Record]:
        """Everything stored so far, by this session and by those that it continues."""
        return self._known

    @property
    def ended_s(self) -> float:
        """When all was measured, since the process began."""
        return self._ended_s

    def run(self) -> bool:
        """Work through the plan; whether the user interrupted it."""
        try:
            self.work(machine_tasks(self._asked))
            self._budget.speed = Speed.measured(self._known)
            made = plan(self._asked, self._budget.speed)
            self._budget.cells = sum(
                len(task.what.required) for task in made.tasks if task.required and isinstance(task.what, Comparison)
            )
            stored = {
                (skip.task, skip.variant, skip.workload, skip.device) for skip in self._known if isinstance(skip, Skip)
            }
            self._describe(skip.variant for skip in made.skips if skip.variant)
            self._store(
                [skip for skip in made.skips if (skip.task, skip.variant, skip.workload, skip.device) not in stored]
            )
            self._show(made)
            with progress_bar(self._console) as progress:
                self.work(made.tasks, progress)
                self._look_closer(progress)
            self._ended_s = self._elapsed_s()
        except KeyboardInterrupt:
            return True
        except loop.Stranded as error:
            self._console.print(str(error))
            return True
        return False

    def work(self, tasks: Iterable[Task], progress: Progress | None = None) -> None:
        """Work through tasks, whatever becomes of their jobs; those that were finished before are passed over."""
        self._bar = (progress, progress.add_task("", total=1.0, left="")) if progress else None
        left = [self._without_culprits(task) for task in tasks if task.name not in self._done]
        self._describe(name for task in left for name in task.variants)
        try:
            loop.work(left, self._executor, self)
        finally:
            if self._bar is not None:
                self._bar[0].remove_task(self._bar[1])
                self._bar = None

    def job(self, item: Task, pending: Collection[Task]) -> Job | None:
        """A task as the rest of the budget allows; None, and skips on record, where it does not."""
        task = self._fitted(item, pending)
        if task is None:
            return None
        own = user_files.needed(self._asked.files, (canonical(name).mechanism for name in task.variants))
        return Job(
            name=task.name,
            work=worker.work,
            what=task,
            files=own,
            alone=task.alone,
            room=task.room,
            expected_s=task.planned_s,
            needs=self._kinds.get(task.model, {}),
            limit_s=self._asked.timeout_s or max(_LEAST_PATIENCE_S, _PATIENCE * task.planned_s),
        )

    def over(self, running: Running[Task]) -> bool:
        """Whether the budget is over for a task."""
        return not isinstance(running.item.what, Machine) and self._budget.over(self._elapsed_s())

    def ended(self, running: Running[Task]) -> list[Task]:
        """Store what a task has left, and what became of it; what is to be done again."""
        one = _Ended.of(running)
        if one.complete:
            self._budget.learn(one.task, one.elapsed_s, one.records)
            if isinstance(one.task.what, Comparison) and not one.task.label.endswith(AGAIN):
                self._compared.append(one.task)
            self._store(_by_our_clock(one, self._with_remedies(one)))
            self._done.add(one.task.name)
            return []
        if one.ending.way == "cut":
            return self._cut_short(one)
        failure = Skip(**_about(one), quantity="all", reason=one.ending.reason, cause=one.ending.cause)
        return self._after_failure(one, failure)

    def tell(self, running: Sequence[Running[Task]], pending: Collection[Task]) -> None:
        """Foretell what is left, once; show it, as often as a tenth of this process's time allows."""
        began = time.perf_counter()
        if self._bar is None or began < self._tells_again:
            return
        under_way = [_UnderWay(one.job.what, one.elapsed_s) for one in running]
        self._foretell(under_way, pending)
        if not self._bar[0].disable:
            self._show_progress([*map(_told, running)], under_way, pending)
        ended = time.perf_counter()  # what thousands of tasks will take is found out one by one
        self._tells_again = ended + _BESIDE_TELLING * (ended - began)

    def _look_closer(self, progress: Progress) -> None:
        """Time comparisons once more, while a budget that is to be spent has time left."""
        compared = list(self._compared)
        while compared and (task := self._budget.closer_look(compared, self._elapsed_s())):
            compared.pop(0)
            self.work([task], progress)

    def _without_culprits(self, task: Task) -> Task:
        """A comparison that was broken off before goes on without what broke it."""
        culprits = {
            skip.variant
            for skip in self._known
            if isinstance(skip, Skip) and skip.task == task.name and skip.cause in FAILURES
        }
        what = task.what
        if not (culprits and isinstance(what, Comparison)):
            return task
        return replace(task, what=replace(what, variants=tuple(name for name in what.variants if name not in culprits)))

    def _after_failure(self, one: "_Ended", failure: Skip) -> list[Task]:
        """Store the failure; a comparison is measured again without its culprit."""
        task = one.task
        culprits = self._culprits(task, failure.variant)
        others = tuple(name for name in task.variants if name not in culprits)
        failures = [failure]
        if culprits and failure.variant not in culprits:
            where = f" while {failure.variant} was at work, in one process with it" if failure.variant else ""
            failures = [replace(failure, variant=name, reason=f"{failure.reason}{where}") for name in culprits]
        what = task.what
        if not isinstance(what, Comparison) or not culprits or ANCHOR in culprits or not others:
            # an examination keeps what it found before it failed
            kept = [] if isinstance(what, Comparison) else one.records
            self._store([*failures, *kept, _closing(one)])
            self._done.add(task.name)
            return []
        self._store(failures)
        if others == (ANCHOR,):
            self._store([_closing(one)])
            self._done.add(task.name)
            return []
        return [replace(task, what=replace(what, variants=others))]

    def _culprits(self, task: Task, at_work: str) -> tuple[str, ...]:
        """Which variants of a task may have ended its process: the one at work, unless a user's ran beside it.

        What a user's mechanism leaves behind (a timer, a thread, memory that it wrote over) may strike later, while one
        of ours is at work, and ours do not end a process.
        """
        theirs = tuple(name for name in task.variants if user_files.mechanism_file(canonical(name).mechanism))
        if at_work in theirs or not theirs:
            return (at_work,) if at_work else ()
        return theirs

    def _with_remedies(self, one: "_Ended") -> list[Record]:
        """The worker's records, with the command that measures what it had to skip."""
        task, workload = one.task, one.task.what.workload
        if workload is None:
            return one.records
        return [
            replace(record, remedy=command(self._asked, record.variant, workload, task.device))
            if isinstance(record, Skip) and record.cause == "budget" and not record.remedy and record.variant
            else record
            for record in one.records
        ]

    def _cut_short(self, one: "_Ended") -> list[Task]:
        """End a task at the end of the budget; an examination keeps what it has found."""
        task = one.task
        kept = [] if isinstance(task.what, Comparison) else one.records
        skips = put_off(task, self._asked, self._budget.speed, "the budget was over before it was done")
        self._store([*kept, *skips])
        self._done.add(task.name)
        return []

    def _fitted(self, task: Task, pending: Collection[Task]) -> Task | None:
        """The task as the rest of the budget allows; None, and skips on record, where it does not."""
        if task.label.endswith(AGAIN):
            return task
        if isinstance(task.what, Machine) and task.label and not self._exceeded(task.device):
            self._done.add(task.name)
            return None
        given = self._budget.affords(task, pending, self._elapsed_s())
        if given is None:
            self._store(put_off(task, self._asked, self._budget.speed, "the budget was spent before its turn"))
            self._done.add(task.name)
        return given

    def _exceeded(self, device: str) -> bool:
        """Whether a variant did more there than what the machine was measured to do."""
        from suite.report import tables  # loads pandas, which the pages have loaded beside the measuring

        peaks = tables.make(self._known).peaks
        return bool((peaks.loc[peaks["device"] == device, "reached_by"] != "").any())

    def _describe(self, names: Iterable[str]) -> None:
        """Put on record what the names of variants say, before anything else is said of them."""
        known = {record.variant for record in self._known if isinstance(record, Description)}
        new = [describe(name) for name in dict.fromkeys(names) if name not in known]
        if new:
            self._store(new)

    def _store(self, records: Sequence[Record]) -> None:
        self._writer.write(records)
        self._known += records

    def _show(self, made: Plan) -> None:
        tasks = [task for task in made.tasks if task.name not in self._done]
        variants = {name for task in tasks for name in task.variants}
        workloads = ", ".join(map(str, self._asked.workloads))
        total_s = self._asked.budget_s
        elapsed_s = self._elapsed_s()
        lasts = units.seconds(self._budget.left_s([], tasks, elapsed_s))
        within = ""
        if total_s:
            spent = f"{units.seconds(elapsed_s)} are" if elapsed_s < total_s else "all is"
            within = f"; of the budget of {units.seconds(total_s)} {spent} spent"
        self._console.print(
            f"{len(variants)} variants on {workloads}, {' and '.join(self._asked.phases)}, "
            f"{', '.join(map(str, self._asked.devices))}: {len(tasks)} tasks, about {lasts}{within}"
        )
        for line in self._budget_lines(tasks, elapsed_s):
            self._console.print(f"  {line}")
        if self._at_home:
            for label in idle(self._asked.devices):
                self._console.print(f"  an accelerator is here and stays idle: --device {label} measures on it")
        for skip in made.skips:
            self._console.print(f"  left out: {skip.variant} on {skip.workload}: {skip.reason}")
        self._console.print(f"  into {self._folder}")

    def _budget_lines(self, tasks: Sequence[Task], elapsed_s: float) -> Iterator[str]:
        """What a reader should know of a budget before it is spent."""
        total_s = self._asked.budget_s
        if total_s is None:
            for task in sorted(tasks, key=lambda task: -task.planned_s)[:3]:
                if task.planned_s > 20:
                    yield f"the longest: {task.name}, about {units.seconds(task.planned_s)}"
            return
        if not self._budget.strict:
            yield (
                f"a budget below {LEAST_S:g} s may not be kept, the start and the pages take a good part of it: "
                "what is required is measured at its shortest"
            )
        late = self._budget.put_off(tasks, elapsed_s)
        if self._budget.strict and any(task.required for task in late):
            yield (
                f"{units.seconds(total_s)} are too few for all that is required: "
                "the most valuable comes first, the rest is put off"
            )
        names = list(dict.fromkeys(name for task in late for name in task.variants[-1:]))
        if names:
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            yield (
                f"put off unless there is time: {', '.join(names[:_MOST_NAMED])}{more}; "
                "the report says how to measure each"
            )

    def _show_progress(self, names: Sequence[str], under_way: Sequence["_UnderWay"], pending: Collection[Task]) -> None:
        assert self._bar is not None
        elapsed_s = self._elapsed_s()
        left_s = max(self._budget.left_s(under_way, pending, elapsed_s), 0.0)
        self._bar[0].update(
            self._bar[1],
            completed=elapsed_s / (elapsed_s + left_s),
            description=", ".join(names)[:60],
            left=f"{units.seconds(left_s)} left",
        )

    def _foretell(self, under_way: Sequence["_UnderWay"], pending: Collection[Task]) -> None:
        """Once the first tenth is over, put the estimate on record, so that it can be held against what came."""
        elapsed_s = self._elapsed_s()
        if self._foretold:
            return
        left_s = self._budget.left_s(under_way, pending, elapsed_s)
        if elapsed_s < 0.1 * (elapsed_s + left_s):
            return
        self._foretold = True
        self._store(
            [Measurement(task="run", quantity="time_left", unit="s", value=left_s, details={"after_s": elapsed_s})]
        )


class _UnderWay(NamedTuple):
    """A task at work, as a budget sees it."""

    task: Task
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class _Ended:
    """A task whose job has ended, and what it left."""

    task: Task
    at: str
    """The variant that was at work, or empty."""
    elapsed_s: float
    node: str
    ending: Ending
    records: list[Record]

    @classmethod
    def of(cls, running: Running[Task]) -> "_Ended":
        task: Task = running.job.what
        assert running.ending is not None
        ending, records = running.ending, []
        try:
            records = [decode(line) for line in running.lines]
            _check_own(records, task)
        except (ValueError, TypeError) as error:
            records = []
            ending = Ending(way="raised", reason=f"its process sent no record: {printable(str(error))}")
        records = nodes.named(records, running.place)
        at = _variant_at(running)
        return cls(task=task, at=at, elapsed_s=running.elapsed_s, node=running.place, ending=ending, records=records)

    @property
    def complete(self) -> bool:
        """Whether it has done all of its task: the record of its time is the last."""
        return any(isinstance(it, Measurement) and it.quantity == "task_time" for it in self.records)


def _check_own(records: Sequence[Record], task: Task) -> None:
    """See that records are those that a task leaves: a user's code may have written between them, or gone on twice.

    Raises:
        ValueError: one is of another task, or is there twice.
    """
    marks = [mark for record in records if (mark := store.left_once(record)) is not None]
    if len(set(marks)) != len(marks):
        raise ValueError("one of its records is there twice")
    for record in records:
        if record.task != task.name:
            raise ValueError(f"one of its records is of another task, {record.task}")


def _variant_at(running: Running[Task]) -> str:
    variants = running.job.what.variants
    return str(variants[running.at]) if 0 <= running.at < len(variants) else ""


def _continuing(folder: Path, request: Request, where: Where) -> str:
    """The command that goes on with a run: a user's files are kept nowhere but where they lie."""
    given = "".join(f" --with {shlex.quote(path)}" for path in request.files)
    return f"python run_all.py --resume {shlex.quote(str(folder))}{given}{where.options}"


def _told(running: Running[Task]) -> str:
    """What is at work, in a few words; or why it is not yet."""
    if running.why:
        return f"{running.item.name} waits: {running.why}"
    return _variant_at(running) or running.item.name


def _here(asked: Asked, folder: Path, cache: Path) -> Executor:
    """This machine: one job on each of its GPUs, or as many that bear company as it has CPUs for."""
    cores = environment.usable_cores()
    if any(device.kind != "cpu" for device in asked.devices):
        beside = max(1, min(_AUDITS_BESIDE_A_GPU, cores // 2))
        return Local(folder, cache, beside=beside, gpus=_gpus(asked.devices[0]))
    return Local(folder, cache, beside=min(_LANES, cores))


def _gpus(chosen: Device) -> list[str]:
    """Those that are named to the jobs, one each; none where there is no choice."""
    if chosen.kind != "cuda":
        return []
    cores = environment.usable_cores()
    return visible_gpus(cores // _CORES_BESIDE_A_GPU) if chosen.index is None else [gpu_name(chosen.index)]


def idle(devices: Sequence[Device]) -> list[str]:
    """Accelerators of this machine on which nothing is measured, as ``--device`` takes them.

    Args:
        devices: that were chosen.
    """
    here, chosen = accelerator(), next((device for device in devices if device.kind != "cpu"), None)
    if chosen is None:
        return [here] if here else []
    if here != "cuda":
        return []
    used = _gpus(chosen) or [gpu_name(0)]
    return [f"cuda:{index}" for index in range(torch.cuda.device_count()) if gpu_name(index) not in used]


def _by_our_clock(one: "_Ended", records: list[Record]) -> list[Record]:
    """The records, doubted where the process counted another time than this one did while it waited."""
    counted_s = sum(it.value or 0.0 for it in records if isinstance(it, Measurement) and it.quantity == "task_time")
    if abs(counted_s - one.elapsed_s) <= _CLOCKS_APART * one.elapsed_s + _CLOCKS_APART_S:
        return records
    doubt = f"its process counted {units.seconds(counted_s)} while {units.seconds(one.elapsed_s)} went by"
    return [
        replace(it, trust=(*it.trust, doubt)) if isinstance(it, Measurement) and it.variant else it for it in records
    ]


def _about(one: "_Ended") -> About:
    task = one.task
    variant = one.at or (task.variants[0] if len(task.variants) == 1 else "")
    return About(
        task=task.name,
        variant=variant,
        workload=str(task.what.workload or ""),
        phase=task.what.phase or "",
        device=task.device,
    )


def _closing(one: "_Ended") -> Measurement:
    """Marks a task as done although its worker could not."""
    return Measurement(
        task=one.task.name,
        device=one.task.device,
        quantity="task_time",
        unit="s",
        value=one.elapsed_s,
        details={"planned_s": round(one.task.planned_s, 2), "failed": True} | ({"node": one.node} if one.node else {}),
    )


def _record_end(folder: Path, began: float, measured_s: float) -> None:
    """Put on record how long it took, pages and all; where that cannot be, nothing else is lost."""
    with contextlib.suppress(OSError), store.Writer(folder) as writer:
        details = {"measured_s": round(measured_s, 3)}  # the rest went to the pages
        took_s = time.monotonic() - began
        writer.write([Measurement(task="run", quantity="run_time", unit="s", value=took_s, details=details)])
