"""Who is the fastest at one place, and what may be said of it: every title and sentence about speed starts here.

A variant is told to be faster than another where the interval of their ratio says so *and* its median is the lower one,
so that no sentence contradicts the numbers beside it. What carries a reason for doubt is never told to be faster.
"""

from collections.abc import Sequence

import pandas as pd

from suite.core import stats
from suite.core.described import CONTROLS
from suite.core.records import ANCHOR
from suite.report import units, wording
from suite.report.wording import Row, number

MOST_NAMED = 3
"""Names in a sentence; the others are counted."""
FAR = 2.0
"""Where a whole interval lies beyond this factor, a handful of rounds tells who is faster: a verdict takes twelve to
tell a few percent."""


def to_anchor(row: Row) -> stats.Ratio | None:
    """Time over the anchor's, where that stood beside it; the anchor's own is 1 exactly."""
    count = int(number(row, "samples" if row["variant"] == ANCHOR else "over_anchor_rounds") or 0)
    if row["variant"] == ANCHOR:
        return stats.Ratio(estimate=1.0, low=1.0, high=1.0, verdict="same", count=count)
    gain, low, high = (number(row, f"over_anchor{end}") for end in ("", "_low", "_high"))
    if not gain or not low or not high:
        return None
    return stats.Ratio(estimate=1 / gain, low=1 / high, high=1 / low, verdict="unclear", count=count)


def over(row: Row, base: Row) -> stats.Ratio | None:
    """Time of one row over that of another of the same place, through the anchor; None where one was not beside it."""
    own, other = to_anchor(row), to_anchor(base)
    return stats.relative(own, other) if own and other else None


def is_told_faster(row: Row, other: Row) -> bool:
    """Whether these measurements say that one is faster than the other; both of one place."""
    own, others = number(row, "latency_s"), number(other, "latency_s")
    if row["trust"] or own is None or others is None or own >= others:
        return False
    ratio = over(row, other)
    if ratio is not None and ratio.high * FAR < 1:
        return True
    if other["variant"] == row["parent"]:  # timed side by side, which says more than two ways through the anchor
        return bool(row["verdict"] == "faster")
    if row["variant"] == other["parent"]:
        return bool(other["verdict"] == "slower")
    return ratio is not None and ratio.verdict == "faster"


def _too_few_rounds(row: Row, others: Sequence[Row]) -> bool:
    """Whether a row stood beside one of the others in too few rounds for a verdict."""
    ratios = [over(row, other) for other in others]
    return any(ratio is not None and ratio.count < stats.FEWEST_FOR_A_VERDICT for ratio in ratios)


def contenders(cells: pd.DataFrame) -> list[Row]:
    """What may win at one place and has a speed to show, the lowest median first."""
    # plain rows, since a large run has hundreds of places and each filter of a table takes a third of a millisecond
    shown = [row for row in wording.rows(cells) if number(row, "latency_s") is not None and not row["hidden"]]
    ours = [row for row in shown if row["role"] == "mechanism"]
    return sorted(ours, key=lambda row: number(row, "latency_s") or 0.0)


def leaders(rows: Sequence[Row]) -> list[Row]:
    """The first without a doubt, and whomever it is not told to be faster than; one alone is the fastest.

    Args:
        rows: `contenders`. Where all are doubted, all of them lead.
    """
    best = next((row for row in rows if not row["trust"]), None)
    if best is None:
        return list(rows)
    return [best, *(row for row in rows if row is not best and not is_told_faster(best, row))]


def over_anchor(row: Row, cells: pd.DataFrame) -> str:
    """How many times as fast as the anchor, such as ``×1.63 (1.53–1.73)``; empty where it must not be said."""
    if row["variant"] == ANCHOR or number(row, "over_anchor") is None:
        return ""
    anchor = cells[cells["variant"] == ANCHOR]
    if len(anchor) and anchor["hidden"].iloc[0]:
        return ""
    said = units.factor_between(*(number(row, f"over_anchor{end}") for end in ("", "_low", "_high")))
    verdict = row["over_anchor_verdict"]
    return said if verdict in ("faster", "slower") else f"{said} {verdict}"


