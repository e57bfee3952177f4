"""A suspect of two source trees once more: both trees in fresh processes, turn by turn.

A regression between two runs may come from what differs between any two processes, such as the layout of code and
memory. It counts where it recurs in a pair of processes that were started for nothing else.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from select import select
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from suite.bench import request
from suite.bench.probes.clocks import clock_of
from suite.bench.probes.step import prepare, running_on
from suite.core import interrupts, stats, user_files, workloads
from suite.core.compare import CellKey, Remeasuring, RunComparison
from suite.core.errors import UserError
from suite.execution import loop
from suite.execution.jobs import Announcement, Job, Site
from suite.execution.local import Local
from suite.execution.loop import Running
from suite.execution.tether import end_with_starter

PAIRS = 2
"""Fresh pairs of processes for each suspect; a regression has to recur in every one."""
_POSIX = os.name == "posix"
_OWN_ROOT = Path(__file__).parents[2]
# the harness is this one on both sides, and only the variants are of the tree
_START = """
import sys
sys.path.insert(0, sys.argv[1])
import variants
sys.path[0] = sys.argv[2]
from suite.bench.remeasure import serve
serve()
"""


def suspects(
    comparison: RunComparison,
    old_tree: Path,
    new_tree: Path,
    *,
    budget_s: float,
    timeout_s: float,
    files: Sequence[Path] = (),
) -> Iterator[Remeasuring]:
    """The comparison with every suspect measured again, one after the other: each step knows one more than the last.

    The anchor comes first, since its change may make suspects of others, or clear them.

    Args:
        comparison: of two runs.
        old_tree: holds the ``variants`` package that the old run measured.
        new_tree: holds the one that the new run measured.
        budget_s: wall time for the rounds of each pair, in seconds.
        timeout_s: after which a process that does not answer is given up.
        files: that register mechanisms of the user's own.

    Raises:
        UserError: a tree holds no variants; before anything is measured.
    """
    for tree in (old_tree, new_tree):
        if not (tree / "variants" / "__init__.py").is_file():
            raise UserError(f"--remeasure {tree}: expected a source tree, with the package 'variants' in it")
    if files:
        request.introduce([str(path) for path in files], timeout_s=timeout_s)
    return _one_by_one(comparison, (old_tree, new_tree), budget_s, timeout_s, files)


def _one_by_one(
    comparison: RunComparison, trees: tuple[Path, Path], budget_s: float, timeout_s: float, files: Sequence[Path]
) -> Iterator[Remeasuring]:
    seen: set[CellKey] = set()
    while True:
        waiting = tuple(change.cell for change in comparison.suspects if change.cell not in seen)
        yield Remeasuring(comparison, waiting)
        if not waiting:
            return
        cell = waiting[0]
        seen.add(cell)
        pair = Pair(
            cell=cell, trees=trees, margin=comparison.fail_above, budget_s=budget_s, timeout_s=timeout_s,
            files=tuple(map(str, files)),
        )  # fmt: skip
        pairs = _Pairs()
        with interrupts.temporary_folder() as cache:
            loop.work([replace(pair, number=number) for number in range(PAIRS)], Local(cache, cache), pairs)
        if pairs.lost:
            comparison = comparison.with_doubt(cell, f"could not be measured again: {pairs.lost[0]}")
        else:
            comparison = comparison.with_again(cell, tuple(pairs.ratios))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A fresh pair of processes, one of each tree."""

    cell: CellKey
    trees: tuple[Path, Path]
    margin: float
    budget_s: float
    timeout_s: float
    """A process that does not answer for so many seconds is given up."""
    files: tuple[str, ...]
    number: int = 0

    @property
    def alone(self) -> bool:
        """Nothing may run beside what is timed."""
        return True

    @property
    def model(self) -> str:
        """It is measured on this machine alone."""
        return ""


