"""The tables of `pytest --benchmark`: who is faster than the anchor, what changed since, and how surely."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import summary
from tests.benchmarks.summary import Cell

PLACE = "tiny, forward, cpu"


def saved(variant: str, scale: float, seed: int, *, data: bool = True, noise: float = 0.02) -> dict[str, Any]:
    samples = sorted(scale * np.random.default_rng(seed).lognormal(0, noise, 60))
    held: Mapping[str, Any] = {"data": samples} if data else {}
    return {
        "group": PLACE, "name": variant, "fullname": f"{variant}-{PLACE}",
        "extra_info": {"variant": variant, "trust": ["throttled"] if variant == "pool" else []},
        "stats": {"median": samples[30], "rounds": 60, **held},
    }  # fmt: skip


def run(seed: int, *, pool: float = 1.0, pace: float = 1.0, data: bool = True) -> list[Cell]:
    scales = {"parallel": 1e-3, "cross": 4e-3, "pool": 1e-4 * pool}
    return summary.cells(
        saved(name, scale * pace, seed + at, data=data) for at, (name, scale) in enumerate(scales.items())
    )


def test_a_ratio_to_the_anchor_has_a_verdict_that_allows_for_processes() -> None:
    ratios = summary.over_anchor(run(0))
    assert ratios["pool"].verdict == "faster"
    assert ratios["cross"].verdict == "slower"
    same = summary.over_anchor(summary.cells([saved("parallel", 1.0, 1), saved("other", 1.03, 2)]))
    assert same["other"].verdict == "unclear"


def test_a_change_is_told_through_the_anchor_whatever_the_machine_did() -> None:
    before = {cell.name: cell for cell in run(0)}
    found = summary.changes(run(10, pool=1.5, pace=2.0), before)
    assert found["pool"][0].estimate == pytest.approx(1.5, rel=0.05)
    assert (found["pool"][0].verdict, found["pool"][1]) == ("slower", "over parallel")
    assert found["cross"][0].verdict != "slower"
    assert found["parallel"][1] == "its own times"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_tables_fit_and_say_what_changed(width: int) -> None:
    text = summary.text(run(10, pool=1.5), {"0001_first": run(0)}, width=width)
    assert max(map(len, text.splitlines())) <= min(width, summary.WIDEST)
    assert "pool slower; " in text
    assert "µs" in text
    assert "ms" in text


def test_a_run_saved_without_samples_is_not_judged() -> None:
    text = summary.text(run(10), {"0001_first": run(0, data=False)}, width=120)
    assert text.count("not judged") == 3
    assert "--benchmark-save-data" in text


def test_without_an_anchor_there_are_times_and_no_verdicts() -> None:
    text = summary.text(summary.cells([saved("cross", 1e-3, 0)]), {}, width=120)
    assert "cross" in text
    assert "faster" not in text
