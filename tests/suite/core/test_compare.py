"""Two runs whose truth is known, made of records alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from suite.core import exits
from suite.core.answer import SPOKEN, Answer, give
from suite.core.compare import (
    CellKey,
    Change,
    Remeasuring,
    RunComparison,
    check_machines,
    check_measured_here,
    compare,
    share,
)
from suite.core.records import Finding, Measurement, Record, Skip
from suite.core.stats import Ratio, verdict
from suite.report import changes

MECHANISMS = ("parallel", "alternating", "dense", "cross", "pool")
LIMIT = 0.05


def run(
    seed: int, *, speeds: dict[str, float] | None = None, machine: float = 1.0, rounds: int = 40, noise: float = 0.02
) -> list[Record]:
    """A task per mechanism, each with the anchor and a bf16 form, under a drift that a task's variants share."""
    generator = np.random.default_rng(seed)
    speeds = speeds or {}
    records: list[Record] = []
    for mechanism in MECHANISMS:
        drift = machine * np.exp(np.cumsum(generator.normal(0, 0.005, rounds)))
        for variant in dict.fromkeys(("parallel", mechanism, f"{mechanism}+bf16")):
            times = 0.01 * speeds.get(variant, 1.0) * drift * np.exp(generator.normal(0, noise, rounds))
            records.append(
                Measurement(
                    task=f"{mechanism}:timing",
                    variant=variant,
                    workload="tiny",
                    phase="forward",
                    device="cpu",
                    quantity="latency",
                    unit="s",
                    samples=tuple(times),
                    rounds=tuple(range(rounds)),
                )
            )
    records.append(
        Measurement(
            task="machine",
            device="cpu",
            quantity="gemm_time",
            unit="s",
            value=0.002 * machine * float(np.exp(generator.normal(0, 0.01))),
            details={"flops": 2 * 256**3, "dtype": "float32"},
        )
    )
    return records


def regressed(comparison: RunComparison) -> set[str]:
    return {change.cell.variant for change in comparison.changes if change.regressed}


def standing(comparison: RunComparison) -> dict[str, str]:
    """What is a suspect, or more."""
    return {change.cell.variant: change.standing for change in comparison.changes if change.standing}


def finding(verdict: str) -> Finding:
    return Finding(task="a", variant="dense", quantity="P1", verdict=verdict, summary="moved")  # type: ignore[arg-type]


def memory(value: float, quantity: str = "peak_memory") -> Measurement:
    return Measurement(task="m", variant="dense", device="cpu", quantity=quantity, unit="B", value=value)


def test_the_same_code_twice_has_no_regression() -> None:
    alarms = [regressed(compare(run(2 * seed), run(2 * seed + 1), fail_above=LIMIT)) for seed in range(20)]
    assert alarms == [set()] * 20


def test_a_slower_machine_is_no_regression() -> None:
    comparison = compare(run(1), run(2, machine=1.3), fail_above=LIMIT)
    assert regressed(comparison) == set()
    assert comparison.exit_code() == exits.DONE


@pytest.mark.parametrize(
    ("slowdown", "said", "code"), [(1.15, "suspect", exits.SUSPECT), (1.5, "regression", exits.REGRESSION)]
)
def test_a_slower_variant_is_found_on_a_faster_machine(slowdown: float, said: str, code: int) -> None:
    """Ten cells alone say little of how much processes differ: there, fresh processes have to tell a small change."""
    comparison = compare(run(1), run(2, machine=0.7, speeds={"dense": slowdown}), fail_above=LIMIT)
    assert standing(comparison) == {"dense": said}
    assert comparison.exit_code() == code


def test_a_change_inside_the_limit_passes_and_a_tighter_limit_finds_it() -> None:
    old, new = run(1, noise=0.005), run(2, noise=0.005, speeds={"dense": 1.03})
    assert standing(compare(old, new, fail_above=0.05)) == {}
    assert standing(compare(old, new, fail_above=0.01)).keys() == {"dense"}


def test_a_slower_anchor_is_a_regression_of_its_own() -> None:
    comparison = compare(run(1), run(2, speeds={"parallel": 1.4}), fail_above=LIMIT)
    assert regressed(comparison) == {"parallel"}


