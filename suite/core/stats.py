"""Statistics of samples that were taken in rounds, from numbers alone.

The unit of analysis is the round: samples of one round stood side by side, so drift and neighbours cancel in their
ratio, and samples of different sides are never compared as if they were independent. Above it stands the process: the
same code in another one has another layout in memory, so what one process says is one draw of what the code does, and
`across` takes account of it. `suite/README.md` says what was simulated to choose these methods;
`suite/selfcheck/simulation.py` simulates it again.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special  # scipy.stats takes longer to load than all else here: only where it is needed

Verdict = Literal["faster", "slower", "same", "unclear"]
Floats = NDArray[np.float64]

CONFIDENCE = 0.95
MARGIN = 0.02
"""A difference of times that is too small to speak of, as a share."""
FEWEST_ROUNDS = 6
"""Five rounds on the same side of 1 happen by chance once in sixteen: too often for a 95 % interval."""
FIRST_LOOK = 12
"""Rounds before a comparison may stop; looked at earlier, an interval that is narrow by luck ends it too often."""
FEWEST_FOR_A_VERDICT = 12
"""Below it neither drift nor correlation between neighbours shows in the rounds themselves."""
MOST_GROUPS = 256
"""More rounds than this are put together, neighbours first, and each group speaks with its median."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Where samples lie; ``nan`` where there are none."""

    median: float
    low: float
    high: float
    """95 % interval of the median, wider where neighbouring samples resemble each other; the range below six. Which
    samples it ends at is a whole number, so that it is one of 92 to 98.5 %, by how many there are."""
    count: int
    spread: float
    """Distance of the quartiles over the median."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Time over base time: the pseudo-median of the rounds' ratios, which is not the ratio of the two medians."""

    estimate: float
    low: float
    high: float
    """95 % interval; 0 to infinity where there are too few rounds for one."""
    verdict: Verdict
    """``same``: the whole interval lies inside the margin; ``unclear``: it has a foot on either side, or there are too
    few rounds for a verdict."""
    count: int
    """Rounds in which both sides were timed."""
    processes: int = 1
    """In which they were."""
    freedom: float = math.inf
    """Degrees of freedom of the t distribution that the interval is of, about."""

    @property
    def half_width(self) -> float:
        """Half of the interval's width, in logarithms: 0.01 is about 1 %."""
        return math.log(self.high / self.low) / 2 if self.low > 0 else math.inf

    @property
    def error(self) -> float:
        """Standard error of the estimate's logarithm, about."""
        return self.half_width / _t(self.freedom)

    def chance(self, limit: float) -> float:
        """Chance of an estimate at least this far beyond a limit if the truth lay on the limit.

        One-sided; 1 where the estimate lies on the other side of it.

        Args:
            limit: a ratio; above 1 the estimate may lie above it, else below.
        """
        if not (self.low > 0 and math.isfinite(self.high) and self.estimate > 0):
            return 1.0
        up = limit > 1 or (limit == 1 and self.estimate > 1)
        distance = math.log(self.estimate / limit) * (1 if up else -1)
        reach = math.log(self.estimate / self.low) if up else math.log(self.high / self.estimate)
        if distance <= 0:
            return 1.0
        if reach == 0:
            return 0.0
        return float(special.stdtr(min(self.freedom, 1e6), -distance * _t(self.freedom) / reach))


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """How much the logarithm of a ratio, or of a time, differs between processes of the same code."""

    total: float
    """Variance of what single processes say, the noise of their rounds included."""
    within: float
    """Of it, what that noise makes, on average."""
    freedom: float
    """Degrees of freedom behind ``total``."""
    source: Literal["repeats", "anchor", "assumed", "changes"]
    """What it was learnt from: the same comparison in several processes; the anchor's times in all of them, which
    moves with the machine's pace too and is therefore at least as large; nothing; or two runs' cells."""

    @property
    def variance(self) -> float:
        """What differs between processes, the noise of the rounds taken out."""
        return max(self.total - self.within, 0.0)


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
    margin: float = MARGIN,
) -> Ratio:
    """Time over base time, from the rounds in which both were timed.

    The estimate is the Hodges-Lehmann median of the per-round log ratios, the interval inverts Wilcoxon's exact signed
    rank test: no shape is assumed but symmetry, which random order within a round gives to two sides that differ by a
    factor. A ratio that wanders from round to round widens it (Geyer's initial positive sequence, or where rounds are
    few, what the correlation of neighbours makes).

    Args:
        samples: seconds, all above 0; several of one round count as their median.
        rounds: the round of each sample.
        base_samples: as ``samples``, of what it is compared with.
        base_rounds: as ``rounds``.
        margin: a share; an interval must clear it for a verdict.

    Raises:
        ValueError: a sample is not above 0, or has no round.
    """
    own_rounds, own = _by_round(samples, rounds)
    shared_rounds, base = _by_round(base_samples, base_rounds)
    if not np.array_equal(own_rounds, shared_rounds):
        _, left, right = np.intersect1d(own_rounds, shared_rounds, assume_unique=True, return_indices=True)
        own, base = own[left], base[right]
    return log_interval(np.log(own / base), margin=margin)


