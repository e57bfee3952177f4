"""The page of a self-check: its counts are drawn with their intervals, and the title counts what denies its limit."""

import json

import pytest

from suite.core.records import SELFCHECK, Finding, Verdict
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