def test_a_faster_anchor_does_not_make_the_others_slower() -> None:
    comparison = compare(run(1), run(2, speeds={"parallel": 0.6}), fail_above=LIMIT)
    assert regressed(comparison) == set()
    verdicts = {change.cell.variant: change.ratio.verdict for change in comparison.changes}
    assert verdicts["parallel"] == "faster"


def test_what_is_exact_regresses_without_noise() -> None:
    old = [memory(1000.0), memory(0.0, "graph_breaks"), memory(500.0, "saved_for_backward")]
    new = [memory(1060.0), memory(1.0, "graph_breaks"), memory(500.0, "saved_for_backward")]
    comparison = compare(old, new, fail_above=LIMIT)
    found = {change.quantity: change.regressed for change in comparison.changes}
    assert found == {"peak_memory": True, "graph_breaks": True, "saved_for_backward": False}


@pytest.mark.parametrize(
    ("before", "after", "code"), [("holds", "broken", 1), ("broken", "broken", 0), ("known", "known", 0)]
)
def test_what_broke_since_comes_before_any_speed(before: str, after: str, code: int) -> None:
    comparison = compare([*run(1), finding(before)], [*run(2), finding(after)], fail_above=LIMIT)
    assert comparison.exit_code() == code


def test_a_cell_that_crashes_now_is_lost_with_its_reason() -> None:
    new = [record for record in run(2) if record.variant != "dense+bf16"]
    new.append(
        Skip(
            task="t", variant="dense+bf16", workload="tiny", phase="forward", device="cpu", quantity="latency",
            reason="killed by signal 11", cause="killed",
        )
    )  # fmt: skip
    comparison = compare(run(1), new, fail_above=LIMIT)
    assert [(cell.variant, reason) for cell, reason in comparison.lost] == [("dense+bf16", "killed by signal 11")]
    assert comparison.exit_code() == exits.CELLS_FAILED


def test_runs_without_a_common_cell_compare_nothing() -> None:
    assert compare([], run(1), fail_above=LIMIT).exit_code() == exits.NOTHING_MEASURED


def test_only_what_recurs_counts() -> None:
    comparison = compare(run(1), run(2, speeds={"dense": 1.3, "cross": 1.3}), fail_above=LIMIT)
    slower = Ratio(estimate=1.3, low=1.2, high=1.4, verdict="slower", count=20)
    same = Ratio(estimate=1.0, low=0.99, high=1.01, verdict="same", count=20)
    changed = comparison
    for variant, again in {"dense": (slower, slower), "cross": (slower, same)}.items():
        changed = changed.with_again(CellKey(variant, "tiny", "forward", "cpu"), again)
    assert regressed(comparison) == {"dense", "cross"}
    assert regressed(changed) == {"dense"}


def wide(variant: str, *, estimate: float, through: str, spread: float) -> Change:
    """A time that became so much longer, with an interval that reaches so far to either side."""
    low, high = estimate / spread, estimate * spread
    return Change(
        cell=CellKey(variant, "tiny", "forward", "cpu"), quantity="latency", unit="s", old=1.0, new=estimate,
        ratio=Ratio(estimate=estimate, low=low, high=high, verdict=verdict(low, high, LIMIT), count=2),
        through=through,  # type: ignore[arg-type]  # one of the routes
    )  # fmt: skip


def with_unclear_anchor() -> RunComparison:
    """The anchor's medians leave open whether it changed; beside it, `dense` got faster and `cross` did not."""
    return RunComparison(
        changes=(
            wide("dense", estimate=0.8, through="anchor", spread=1.01),
            wide("cross", estimate=1.0, through="anchor", spread=1.01),
            wide("parallel", estimate=1.03, through="tasks", spread=1.5),
        ),
        broken=(), lost=(), failed=False, added=(), fail_above=LIMIT,
    )  # fmt: skip


