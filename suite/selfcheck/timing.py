"""Timing: the same twice, work of known size, and the naive rule beside it."""

import time
from collections.abc import Iterator, Sequence
from statistics import median_low

from suite import stats
from suite.probes.clocks import clock_of
from suite.probes.step import Step, prepare, running_on
from suite.records import Finding, Record
from suite.selfcheck.bench import Bench, latencies
from suite.selfcheck.row import row

SHAPE = "batch=20,regions=20,words=8,width=64"
GPU_SHAPE = "batch=320,regions=196,words=26,width=512"
SAMPLING_S = 2.5
BASE, TWIN = "work", "work[twin=1]"
EXTRA = {"work[extra=1]": 0.05, "work[extra=2]": 0.10}
"""One and two pieces of twenty, done once more."""
GPU_BASE, GPU_TWIN = "work[pieces=50]", "work[pieces=50,twin=1]"
GPU_EXTRA = {"work[extra=1,pieces=50]": 0.02}
CHUNK = 10
"""Pairs between two looks at the naive rule, so that both see the same hours of the machine."""
NAIVE_S = 0.5
"""A side of the naive rule's pair."""


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on false alarms, power and coverage, all from the same comparisons."""
    on_cuda = bench.device == "cuda"
    base, twin, extra = (GPU_BASE, GPU_TWIN, GPU_EXTRA) if on_cuda else (BASE, TWIN, EXTRA)
    margin = 0.01 if on_cuda else 0.02
    shape = GPU_SHAPE if on_cuda else SHAPE
    asked = bench.asked([base, twin, *extra], shape=shape)
    pairs = bench.count(default=60, full=500 if on_cuda else 200)
    comparisons: list[list[Record]] = []
    naive: list[stats.Verdict] = []
    with running_on(bench.device):
        sides = [prepare(name, asked.workloads[0], "forward", bench.device) for name in (base, twin)]
        for chunk in range(0, pairs, CHUNK):
            times = min(CHUNK, pairs - chunk)
            comparisons += bench.measure(asked, label=f"pairs {chunk // CHUNK + 1}", times=times, sampling_s=SAMPLING_S)
            naive += [_naive(sides[0], sides[1], bench.device) for _ in range(-(-times // 3))]
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
