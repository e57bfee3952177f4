"""The judges are tried on records of which it is known what they should say."""

import inspect
import json
import math
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from suite.core import store
from suite.core.records import Finding, Measurement, Record, Skip, decode, encode
from suite.core.stats import Ratio
from suite.report import selfcheck as page
from suite.selfcheck import cheats, clocks, conditions, faults, kills, memory, scale, session, timing
from suite.selfcheck.bench import Bench
from suite.selfcheck.row import not_here, row

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
Counted = tuple[object, object, str]


def latency(task: str, variant: str, samples: Iterable[float], **fields: object) -> Measurement:
    times = tuple(samples)
    return Measurement(
        task=task, variant=variant, workload="tiny", phase="forward", device="cpu", quantity="latency", unit="s",
        samples=times, rounds=tuple(range(len(times))), **fields,  # type: ignore[arg-type]  # trust and details
    )  # fmt: skip


def comparison(
    task: str, factors: dict[str, float], *, seed: int, noise: float = 0.03, rounds: int = 60
) -> list[Record]:
    """Variants side by side under a drift that they share."""
    generator = np.random.default_rng(seed)
    drift = 0.01 * np.exp(np.cumsum(generator.normal(0, 0.01, rounds)))
    return [
        latency(task, name, factor * drift * np.exp(generator.normal(0, noise, rounds)))
        for name, factor in factors.items()
    ]


def said(findings: Iterable[Finding]) -> list[Counted]:
    return [(finding.details["count"], finding.details["trials"], finding.verdict) for finding in findings]


@pytest.mark.parametrize(
    ("count", "trials", "at_least", "at_most", "verdict"),
    [
        (2, 200, None, 0.01, "holds"),
        (2, 60, None, 0.01, "holds"),  # above the limit, but 60 pairs do not prove it
        (9, 200, None, 0.01, "broken"),
        (40, 40, 0.95, None, "holds"),
        (30, 40, 0.95, None, "broken"),
        (13, 14, 1.0, None, "broken"),  # what is exact may not miss once
        (1, 20, None, 0.0, "broken"),
        (190, 200, 0.93, 0.97, "holds"),
        (170, 200, 0.93, 0.97, "broken"),
        (200, 200, 0.93, 0.97, "broken"),
        (0, 0, 1.0, None, "unclear"),
    ],
)
def test_a_row_fails_where_its_exact_interval_excludes_the_limit(
    count: int, trials: int, at_least: float | None, at_most: float | None, verdict: str
) -> None:
    finding = row("something comes out", count, trials, at_least=at_least, at_most=at_most)
    assert finding.verdict == verdict
    assert {"check", "count", "trials", "limit"} <= finding.details.keys()
    assert decode(encode(finding)) == finding


def test_honest_timing_passes_and_a_blind_or_nervous_one_fails() -> None:
    names = {"base": timing.BASE, "twin": timing.TWIN, "extra": timing.EXTRA, "margin": 0.02, "on_cuda": False}

    def judged(twin: float, five: float, ten: float) -> list[str]:
        factors = {timing.BASE: 1.0, timing.TWIN: twin, "work[extra=1]": five, "work[extra=2]": ten}
        pairs = [comparison(f"timing pairs {seed}", factors, seed=seed) for seed in range(40)]
        return [finding.verdict for finding in timing.judge(pairs, **names)]  # type: ignore[arg-type]  # as named

    # of one process each: alarms, +5 %, +10 %, coverage; then of three together: alarms, coverage, +5 %, +10 %
    assert judged(1.0, 1.05, 1.10) == ["holds"] * 8
    sees_nothing = judged(1.0, 1.0, 1.0)
    assert sees_nothing == ["holds", "broken", "broken", "holds", "holds", "holds", "broken", "broken"]
    sees_what_is_not_there = judged(1.08, 1.05, 1.10)
    assert sees_what_is_not_there == ["broken", "holds", "holds", "broken", "broken", "broken", "holds", "holds"]


def test_a_hog_that_nobody_flags_fails_and_so_does_crying_wolf() -> None:
    quiet = {"cpu_pressure": 0.001, "cpu_steal": 0.0}
    clean = [[latency("a", f"v{index}", [1.0] * 9, details=quiet)] for index in range(40)]
    flagged = [[latency("a", f"v{index}", [1.0] * 9, details=quiet, trust=("noisy",))] for index in range(40)]
    busy = [[latency("a", "v", [1.0] * 9, details={"cpu_pressure": 0.4}, trust=("other work",))]]
    verdicts = [finding.verdict for finding in conditions.judge(clean, flagged, on_cuda=False)]
    assert verdicts == ["holds", "holds"]
    verdicts = [finding.verdict for finding in conditions.judge(flagged, clean, on_cuda=False)]
    assert verdicts == ["broken", "broken"]
    unquiet = list(conditions.judge(busy, flagged, on_cuda=False))[1]
    assert unquiet.verdict == "not applicable"
    assert "the machine was not quiet" in unquiet.summary
    beside = quiet | {"other_cpus": 0.9}  # a core that is shared, where nobody has to wait
    shared = [[latency("a", "v", [1.0] * 9, details=beside, trust=("samples spread by 20%",))]]
    assert list(conditions.judge(shared, flagged, on_cuda=False))[1].verdict == "not applicable"
    spread = ("samples spread by 20%",)
    in_step = [[latency("a", "v", [1.0] * 9, details=quiet | {"shared_spread": 0.2}, trust=spread)]]
    assert list(conditions.judge(in_step, flagged, on_cuda=False))[1].verdict == "not applicable"
    alone = quiet | {"shared_spread": 0.02}
    by_itself = [[latency("a", f"v{index}", [1.0] * 9, details=alone, trust=spread)] for index in range(5)]
    assert list(conditions.judge(by_itself, flagged, on_cuda=False))[1].verdict == "broken"


