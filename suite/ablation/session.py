"""An ablation from a request to a run folder: what is trained in which order, side by side, within a budget."""

import contextlib
import hashlib
import shlex
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress as Bars
from rich.progress import TaskID

from suite.ablation import datasets, needs
from suite.ablation.dataset import Dataset
from suite.ablation.jobs import TUNING_SEED, Training, shape_of, train
from suite.ablation.studies import LONGER, PARALLEL, STUDIES, Row, Study, parameters, study
from suite.ablation.training import Recipe
from suite.bench import environment, nodes
from suite.bench import where as locations
from suite.bench.request import Request as RunRequest
from suite.bench.request import kind_of
from suite.bench.where import HERE, Where
from suite.core import interrupts, store, trained
from suite.core.answer import SPOKEN, Manner
from suite.core.errors import UserError, check_seconds
from suite.core.records import Measurement, Record, decode
from suite.core.records import Skip as Skipped
from suite.execution import guest, loop
from suite.execution.jobs import Executor, Job
from suite.execution.local import Local, visible_gpus
from suite.execution.loop import Running
from suite.report import outcome, units
from suite.report.bar import progress_bar
from variants import Skip

RESULTS = Path("results")
LANES = 16
"""Most trainings side by side, a thread each; as many as there are cores, where these are fewer."""
_PATIENCE, _LEAST_PATIENCE_S = 20.0, 600.0
"""A training that takes so many times as long as others of its data, and so many seconds more, counts as hung."""
SEEDS = 5
FIRST_SEED = 5
"""The recipe of all trainings was chosen with seeds below it: what they end at says too much for it."""
RATES = (0.0015, 0.003, 0.006)
"""Learning rates that every mechanism is tried with."""
FURTHER_RATES = 4
"""As many more are tried, by halves or doubles, while the best is the lowest or the highest of them."""
FINALISTS, FURTHER_SEEDS = 2, 2
"""The best so many of a mechanism's learning rates are tried with so many seeds more, and the best mean is used."""
TUNING_SHARE = 0.4
"""Trainings that choose a learning rate have this share of the epochs."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for."""

    studies: tuple[str, ...] = ()
    """By name; empty for ``core``, or for all of them where ``full``."""
    full: bool = False
    seeds: int = SEEDS
    first_seed: int = FIRST_SEED
    budget_s: float | None = None
    """Seconds after which no training is started; 0 for none, None for what fits the request."""
    data: str = "scenes"
    root: str | None = None
    """Folder of the data set, where it has files."""
    device: str = "cpu"
    epochs: int | None = None
    """Another length of training than the data set's own."""

    def limit_s(self) -> float | None:
        if self.budget_s is not None:
            return self.budget_s or None
        return None if self.studies or self.full else datasets.of(self.data).budget_s


def start(
    request: Request,
    *,
    out: Path | None = None,
    resume: Path | None = None,
    manner: Manner = SPOKEN,
    where: Where = HERE,
) -> int:
    """Train and test what was asked and return the exit code.

    Args:
        request: what to train.
        out: the run folder; under ``results`` if left out.
        resume: the folder of an ablation to continue instead.
        manner: in which progress and the answer are told.
        where: its trainings run.

    Raises:
        UserError: the request is wrong, data is missing, or a folder cannot be used; before any training.
    """
    if resume is not None:
        described = environment.read(resume)
        request = _resumed(request, described, resume)
    else:
        described = environment.describe(RunRequest()) | {"ablation": asdict(request), "ablation_sources": _sources()}
    locations.check(where, request.device)
    _check(request, elsewhere=not where.here)
    dataset = datasets.opened(request.data, request.root)
    console = manner.console()
    checked = dataset.check()
    if checked:
        row = replace(PARALLEL, width=dataset.scale * PARALLEL.width)
        console.print(f"{request.data}: {checked}; {needs.sentence(dataset, row, dataset.batch, request.device)}")
    studies = _studies(request, dataset)
    folder = resume or out or RESULTS / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-ablation"
    resuming = f"python run_all.py ablate --resume {shlex.quote(str(folder))}{where.options}"
    with contextlib.ExitStack() as stack:
        cluster = None
        if not where.here:
            opening = locations.opened(where, folder, device=request.device, beside=LANES, files=())
            cluster = stack.enter_context(opening)
        if resume is None:
            store.claim(folder)
        if cluster is not None:
            # an accuracy is of the sources and versions; which device reached it stands in its record
            found = nodes.survey(cluster, say=console.print).machines
            described |= {"nodes": found} if resume is not None else environment.describe(RunRequest(), found)
        if resume is None:
            environment.write(folder, described)
        known = store.read(folder) if resume is not None else []

        def work() -> int:
            interrupted = False
            with interrupts.temporary_folder() as cache, store.Writer(folder) as writer:
                executor = cluster or here(request, folder, cache)
                session = Session(request, studies, folder, writer, known, console, executor)
                try:
                    session.run()
                except KeyboardInterrupt:
                    interrupted = True
                except loop.Stranded as error:
                    interrupted = True
                    console.print(str(error))
            if cluster is not None:
                nodes.record(folder, cluster)
            return outcome.finish(folder, manner, interrupted=interrupted, resume=resuming)

        return outcome.seen_through(work, folder, manner, resume=resuming)


