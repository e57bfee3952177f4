"""A row of the self-check: how often something came out, of how many trials, against what it may."""

from collections.abc import Mapping

from suite.core import stats
from suite.core.records import SELFCHECK, Detail, Finding, Verdict


def row(
    check: str,
    count: int,
    trials: int,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    summary: str = "",
    details: Mapping[str, Detail] | None = None,
) -> Finding:
    """A row that fails where the exact interval of its share excludes the limit; without a limit it is for show.

    Args:
        check: what was checked, as a sentence that the count completes.
        count: how often it came out.
        trials: how often it could have.
        at_least: the smallest share that will do.
        at_most: the largest share that will do.
        summary: what a reader should know beside the figures.
        details: further figures.
    """
    low, high = stats.binomial_interval(count, trials)
    verdict: Verdict = "holds"
    if trials == 0:
        verdict = "unclear"
    elif (at_least is not None and high < at_least) or (at_most is not None and low > at_most):
        verdict = "broken"  # the count alone would be no proof: the limit lies outside its exact interval
    return Finding(
        task="selfcheck",
        quantity=SELFCHECK,
        verdict=verdict,
        value=count / trials if trials else None,
        limit=at_least if at_least is not None else at_most,
        summary=summary,
        details={
            "check": check,
            "count": count,
            "trials": trials,
            "limit": _limit(at_least, at_most),
            "low": low,
            "high": high,
            **(details or {}),
        },
    )


def not_here(check: str, reason: str) -> Finding:
    """A row that this device or this moment does not allow."""
    return Finding(
        task="selfcheck",
        quantity=SELFCHECK,
        verdict="not applicable",
        summary=reason,
        details={"check": check, "count": 0, "trials": 0, "limit": ""},
    )


def _limit(at_least: float | None, at_most: float | None) -> str:
    if at_least is not None and at_most is not None:
        return f"{at_least:.1%} to {at_most:.1%}"
    if at_least is not None:
        return "all" if at_least == 1 else f"at least {at_least:.1%}"
    if at_most is not None:
        return f"at most {at_most:.1%}" if at_most else "none"
    return ""
