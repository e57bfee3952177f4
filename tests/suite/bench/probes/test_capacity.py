"""The largest batch is foretold from probes that have settled, and comes down where it was too high."""

import math
from collections.abc import Callable

import pytest

from suite.bench.probes import capacity
from suite.bench.tasks import Target
from suite.core.records import Measurement
from suite.core.workloads import WORKLOADS

MIB = 2.0**20
FREE = 2048 * MIB
Peak = Callable[[int], float]
PEAKS: dict[str, Peak] = {
    "linear": lambda batch: (5 + 3 * batch) * MIB,
    "large overhead": lambda batch: (400 + 2 * batch) * MIB,
    "weights until a batch of seven": lambda batch: max(70, 10 * batch) * MIB,
    "a buffer that reaches its size": lambda batch: (3 * batch + 40 * (1 - math.exp(-batch / 4))) * MIB,
    "a workspace from a batch of five": lambda batch: (batch + (9 * (batch - 4) if batch > 4 else 0)) * MIB,
    "in blocks": lambda batch: 2 * MIB * math.ceil((1 + 0.7 * batch) / 2),
}


def largest_within(peak: Peak, limit: float) -> int:
    return next(batch for batch in range(1, 10**5) if peak(batch + 1) > limit)


@pytest.mark.parametrize("name", PEAKS)
def test_a_line_through_settled_probes_foretells_the_largest_batch(name: str) -> None:
    peak = PEAKS[name]
    probed: list[int] = []

    def probe(batch: int) -> float:
        probed.append(batch)
        return peak(batch)

    fixed, each = capacity.settled(probe, least=0.1 * MIB, at_most=FREE / 4)
    foretold = (FREE - fixed) / each
    assert 0.75 < foretold / largest_within(peak, FREE) < 1.15
    assert max(map(peak, probed)) <= FREE / 3


def test_a_batch_that_was_foretold_far_too_high_comes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    # beyond what any probe may take, an example costs seven times as much
    def peak(batch: int) -> float:
        return (3 * batch + (18 * (batch - 40) if batch > 40 else 0)) * MIB

    tried: list[int] = []

    def call(name: str, workload: object, phase: str, device: str) -> float:
        batch = workload.batch  # type: ignore[attr-defined]  # a workload
        if peak(batch) > FREE:
            tried.append(batch)
            raise MemoryError
        return peak(batch)

    monkeypatch.setattr(capacity, "_peak", call)
    monkeypatch.setattr(capacity, "_free", lambda device: FREE)
    (record,) = capacity.largest(Target("modular", WORKLOADS["tiny"], "forward", "cpu", task="t"))
    assert isinstance(record, Measurement)
    assert record.value is not None
    assert tried
    assert 0.6 * largest_within(peak, FREE) < record.value <= largest_within(peak, FREE)


def test_what_does_not_fit_alone_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def call(name: str, workload: object, phase: str, device: str) -> float:
        raise MemoryError

    monkeypatch.setattr(capacity, "_peak", call)
    with pytest.raises(MemoryError):
        list(capacity.largest(Target("modular", WORKLOADS["tiny"], "forward", "cpu", task="t")))


@pytest.mark.slow
def test_a_real_mechanism_is_foretold_as_it_grows() -> None:
    fixed, each = capacity._needs("modular", WORKLOADS["tiny"], "forward", "cpu")
    measured = capacity._peak("modular", capacity._at(WORKLOADS["tiny"], 24), "forward", "cpu")
    assert 0.8 < (fixed + 24 * each) / measured < 1.3
