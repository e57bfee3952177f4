"""Every variant as a benchmark: ``pytest --benchmark``.

The readings are those of the suite's own clocks, device time on CUDA, and every cell carries the suite's reasons for
doubt. What it cannot have is rounds in which all variants take turns: pytest-benchmark times one after the other, so a
small difference between two of them is for ``run_all.py`` to judge.
"""

import time
from statistics import median

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suite.bench.probes import conditions, memory, mode
from suite.bench.probes.alone import Alone
from suite.bench.probes.clocks import clock_of
from suite.bench.probes.step import prepared, running_on
from suite.bench.request import Request, understand
from suite.bench.tasks import About, Target
from suite.core.records import Finding
from suite.core.workloads import Phase, Workload
from variants import Skip

WARM_CALLS = 2


class Stopwatch:
    """A timer that stands still but for what the suite's clock reads, so that a round takes just that long."""

    def __init__(self) -> None:
        self.total_s = 0.0

    def __call__(self) -> float:
        return self.total_s


STOPWATCH = Stopwatch()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    options = metafunc.config.option
    # a plain `pytest` tries the door, and times nothing
    trial = not options.benchmark_enable
    asked = understand(
        Request(
            variants=("parallel", "parallel+bf16") if trial else tuple(options.benchmark_variant),
            workloads=("tiny",) if trial else tuple(options.benchmark_workload),
        )
    )
    cells = [
        pytest.param(str(wanted.spec), workload, phase, str(device), id=f"{wanted.spec}-{workload}-{phase}-{device}")
        for workload in asked.workloads
        for phase in asked.phases
        for device in asked.devices
        for wanted in asked.variants
    ]
    metafunc.parametrize(("name", "workload", "phase", "device"), cells)


@pytest.mark.benchmark(timer=STOPWATCH)
@pytest.mark.timeout(1200)  # a compilation may take minutes
def test_variant(
    benchmark: BenchmarkFixture,
    request: pytest.FixtureRequest,
    name: str,
    workload: Workload,
    phase: Phase,
    device: str,
) -> None:
    about = About(task="benchmark", variant=name, workload=str(workload), phase=phase, device=device)
    benchmark.group = f"{workload}, {phase}, {device}"
    with running_on(device):
        before_compiling = mode.compilations()
        try:
            step = prepared(name, workload, phase, device)
        except Skip as reason:
            pytest.skip(str(reason))
        clock = clock_of(device)
        first_call_s = clock.wall(step, 0)
        compiled = mode.compilations()
        for turn in range(WARM_CALLS):
            step.clear()
            call_s = clock.wall(step, turn)
        step.clear()
        proof = mode.compilation(before_compiling, compiled, mode.compilations())

        options = request.config.option
        fitting = int(float(options.benchmark_max_time) / call_s)
        rounds = Alone(step, clock)

        def call() -> None:
            STOPWATCH.total_s += rounds.read()

        before, switched, started = conditions.mark(), conditions.switches(), time.perf_counter()
        benchmark.pedantic(call, setup=rounds.settle, rounds=max(options.benchmark_min_rounds, fitting))
        doubts, figures = conditions.doubts(
            rounds.samples["latency"],
            rounds.cpu_s,
            conditions.switches() - switched,
            before=before,
            after=conditions.mark(),
            wall_s=time.perf_counter() - started,
        )
        (ran,) = (record for record in mode.prove(step, proof, about) if isinstance(record, Finding))
        held = memory.measure(Target(name, workload, phase, device, task="benchmark"))
        benchmark.extra_info |= (
            about
            | {f"{record.quantity}_bytes": record.value for record in held}
            | {f"{quantity}_s": median(samples) for quantity, samples in rounds.samples.items()}
            | {"device_time_s": median(rounds.samples["latency"]), "first_call_s": first_call_s}
            | {"examples": workload.batch, "trust": [*doubts, *clock.doubts()]}
            | {**figures, **clock.details(), **proof.details()}
        )
    assert ran.verdict == "holds", ran.summary
