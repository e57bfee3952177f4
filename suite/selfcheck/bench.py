"""The bench on which planted work is measured: the planner, the workers and the store of a user's own run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from suite.bench import environment
from suite.bench.estimate import Speed
from suite.bench.plan import plan
from suite.bench.request import Asked, Request, understand
from suite.bench.run import Session
from suite.bench.tasks import Task
from suite.core import interrupts, store
from suite.core.records import Finding, Measurement, Record
from suite.core.workloads import Phase

PLANTED = Path(__file__).with_name("planted.py")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where planted work goes, and how much of it is asked for."""

    folder: Path
    device: str
    """``cpu`` or ``cuda``."""
    full: bool
    """The counts of the published table, instead of those that fit into ten minutes."""
    console: Console
    writer: store.Writer
    cache: Path
    trials: int | None = None
    """Instead of either, so many trials a row: for trying the checks themselves."""

    def count(self, *, default: int, full: int) -> int:
        """How many trials a row gets."""
        return self.trials or (full if self.full else default)

    def asked(
        self,
        variants: Sequence[str],
        *,
        shape: str,
        probes: Sequence[str] = ("timing",),
        phases: Sequence[Phase] = ("forward",),
        timeout_s: float | None = None,
    ) -> Asked:
        """A request as a user would type it, with the planted mechanisms as the user's own file."""
        return understand(
            Request(
                variants=tuple(variants),
                shape=shape,
                probes=tuple(probes),
                phases=tuple(phases),
                device=self.device,
                files=(str(PLANTED),),
                timeout_s=timeout_s,
            )
        )

    def measure(
        self, asked: Asked, *, label: str, times: int = 1, sampling_s: float | None = None
    ) -> list[list[Record]]:
        """Plan what was asked and work through the tasks, several times over.

        Args:
            asked: what to measure.
            label: tells these tasks from those of other checks.
            times: how often.
            sampling_s: how long a comparison may sample; the planner's own choice if left out.

        Returns:
            The records of each time, which are in the store too.
        """
        tasks = plan(asked, Speed()).tasks
        if sampling_s is not None:
            tasks = tuple(
                replace(task, planned_s=task.planned_s - task.sampling_s + sampling_s, sampling_s=sampling_s)
                if task.sampling_s
                else task
                for task in tasks
            )
        repeats = [[_labelled(task, f"{label} {number}") for task in tasks] for number in range(1, times + 1)]
        session = Session(asked, self.folder, self.cache, self.writer, (), self.console)
        session.work([task for repeat in repeats for task in repeat])
        names = [{task.name for task in repeat} for repeat in repeats]
        return [[record for record in session.records if record.task in those] for those in names]

    def keep(self, finding: Finding) -> None:
        """Store a row and say it."""
        self.writer.write([finding])
        details = finding.details
        share = f"{details['count']} of {details['trials']}" if details["trials"] else "not here"
        spoken = finding.summary and (finding.verdict != "holds" or "took_s" in details)
        why = f": {finding.summary}" if spoken else ""
        self.console.print(
            f"{finding.verdict:>14}  {share:>12}  {details['check']}{why}", markup=False, highlight=False
        )


def _labelled(task: Task, label: str) -> Task:
    return replace(task, label=f"{label}: {task.label}")


@contextmanager
def opened(folder: Path, device: str, *, full: bool, trials: int | None, console: Console) -> Iterator[Bench]:
    """A bench in a new run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    environment.write(folder, environment.describe(Request(device=device, files=(str(PLANTED),))))
    with interrupts.temporary_folder() as cache, store.Writer(folder) as writer:
        yield Bench(
            folder=folder,
            device=device,
            full=full,
            console=console,
            writer=writer,
            cache=cache,
            trials=trials,
        )


def latencies(records: Sequence[Record]) -> dict[str, Measurement]:
    """The timed variants of one comparison."""
    return {
        record.variant: record
        for record in records
        if isinstance(record, Measurement) and record.quantity == "latency" and record.samples
    }