def here(request: Request, folder: Path, cache: Path) -> Executor:
    """This machine: a training on each of its CPUs, or on each of its GPUs."""
    guest.warm_up(compiler=True)  # every optimizer of torch loads it
    cores = environment.usable_cores()
    if request.device == "cuda":
        return Local(folder, cache, gpus=visible_gpus(cores))
    return Local(folder, cache, beside=min(LANES, cores))


class _Alike(NamedTuple):
    """What trainings have in common that take as long; of ten thousand there are a few."""

    data: str
    row: Row
    epochs: int

    @classmethod
    def of(cls, job: Training) -> "_Alike":
        return cls(job.dataset.name, job.row, job.recipe.epochs)


@cache
def _labels(row: Row) -> tuple[str, str]:
    """The labels of a row, and of the row that it is tuned as."""
    return row.label, row.tuned_as.label


@dataclass(kw_only=True)
class _Stage:
    """Trainings that go on at the same time, and how far they are."""

    left: Counter[_Alike]
    """How many have not ended."""
    under_way: list[tuple[_Alike, float]]
    """Those at work, and the share of their epochs that is done."""
    then: Counter[_Alike]
    """How many are to follow."""
    bars: Bars
    bar: TaskID


class Session:
    """Trainings on their way through jobs into the store."""

    def __init__(
        self,
        request: Request,
        studies: Sequence[Study],
        folder: Path,
        writer: store.Writer,
        known: Sequence[Record],
        console: Console,
        executor: Executor,
    ) -> None:
        self._request = request
        self._dataset = datasets.opened(request.data, request.root)
        self._studies = studies
        self._folder = folder
        self._writer = writer
        self._of_rates = list(filter(_is_of_rates, known))
        self._done = store.finished(known)
        self._console = console
        self._executor = executor
        self._lanes = sum(node.beside for node in executor.nodes())
        self._stage: _Stage
        self._started = time.monotonic()
        self._limit_s = request.limit_s()
        self._took: dict[tuple[str, str], tuple[float, int]] = {}
        """By data and row, the sum of the seconds per epoch of its trainings, and how many trainings these are."""
        for record in known:
            self._learn(record)

    def run(self) -> None:
        """Tune every mechanism, then train all rows seed by seed, so that the seeds that a budget allows are paired."""
        self._describe()
        trained_with = {key for key, _ in self._used_rates()}
        tuning = [job for job in self._tuning_jobs() if _key(job) not in trained_with]
        seeds = "1 seed" if self._request.seeds == 1 else f"{self._request.seeds} seeds"
        self._console.print(
            f"at least {len(tuning)} short trainings to choose learning rates, then {len(self._training_rows())} rows "
            f"with {seeds}, {self._lanes} side by side; interrupt at any time, then "
            f"--resume {shlex.quote(str(self._folder))}"
        )
        with progress_bar(self._console) as bars:
            repeated = {_key(job): job for job in tuning}.values()
            last = Counter(_Alike.of(job) for job in self._planned_jobs() if job.name not in self._done)
            rest = last + Counter({_Alike.of(job): FINALISTS * FURTHER_SEEDS for job in repeated})
            self._work(tuning, bars, then=rest)
            while further := self._further_tuning_jobs(tuning):
                self._work(further, bars, then=rest)
                tuning += further
            self._work(self._repeated_tuning_jobs(tuning), bars, then=last)
            self._work(self._training_jobs(), bars, then=Counter())

    def _work(self, jobs: Sequence[Training], bars: Bars, *, then: Counter[_Alike]) -> None:
        """Train these, as many side by side as there are places.

        Args:
            jobs: in this order; those that are on record are passed over.
            bars: where progress is shown.
            then: how many are to follow these jobs.
        """
        asked = list({job.name: job for job in jobs if job.name not in self._done}.values())
        bar = bars.add_task("", total=1.0, left="")
        stage = _Stage(left=Counter(map(_Alike.of, asked)), under_way=[], then=then, bars=bars, bar=bar)
        self._stage = stage
        try:
            loop.work(asked, self._executor, self)
        finally:
            bars.remove_task(stage.bar)

    def job(self, item: Training, pending: Collection[Training]) -> Job | None:
        """A training as a job; None, and a skip on record, where the budget does not hold it."""
        if not self._fits(item):
            self._stage.left[_Alike.of(item)] -= 1
            self._store([_left_out(item, self._folder, self._request)])
            return None
        expected_s = self._expected_s(_Alike.of(item))
        known = any(data == item.dataset.name for data, _ in self._took)
        return Job(
            name=item.name,
            work=train,
            what=(item, self._request.device),
            alone=False,
            expected_s=expected_s,
            limit_s=_LEAST_PATIENCE_S + _PATIENCE * expected_s if known else float("inf"),
        )

    def over(self, running: Running[Training]) -> bool:
        """Never: a budget decides what begins."""
        return False

    def ended(self, running: Running[Training]) -> Iterable[Training]:
        """Store what a training has left, and say it."""
        job = running.item
        self._stage.left[_Alike.of(job)] -= 1
        records = _records(running, self._request.device)
        self._store(records)
        if job.name in store.finished(records):
            job.checkpoint(self._folder).unlink(missing_ok=True)
        self._say(job, records, self._left_s())
        return ()

    def tell(self, running: Sequence[Running[Training]], pending: Collection[Training]) -> None:
        """Show how far everything is."""
        self._stage.under_way = [(_Alike.of(one.item), max(one.at, 0) / one.item.recipe.epochs) for one in running]
        left_s = self._left_s()
        spent_s = time.monotonic() - self._started
        now = ", ".join(
            f"{one.item.row.label} waits: {one.why}"
            if one.why
            else f"{one.item.row.label} {max(one.at, 0)}/{one.item.recipe.epochs}"
            for one in running
        )
        done = spent_s / (spent_s + left_s)
        self._stage.bars.update(self._stage.bar, completed=done, left=f"{units.seconds(left_s)} left", description=now)

    def _fits(self, job: Training) -> bool:
        if self._limit_s is None:
            return True
        return time.monotonic() - self._started + self._expected_s(_Alike.of(job)) <= self._limit_s

    def _expected_s(self, one: _Alike) -> float:
        """From trainings of that row, or of the row that it is tuned as, or of all."""
        own, tuned_as = (self._took.get((one.data, label)) for label in _labels(one.row))
        known = own or tuned_as
        if known is None:
            known = sum(total_s for total_s, _ in self._took.values()), sum(count for _, count in self._took.values())
        total_s, count = known
        return one.epochs * (total_s / count if count else 2.0)  # a guess before anything is known

    def _left_s(self) -> float:
        """Seconds until everything is trained, or until the budget ends."""
        stage = self._stage
        whole = [(self._expected_s(one), share) for one, share in stage.under_way]
        running = [expected_s * (1 - share) for expected_s, share in whole]
        all_s = sum(count * self._expected_s(one) for one, count in (stage.left + stage.then).items())
        rest_s = (all_s - sum(expected_s * share for expected_s, share in whole)) / self._lanes
        left_s = max(rest_s, max(running, default=0.0))
        if self._limit_s is None:
            return left_s
        return min(left_s, max(self._limit_s - (time.monotonic() - self._started), *running, 0.0))

    def _learn(self, record: Record) -> None:
        """Seconds per epoch of a row."""
        if isinstance(record, Measurement) and record.quantity == "task_time" and record.value is not None:
            row, epochs, data = (record.details.get(key) for key in ("row", "epochs", "data"))
            if isinstance(epochs, int) and epochs > 0:
                total_s, count = self._took.get((str(data), str(row)), (0.0, 0))
                self._took[str(data), str(row)] = total_s + record.value / epochs, count + 1

    def _store(self, records: Sequence[Record]) -> None:
        self._writer.write(records)
        # and no others: what ten thousand trainings have found stays on the disk
        self._of_rates += filter(_is_of_rates, records)
        for record in records:
            self._learn(record)

    def _say(self, job: Training, records: Sequence[Record], left_s: float) -> None:
        found = next((record for record in records if _is_headline(record)), None)
        skip = next((record for record in records if isinstance(record, Skipped)), None)
        if isinstance(found, Measurement) and found.value is not None:
            said = f"{100 * found.value:.1f} %"
        else:
            said = skip.reason if skip is not None else "nothing"
        left = f"{units.seconds(left_s)} left" if left_s else "the last"
        self._console.print(f"{job.name.removeprefix('ablate ')}: {said} ({left})")

    def _describe(self) -> None:
        """What is known without training: rows and their sizes, ceilings, and the hash of what is tested on."""
        name = "ablate description"
        if name in self._done:
            return
        records: list[Record] = []
        tested: dict[str, Dataset] = {}
        for one in self._studies:
            dataset, longer = self._datasets(one)
            tested |= {item.name: item for item in (dataset, longer) if item is not None}
            for place, entry in enumerate(one.rows):
                row = entry.row
                try:
                    size = parameters(row, shape_of(dataset))
                except Skip:
                    continue
                parent = entry.parent.label if entry.parent is not None else ""
                told = trained.Trainable(
                    study=one.name,
                    question=one.question,
                    data=dataset.name,
                    row=row.label,
                    parent=parent,
                    place=place,
                    reads=row.reads,
                    sight=row.sight,
                    width=row.width,
                )
                records.append(_plain(name, size, told, variant=row.variant))
        for dataset in tested.values():
            records.append(_plain(name, None, trained.TestedOn(data=dataset.name, sha256=dataset.digest())))
            records += _ceilings(name, dataset)
        took_s = time.monotonic() - self._started
        records.append(Measurement(task=name, quantity="task_time", unit="s", value=took_s))
        self._store(records)

    def _tuning_jobs(self) -> list[Training]:
        jobs: dict[str, Training] = {}
        for row, one, _ in self._training_rows():
            dataset, _ = self._datasets(one)
            epochs = max(round(TUNING_SHARE * self._epochs()), 1)
            for rate in RATES:
                job = Training(
                    row=row.tuned_as,
                    dataset=dataset.eased(epochs),
                    longer=None,
                    recipe=Recipe(epochs=epochs, batch=self._dataset.batch, learning_rate=rate),
                    seed=TUNING_SEED,
                    tunes=True,
                    studies=(),
                )
                jobs.setdefault(job.name, job)
        # the long ones first, so that the processes end together
        return sorted(jobs.values(), key=lambda job: job.row.variant.startswith("pool"))

    def _training_jobs(self) -> list[Training]:
        """Every row with every seed, at the learning rate that was best for it.

        Each seed chooses without one of the seeds that rates were tried with, in turn: where two rates are so close
        that this decides between them, what they differ by is in the spread of the results.
        """
        tuned, used = self._tuned(), self._used_rates()
        jobs = []
        for job in self._planned_jobs():
            key, left_out = _key(job), _left_out_for(job.seed)
            rate = used.get((key, left_out))
            if rate is None and key in tuned:
                rate = trained.best_rate(tuned[key], without=left_out)
            if rate is not None:  # otherwise none of its rates could be trained, which is on record
                jobs.append(replace(job, recipe=replace(job.recipe, learning_rate=rate)))
        return jobs

    def _planned_jobs(self) -> list[Training]:
        """Every row with every seed, before learning rates are known."""
        jobs: list[Training] = []
        first = self._request.first_seed
        for seed in range(first, first + self._request.seeds):
            for row, one, names in self._training_rows():
                dataset, longer = self._datasets(one)
                jobs.append(
                    Training(
                        row=row,
                        dataset=dataset.eased(self._epochs()),
                        longer=longer,
                        recipe=Recipe(epochs=self._epochs(), batch=self._dataset.batch, learning_rate=RATES[0]),
                        seed=seed,
                        tunes=False,
                        studies=names,
                        deployed=any(asked.deployed for asked in self._studies if asked.name in names),
                        pictured=seed == first,
                    )
                )
        # blindfolded rows last: a budget that ends early takes seeds from those that are not expected to learn
        return sorted(jobs, key=lambda job: job.row.sight != "both")

    def _further_tuning_jobs(self, tuned: Sequence[Training]) -> list[Training]:
        """One more learning rate for each mechanism whose best may lie beyond those that were tried."""
        attempted: dict[tuple[str, str], list[Training]] = {}
        for job in tuned:
            attempted.setdefault(_key(job), []).append(job)
        found = self._tuned()
        further = []
        for key, jobs in attempted.items():
            # those on record, too: an interrupted search goes on where it stood
            tried = sorted({job.recipe.learning_rate for job in jobs} | found.get(key, {}).keys())
            if key in found and len(tried) < len(RATES) + FURTHER_RATES:
                beyond = {tried[0]: tried[0] / 2, tried[-1]: tried[-1] * 2}.get(_ranked(found[key])[-1])
                if beyond is not None:
                    further.append(replace(jobs[0], recipe=replace(jobs[0].recipe, learning_rate=beyond)))
        return further

    def _repeated_tuning_jobs(self, tuned: Sequence[Training]) -> list[Training]:
        """The best learning rates of each mechanism with more seeds: one training alone decides by its luck."""
        found, jobs = self._tuned(), {_key(job): job for job in tuned}
        return [
            replace(job, recipe=replace(job.recipe, learning_rate=rate), seed=TUNING_SEED + more)
            for more in range(1, FURTHER_SEEDS + 1)
            for key, job in jobs.items()
            for rate in _ranked(found.get(key, {}))[-FINALISTS:]
        ]

    def _tuned(self) -> dict[tuple[str, str], dict[float, list[float]]]:
        """The accuracies of each mechanism at each learning rate, in the order of the seeds."""
        seeds: dict[tuple[str, str], dict[float, dict[int, float]]] = {}
        for record in self._of_rates:
            if isinstance(record, Measurement) and record.quantity == "tuning_accuracy" and record.value is not None:
                told = trained.read(trained.Tuning, record)
                by_rate = seeds.setdefault((told.data, told.row), {})
                by_rate.setdefault(told.learning_rate, {})[told.seed] = record.value
        return {
            key: {rate: [found[seed] for seed in sorted(found)] for rate, found in by_rate.items()}
            for key, by_rate in seeds.items()
        }

    def _used_rates(self) -> dict[tuple[tuple[str, str], int], float]:
        """By mechanism and the seed of the tuning that was left out, the learning rate that seeds were trained at.

        All others that leave out the same have it too, whatever is found later.
        """
        jobs = {job.name: job for job in self._planned_jobs()}
        used = {}
        for record in self._of_rates:
            if isinstance(record, Measurement) and record.quantity == "training_loss" and record.task in jobs:
                job = jobs[record.task]
                used[_key(job), _left_out_for(job.seed)] = trained.read(trained.Loss, record).learning_rate
        return used

    def _training_rows(self) -> list[tuple[Row, Study, tuple[str, ...]]]:
        """Every row once per data, with the studies that it serves; those that cannot be had are on record."""
        found: dict[tuple[str, Row], tuple[Study, list[str]]] = {}
        for one in self._studies:
            for entry in one.rows:
                key = (self._datasets(one)[0].name, entry.row)
                found.setdefault(key, (one, []))[1].append(one.name)
        return [(row, one, tuple(names)) for (_, row), (one, names) in found.items()]

    def _datasets(self, one: Study) -> tuple[Dataset, Dataset | None]:
        return self._dataset.to_longer() if one.longer else (self._dataset, None)

    def _epochs(self) -> int:
        return self._request.epochs or self._dataset.epochs