def test_known_lengths_give_their_slope() -> None:
    timed = {
        f"length[microseconds={length}]": latency("a", "v", [1.02 * length / 1e6 + 30e-6] * 8)
        for length in clocks.LENGTHS_US[1:]
    } | {"length": latency("a", "v", [1.02 * 100e-6 + 30e-6] * 8)}
    slope, agreement = clocks.line(timed)
    assert slope == pytest.approx(1.02)
    assert agreement == pytest.approx(1)


def test_another_clock_agrees_differs_or_cannot_tell() -> None:
    def ratio(verdict: str) -> Ratio:
        return Ratio(estimate=1.0, low=0.99, high=1.01, verdict=verdict, count=60)  # type: ignore[arg-type]  # a verdict

    rows = [
        clocks.judge_clocks([ratio(verdict) for verdict in verdicts], "another clock", 0.03)
        for verdicts in (("same", "same", "unclear"), ("same", "slower"), ("unclear",))
    ]
    assert said(rows) == [(2, 2, "holds"), (1, 2, "broken"), (0, 0, "unclear")]


def test_many_records_keep_their_promise_of_memory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "suite.selfcheck.many_records", str(tmp_path), "100"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    figures = json.loads(done.stdout)
    assert len(store.read(tmp_path)) == 100
    assert figures["peak_B"] < 2**29
    assert min(figures["cpu_s"], figures["wall_s"]) > 0  # what is too long, the self-check says


def graphs(*, missing: int = 0) -> list[Record]:
    """What an exact memory probe would record; ``missing`` bytes are overlooked in one graph."""
    return [
        Measurement(
            task="m", variant=f"graph[kind={kind}]" if kind != "chain" else "graph", phase=phase, quantity=quantity,
            unit="B", value=float(size - (missing if kind == "diamond" else 0)),
        )
        for quantity, phase, sizes in (
            ("peak_memory", "forward", memory.PEAKS),
            ("saved_for_backward", "forward+backward", memory.SAVED),
        )
        for kind, size in sizes.items()
    ]  # fmt: skip


def test_memory_is_exact_or_fails() -> None:
    assert said(memory.judge([graphs(), graphs()])) == [(14, 14, "holds"), (14, 14, "holds")]
    assert said(memory.judge([graphs(missing=4), graphs(missing=4)])) == [(12, 14, "broken"), (14, 14, "holds")]
    assert said(memory.judge([graphs(), graphs(missing=4)])) == [(12, 14, "broken"), (12, 14, "broken")]
    assert said(memory.judge([[], []]))[0] == (0, 14, "broken")


def honesty(variant: str, verdict: str) -> Finding:
    return Finding(task="c", variant=variant, quantity="honesty", verdict=verdict)  # type: ignore[arg-type]  # a verdict


def test_cheats_are_caught_or_the_row_fails() -> None:
    times = comparison("c", {cheats.HONEST: 1.0, cheats.CROPPING: 1.0}, seed=1)
    caught = [honesty(name, "broken") for name in cheats.DISHONEST]
    missed = [honesty(name, "holds") for name in cheats.DISHONEST]
    good = [*times, honesty(cheats.HONEST, "holds"), *caught]
    assert [verdict for *_, verdict in said(cheats.judge([good] * 2, cheats.DISHONEST, 1.6))] == ["holds"] * 3
    fast = comparison("c", {cheats.HONEST: 1.0, cheats.CROPPING: 0.6}, seed=1)
    bad = [*fast, honesty(cheats.HONEST, "broken"), *missed]
    assert [verdict for *_, verdict in said(cheats.judge([bad] * 2, cheats.DISHONEST, 1.6))] == ["broken"] * 3


def test_failures_are_typed_and_neighbours_survive_or_the_row_fails() -> None:
    skips = [
        Skip(task="f", variant=name, quantity="all", reason="planted", cause=cause)  # type: ignore[arg-type]  # a cause
        for name, cause in faults.CAUSES.items()
    ]
    survivors = comparison("f", dict.fromkeys((*faults.HEALTHY, faults.WRONG), 1.0), seed=1)
    wrong = [Finding(task="f", variant=faults.WRONG, quantity="agreement", verdict="broken")]
    assert said(faults.judge([[*skips, *survivors]], [wrong])) == [(5, 5, "holds"), (0, 3, "holds")]
    assert said(faults.judge([[*skips[1:], *survivors[1:]]], [[]])) == [(3, 5, "broken"), (1, 3, "broken")]


