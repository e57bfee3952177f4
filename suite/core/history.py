"""Many runs in order: how each time moved, and where it changed by more than noise explains.

A variant's time is its ratio to the anchor of the same run, so that what the machine did between runs cancels; the
anchor itself has its time. Most steps from one run to the next are noise, so that all of them together, by their
middle half, say how much wider than its interval the noise of a run is. A change has two runs or more on either side,
and is told only where it would be without any one of them: one odd run is none.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from suite.core import stats
from suite.core.compare import CellKey
from suite.core.latencies import Latencies, Place
from suite.core.records import ANCHOR, Record

FAMILY = 0.01
"""How often a history of unchanged code may have one change or more among all its times."""
FEWEST = 4
"""Runs in which a change can be told: two on either side."""
_ENOUGH_STEPS = 20
_NARROWEST = 0.25
_MIDDLE_HALF = 1.349  # standard deviations between the quartiles of a normal distribution
Floats = NDArray[np.float64]


class Run(NamedTuple):
    """One run of a history."""

    name: str
    commit: str
    started: str


class Point(NamedTuple):
    """One run's say: a ratio to the anchor, or seconds for the anchor itself, with its 95 % interval."""

    run: int
    estimate: float
    low: float
    high: float
    error: float
    """Standard error of its logarithm, as far as the run itself can know it."""


class Move(NamedTuple):
    """Between two runs a time changed."""

    at: int
    """The first run after the change."""
    ratio: stats.Ratio
    """After over before, with everything on either side up to the next change; it is slower where that is above 1."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One time through all runs that have it."""

    cell: CellKey
    points: tuple[Point, ...]
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True, kw_only=True)
class History:
    """What many runs say together."""

    runs: tuple[Run, ...]
    series: tuple[Series, ...]
    noise: float
    """How many times as wide as the runs' own intervals their scatter is, of ratios; 1 where there is too little."""
    fail_above: float

    @property
    def slower(self) -> tuple[Series, ...]:
        """Times whose last change is told to be slower, beyond the limit as a whole."""
        return tuple(one for one in self.series if one.moves and one.moves[-1].ratio.low > 1 + self.fail_above)

    @property
    def faster(self) -> tuple[Series, ...]:
        """Times whose last change is told to be faster, beyond the limit as a whole."""
        return tuple(one for one in self.series if one.moves and one.moves[-1].ratio.high < 1 / (1 + self.fail_above))


def history(runs: Sequence[tuple[Run, Iterable[Record]]], *, fail_above: float) -> History:
    """How each time moved over runs in their order, the oldest first.

    Args:
        runs: what to call each, and its records.
        fail_above: changes within this share, such as 0.05, are drawn and not counted.
    """
    found: dict[CellKey, list[Point]] = {}
    for at, (_, records) in enumerate(runs):
        for cell, point in _points(at, Latencies(records)):
            found.setdefault(cell, []).append(point)
    series = [Series(cell=cell, points=tuple(points)) for cell, points in found.items()]
    ours = [one for one in series if one.cell.variant != ANCHOR]
    anchors = [one for one in series if one.cell.variant == ANCHOR]
    # the anchor has the machine's pace in it, and so a noise of its own
    noise = _noise(ours)
    level = FAMILY / max(len(series), 1)
    told = [
        Series(cell=one.cell, points=one.points, moves=tuple(moves(one.points, factor, freedom=freedom, level=level)))
        for group, (factor, freedom) in ((anchors, _noise(anchors)), (ours, noise))
        for one in group
    ]
    return History(
        runs=tuple(run for run, _ in runs), series=tuple(told), noise=math.sqrt(noise[0]), fail_above=fail_above
    )


def _points(at: int, times: Latencies) -> Iterator[tuple[CellKey, Point]]:
    for place, tasks in times.places.items():
        for variant in dict.fromkeys(name for members in tasks.values() for name in members):
            ratio = _said(times, place, variant)
            if ratio is not None and _usable(ratio):
                yield CellKey(variant, *place), Point(at, ratio.estimate, ratio.low, ratio.high, ratio.error)


def _said(times: Latencies, place: Place, variant: str) -> stats.Ratio | None:
    return times.time(place, ANCHOR) if variant == ANCHOR else times.ratio(place, variant, ANCHOR)


def _usable(ratio: stats.Ratio) -> bool:
    return 0 < ratio.low < ratio.high < math.inf and ratio.low <= ratio.estimate <= ratio.high


def _logs(points: Sequence[Point]) -> tuple[Floats, Floats]:
    """Logarithms, and their variances as the runs know them."""
    values = np.log([point.estimate for point in points])
    return values, np.maximum([point.error for point in points], 1e-6) ** 2


def _noise(series: Sequence[Series]) -> tuple[float, float]:
    """By what the variances of the intervals are to be multiplied, and the degrees of freedom behind that."""
    steps: list[float] = []
    for one in series:
        values, variances = _logs(one.points)
        steps += list(np.diff(values) / np.sqrt(variances[1:] + variances[:-1]))
    if len(steps) < _ENOUGH_STEPS:
        return 1.0, max(len(steps) - 1.0, 1.0)
    low, high = np.quantile(steps, [0.25, 0.75])
    # neighbouring steps share a run, and the middle half knows less than all: a third of them are worth their name
    return max(float((high - low) / _MIDDLE_HALF) ** 2, _NARROWEST), len(steps) / 3


def moves(points: Sequence[Point], factor: float, *, freedom: float, level: float) -> Iterator[Move]:
    """The changes of one time, the oldest first.

    Args:
        points: in their order.
        factor: by which the variances of their intervals are multiplied.
        freedom: degrees of freedom behind the factor.
        level: the chance with which an unchanged time may be told to have changed.
    """
    values, variances = _logs(points)
    cuts = sorted(_cuts(values, variances * factor, 0, freedom, level))
    edges = [0, *cuts, len(points)]
    for before, cut, after in zip(edges, edges[1:], edges[2:], strict=False):
        size, error = _apart(values[before:after], variances[before:after] * factor, cut - before)
        wide = error * float(student.ppf(0.975, freedom))
        low, high = math.exp(size - wide), math.exp(size + wide)
        yield Move(
            points[cut].run,
            stats.Ratio(
                estimate=math.exp(size), low=low, high=high, count=after - before,
                verdict=stats.verdict(low, high, 0.0),
            ),
        )  # fmt: skip


def _cuts(values: Floats, variances: Floats, start: int, freedom: float, level: float) -> Iterator[int]:
    count = len(values)
    splits = range(2, count - 1)
    if not splits:
        return
    cut = max(splits, key=lambda at: _distance(values, variances, at))
    limit = float(student.isf(level / len(splits) / 2, freedom))
    for left_out in (None, *range(count)):
        kept = np.arange(count) != (-1 if left_out is None else left_out)
        at = cut - (left_out is not None and left_out < cut)
        if _distance(values[kept], variances[kept], at) < limit:
            return
    yield start + cut
    yield from _cuts(values[:cut], variances[:cut], start, freedom, level)
    yield from _cuts(values[cut:], variances[cut:], start + cut, freedom, level)


def _apart(values: Floats, variances: Floats, at: int) -> tuple[float, float]:
    """The mean after less the mean before, each weighted, and the standard error of that."""
    weights = 1 / variances
    before, after = np.average(values[:at], weights=weights[:at]), np.average(values[at:], weights=weights[at:])
    return float(after - before), math.sqrt(1 / weights[:at].sum() + 1 / weights[at:].sum())


def _distance(values: Floats, variances: Floats, at: int) -> float:
    size, error = _apart(values, variances, at)
    return abs(size) / error