class _Pairs:
    """What becomes of the pairs of one suspect: one that is lost leaves nothing to be learnt from the others."""

    def __init__(self) -> None:
        self.ratios: list[stats.Ratio] = []
        self.lost: list[str] = []

    def job(self, item: Pair, pending: Collection[Pair]) -> Job | None:
        if self.lost:
            return None
        return Job(
            name=f"{item.cell} {item.number}", work=measure, what=item, files=item.files, alone=True,
            expected_s=item.budget_s,
        )  # fmt: skip

    def over(self, running: Running[Pair]) -> bool:
        return False

    def ended(self, running: Running[Pair]) -> Iterable[Pair]:
        if running.lines:
            answer = json.loads(running.lines[0])
            if "lost" in answer:
                self.lost.append(answer["lost"])
            else:
                self.ratios.append(stats.Ratio(**answer))
        else:
            assert running.ending is not None
            self.lost.append(running.ending.reason)
        return ()

    def tell(self, running: Sequence[Running[Pair]], pending: Collection[Pair]) -> None:
        """The steps are told by whoever takes them."""


def measure(pair: Pair, site: Site, at: Announcement) -> Iterator[str]:
    """Time one pair: a ratio as JSON, or why there is none."""
    try:
        yield json.dumps(asdict(_pair(pair, site.files)))
    except NoAnswer as lost:
        yield json.dumps({"lost": str(lost)})


def serve() -> None:
    """The child's end: build the variant that the first line names, then time one call per line that follows."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a variant prints is no answer
    wanted = json.loads(sys.stdin.readline())
    for path in wanted["files"]:
        user_files.load(Path(path))
    device = wanted["device"]
    with running_on(device):
        step = prepare(wanted["variant"], workloads.named(wanted["workload"]), wanted["phase"], device)
        clock = clock_of(device)
        for turn in range(3):  # compiles, captures and tunes
            clock.wall(step, turn)
            step.clear()
        print(json.dumps("ready"), file=answers)
        for line in sys.stdin:
            turn = int(line)
            step(turn)  # the other process cooled the caches
            step.clear()
            reading = clock.read(step, turn)
            step.clear()
            print(json.dumps(reading.seconds["latency"]), file=answers)


class NoAnswer(Exception):
    """A process ended, or did not answer in time; the message says which, and its last words."""


class _Side:
    """One tree's process; it ends with this one, whose end closes its input."""

    def __init__(self, tree: Path, cell: CellKey, timeout_s: float, files: Sequence[str]) -> None:
        self._tree = tree
        self._timeout_s = timeout_s
        self._errors = TemporaryFile("w+")  # noqa: SIM115  # closed with the process; a pipe might fill up
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(tree.resolve()), str(_OWN_ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
            process_group=0 if _POSIX else None,
            preexec_fn=end_with_starter if _POSIX else None,
        )
        self._wanted = json.dumps(cell._asdict() | {"files": list(files)})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            if _POSIX:
                os.killpg(self._process.pid, signal.SIGKILL)  # what it forked holds its pipes open
            else:
                self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()
        self._errors.close()

    def start(self) -> None:
        self._ask(self._wanted)

    def time(self, turn: int) -> float:
        return float(self._ask(str(turn)))

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended, and the answer says why
            print(line, file=self._process.stdin, flush=True)
        ready, _, _ = select([self._process.stdout], [], [], self._timeout_s)
        if not ready:
            raise NoAnswer(f"{self._tree} did not answer for {self._timeout_s:g} s")
        answer = self._process.stdout.readline()
        if not answer:
            status = self._process.wait()
            self._errors.seek(0)
            raise NoAnswer(f"{self._tree} ended with {status}: {self._errors.read().strip().rpartition(chr(10))[2]}")
        return answer


def _pair(pair: Pair, files: Sequence[str]) -> stats.Ratio:
    """New over old, from a fresh process of each that take turns in random order."""
    margin = pair.margin
    with (
        _Side(pair.trees[0], pair.cell, pair.timeout_s, files) as old,
        _Side(pair.trees[1], pair.cell, pair.timeout_s, files) as new,
    ):
        sides = (old, new)
        for side in sides:
            side.start()
        samples: tuple[list[float], list[float]] = ([], [])
        order = random.Random()
        started = time.perf_counter()
        turn, look = 0, stats.next_look(0)
        while True:
            for index in order.sample((0, 1), 2):
                samples[index].append(sides[index].time(turn))
            turn += 1
            spent = time.perf_counter() - started > pair.budget_s and turn >= stats.FEWEST_ROUNDS
            if turn < look and not spent:
                continue
            look = stats.next_look(turn)
            result = stats.ratio(samples[1], range(turn), samples[0], range(turn), margin=margin)
            if spent or stats.narrow_enough(result, margin=margin):
                return result