def log_interval(log_ratios: Sequence[float] | Floats, *, margin: float = MARGIN) -> Ratio:
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
    worth = max(_correlation_time(values), _first_order_time(values))
    freedom = max(len(values) / worth - 1, 2.0)
    widening = math.sqrt(worth) * _t(freedom) / _t(len(values) - 1) if worth > 1 else 1.0
    low = math.exp(centre - (centre - averages[cut]) * widening)
    high = math.exp(centre + (averages[-1 - cut] - centre) * widening)
    return Ratio(
        estimate=math.exp(centre),
        low=low,
        high=high,
        verdict=verdict(low, high, margin) if count >= FEWEST_FOR_A_VERDICT else "unclear",
        count=count,
        freedom=freedom,
    )


def time(samples: Sequence[float]) -> Ratio:
    """The median of samples with its interval as a ratio to one second, so that `across` can take it."""
    found = summarise(samples)
    known = found.count >= FEWEST_ROUNDS
    return Ratio(
        estimate=found.median,
        low=found.low if known else 0.0,
        high=found.high if known else math.inf,
        verdict="unclear",
        count=found.count,
        freedom=max(found.count - 1.0, 2.0),
    )


def scatter(groups: Iterable[Sequence[Sequence[Ratio]]]) -> Scatter | None:
    """Learn from repeats how much processes differ.

    Args:
        groups: what stood in the same processes: several comparisons, each with one ratio for each of these processes.
            They share the anchor's part of the difference, so many of them are worth at most four.

    Returns:
        None where nothing was repeated.
    """
    total = within = weight = freedom = 0.0
    for group in groups:
        known = [[one for one in repeats if one.low > 0 and math.isfinite(one.high)] for repeats in group]
        known = [repeats for repeats in known if len(repeats) > 1]
        if not known:
            continue
        for repeats in known:
            logs = np.log([one.estimate for one in repeats])
            total += float(((logs - logs.mean()) ** 2).sum())
            within += (len(repeats) - 1) * float(np.mean([one.error**2 for one in repeats]))
            weight += len(repeats) - 1
        alike = 1 + (len(known) - 1) / 4  # two ratios to one anchor correlate by a half, their squares by a quarter
        freedom += sum(len(repeats) - 1 for repeats in known) / alike
    if not weight:
        return None
    return Scatter(total=total / weight, within=within / weight, freedom=freedom, source="repeats")


def anchored(times: Iterable[Sequence[Ratio]], *, sides: int) -> Scatter | None:
    """As `scatter`, from the anchor's times alone, where no comparison was repeated.

    A ratio has two sides, each with a process effect like the anchor's. What the machine's pace changed from task to
    task is in it, too, so it says too much rather than too little.

    Args:
        times: for each place the anchor's time in each of its processes, as `time` gives it.
        sides: 2 for a ratio; 1 for a time, to which the pace belongs.
    """
    found = scatter([one] for one in times)
    if found is None:
        return None
    return replace(found, total=sides * found.total, within=sides * found.within, source="anchor")


CENTRAL = 0.75
"""The share of changes, those nearest to the middle one, from which their scatter is learnt: the others may be real."""
_CENTRAL_VARIANCE = 0.3684
"""Of a normal distribution's variance, what its central three quarters have."""
_CENTRAL_WORTH = 0.5
"""How much a change that is used so is worth for a variance, beside one whose neighbours are all used."""