def _left_out_for(seed: int) -> int:
    """The place of the seed of the tuning that a training of that seed does without."""
    return seed % (1 + FURTHER_SEEDS)


def _ranked(found: Mapping[float, Sequence[float]]) -> list[float]:
    """Learning rates from the worst to the best by what the first seed gave, so that a resumed search goes on alike."""
    return sorted(found, key=lambda rate: (found[rate][0], rate))


def _check(request: Request, *, elsewhere: bool = False) -> None:
    unknown = next((name for name in request.studies if name not in STUDIES), None)
    if unknown is not None:
        raise UserError(f"there is no study {unknown!r}: expected one of {', '.join(STUDIES)}")
    repeated = next((name for name in request.studies if request.studies.count(name) > 1), None)
    if repeated is not None:
        raise UserError(f"the study {repeated} is asked for twice")
    if request.full and request.studies:
        raise UserError(f"--full has no effect beside {' '.join(request.studies)}: it means every study")
    if request.seeds < 1:
        raise UserError(f"--seeds {request.seeds}: expected at least 1, and 5 for an interval worth reading")
    if request.first_seed < 0 or request.first_seed + request.seeds > TUNING_SEED:
        raise UserError(
            f"--first-seed {request.first_seed}: expected seeds from 0 to {TUNING_SEED - 1}; those from {TUNING_SEED} "
            "on choose learning rates"
        )
    if request.epochs is not None and request.epochs < 1:
        raise UserError(f"--epochs {request.epochs}: expected at least 1")
    check_seconds("--budget", request.budget_s, zero=True)
    kind_of(request.device, elsewhere=elsewhere)
    longer = next((name for name in request.studies if name in LONGER), None)
    if longer is not None and not datasets.of(request.data).has_longer:
        others = " or ".join(name for name, dataset in datasets.DATASETS.items() if dataset.has_longer)
        raise UserError(
            f"{longer} is tested on longer sets than were learnt from, which {request.data} has not: "
            f"leave it out, or take --data {others}"
        )


