"""Statistics of samples that were taken in rounds, from numbers alone.

The unit of analysis is the round: samples of one round stood side by side, so drift and neighbours cancel in their
ratio, and samples of different sides are never compared as if they were independent. `suite/README.md` says what was
simulated to choose these methods; `tests/suite/core/test_stats.py` simulates it again.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

Verdict = Literal["faster", "slower", "same", "unclear"]
Floats = NDArray[np.float64]

CONFIDENCE = 0.95
FEWEST_ROUNDS = 6
"""Five rounds on the same side of 1 happen by chance once in sixteen: too often for a 95 % interval."""
FIRST_LOOK = 12
"""Rounds before a comparison may stop; looked at earlier, an interval that is narrow by luck ends it too often."""
MOST_GROUPS = 256
"""More rounds than this are put together, neighbours first, and each group speaks with its median."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Where samples lie; ``nan`` where there are none."""

    median: float
    low: float
    high: float
    """95 % interval of the median, wider where neighbouring samples resemble each other; the range below six."""
    count: int
    spread: float
    """Distance of the quartiles over the median."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time over base time."""

    estimate: float
    low: float
    high: float
    """95 % interval; 0 to infinity where there are too few rounds for one."""
    verdict: Verdict
    """``same``: the whole interval lies inside the margin; ``unclear``: it has a foot on either side."""
    count: int
    """Rounds in which both sides were timed."""

    @property
    def half_width(self) -> float:
        """Half of the interval's width, in logarithms: 0.01 is about 1 %."""
        return math.log(self.high / self.low) / 2 if self.low > 0 else math.inf