def test_an_anchor_that_was_measured_again_takes_along_what_stands_through_it() -> None:
    comparison = with_unclear_anchor()
    assert [change.cell.variant for change in comparison.suspects] == ["parallel"]
    anchor = comparison.changes[-1].cell
    slower = Ratio(estimate=1.25, low=1.24, high=1.26, verdict="slower", count=40)
    moved = comparison.with_again(anchor, (slower, slower))
    estimates = {change.cell.variant: change.ratio.estimate for change in moved.changes}
    assert estimates == {"dense": pytest.approx(1.0), "cross": pytest.approx(1.25), "parallel": 1.03}
    # what had seemed to stay the same beside a slower anchor is a suspect now
    assert {change.cell.variant for change in moved.suspects} == {"parallel", "cross"}
    same = Ratio(estimate=1.0, low=0.99, high=1.01, verdict="same", count=40)
    for again in ((same, same), (slower, same)):
        stayed = comparison.with_again(anchor, again)
        assert [change.ratio for change in stayed.changes] == [change.ratio for change in comparison.changes]
        assert regressed(stayed) == set()


def test_an_anchor_in_doubt_is_said(tmp_path: Path) -> None:
    page = changes.write(with_unclear_anchor(), tmp_path, old="a", new="b").read_text()
    assert (
        "parallel · tiny · forward · cpu may itself have changed, by 0.687 to 1.545: what was compared through it, 2 of"
        in page
    )


def test_ctrl_c_keeps_what_was_measured_again(capsys: pytest.CaptureFixture[str]) -> None:
    before = with_unclear_anchor()
    after = before.with_doubt(before.changes[-1].cell, "could not be measured again")

    def steps() -> Iterator[Remeasuring]:
        yield Remeasuring(before, (before.changes[-1].cell,))
        yield Remeasuring(after, (before.changes[0].cell,))
        raise KeyboardInterrupt

    assert changes.watch(steps(), suspect_s=20.0, console=SPOKEN.console()) == (after, True)
    assert "suspects to measure again: 1, at most 20.0 s of rounds" in capsys.readouterr().err


def test_different_machines_are_refused_with_the_difference(tmp_path: Path) -> None:
    for name, cpu in (("old", "EPYC"), ("new", "Xeon")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "environment.json").write_text(json.dumps({"machine": {"cpu": cpu, "cores": 2}}))
    with pytest.raises(ValueError, match="cpu was 'EPYC' and is 'Xeon'; --across-machines"):
        check_machines(tmp_path / "old", tmp_path / "new")
    check_machines(tmp_path / "old", tmp_path / "old")


def test_runs_on_clusters_are_compared_where_their_nodes_are_of_one_kind(tmp_path: Path) -> None:
    for name, device, memory_b in (("old", "H100", 10), ("new", "H100", 11), ("other", "A100", 10)):
        (tmp_path / name).mkdir()
        nodes = {name: {"device": device, "driver": "570.1"}}
        described = {"machine": {"memory_B": memory_b}, "nodes": nodes}
        (tmp_path / name / "environment.json").write_text(json.dumps(described))
    check_machines(tmp_path / "old", tmp_path / "new")
    with pytest.raises(ValueError, match="device was 'H100' and is 'A100'; --across-machines"):
        check_machines(tmp_path / "old", tmp_path / "other")
    with pytest.raises(
        ValueError, match=r"--remeasure measures on this machine, and .*old is of the nodes of a cluster"
    ):
        check_measured_here(tmp_path / "old", tmp_path / "new")


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("0.1", 0.1), (" 2.5 %", 0.025)])
def test_a_share_is_read(text: str, value: float) -> None:
    assert share(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["five", "-1%", "5%%", "5% more", "5", "inf", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a share"):
        share(text)


def test_the_page_names_the_regression_and_keeps_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comparison = compare(run(1), run(2, speeds={"dense": 1.3}), fail_above=LIMIT)
    page = changes.write(comparison, tmp_path / "out", old="before", new="after").read_text()
    give(Answer(code=3, words=changes.words(comparison)))
    assert "regression beyond 5.0 %: dense · tiny · forward · cpu: latency" in page
    assert "regression beyond 5.0 %: dense" in capsys.readouterr().out
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000
    rows = (tmp_path / "out" / "comparison.csv").read_text().splitlines()
    assert len(rows) == 1 + len(comparison.changes)
