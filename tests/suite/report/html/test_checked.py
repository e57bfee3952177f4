"""The page of a self-check: its counts are drawn with their intervals, and the title counts what denies its limit."""

import json
from pathlib import Path

import pytest

from suite.core import store
from suite.core.records import SELFCHECK, Finding, Verdict
from suite.core.stats import Ratio
from suite.report import outcome, page, selfcheck
from suite.report.html import checked


def row(name: str, count: int, trials: int, verdict: Verdict, limit: str = "all") -> Finding:
    details = {"check": name, "count": count, "trials": trials, "limit": limit, "low": 0.1, "high": 0.9}
    return Finding(task="t", quantity=SELFCHECK, verdict=verdict, details=details)


def test_a_count_is_a_share_of_its_trials_and_what_fails_comes_first() -> None:
    figure = checked.counts(
        [row("a cheat is caught", 20, 20, "holds"), row("a mask is missed", 3, 10, "broken", "none")]
    )
    assert figure is not None
    assert json.loads(json.dumps(figure.spec, allow_nan=False)) == figure.spec
    assert figure.title == "1 of 2 counts deny their limit; the first: a mask is missed (none)"
    values = checked.count_points([row("a", 1, 4, "holds"), row("b", 3, 10, "broken")])
    assert [(value["name"], value["value"], value["told"]) for value in values] == [
        ("b (all)", 0.3, "fails"),
        ("a (all)", 0.25, "holds"),
    ]


def test_what_has_no_limit_is_for_show() -> None:
    figure = checked.counts([row("neighbours were seen", 3, 10, "holds", "")])
    assert figure is not None
    assert figure.title == "1 counts, none of them with a limit"


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"count": 3},
        {"count": 3, "trials": 0, "low": 0.0, "high": 1.0},
        {"count": 5, "trials": 4, "low": 0.0, "high": 1.0},
        {"count": "3", "trials": "4", "low": 0.0, "high": 1.0},
        {"count": 3, "trials": 4, "low": None, "high": 1.0},
    ],
)
def test_a_row_without_trials_draws_nothing(details: dict[str, str | int | float | None]) -> None:
    assert checked.counts([Finding(task="t", quantity=SELFCHECK, verdict="holds", details=details)]) is None


def test_a_report_of_a_self_check_is_that_of_a_self_check(tmp_path: Path) -> None:
    with store.Writer(tmp_path) as writer:
        writer.write([row("a cheat is caught", 20, 20, "holds"), row("a mask is missed", 3, 10, "broken", "none")])
    assert page.write(tmp_path) == tmp_path / "report.html"
    assert "1 of 2 rows fail" in (tmp_path / "report.html").read_text()
    assert "| a cheat is caught | 20 of 20 |" in (tmp_path / "SELFCHECK.md").read_text()
    assert not (tmp_path / "REPORT.md").exists(), "nothing was timed: a page of times would say that nothing was done"
    said = outcome.answer(store.read(tmp_path), tmp_path, tmp_path / "report.html", code=0)
    assert [found["check"] for found in said.data["rows"]] == ["a cheat is caught", "a mask is missed"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "No row was tried."),
        ([row("a", 20, 20, "holds")], "All 1 rows that were tried hold."),
        ([row("a", 20, 20, "holds"), row("b", 0, 0, "unclear")], "All 1 rows that were tried hold. 1 had no trials."),
        ([row("a", 2, 20, "broken"), row("b", 20, 20, "holds")], "1 of 2 rows that were tried fail."),
    ],
)
def test_the_verdict_counts_rows_that_have_a_limit(rows: list[Finding], said: str) -> None:
    assert " ".join(filter(None, selfcheck.verdict(rows))) == said


def planted(count: int) -> list[Finding]:
    return [row(f"planted, defect {at}: caught by P1", 20, 20, "holds") for at in range(count)]


def test_rows_of_one_kind_with_the_same_count_share_a_line_and_what_fails_stands_alone() -> None:
    odd = row("planted, another: caught by P2", 19, 20, "holds")
    failed = [row(f"planted, missed {at}: caught by P1", 3, 20, "broken") for at in range(2)]
    folds = checked.folded([*planted(5), odd, row("a cheat is caught", 20, 20, "holds"), *failed])
    assert [fold.called for fold in folds] == [
        "planted, missed 0: caught by P1",
        "planted, missed 1: caught by P1",
        "planted: 5 rows",
        "planted, another: caught by P2",
        "a cheat is caught",
    ]
    assert folds[2].names == [f"planted, defect {at}: caught by P1" for at in range(5)], "no name is lost"


def test_a_title_counts_rows_and_not_the_lines_that_they_share() -> None:
    figure = checked.counts([*planted(5), row("a cheat is caught", 20, 20, "holds")])
    assert figure is not None
    assert figure.title == "None of 6 counts denies its limit"
    (shared, _) = checked.count_points([*planted(5), row("a cheat is caught", 20, 20, "holds")])
    assert (shared["name"], shared["said"]) == ("planted: 5 rows (all)", "20 of 20 in each")


def test_the_plot_of_pairs_says_how_many_are_told_to_differ() -> None:
    same = Ratio(estimate=1.0, low=0.99, high=1.01, verdict="same", count=30)
    slower = Ratio(estimate=1.1, low=1.05, high=1.15, verdict="slower", count=30)
    pairs = {"a over b": [same, same], "c over b": [slower, same, slower]}
    assert selfcheck.plot_title(pairs) == "Told to differ: 0 of 2 (a over b), 2 of 3 (c over b)"
    assert selfcheck.plot(pairs).get_suptitle().replace("\n", " ") == selfcheck.plot_title(pairs)
