"""Timing: the same twice, work of known size, and the naive rule beside it."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median_low

from suite.bench.probes.clocks import clock_of
from suite.bench.probes.step import Step, prepare, running_on
from suite.core import stats
from suite.core.records import Finding, Record
from suite.selfcheck import simulation
from suite.selfcheck.bench import Bench, latencies
from suite.selfcheck.row import row

SHAPE = "batch=4,regions=64,words=8,width=64"
"""Calls of a millisecond: long enough for the clock, and short enough to be over before the scheduler's turn ends."""
GPU_SHAPE = "batch=128,regions=196,words=26,width=512"
PAIR_S = 2.5
"""Of sampling, for each pair of variants that a comparison is about."""
BASE, TWIN = "work", "work[twin=1]"
EXTRA = {"work[extra=1]": 0.05, "work[extra=2]": 0.10}
"""One and two pieces on top of twenty."""
GPU_BASE, GPU_TWIN = "work[pieces=50]", "work[pieces=50,twin=1]"
GPU_EXTRA = {"work[extra=1,pieces=50]": 0.02}
CHUNKS = 10
"""Parts into which the comparisons are cut, so that every row sees the same minutes of the machine."""
TOGETHER = 3
"""Fresh processes whose pairs are put together, as a run puts together what it repeats."""
NAIVE_S = 0.5
"""A side of the naive rule's pair."""


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on false alarms, power and coverage, all from the same comparisons."""
    on_cuda = bench.device == "cuda"
    base, twin, extra = (GPU_BASE, GPU_TWIN, GPU_EXTRA) if on_cuda else (BASE, TWIN, EXTRA)
    margin = 0.01 if on_cuda else 0.02
    shape = GPU_SHAPE if on_cuda else SHAPE
    same, slowed = bench.asked([base, twin], shape=shape), bench.asked([base, *extra], shape=shape)
    twins = _parts(bench.count(default=60, full=500 if on_cuda else 200))
    slowdowns = _parts(bench.count(default=20, full=40))
    comparisons: list[list[Record]] = []
    naive: list[stats.Verdict] = []
    with running_on(bench.device):
        sides = [prepare(name, same.workloads[0], "forward", bench.device) for name in (base, twin)]
        for number, (pairs, slower) in enumerate(zip(twins, slowdowns, strict=True), 1):
            comparisons += bench.measure(same, label=f"pairs {number}", times=pairs, sampling_s=PAIR_S)
            comparisons += bench.measure(
                slowed, label=f"pairs {number} slowed", times=slower, sampling_s=PAIR_S * len(extra)
            )
            naive += [_naive(sides[0], sides[1], bench.device) for _ in range(-(-pairs // 3))]
    yield from simulation.check(full=bench.full)
    yield from judge(comparisons, base=base, twin=twin, extra=extra, margin=margin, on_cuda=on_cuda)
    differences = sum(verdict != "unclear" for verdict in naive)
    yield row(
        "for show: A, then B, then Mann-Whitney calls the same variant twice a difference",
        differences,
        len(naive),
        summary=f"what the usual rule says of the same code on this machine, {NAIVE_S:g} s a side; no limit applies",
    )


def judge(
    comparisons: Sequence[Sequence[Record]],
    *,
    base: str,
    twin: str,
    extra: dict[str, float],
    margin: float,
    on_cuda: bool,
) -> Iterator[Finding]:
    """The rows that follow from comparisons of ``base`` with its twin and with more work."""
    ratios: dict[str, list[stats.Ratio]] = {name: [] for name in (twin, *extra)}
    for records in comparisons:
        timed = latencies(records)
        for name, found in ratios.items():
            if base in timed and name in timed:
                one, other = timed[name], timed[base]
                found.append(stats.ratio(one.samples, one.rounds, other.samples, other.rounds, margin=margin))
    same = ratios[twin]
    alarms = sum(ratio.verdict in ("faster", "slower") for ratio in same)
    said = {verdict: sum(ratio.verdict == verdict for ratio in same) for verdict in ("same", "unclear")}
    yield row(
        f"the same variant twice is called faster or slower, margin {margin:.0%}",
        alarms,
        len(same),
        at_most=0.01,
        summary=f"{said['same']} same, {said['unclear']} unclear; {_widths(same)}",
    )
    for name, share in extra.items():
        found = ratios[name]
        seen = sum(ratio.verdict == "slower" for ratio in found)
        yield row(
            f"{share:+.0%} of work is called slower",
            seen,
            len(found),
            at_least=0.80 if share == 0.05 else 0.95,
            summary=_widths(found),
        )
    covering = sum(ratio.low <= 1 <= ratio.high for ratio in same)
    yield row(
        "the 95 % interval covers the true ratio (the same variant twice: 1)",
        covering,
        len(same),
        at_least=0.93,
        at_most=0.97,
        summary="of the pairs of the first row",
    )
    yield from _of_the_code(same, ratios, margin)


def _of_the_code(
    same: Sequence[stats.Ratio], ratios: Mapping[str, Sequence[stats.Ratio]], margin: float
) -> Iterator[Finding]:
    """The same pairs, each in a process of its own, as repeats: what is said of the code, not of one process."""
    between = stats.scatter([[same]])
    if between is None:
        return
    together = [stats.across(three, between, margin=margin) for three in _threes(same)]
    apart = f"processes differ by {math.sqrt(between.variance):.2%} (standard deviation)"
    yield row(
        f"the same variant twice in {TOGETHER} fresh processes is called faster or slower, margin {margin:.0%}",
        sum(ratio.verdict in ("faster", "slower") for ratio in together),
        len(together),
        at_most=0.01,
        summary=f"{apart}; {_widths(together)}",
    )
    yield row(
        f"the 95 % interval of {TOGETHER} fresh processes covers the true ratio",
        sum(ratio.low <= 1 <= ratio.high for ratio in together),
        len(together),
        at_least=0.93,
        at_most=0.97,
        summary="of the same pairs",
    )
    for name, share in EXTRA.items():
        found = [stats.across(three, between, margin=margin) for three in _threes(ratios.get(name, ()))]
        if found:
            yield row(
                f"{share:+.0%} of work in {TOGETHER} fresh processes is called slower",
                sum(ratio.verdict == "slower" for ratio in found),
                len(found),
                at_least=0.80 if share == 0.05 else 0.95,
                summary=_widths(found),
            )


def _threes(ratios: Sequence[stats.Ratio]) -> list[Sequence[stats.Ratio]]:
    """Repeats that belong together, no pair in two of them."""
    return [ratios[first : first + TOGETHER] for first in range(0, len(ratios) - TOGETHER + 1, TOGETHER)]


def _parts(count: int) -> list[int]:
    """So many trials in nearly equal parts."""
    return [count * (part + 1) // CHUNKS - count * part // CHUNKS for part in range(CHUNKS)]


def _widths(ratios: Sequence[stats.Ratio]) -> str:
    if not ratios:
        return "no pair was timed"
    half = median_low(ratio.half_width for ratio in ratios)
    estimate = median_low(ratio.estimate for ratio in ratios)
    rounds = median_low(ratio.count for ratio in ratios)
    return f"median estimate {estimate:.4f}, interval ±{half:.2%} after {rounds} rounds"


def _naive(first: Step, second: Step, device: str) -> stats.Verdict:
    """All of one, then all of the other, as most benchmarks do."""
    clock = clock_of(device)
    samples: list[list[float]] = []
    for step in (first, second):
        step(0)
        taken: list[float] = []
        started = time.perf_counter()
        while time.perf_counter() - started < NAIVE_S or len(taken) < stats.FEWEST_ROUNDS:
            taken.append(clock.read(step, len(taken)).seconds["latency"])
            step.clear()
        samples.append(taken)
    return stats.naive_verdict(*samples)