def headline(cells: pd.DataFrame) -> str:
    """What one place says: who is the fastest, by how much and how surely, and what is not counted beside it."""
    rows = contenders(cells)
    if not rows:
        return _without_contenders(cells)
    first = leaders(rows)
    best, *others = first
    if len(rows) == 1:
        text = f"**{best['variant']}** takes {_time(best)}, and there is no other mechanism to hold it against"
    elif not others:
        beside = over_anchor(best, cells)
        text = f"Fastest mechanism: **{best['variant']}**, {_time(best)}"
        text += f", {beside} as fast as {ANCHOR} in eager float32" if beside else ""
    elif best["trust"]:
        text = f"No mechanism is told to be the fastest, for every time is doubted: {_listed(first)}"
    else:
        close, doubted = ([row for row in others if bool(row["trust"]) == doubts] for doubts in (False, True))
        text = "No mechanism is told to be the fastest"
        text += f", for some times are doubted: {_listed(doubted)}; of the others, " if doubted else ": "
        text += f"**{best['variant']}**, {_time(best)}, "
        text += f"is not told apart from {_listed(close)}" if close else "is the fastest"
        if _too_few_rounds(best, close):
            text += f", in fewer than {stats.FEWEST_FOR_A_VERDICT} rounds"
    return f"{text}.{_not_counted(cells)}"


def fastest(cells: pd.DataFrame) -> str:
    """The same in a title's few words."""
    rows = contenders(cells)
    if not rows:
        return "no mechanism has a time to show"
    first = leaders(rows)
    if len(rows) == 1:
        return f"{rows[0]['variant']} is the only mechanism" + (", doubted" if rows[0]["trust"] else "")
    if len(first) == 1:
        gain = number(first[0], "over_anchor") if over_anchor(first[0], cells) else None
        beside = f" ({units.factor(gain)} over {ANCHOR})" if gain else ""
        return f"fastest mechanism {first[0]['variant']}{beside}"
    doubted = sum(bool(row["trust"]) for row in first)
    if doubted:
        if doubted == len(rows):
            return "no mechanism told the fastest, for every time is doubted"
        are = "are" if doubted > 1 else "is"
        return f"no mechanism told the fastest: {doubted} of {len(first)} that may be {are} doubted"
    names = [str(row["variant"]) for row in first]
    things = "mechanisms" if len({row["mechanism"] for row in first}) == len(first) else "forms"
    return f"{' and '.join(names) if len(names) == 2 else f'{len(names)} {things}'} not told apart as the fastest"


def _time(row: Row) -> str:
    return wording.latency(row) + (" (doubted)" if row["trust"] else "")


def _listed(rows: Sequence[Row]) -> str:
    named = [f"{row['variant']}, {_time(row)}" for row in rows[:MOST_NAMED]]
    return "; ".join(named) + (f"; and {len(rows) - len(named)} more" if len(rows) > len(named) else "")


def _not_counted(cells: pd.DataFrame) -> str:
    """Each control in the form with the lowest median, and the published code with the lowest."""
    timed = [row for row in wording.rows(cells) if number(row, "latency_s") is not None and not row["hidden"]]
    timed.sort(key=lambda row: number(row, "latency_s") or 0.0)
    parts = []
    controls = [row for row in timed if row["role"] == "control"]
    names = dict.fromkeys((*CONTROLS, *(str(row["mechanism"]) for row in controls)))
    for control in names:
        forms = [row for row in controls if row["mechanism"] == control]
        parts += [f"{row['variant']} {_short_time(row)}" for row in forms[:1]]
    published = [row for row in timed if row["role"] == "published"]
    lowest = f"the lowest of {len(published)} published: " if len(published) > 1 else ""
    parts += [f"{lowest}{row['variant']} {_short_time(row)}" for row in published[:1]]
    return f" Not counted: {', '.join(parts)}." if parts else ""


def _short_time(row: Row) -> str:
    return units.seconds(number(row, "latency_s")) + (" (doubted)" if row["trust"] else "")


def _without_contenders(cells: pd.DataFrame) -> str:
    """What there is to say of a place in which nothing that may win has a time that may be shown."""
    said = []
    timed = cells[cells["latency_s"].notna()]
    hidden = timed[timed["hidden"] != ""]
    if not hidden.empty:
        said.append(f"no speed is shown of {_names(hidden)}, because of what was found")
    shown = wording.trusted(cells).sort_values("latency_s")
    said += [f"{row['variant']} takes {_time(row)}" for row in wording.rows(shown.head(1))]
    if timed.empty:
        said.append("no time was taken")
    for column, holds in (("agreement_verdict", "agree with float64"), ("masking_verdict", "are masked correctly")):
        said += _counted(cells, column, holds)
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _counted(cells: pd.DataFrame, column: str, holds: str) -> list[str]:
    """How many of those that were examined hold, and what was said of each of the others."""
    examined = cells[~cells[column].isin(("", "not applicable"))]
    if examined.empty:
        return []
    said = [f"{int((examined[column] == 'holds').sum())} of {len(examined)} {holds}"]
    others = examined[examined[column] != "holds"]
    said += [f"{verdict}: {_names(group)}" for verdict, group in others.groupby(column, sort=False)]
    return [", ".join(said)]


def _names(cells: pd.DataFrame) -> str:
    names = list(dict.fromkeys(map(str, cells["variant"])))
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
