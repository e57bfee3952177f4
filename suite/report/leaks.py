"""How far padding moves anything: of every variant the property that moved most, beside what it is allowed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from suite.core.records import Finding, Record
from suite.report import style, units

OF_PADDING = ("P1", "P1n", "P1v", "P2", "P3", "P3o", "P4", "P8", "P9", "P9b", "P9r", "P11", "P12", "P18")
"""Properties in which nothing but padding, its place or its masks changes, so that nothing may move."""
MOST_RIGHT = 10
"""Variants that are right and are drawn, those that move most; the others move less, and are counted."""


def movement_points(records: Iterable[Record]) -> list[dict[str, Any]]:
    """A datum per variant, the largest first; where something is wrong, of what is wrong alone."""
    largest: dict[str, Finding] = {}
    for record in records:
        if (
            isinstance(record, Finding)
            and record.variant
            and record.quantity in OF_PADDING
            and record.value is not None
            and record.verdict in ("broken", "known", "holds")
            # of what has to move, more is better, and it has no place on this axis
            and (record.value <= (record.limit or 0.0)) == (record.verdict == "holds")
        ):
            before = largest.get(record.variant)
            if before is None or _weight(record) > _weight(before):
                largest[record.variant] = record
    chosen = sorted(largest.values(), key=lambda finding: (_weight(finding), finding.variant), reverse=True)
    return [
        {
            "name": finding.variant,
            "variant": finding.variant,
            "rank": rank,
            "value": finding.value,
            "limit": finding.limit,
            "wrong": finding.verdict if finding.verdict != "holds" else "holds",
            "short": finding.quantity,
            "property": _property(finding),
            "said": f"{_property(finding)}: {_output(finding)} {units.moved(finding.value or 0.0)}",
            "summary": finding.summary,
            "doubt": "",
        }
        for rank, finding in enumerate(chosen)
    ]  # fmt: skip


def _property(finding: Finding) -> str:
    return f"{finding.quantity} {finding.details.get('title', '')}".strip()


def _output(finding: Finding) -> str:
    return str(finding.details.get("output") or "").replace("_", " ") or "moved by"


def _weight(finding: Finding) -> tuple[bool, float]:
    return finding.verdict != "holds", finding.value if finding.value is not None else -math.inf


def movement_title(values: Sequence[Mapping[str, Any]]) -> str:
    """Who moves most, and how little everybody moves who is right."""
    wrong = [value for value in values if value["wrong"] != "holds"]
    right = [value for value in values if value["wrong"] == "holds"]
    most = (
        f"{len(right)} that are right move by {units.moved(max(value['value'] for value in right))} at most"
        if right
        else ""
    )
    if not wrong:
        return f"When padding changes, the {most}"
    first = max(wrong, key=lambda value: float(value["value"]))
    text = f"Padding moves {first['variant']} most, by {units.moved(first['value'])} ({first['property']})"
    return f"{text}; the {most}" if most else text


_LOOKS = {"broken": ("#a63603", "X"), "known": ("#de8f05", "^"), "holds": (style.BLUE, "o")}
_CALLED = {"broken": "broken", "known": "known defect", "holds": "holds"}


def plot(findings: Iterable[Finding]) -> tuple[Figure, str] | None:
    """Who lets padding through, and by how much: a row per variant on one axis, with its tolerance."""
    every = movement_points(findings)
    values = [value for value in every if value["wrong"] != "holds"]
    right = [value for value in every if value["wrong"] == "holds"]
    # where nothing is wrong nothing is to be told apart, and the matrix says it
    if not values:
        return None
    values += right[:MOST_RIGHT]
    title = movement_title(every)
    made = style.figure(title, 0.2 * len(values) + 1.6)
    axes = made.subplots()
    seen = [size for value in values for size in (value["value"], value["limit"]) if size]
    low, high = min(seen) / 10, max(seen) * 300
    for place, value in enumerate(values):
        colour, mark = _LOOKS[value["wrong"]]
        at = max(value["value"], low)
        axes.axhline(place, color="#f3f3f3", linewidth=0.8, zorder=0)
        axes.plot([at], [place], mark, color=colour, markersize=5.5, zorder=3)
        if value["limit"]:
            axes.plot([value["limit"]], [place], "|", color=style.INK, markersize=9, markeredgewidth=1.4, zorder=2)
        axes.annotate(
            value["said"], (max(at, value["limit"] or 0.0), place), (8, 0), textcoords="offset points", va="center",
            fontsize=7.5, color=style.QUIET,
        )  # fmt: skip
    axes.set(xscale="log", xlim=(low / 2, high), ylim=(len(values) - 0.4, -0.6))
    axes.set_yticks(range(len(values)), [value["name"] for value in values])
    left_out = len(right) - MOST_RIGHT
    more = f"; {left_out} more that hold move less" if left_out > 0 else ""
    axes.set_xlabel(f"largest movement of an output, relative to it, where only padding or its mask changed{more}")
    axes.grid(visible=False, axis="y")
    style.log_axis(axes.xaxis, lambda size: f"{size:.0e}")
    handles = [
        Line2D([], [], color=colour, marker=mark, linestyle="", label=_CALLED[word])
        for word, (colour, mark) in _LOOKS.items()
        if any(value["wrong"] == word for value in values)
    ]
    if any(value["limit"] for value in values):
        handles.append(Line2D([], [], color=style.INK, marker="|", linestyle="", label="tolerance, where it is not 0"))
    made.legend(handles=handles, loc="outside lower left", ncols=4, frameon=False, handletextpad=0.1)
    return made, title
