"""Clocks: ours beside somebody else's, and work of known length."""

import random
from collections.abc import Callable, Iterator, Mapping

from scipy import stats as scipy_stats
from torch.utils.benchmark import Timer

from suite import stats
from suite.probes.clocks import Clock, clock_of
from suite.probes.step import Step, prepare, running_on
from suite.records import Finding, Measurement
from suite.selfcheck.bench import Bench, latencies
from suite.selfcheck.row import row
from suite.workloads import WORKLOADS, override
from variants.spec import parse

ROUNDS = 40
LENGTHS_US = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
SAMPLING_S = 3.0


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on another clock and on known lengths."""
    yield _beside_another_clock(bench)
    yield _known_lengths(bench)


def _beside_another_clock(bench: Bench) -> Finding:
    on_cuda = bench.device == "cuda"
    workload = override(WORKLOADS["vqa-grid"], {"batch": "256" if on_cuda else "2"})
    agreed, said = 0, []
    trials = bench.count(default=4, full=20)
    name = "triton.testing.do_bench" if on_cuda else "torch.utils.benchmark"
    limit = 0.02 if on_cuda else 0.03
    with running_on(bench.device):
        clock = clock_of(bench.device)
        for trial in range(trials):
            step = prepare(("parallel", "alternating")[trial % 2], workload, "forward", bench.device)
            other = _triton(step) if on_cuda else _torch(step)
            ratio, seconds = _interleaved(step, clock, other, "latency_cold" if on_cuda else "latency")
            agreed += abs(ratio.estimate - 1) <= limit
            said.append(f"{ratio.estimate:.4f} at {seconds * 1e3:.2f} ms")
    return row(
        f"our time and that of {name}, interleaved, agree within {limit:.0%}",
        agreed,
        trials,
        at_least=1.0,
        summary=f"ours over theirs: {', '.join(said)}",
    )


def _interleaved(step: Step, clock: Clock, other: Callable[[], float], quantity: str) -> tuple[stats.Ratio, float]:
    """Our time over theirs, round by round in random order, each after an untimed call."""
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        for own in random.sample((True, False), 2):
            step(0)
            if own:
                ours.append(clock.read(step, 0).seconds[quantity])
            else:
                theirs.append(other())
            step.clear()
    rounds = range(ROUNDS)
    return stats.ratio(ours, rounds, theirs, rounds), stats.summarise(ours).median


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
    good, said = 0, []
    for records in bench.measure(asked, label="known length", times=trials, sampling_s=SAMPLING_S):
        slope, agreement = line(latencies(records))
        good += agreement >= 0.9999 if on_cuda else abs(slope - 1) <= 0.01
        said.append(f"slope {slope:.4f}, R² {agreement:.6f}")
    wanted = "R² at least 0.9999" if on_cuda else "slope 1.00 ± 0.01"
    return row(
        f"work of known length from 0.1 to 50 ms lies on a line: {wanted}",
        good,
        trials,
        at_least=1.0,
        summary="; ".join(said),
    )


def line(timed: Mapping[str, Measurement]) -> tuple[float, float]:
    """Slope of measured over known seconds, and R²; on CUDA the known ones are in thousands of cycles."""
    known, measured = [], []
    for name, record in timed.items():
        spec = parse(name)
        if spec.mechanism == "length":
            known.append(int(dict(spec.options).get("microseconds", "100")) / 1e6)
            measured.append(stats.summarise(record.samples).median)
    fit = scipy_stats.linregress(known, measured)
    return float(fit.slope), float(fit.rvalue) ** 2