def _studies(request: Request, dataset: Dataset) -> list[Study]:
    names = dict.fromkeys(request.studies or (STUDIES if request.full else ("core",)))
    served = [name for name in names if dataset.has_longer or name not in LONGER]
    return [study(name, scale=dataset.scale, shape=shape_of(dataset)) for name in served]


def _resumed(request: Request, described: dict[str, object], folder: Path) -> Request:
    stored = described.get("ablation")
    if not isinstance(stored, dict):
        again = f"run --resume {shlex.quote(str(folder))}"
        raise UserError(f"{folder} is not the folder of an ablation; a run is resumed by: {again}")
    if replace(request, budget_s=None) != Request():
        raise UserError(f"--resume {folder} continues with the ablation's own arguments: give it --budget at most")
    if described.get("ablation_sources") != _sources():
        raise UserError(f"cannot resume {folder}: the variants or the ablation have changed; start a new one")
    now = environment.describe(RunRequest())
    if described.get("torch") != now.get("torch"):
        raise UserError(f"cannot resume {folder}: torch was {described.get('torch')} and is {now.get('torch')}")
    begun = Request(**environment.checked(Request, stored))
    return replace(begun, budget_s=request.budget_s if request.budget_s is not None else begun.budget_s)


def _sources() -> str:
    """A hash of every source that an accuracy depends on."""
    root = Path(__file__).parents[2]
    total = hashlib.sha256()
    patterns = ("variants/**/*.py", "suite/ablation/*.py", "suite/audit/defects.py")
    for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
        total.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:16]