def among(changes: Sequence[Ratio], *, alike: float) -> Scatter | None:
    """How much nothing changed, from changes of which most are nothing.

    Args:
        changes: ratios of the same code in two runs, for the most part.
        alike: how many of them share processes, on average.

    Returns:
        None where they are too few.
    """
    known = [one for one in changes if one.low > 0 and math.isfinite(one.high)]
    freedom = _CENTRAL_WORTH * (len(known) / (1 + (max(alike, 1.0) - 1) / 4) - 1)
    if freedom < FEWEST_FREEDOM:
        return None
    logs = np.log([one.estimate for one in known])
    nearest = np.sort(np.abs(logs - np.median(logs)))[: math.ceil(CENTRAL * len(known))]
    total = float(np.mean(nearest**2)) / _CENTRAL_VARIANCE
    within = float(np.median([one.error**2 for one in known]))
    return Scatter(total=total, within=within, freedom=freedom, source="changes")


def pooled(*learnt: Scatter | None) -> Scatter | None:
    """What several runs of one machine say of the same, each by its degrees of freedom."""
    known = [one for one in learnt if one is not None]
    if not known:
        return None
    freedom = sum(one.freedom for one in known)
    return Scatter(
        total=sum(one.freedom * one.total for one in known) / freedom,
        within=sum(one.freedom * one.within for one in known) / freedom,
        freedom=freedom,
        source=known[0].source,
    )


NONE = Scatter(total=0.0, within=0.0, freedom=math.inf, source="assumed")
"""For what a process says of itself alone."""
ASSUMED = Scatter(total=0.02**2, within=0.0, freedom=4.0, source="assumed")
"""What is taken for the scatter of a ratio where nothing was learnt of it."""
FEWEST_FREEDOM = 3.0
"""Below which Satterthwaite's rule is no help: what it is then asked about is the difference of two large variances."""
FEWEST_TO_LEARN = 6.0
"""Degrees of freedom below which what was learnt is put together with what is assumed, each by its weight."""


def believed(*learnt: Scatter | None) -> Scatter:
    """The first that says enough by itself; else the first that says anything, together with what is assumed."""
    known = [one for one in learnt if one is not None]
    for one in known:
        if one.freedom >= FEWEST_TO_LEARN:
            return one
    if not known:
        return ASSUMED
    best = max(known, key=lambda one: one.freedom)
    freedom = best.freedom + ASSUMED.freedom
    return Scatter(
        total=(best.freedom * best.total + ASSUMED.freedom * ASSUMED.total) / freedom,
        within=best.freedom * best.within / freedom,
        freedom=freedom,
        source=best.source,
    )


def across(parts: Sequence[Ratio], between: Scatter, *, margin: float = MARGIN) -> Ratio:
    """What the same comparison says in one or more processes, of the code and not of these processes.

    A mean of logarithms, each weighted by what its own rounds and the scatter between processes leave open, with a t
    interval whose degrees of freedom count how well either variance is known (Satterthwaite 1946).

    Args:
        parts: one for each process, at least one.
        between: how much processes differ.
        margin: as in `ratio`.
    """
    count = sum(one.count for one in parts)
    known = [one for one in parts if one.low > 0 and math.isfinite(one.high)]
    if not known:
        estimate = math.exp(float(np.mean(np.log([one.estimate for one in parts])))) if count else math.nan
        return Ratio(estimate=estimate, low=0.0, high=math.inf, verdict="unclear", count=count, processes=len(parts))
    own = np.array([one.error**2 for one in known])
    logs = np.log([one.estimate for one in known])
    weights = 1 / np.maximum(own + between.variance, 1e-18)
    weights /= weights.sum()
    centre = float(weights @ logs)
    shared = float(weights @ weights)
    variance = float(weights**2 @ own) + shared * between.variance
    # where no difference between processes stands out of the rounds' noise, its own uncertainty adds nothing
    unsure = float(weights**4 @ (own**2 / np.array([one.freedom for one in known])))
    if between.variance > 0:
        unsure += (shared * between.total) ** 2 / between.freedom
    # a difference of two variances may look surer of itself than it is, or less sure than any variance can be
    freedom = max(variance**2 / unsure, FEWEST_FREEDOM) if unsure > 0 else math.inf
    reach = _t(freedom) * math.sqrt(variance)
    low, high = math.exp(centre - reach), math.exp(centre + reach)
    return Ratio(
        estimate=known[0].estimate if len(known) == 1 else math.exp(centre),
        low=low,
        high=high,
        verdict=verdict(low, high, margin) if count >= FEWEST_FOR_A_VERDICT else "unclear",
        count=count,
        processes=len(known),
        freedom=freedom,
    )


