"""The times of a run cost as many evaluations as there are times, however many places it has."""

from collections.abc import Iterator

import pytest

from suite.core import stats
from suite.core.latencies import Latencies, Place
from suite.core.records import ANCHOR, Measurement


def records(places: int) -> Iterator[Measurement]:
    for size in range(places):
        for variant in (ANCHOR, "alternating"):
            yield Measurement(
                task="one", variant=variant, workload=f"tiny[batch={size + 1}]", phase="forward", device="cpu",
                quantity="latency", unit="s", samples=(0.001, 0.0011, 0.0012), rounds=(0, 1, 2),
            )  # fmt: skip


def test_work_grows_with_the_number_of_times_and_not_with_its_square(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, evaluated = [], stats.time
    monkeypatch.setattr(stats, "time", lambda samples: asked.append(1) or evaluated(samples))
    for places in (5, 20):
        asked.clear()
        times = Latencies(records(places))
        for size in range(places):
            for variant in (ANCHOR, "alternating"):
                times.time(Place(f"tiny[batch={size + 1}]", "forward", "cpu"), variant)
        assert len(asked) <= 4 * places