def _records(running: Running[Training], device: str) -> list[Record]:
    """What a training has yielded; where it did not come to its end, a skip that says why."""
    job, ending = running.item, running.ending
    assert ending is not None
    records = nodes.named(map(decode, running.lines), running.place)
    if ending.way == "done" or job.name in store.finished(records):
        return records
    skip = Skipped(
        task=job.name,
        variant=job.row.variant,
        device=device,
        quantity="accuracy",
        reason=f"the training was lost: {ending.reason}",
        cause=ending.cause,
        details={"row": job.row.label, "seed": job.seed},
    )
    return [skip]


def _is_of_rates(record: Record) -> bool:
    """Whether it says how a learning rate was chosen, or which one was used."""
    return isinstance(record, Measurement) and record.quantity in ("tuning_accuracy", "training_loss")


def _key(job: Training) -> tuple[str, str]:
    """Data and mechanism: what a learning rate is chosen for."""
    return job.dataset.name, job.row.tuned_as.label


def _is_headline(record: Record) -> bool:
    return isinstance(record, Measurement) and (
        record.quantity == "tuning_accuracy"
        or (record.quantity == "accuracy" and trained.read(trained.Accuracy, record).evaluation == "as_is")
    )


def _left_out(job: Training, folder: Path, request: Request) -> Skipped:
    limit = units.seconds(request.limit_s())
    return Skipped(
        task=job.name,
        variant=job.row.variant,
        device=request.device,
        quantity="accuracy",
        reason=f"does not fit in the {limit} of this ablation",
        cause="budget",
        remedy=f"python run_all.py ablate --resume {shlex.quote(str(folder))} --budget 0",
        details={"row": job.row.label, "seed": job.seed},
    )


def _plain(task: str, value: float | None, told: trained.Told, *, variant: str = "") -> Measurement:
    return Measurement(
        task=task, variant=variant, quantity=told.quantity, unit="1", value=value, details=told.details()
    )


def _ceilings(name: str, dataset: Dataset) -> list[Record]:
    return [
        _plain(name, value, trained.Ceiling(data=dataset.name, of=what, family=family))
        for what, of_families in dataset.ceilings().items()
        for family, value in {**of_families, "all": sum(of_families.values()) / len(of_families)}.items()
    ]