def corrected(ratios: Sequence[Ratio], *, margin: float = MARGIN) -> list[Ratio]:
    """The same with verdicts that hold together: at most one table in twenty has a false ``faster`` or ``slower``.

    Holm's step-down rule over the chances of estimates so far beyond the margin. Intervals stay those of one ratio.
    """
    told = [one.verdict in ("faster", "slower") for one in ratios]
    limits = [1 + margin if one.estimate > 1 else 1 / (1 + margin) for one in ratios]
    chances = [
        2 * one.chance(limit) if is_told else 1.0 for one, limit, is_told in zip(ratios, limits, told, strict=True)
    ]
    kept = holm(chances, level=1 - CONFIDENCE)
    return [
        replace(one, verdict="unclear") if is_told and not is_kept else one
        for one, is_told, is_kept in zip(ratios, told, kept, strict=True)
    ]


def holm(chances: Sequence[float], *, level: float) -> list[bool]:
    """Which of several hypotheses may be rejected together, with any false one as rare as ``level`` (Holm)."""
    kept = [False] * len(chances)
    order = sorted(range(len(chances)), key=lambda index: chances[index])
    for rank, index in enumerate(order):
        if chances[index] > level / (len(chances) - rank):
            break
        kept[index] = True
    return kept


def relative(new: Ratio, old: Ratio, *, margin: float = MARGIN) -> Ratio:
    """The ratio of two ratios that were measured apart, such as one variant over the anchor in two runs.

    The intervals are put together by the distances from their estimates (Zou and Donner 2008), so neither has to be
    symmetric. What differs between processes of the same code is in the result as far as it is in them; see `across`.
    """
    upside_down = replace(
        old, estimate=1 / old.estimate, low=1 / old.high, high=1 / old.low if old.low > 0 else math.inf
    )
    return product(new, upside_down, margin=margin)


def product(first: Ratio, second: Ratio, *, margin: float = MARGIN) -> Ratio:
    """The product of two ratios that were measured apart; intervals as in `relative`."""
    count = min(first.count, second.count)
    estimate = first.estimate * second.estimate
    if not all(factor.low > 0 and math.isfinite(factor.high) for factor in (first, second)):
        return Ratio(estimate=estimate, low=0.0, high=math.inf, verdict="unclear", count=count)
    below = math.hypot(*(math.log(factor.estimate / factor.low) for factor in (first, second)))
    above = math.hypot(*(math.log(factor.high / factor.estimate) for factor in (first, second)))
    low, high = estimate * math.exp(-below), estimate * math.exp(above)
    return Ratio(
        estimate=estimate,
        low=low,
        high=high,
        verdict=verdict(low, high, margin) if count >= FEWEST_FOR_A_VERDICT else "unclear",
        count=count,
        processes=min(first.processes, second.processes),
        freedom=_together(first, second),
    )


def _together(first: Ratio, second: Ratio) -> float:
    """Degrees of freedom of a sum of two logarithms (Satterthwaite 1946)."""
    own, other = first.error**2, second.error**2
    unsure = own**2 / first.freedom + other**2 / second.freedom
    return (own + other) ** 2 / unsure if unsure > 0 else math.inf


def apart(medians: Sequence[float], base_medians: Sequence[float], *, margin: float = MARGIN) -> Ratio:
    """The ratio of times that shared no rounds, from one median per process (Welch, on logarithms).

    One process of each side says nothing of how much processes differ, so two of each are the fewest.
    """
    from scipy import stats as scipy_stats

    own, base = np.log(medians), np.log(base_medians)
    count = min(len(own), len(base))
    estimate = math.exp(float(np.mean(own) - np.mean(base))) if count else math.nan
    if count < 2:
        return Ratio(estimate=estimate, low=0.0, high=math.inf, verdict="unclear", count=count)
    freedom = math.inf
    if np.ptp(own) == np.ptp(base) == 0:
        low = high = estimate
    else:
        test = scipy_stats.ttest_ind(own, base, equal_var=False)
        interval, freedom = test.confidence_interval(CONFIDENCE), float(test.df)
        low, high = math.exp(float(interval.low)), math.exp(float(interval.high))
    return Ratio(
        estimate=estimate,
        low=low,
        high=high,
        verdict=verdict(low, high, margin),
        count=count,
        processes=count,
        freedom=freedom,
    )


def verdict(low: float, high: float, margin: float) -> Verdict:
    """What an interval of time over base time says about a margin, which reaches as far down as up."""
    if low > 1 + margin:
        return "slower"
    if high < 1 / (1 + margin):
        return "faster"
    if low >= 1 / (1 + margin) and high <= 1 + margin:
        return "same"
    return "unclear"