def test_a_run_is_its_cells_and_not_its_figures() -> None:
    first, again = comparison("a", {"parallel": 1.0}, seed=1), comparison("a", {"parallel": 1.0}, seed=2)
    assert kills.cells(first) == kills.cells(again)
    assert kills.cells(first) != kills.cells([*first, *again])  # measured twice
    assert kills.cells(first) != kills.cells([])


def test_every_topic_has_a_check_and_a_misspelt_one_is_refused() -> None:
    from importlib import import_module

    for topic in session.TOPICS:
        check = import_module(f"suite.selfcheck.{topic}")
        assert callable(check.check)
        assert (".count(" in inspect.getsource(check)) == (topic not in session.UNCOUNTED)
    with pytest.raises(ValueError, match="selfcheck timming: expected one of device, flops, memory"):
        session.start(("timming",), device=None, full=False, trials=None, out=None)


def test_the_page_shows_counts_intervals_and_the_pairs(tmp_path: Path) -> None:
    pairs = [
        record
        for number in range(6)
        for record in comparison(f"timing pairs {number}", {timing.BASE: 1.0, timing.TWIN: 1.0}, seed=number)
    ]
    rows = [
        row("the same variant twice is called faster or slower", 0, 60, at_most=0.01),
        row("a cheat is caught", 1, 2, at_least=1.0),
        not_here("a cell that nothing disturbed is flagged", "the machine was not quiet"),
        row("what the naive rule says", 9, 20),
    ]
    with store.Writer(tmp_path) as writer:
        writer.write([*pairs, *rows])
    text = page.write(tmp_path).read_text()
    assert "**1 of 2 rows that were tried fail.**" in text
    assert "| ✓ | the same variant twice is called faster or slower | 0 of 60 | 0.0 % to 6.0 % | at most 1.0% |" in text
    assert "| ✗ FAILS | a cheat is caught | 1 of 2 |" in text
    assert "| for show | what the naive rule says | 9 of 20 |" in text
    assert "| – not here | a cell that nothing disturbed is flagged | – | – | – | the machine was not quiet |" in text
    assert "| `work[twin=1] over work` | 6 |" in text
    assert (tmp_path / page.PLOT).stat().st_size > 5_000


def test_the_pairs_are_computed_again_from_raw_samples() -> None:
    records = comparison("timing pairs 1", {timing.BASE: 1.0, timing.TWIN: 1.5}, seed=3)
    (ratio,) = page.ratios(records)["work[twin=1] over work"]
    assert ratio.low < 1.5 < ratio.high
    assert math.isfinite(ratio.half_width)
    assert page.ratios([latency("timing dense", "work", [1.0] * 8)]) == {}


def test_as_many_trials_are_made_as_were_asked_for(tmp_path: Path) -> None:
    fields = {"folder": tmp_path, "device": "cpu", "console": None, "writer": None, "cache": tmp_path}
    counts = [
        Bench(full=full, trials=trials, **fields).count(default=60, full=200)  # type: ignore[arg-type]  # not used
        for full, trials in ((False, None), (True, None), (False, 3), (False, 500))
    ]
    assert counts == [60, 200, 3, 500]


def test_many_records_are_judged_by_the_wall_and_not_where_other_work_had_the_cpus() -> None:
    figures = {"peak_B": 2**28}
    assert said([scale.judge(wall_s=9.0, cpu_s=8.0, **figures)]) == [(1, 1, "holds")]
    assert said([scale.judge(wall_s=12.0, cpu_s=11.0, **figures)]) == [(0, 1, "broken")]
    assert said([scale.judge(wall_s=12.0, cpu_s=8.0, **figures)]) == [(0, 0, "unclear")]
    assert said([scale.judge(wall_s=12.0, cpu_s=8.0, peak_B=2**31)]) == [(0, 1, "broken")]


def test_the_harness_is_not_blamed_for_what_other_work_took() -> None:
    def took(seconds: float, pressure: float) -> list[Record]:
        return [
            latency("timing", "work", [1e-3] * 12, details={"cpu_pressure": pressure}),
            Measurement(task="timing", quantity="harness_time", unit="s", value=seconds),
        ]

    assert said([scale.judge_harness([took(1e-4, 0.0), took(1e-4, 0.9)])]) == [(2, 2, "holds")]
    assert said([scale.judge_harness([took(1e-4, 0.0), took(8e-3, 0.9)])]) == [(1, 1, "holds")]
    assert said([scale.judge_harness([took(1e-4, 0.0), took(8e-3, 0.0)])]) == [(1, 2, "broken")]


def test_two_clocks_that_differ_are_told_apart_and_noise_is_no_trial() -> None:
    ours, theirs = (lambda: 1.0e-3), (lambda: 1.1e-3)
    assert clocks._interleaved(ours, theirs, margin=0.03).verdict == "faster"
    assert clocks._interleaved(ours, ours, margin=0.03).verdict == "same"
