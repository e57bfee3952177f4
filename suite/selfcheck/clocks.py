"""Clocks: ours beside somebody else's, and work of known length."""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from torch.utils.benchmark import Timer

from suite.bench.probes import conditions, timing
from suite.bench.probes.alone import Alone
from suite.bench.probes.clocks import Clock, clock_of
from suite.bench.probes.step import Step, prepare, running_on
from suite.core import stats
from suite.core.records import Finding, Measurement
from suite.core.workloads import WORKLOADS, Workload, override
from suite.selfcheck.bench import Bench, latencies
from suite.selfcheck.row import row
from variants.spec import parse

MECHANISMS = ("parallel", "alternating")
MOST_S = 5.0
"""For one comparison of two clocks."""
WARM_CALLS = 2
"""Before each of our readings, since torch's timer makes as many."""
LENGTHS_US = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
SAMPLING_S = 3.0


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on another clock, on the other door to the same cells, and on known lengths."""
    yield _beside_another_clock(bench)
    yield _through_both_doors(bench)
    yield _known_lengths(bench)


def _beside_another_clock(bench: Bench) -> Finding:
    on_cuda = bench.device == "cuda"
    limit = _limit(bench.device)
    quantity = "device_cold" if on_cuda else "latency"
    ratios: list[stats.Ratio] = []
    with running_on(bench.device):
        clock = clock_of(bench.device)
        for trial in range(bench.count(default=6, full=20)):
            step = prepare(MECHANISMS[trial % 2], _workload(bench.device), "forward", bench.device)
            ours = partial(_warm_reading, step, clock, quantity)
            theirs = _triton(step) if on_cuda else _torch(step)
            ratios.append(_interleaved(ours, theirs, margin=limit))
    return judge_clocks(ratios, "triton.testing.do_bench" if on_cuda else "torch.utils.benchmark", limit)


def _through_both_doors(bench: Bench) -> Finding:
    """What `pytest --benchmark` reads of a variant, and what a run reads of it in its rounds."""
    limit = _limit(bench.device)
    ratios: list[stats.Ratio] = []
    with running_on(bench.device):
        clock = clock_of(bench.device)
        for trial in range(bench.count(default=2, full=6)):
            name = MECHANISMS[trial % 2]
            lane = timing.start(name, _workload(bench.device), "forward", bench.device, {}, clock)
            door = Alone(lane.step, clock)
            ratios.append(_interleaved(partial(_in_rounds, lane, clock), partial(_alone, door), margin=limit))
    return judge_clocks(ratios, "pytest --benchmark", limit)


def _workload(device: str) -> Workload:
    changes = {"batch": "256"} if device == "cuda" else {"batch": "1", "regions": "112"}
    return override(WORKLOADS["vqa-grid"], changes)


def _limit(device: str) -> float:
    return 0.02 if device == "cuda" else 0.03


def judge_clocks(ratios: Sequence[stats.Ratio], name: str, limit: float) -> Finding:
    """The row that follows from our time over another clock's; what is unclear is no trial, and is counted apart."""
    agreed = sum(ratio.verdict == "same" for ratio in ratios)
    unclear = sum(ratio.verdict == "unclear" for ratio in ratios)
    said = ", ".join(f"{ratio.estimate:.4f} ({ratio.low:.4f} to {ratio.high:.4f})" for ratio in ratios)
    return row(
        f"our time and that of {name}, interleaved, agree within {limit:.0%}",
        agreed,
        len(ratios) - unclear,
        at_least=1.0,
        summary=f"{unclear} comparisons could not tell; ours over theirs: {said}",
    )


def _interleaved(ours: Callable[[], float], theirs: Callable[[], float], *, margin: float) -> stats.Ratio:
    """Our time over theirs, round by round in random order, until the interval is narrow or the time is spent.

    A round in which the process was put off the CPU is left out: whose call that hit says nothing about the clocks.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    look = stats.next_look(0)
    while True:
        switched = conditions.switches()
        taken = {side: (ours, theirs)[side]() for side in random.sample((0, 1), 2)}
        if conditions.switches() == switched:
            for side, value in taken.items():
                seconds[side].append(value)
        spent = time.perf_counter() - started > MOST_S
        if len(seconds[0]) < look and not spent:
            continue
        look = stats.next_look(len(seconds[0]))
        rounds = range(len(seconds[0]))
        found = stats.ratio(seconds[0], rounds, seconds[1], rounds, margin=margin)
        if spent or stats.narrow_enough(found, margin=margin):
            return found


def _warm_reading(step: Step, clock: Clock, quantity: str) -> float:
    for _ in range(WARM_CALLS):
        step(0)
    seconds = clock.read(step, 0).seconds[quantity]
    step.clear()
    return seconds


def _in_rounds(lane: timing.Lane, clock: Clock) -> float:
    timing.sample(lane, clock, len(lane.rounds))
    return lane.samples["latency"][-1]


def _alone(door: Alone) -> float:
    door.settle()
    return door.read()


def _torch(step: Step) -> Callable[[], float]:
    timer = Timer("step(0)", globals={"step": step}, num_threads=1)
    return lambda: timer.timeit(1).median


def _triton(step: Step) -> Callable[[], float]:
    from triton.testing import do_bench  # only where there is a GPU

    def once() -> float:
        median_ms: float = do_bench(lambda: step(0), warmup=2, rep=10, return_mode="median")
        return median_ms / 1e3

    return once


def _known_lengths(bench: Bench) -> Finding:
    on_cuda = bench.device == "cuda"
    asked = bench.asked(
        [f"length[microseconds={length}]" for length in LENGTHS_US], shape="batch=1,regions=2,words=2,width=2"
    )
    trials = bench.count(default=2, full=10)
    good, interrupted, said = 0, 0, []
    for records in bench.measure(asked, label="known length", times=trials, sampling_s=SAMPLING_S):
        timed = latencies(records)
        slope, agreement = line(timed)
        lies = agreement >= 0.9999 if on_cuda else abs(slope - 1) <= 0.01
        good += lies
        interrupted += not lies and _interrupted(timed)
        said.append(f"slope {slope:.4f}, R² {agreement:.6f}")
    wanted = "R² at least 0.9999" if on_cuda else "slope 1.00 ± 0.01"
    return row(
        f"work of known length from 0.1 to 50 ms lies on a line: {wanted}",
        good,
        trials - interrupted,
        at_least=1.0,
        summary="; ".join(said) + (f"; {interrupted} could not tell: the CPU was taken away" if interrupted else ""),
    )


def _interrupted(timed: Mapping[str, Measurement]) -> bool:
    """Whether a call of tens of milliseconds had to share its CPU: then it ends when it gets it back."""
    shares = [record.details.get("cpu_share", 1.0) for record in timed.values()]
    return any(isinstance(share, float) and share < conditions.LEAST_CPU_SHARE for share in shares)


def line(timed: Mapping[str, Measurement]) -> tuple[float, float]:
    """Slope of measured over known seconds, and R²; on CUDA the known ones are in thousands of cycles."""
    from scipy import stats as scipy_stats  # which takes long to load

    known, measured = [], []
    for name, record in timed.items():
        spec = parse(name)
        if spec.mechanism == "length":
            known.append(int(dict(spec.options).get("microseconds", "100")) / 1e6)
            measured.append(min(record.samples))  # whoever else ran meanwhile made it longer than it is known to be
    fit = scipy_stats.linregress(known, measured)
    return float(fit.slope), float(fit.rvalue) ** 2