def narrow_enough(result: Ratio, *, margin: float = MARGIN) -> bool:
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


FEWEST_OF_A_KIND = 0.2
"""A smaller share of calls moves no median far."""
FARTHEST_OF_ONE_KIND = 3.5
"""Distance of two halves over their spread: 2.65 for a normal distribution cut in the middle."""


def two_modes(samples: Sequence[float]) -> tuple[float, float] | None:
    """Whether samples are of two kinds that hardly overlap: the share of the longer ones, and how much longer they are.

    The logarithms are cut where the squared distances from two means are smallest; the two parts are of two kinds where
    their means are far apart for their spread (Ashman's D), and where either holds a fifth. A quantity that moves
    between two kinds has a median, but in which of them it lies is chance.
    """
    count = len(samples)
    fewest = math.ceil(FEWEST_OF_A_KIND * count)
    if count < 2 * FEWEST_FOR_A_VERDICT:
        return None
    values = np.sort(np.log(np.asarray(samples, dtype=float)))
    sizes = np.arange(1, count)
    sums, squares = np.cumsum(values), np.cumsum(values**2)
    left, right = sums[:-1] / sizes, (sums[-1] - sums[:-1]) / (count - sizes)
    inside = squares[-1] - sizes * left**2 - (count - sizes) * right**2
    allowed = slice(fewest - 1, count - fewest)
    cut = int(np.argmin(inside[allowed])) + fewest
    lower, upper = values[:cut], values[cut:]
    spread = math.sqrt((float(lower.var()) + float(upper.var())) / 2)
    distance = float(upper.mean() - lower.mean())
    if distance < math.log(1.05) or distance <= FARTHEST_OF_ONE_KIND * spread:
        return None
    return len(upper) / count, math.exp(float(np.median(upper) - np.median(lower)))


def _quartile_distance(values: Floats) -> float:
    lower, upper = np.quantile(values, (0.25, 0.75))
    return float(upper - lower)


def binomial_interval(count: int, trials: int) -> tuple[float, float]:
    """Exact (Clopper-Pearson) 95 % interval of a probability, from ``count`` of ``trials``; 0 to 1 without trials."""
    from scipy import stats as scipy_stats

    if trials == 0:
        return 0.0, 1.0
    interval = scipy_stats.binomtest(count, trials).proportion_ci(confidence_level=CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)


def naive_verdict(samples: Sequence[float], base_samples: Sequence[float]) -> Verdict:
    """What the usual rule says: all of one, then all of the other, Mann-Whitney on the raw samples at 5 %.

    It takes samples that share their neighbours for independent ones, and calls drift a difference. Here for show.
    """
    from scipy import stats as scipy_stats

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


@lru_cache(maxsize=4096)
def _t(freedom: float) -> float:
    """How many standard errors reach to the end of an interval."""
    return float(special.stdtrit(min(freedom, 1e6), (1 + CONFIDENCE) / 2))


def _centred_ranks(values: Floats) -> Floats:
    """Ranks around zero; equal values, as a coarse clock gives them, share the middle of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - (counts + 1) / 2  # ranks begin at 0
    ranks: Floats = middles[places] - (len(values) - 1) / 2
    return ranks


def _correlation_time(values: Floats) -> float:
    """How many samples in a row are worth one independent sample; 1 where no correlation stands out of the noise."""
    count = len(values)
    ranks = _centred_ranks(values)
    power = float(ranks @ ranks)
    if not power:
        return 1.0
    noise = 1.645 * math.sqrt(2 / count)  # one-sided 5 % for a sum of two correlations of white noise
    time = 1.0
    for lag in range(1, count // 3, 2):
        neighbours = float(ranks[lag:] @ ranks[:-lag] + ranks[lag + 1 :] @ ranks[: -lag - 1]) / power
        if neighbours < noise:
            break
        time += 2 * neighbours
    return time


def _first_order_time(values: Floats) -> float:
    """The same under the assumption that rounds resemble their neighbours alone, which a dozen of them can tell.

    The correlation of a few values is estimated too low by ``(1 + 4 r) / n`` (Kendall 1954), which is put back.
    """
    count = len(values)
    ranks = _centred_ranks(values)
    power = float(ranks @ ranks)
    if not power:
        return 1.0
    seen = float(ranks[1:] @ ranks[:-1]) / power
    if seen < 0.5 / math.sqrt(count) - 1 / count:
        return 1.0
    likely = min((count * seen + 1) / (count - 4), 0.97)
    return min((1 + likely) / (1 - likely), count / 2)