def summarise(samples: Sequence[float]) -> Summary:
    """Median, its 95 % interval, and the spread of samples in the order in which they were taken."""
    values = np.asarray(samples, dtype=float)
    count = len(values)
    if count == 0:
        return Summary(median=math.nan, low=math.nan, high=math.nan, count=0, spread=math.nan)
    ordered = np.sort(values)
    lower, median, upper = np.interp(np.multiply((0.25, 0.5, 0.75), count - 1), np.arange(count), ordered)
    # order statistics between which the median lies, had there been as many independent samples as these are worth
    worth = max(count / _correlation_time(values), 1.0)
    depth = int(count / 2 - 0.98 * count / math.sqrt(worth)) if count >= FEWEST_ROUNDS else 0  # 1.96 * sqrt(1/4)
    depth = min(max(depth, 0), (count - 1) // 2)
    return Summary(
        median=float(median),
        low=float(ordered[depth]),
        high=float(ordered[-1 - depth]),
        count=count,
        spread=float((upper - lower) / median) if median else 0.0,
    )


def ratio(
    samples: Sequence[float],
    rounds: Sequence[int],
    base_samples: Sequence[float],
    base_rounds: Sequence[int],
    *,
    margin: float = 0.02,
) -> Ratio:
    """Time over base time, from the rounds in which both were timed.

    The estimate is the Hodges-Lehmann median of the per-round log ratios, the interval inverts Wilcoxon's exact signed
    rank test: no shape is assumed but symmetry, which random order within a round gives to two sides that differ by a
    factor. A ratio that wanders from round to round widens it (Geyer's initial positive sequence).

    Args:
        samples: seconds, all above 0; several of one round count as their median.
        rounds: the round of each sample.
        base_samples: as ``samples``, of what it is compared with.
        base_rounds: as ``rounds``.
        margin: a difference too small to speak of; an interval must clear it for a verdict.

    Raises:
        ValueError: a sample is not above 0, or has no round.
    """
    own_rounds, own = _by_round(samples, rounds)
    shared_rounds, base = _by_round(base_samples, base_rounds)
    if not np.array_equal(own_rounds, shared_rounds):
        _, left, right = np.intersect1d(own_rounds, shared_rounds, assume_unique=True, return_indices=True)
        own, base = own[left], base[right]
    return log_interval(np.log(own / base), margin=margin)


def log_interval(log_ratios: Sequence[float] | Floats, *, margin: float = 0.02) -> Ratio:
    """As `ratio`, from one log ratio per round in the order of the rounds."""
    values = np.asarray(log_ratios, dtype=float)
    count = len(values)
    if count < FEWEST_ROUNDS:
        estimate = math.exp(float(np.median(values))) if count else math.nan
        return Ratio(estimate=estimate, low=0.0, high=math.inf, verdict="unclear", count=count)
    if count > MOST_GROUPS:
        values = np.array([np.median(group) for group in np.array_split(values, MOST_GROUPS)])
    first, second = _pairs(len(values))
    averages = np.sort((values[first] + values[second]) / 2)
    middle = len(averages) // 2
    centre = float(averages[middle] + averages[-1 - middle]) / 2
    cut = _signed_rank_quantile(len(values))
    widening = math.sqrt(_correlation_time(values))
    low = math.exp(centre - (centre - averages[cut]) * widening)
    high = math.exp(centre + (averages[-1 - cut] - centre) * widening)
    return Ratio(estimate=math.exp(centre), low=low, high=high, verdict=verdict(low, high, margin), count=count)


def relative(new: Ratio, old: Ratio, *, margin: float = 0.02) -> Ratio:
    """The ratio of two ratios that were measured apart, such as one variant over the anchor in two runs.

    The intervals are put together by the distances from their estimates (Zou and Donner 2008), so neither has to be
    symmetric. What differs between two processes of the same code is in neither interval.
    """
    upside_down = replace(
        old, estimate=1 / old.estimate, low=1 / old.high, high=1 / old.low if old.low > 0 else math.inf
    )
    return product(new, upside_down, margin=margin)


def product(first: Ratio, second: Ratio, *, margin: float = 0.02) -> Ratio:
    """The product of two ratios that were measured apart; intervals as in `relative`."""
    count = min(first.count, second.count)
    estimate = first.estimate * second.estimate
    if not all(factor.low > 0 and math.isfinite(factor.high) for factor in (first, second)):
        return Ratio(estimate=estimate, low=0.0, high=math.inf, verdict="unclear", count=count)
    below = math.hypot(*(math.log(factor.estimate / factor.low) for factor in (first, second)))
    above = math.hypot(*(math.log(factor.high / factor.estimate) for factor in (first, second)))
    low, high = estimate * math.exp(-below), estimate * math.exp(above)
    return Ratio(estimate=estimate, low=low, high=high, verdict=verdict(low, high, margin), count=count)


def apart(medians: Sequence[float], base_medians: Sequence[float], *, margin: float = 0.02) -> Ratio:
    """The ratio of times that shared no rounds, from one median per process (Welch, on logarithms).

    One process of each side says nothing of how much processes differ, so two of each are the fewest.
    """
    own, base = np.log(medians), np.log(base_medians)
    count = min(len(own), len(base))
    estimate = math.exp(float(np.mean(own) - np.mean(base))) if count else math.nan
    if count < 2:
        return Ratio(estimate=estimate, low=0.0, high=math.inf, verdict="unclear", count=count)
    if np.ptp(own) == np.ptp(base) == 0:
        low = high = estimate
    else:
        interval = scipy_stats.ttest_ind(own, base, equal_var=False).confidence_interval(CONFIDENCE)
        low, high = math.exp(float(interval.low)), math.exp(float(interval.high))
    return Ratio(estimate=estimate, low=low, high=high, verdict=verdict(low, high, margin), count=count)


def verdict(low: float, high: float, margin: float) -> Verdict:
    """What an interval of time over base time says about a margin, which reaches as far down as up."""
    if low > 1 + margin:
        return "slower"
    if high < 1 / (1 + margin):
        return "faster"
    if low >= 1 / (1 + margin) and high <= 1 + margin:
        return "same"
    return "unclear"


def narrow_enough(result: Ratio, *, margin: float = 0.02) -> bool:
    """Whether a comparison may stop: the interval is no wider than the margin, whatever the verdict.

    To stop by the width and never by the verdict, and only at `next_look`, keeps the false alarms of a rule that looks
    again and again at those of a rule that looks once.
    """
    return result.count >= FIRST_LOOK and result.half_width <= margin / 2


def next_look(rounds: int) -> int:
    """The round after which to ask `narrow_enough` next: half as many again."""
    look = FIRST_LOOK
    while look <= rounds:
        look += look // 2
    return look


def shared_spread(sides: Sequence[tuple[Sequence[float], Sequence[int]]]) -> float:
    """How much of the spread the sides of a comparison have in common, as the machine's own pace would make them.

    The median over pairs of sides of a robust covariance of log times, ``(var(x + y) - var(x - y)) / 4`` with variances
    from quartiles (Gnanadesikan and Kettenring 1972), as a distance of quartiles over the median. It cancels in a
    ratio; what a side does on its own account does not enter it.

    Args:
        sides: samples and the round of each, at least one side.

    Returns:
        0 where nothing is shared, ``nan`` where no two sides share `FIRST_LOOK` rounds.
    """
    logs = [(rounds, np.log(values)) for rounds, values in (_by_round(*side) for side in sides)]
    covariances = []
    for (own_rounds, own), (base_rounds, base) in itertools.combinations(logs, 2):
        _, left, right = np.intersect1d(own_rounds, base_rounds, assume_unique=True, return_indices=True)
        if len(left) >= FIRST_LOOK:
            total, difference = own[left] + base[right], own[left] - base[right]
            covariances.append((_quartile_distance(total) ** 2 - _quartile_distance(difference) ** 2) / 4)
    return math.sqrt(max(float(np.median(covariances)), 0.0)) if covariances else math.nan


def _quartile_distance(values: Floats) -> float:
    lower, upper = np.quantile(values, (0.25, 0.75))
    return float(upper - lower)


def binomial_interval(count: int, trials: int) -> tuple[float, float]:
    """Exact (Clopper-Pearson) 95 % interval of a probability, from ``count`` of ``trials``; 0 to 1 without trials."""
    if trials == 0:
        return 0.0, 1.0
    interval = scipy_stats.binomtest(count, trials).proportion_ci(confidence_level=CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def naive_verdict(samples: Sequence[float], base_samples: Sequence[float]) -> Verdict:
    """What the usual rule says: all of one, then all of the other, Mann-Whitney on the raw samples at 5 %.

    It takes samples that share their neighbours for independent ones, and calls drift a difference. Here for show.
    """
    if scipy_stats.mannwhitneyu(samples, base_samples).pvalue >= 1 - CONFIDENCE:
        return "unclear"
    return "slower" if np.median(samples) > np.median(base_samples) else "faster"


def _by_round(samples: Sequence[float], rounds: Sequence[int]) -> tuple[NDArray[np.int64], Floats]:
    """Rounds in ascending order, and one value for each."""
    if len(samples) != len(rounds):
        raise ValueError(f"{len(samples)} samples have {len(rounds)} rounds: expected one round for each sample")
    values, indices = np.asarray(samples, dtype=float), np.asarray(rounds, dtype=np.int64)
    impossible = ~((values > 0) & (values < np.inf))
    if impossible.any():
        where = int(impossible.argmax())
        raise ValueError(f"a sample of round {indices[where]} is {values[where]}: expected seconds above 0")
    if (indices[1:] > indices[:-1]).all():
        return indices, values
    unique, places = np.unique(indices, return_inverse=True)
    return unique, np.array([np.median(values[places == place]) for place in range(len(unique))])


@lru_cache(maxsize=64)
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    first, second = np.triu_indices(count)
    return first, second


@lru_cache(maxsize=MOST_GROUPS)
def _signed_rank_quantile(count: int) -> int:
    """How many of the sorted pairwise averages lie outside the interval on either side; exact."""
    chances = np.ones(1)  # of each value of the rank sum, one more rank at a time
    for rank in range(1, count + 1):
        longer = np.zeros(len(chances) + rank)
        longer[: len(chances)] = chances / 2
        longer[rank:] += chances / 2
        chances = longer
    return int(np.searchsorted(np.cumsum(chances), (1 - CONFIDENCE) / 2, side="right")) - 1


def _correlation_time(values: Floats) -> float:
    """How many samples in a row are worth one independent sample; 1 where no correlation stands out of the noise."""
    count = len(values)
    ranks = np.argsort(np.argsort(values)) - (count - 1) / 2
    power = float(ranks @ ranks)
    noise = 1.645 * math.sqrt(2 / count)  # one-sided 5 % for a sum of two correlations of white noise
    time = 1.0
    for lag in range(1, count // 3, 2):
        neighbours = float(ranks[lag:] @ ranks[:-lag] + ranks[lag + 1 :] @ ranks[: -lag - 1]) / power
        if neighbours < noise:
            break
        time += 2 * neighbours
    return time
