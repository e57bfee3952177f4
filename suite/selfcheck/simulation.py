"""Runs of code whose truth is known, simulated from numbers alone: what do intervals and verdicts do?

A cell's time in a process is the machine's pace, which all share in a round, times an effect of this process on this
cell, times the noise of a call. Records made so go through the same functions as those of a run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from suite.core import exits, latencies, stats
from suite.core.compare import compare
from suite.core.records import ANCHOR, Finding, Measurement
from suite.selfcheck.row import row

Generator = np.random.Generator
Floats = NDArray[np.float64]
PLACE = latencies.Place("tiny", "forward", "cpu")
EFFECTS = (0.0, 0.01, 0.02, 0.03)
"""Standard deviations of what a process does to one side; a ratio, with two of them, varies 1.4 times as much."""
LIMIT = 0.05


@dataclass(frozen=True, kw_only=True)
class World:
    """What a simulated machine is like."""

    effect: float = 0.0
    """Standard deviation of a process's effect on a variant, in logarithms."""
    noise: float = 0.02
    """Of a call."""
    drift: float = 0.03
    """Of the pace between processes."""
    correlation: float = 0.0
    """Of the noise of neighbouring rounds."""
    rounds: int = 40
    processes: int = 3
    """In which each comparison is repeated."""


def noise(generator: Generator, world: World, rounds: int) -> Floats:
    """The noise of one side, round by round."""
    fresh = generator.normal(0, world.noise, rounds + 60)
    if world.correlation:
        for at in range(1, len(fresh)):
            fresh[at] += world.correlation * fresh[at - 1]
    return fresh[60:]


def run(generator: Generator, world: World, cells: int, *, slower: float = 1.0, beside: int = 1) -> list[Measurement]:
    """The records of a run.

    Args:
        generator: of all that is random.
        world: the machine.
        cells: variants beside the anchor.
        slower: the true ratio of each to the anchor.
        beside: variants that share a comparison.
    """
    records = []
    names = [f"alternating[width={cell + 1}]" for cell in range(cells)]
    for first in range(0, cells, beside):
        for process in range(world.processes):
            pace = generator.normal(0, world.drift) + np.cumsum(generator.normal(0, 0.003, world.rounds))
            for name in (ANCHOR, *names[first : first + beside]):
                effect = generator.normal(0, world.effect) if world.effect else 0.0
                logs = pace + effect + noise(generator, world, world.rounds)
                times = 0.01 * (1.0 if name == ANCHOR else slower) * np.exp(logs)
                records.append(
                    Measurement(
                        task=f"{first}, {process}", variant=name, quantity="latency", unit="s",
                        workload=PLACE.workload, phase=PLACE.phase, device=PLACE.device,
                        samples=tuple(times.tolist()), rounds=tuple(range(world.rounds)),
                    )
                )  # fmt: skip
    return records


@dataclass(kw_only=True)
class Counts:
    """What came of simulated tables."""

    cells: int = 0
    covered: int = 0
    covered_by_one: int = 0
    """By the interval of the first process alone, as if there were no other."""
    told: int = 0
    """Cells called faster or slower after the table's correction."""
    told_alone: int = 0
    """The same before it."""
    tables: int = 0
    tables_told: int = 0


def tables(generator: Generator, world: World, *, cells: int, times: int, slower: float = 1.0) -> Counts:
    """Tables of cells that are all as slow as each other over the anchor."""
    counts = Counts()
    for _ in range(times):
        found = latencies.Latencies(run(generator, world, cells, slower=slower))
        names = dict.fromkeys(name for members in found.places[PLACE].values() for name in members if name != ANCHOR)
        ratios = [ratio for name in names if (ratio := found.ratio(PLACE, name, ANCHOR)) is not None]
        alone = [found.first(PLACE, name, ANCHOR) for name in names]
        told = stats.corrected(ratios)
        counts.cells += len(ratios)
        counts.covered += sum(one.low <= slower <= one.high for one in ratios)
        counts.covered_by_one += sum(one.low <= slower <= one.high for one in alone)
        counts.told_alone += sum(one.verdict in ("faster", "slower") for one in ratios)
        false = sum(one.verdict in ("faster", "slower") for one in told)
        counts.told += false
        counts.tables += 1
        counts.tables_told += false > 0
    return counts


def ends(generator: Generator, world: World, *, cells: int, times: int) -> dict[int, int]:
    """How comparisons of two runs of the same code end: how often each exit code."""
    codes: dict[int, int] = {}
    for _ in range(times):
        old, new = (run(generator, world, cells, beside=3) for _ in range(2))
        code = compare(old, new, fail_above=LIMIT).exit_code()
        codes[code] = codes.get(code, 0) + 1
    return codes


def covered(draw: Callable[[], Sequence[float] | Floats], times: int) -> int:
    """How many intervals of log ratios around 0, of one process alone, hold it."""
    found = (stats.log_interval(draw()) for _ in range(times))
    return sum(one.low <= 1 <= one.high for one in found)


def check(*, full: bool, seed: int = 0) -> Iterator[Finding]:
    """Rows on coverage, false verdicts and power with processes that differ.

    Args:
        full: the counts of the published table.
        seed: of all that is random.
    """
    times = 40 if full else 4
    for effect in EFFECTS:
        generator = np.random.default_rng(seed)
        world = World(effect=effect)
        equal = tables(generator, world, cells=100, times=times)
        said = f"simulated, processes differ by {effect:.0%} a side, 3 of them"
        yield row(
            f"{said}: the 95 % interval covers the true ratio",
            equal.covered,
            equal.cells,
            at_least=0.93,
            at_most=0.97,
            summary=f"the interval of one process alone: {equal.covered_by_one / equal.cells:.0%}",
        )
        yield row(f"{said}: equal cells are called faster or slower", equal.told_alone, equal.cells, at_most=0.01)
        yield row(
            f"{said}: a table of 100 equal cells has a false verdict, after Holm",
            equal.tables_told,
            equal.tables,
            at_most=0.05,
        )
        codes = ends(generator, World(effect=effect, processes=1), cells=72, times=2 * times)
        yield row(
            f"{said.rpartition(',')[0]}, 1 of them: compare of 72 cells of the same code ends other than 0",
            sum(count for code, count in codes.items() if code != exits.DONE),
            sum(codes.values()),
            at_most=0.01,
        )
    for effect, processes in POWERED.items():
        seen = tables(
            np.random.default_rng(seed),
            World(effect=effect, processes=processes),
            cells=20,
            times=max(times // 2, 2),
            slower=1.05,
        )
        yield row(
            f"simulated, processes differ by {effect:.0%} a side, {processes} of them: +5 % is called slower",
            seen.told_alone,
            seen.cells,
            at_least=0.80,
            summary=f"after Holm over 20 cells: {seen.told / seen.cells:.0%}",
        )


POWERED = {0.0: 3, 0.01: 3, 0.02: 9, 0.03: 18}
"""Processes that it takes to see 5 % more work in at least 80 % of cells, margin 2 %."""
