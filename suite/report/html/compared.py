"""The page of a comparison: what became slower, larger or wrong, the suspects first, with the samples behind each."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suite.core import folders
from suite.core.compare import Change, RunComparison
from suite.core.records import Measurement, Record
from suite.report import changes, units, wording
from suite.report.html import charts, raw
from suite.report.html.answers import Answer, screen_of
from suite.report.html.charts import Datum, Spec
from suite.report.html.document import FILE, Figure, Page, Screen, document, inline, render

MOST_LINES = 60
MOST_ROWS = 2000
MOST_SHOWN = 24
"""Rows that stand open, the suspects first; on a telephone each is a card."""
NUMBERS = ("old", "new", "new / old (95 %)")
"""Columns of the table that are read by their figures."""
COLOURS = {"slower": "#d55e00", "faster": "#0173b2", "same": "#5c6570", "unclear": "#8a8a8a"}
SHAPES = {"slower": "triangle-right", "faster": "triangle-left", "same": "square", "unclear": "circle"}


def write(comparison: RunComparison, folder: Path, sides: Sequence[Sequence[Record]], *, old: str, new: str) -> Path:
    """Write report.html into the folder of a comparison, over what was there.

    Args:
        comparison: what to show.
        folder: that exists.
        sides: the records of the old run and of the new one.
        old: what to call the first run.
        new: what to call the second.

    Raises:
        UserError: it cannot be written.
    """
    return folders.write(folder, FILE, document(page(comparison, sides, old=old, new=new)))


def page(comparison: RunComparison, sides: Sequence[Sequence[Record]], *, old: str, new: str) -> Page:
    """Everything that the page of a comparison shows."""
    ordered = changes.by_size(comparison.changes)
    latencies = [change for change in ordered if change.quantity == "latency"]
    figures = [figure(latencies, limit=comparison.fail_above)] if latencies else []
    screens = [screen_of(answers(comparison))]
    if latencies:
        screens.append(Screen(id="times", title="Times", body=render("figure.html.jinja", one=figures[0])))
    rows = [list(changes.texts_of(change).values()) for change in ordered[:MOST_ROWS]]
    body = render(
        "compared.html.jinja",
        columns=list(changes.texts_of(ordered[0])) if ordered else [],
        numbers=NUMBERS,
        shown=MOST_SHOWN,
        rows=[(ordered[at].cell.variant, row) for at, row in enumerate(rows)],
        left=max(len(ordered) - MOST_ROWS, 0),
        reading=changes.reading(comparison),
    )
    screens.append(Screen(id="numbers", title="Every number", body=body))
    shown = {change.cell.variant for change in latencies[:MOST_LINES]}
    return Page(
        title=f"{new} against {old}",
        about=[f"{len(comparison.changes)} numbers that both runs have, made from their records alone"],
        screens=screens,
        figures=figures,
        data={"samples": _samples(sides, (old, new), shown), "raw": raw.chart()},
    )  # fmt: skip


def answers(comparison: RunComparison) -> list[Answer]:
    """What regressed, what else changed, and what cannot be told."""
    regressed = [change for change in comparison.changes if change.regressed]
    verdicts = [change.ratio.verdict for change in comparison.changes]
    names = list(dict.fromkeys(change.cell.variant for change in regressed))
    suspects = [change for change in comparison.suspects if not change.again]
    worst = max((change.ratio.estimate for change in regressed), default=math.nan)
    by = f", up to {units.factor(worst)}" if names else ""
    return [
        Answer(
            question="Did anything become slower or larger?",
            short=f"{len(regressed)} of {len(verdicts)} did{by}" if regressed else "nothing that is told",
            mood="bad" if regressed else "good",
            lines=[inline(line) for line in changes.sentences(comparison)],
            names=[("✗", "regressed", names[:24])] if names else [],
        ),
        Answer(
            question="Did anything become wrong?",
            short=f"yes, {len(comparison.broken)} of what held before" if comparison.broken else "nothing new",
            mood="bad" if comparison.broken else "good",
            lines=[f"{item.variant}: {item.quantity}: {item.summary}" for item in comparison.broken[:12]],
        ),
        Answer(
            question="What cannot be told?",
            short=f"{verdicts.count('unclear')} unclear, {len(comparison.lost)} lost",
            mood="care" if "unclear" in verdicts or comparison.lost else "good",
            lines=["Suspects are measured again, interleaved, in fresh processes, by --remeasure OLD_TREE NEW_TREE."]
            if suspects
            else [],
        ),
    ]


def points(latencies: Sequence[Change]) -> list[Datum]:
    """A datum for each time, the suspects first and then the largest changes."""
    shown = latencies[:MOST_LINES]
    parts = map(set, zip(*(change.cell[1:] for change in latencies), strict=True))
    common = [texts.pop() for texts in parts if len(texts) == 1]
    values = []
    for rank, change in enumerate(shown):
        ratio = change.ratio
        values.append(
            {
                "name": " · ".join(text for text in change.cell if text and text not in common),
                "variant": change.cell.variant,
                "rank": rank,
                "value": charts.rounded(ratio.estimate),
                "low": charts.rounded(ratio.low) if ratio.low > 0 else None,
                "high": charts.rounded(ratio.high) if math.isfinite(ratio.high) else None,
                "told": ratio.verdict,
                "again": [charts.rounded(one.estimate) for one in change.again],
                "doubt": wording.reasons(change.trust),
            }
            | {title: text for title, text in changes.texts_of(change).items() if title in ("old", "new", "verdict")}
        )
    return values


def figure(latencies: Sequence[Change], *, limit: float) -> Figure:
    """New over old of each time."""
    values = points(latencies)
    return Figure(
        id="changes",
        title=changes.finding(list(latencies), limit, [], shown=len(values)),
        spec=_spec(values, limit),
        says=f"New over old with the 95 % interval; within the grey band, {units.percent(limit)} on either side, "
        "nothing counts as a change; a point without a line has no interval that is known. A click chooses a variant, "
        "whose samples of both runs then are a click away.",
    )  # fmt: skip


def _spec(values: Sequence[Datum], limit: float) -> Spec:
    seen = [value[end] for value in values for end in ("value", "low", "high") if value[end] is not None]
    low, high = charts.ends([*seen, 1 / (1 + 2 * limit), 1 + 2 * limit])
    # of an interval that is known on one side the line leads out of the chart; of one that is not known there is none
    drawn = [
        value | {"low": value["low"] or low, "high": value["high"] or high} if value["low"] or value["high"] else value
        for value in values
    ]
    found = [word for word in COLOURS if any(value["told"] == word for value in values)]
    legend = {"title": None, "orient": "top"}
    sort = {"field": "rank", "op": "min"}
    axis = charts.row_axis((value["name"] for value in values), 190, 420, small=True)
    y = {"field": "name", "type": "nominal", "sort": sort, "axis": axis}
    colour = {"field": "told", "type": "nominal", "legend": legend,
              "scale": {"domain": found, "range": [COLOURS[word] for word in found]}}  # fmt: skip
    shape = {"field": "told", "type": "nominal", "legend": legend,
             "scale": {"domain": found, "range": [SHAPES[word] for word in found]}}  # fmt: skip
    x = charts.logarithmic("value", "time, new over old", charts.TIMES, (low, high))
    again = [
        {"name": value["name"], "variant": value["variant"], "again": one} for value in values for one in value["again"]
    ]
    layers: list[Spec] = [
        {
            "data": {"values": [{"from": charts.rounded(1 / (1 + limit)), "to": 1 + limit}]},
            "mark": {"type": "rect", "color": charts.QUIET, "opacity": 0.18},
            "encoding": {"x": {"field": "from", "type": "quantitative"}, "x2": {"field": "to"}, "y": None},
        },
        charts.point(
            x=x, color=colour, fill=colour, shape=shape,
            tooltip=charts.tooltip({"name": "what"} | {name: name for name in ("old", "new", "verdict", "doubt")}),
        ),
        {
            "transform": [{"filter": "datum.low !== null"}],
            "mark": {"type": "rule", "strokeWidth": 1.6},
            "encoding": {
                "x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"},
                "color": {"value": {"expr": "ink"}}, "opacity": charts.fades(),
            },
        },
        {
            "data": {"values": again},
            "mark": {"type": "tick", "thickness": 2, "size": 12},
            "encoding": {"x": {"field": "again", "type": "quantitative"}, "color": {"value": {"expr": "ink"}}},
        },
    ]  # fmt: skip
    return charts.chart(drawn, *layers, height={"step": 20}, encoding={"y": y})


def _samples(
    sides: Sequence[Sequence[Record]], names: Sequence[str], variants: set[str]
) -> dict[str, list[dict[str, Any]]]:
    """By variant, the raw samples of both runs: a series each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, records in zip(names, sides, strict=True):
        for record in records:
            if (
                isinstance(record, Measurement)
                and record.quantity == "latency"
                and record.samples
                and record.variant in variants
            ):
                found.setdefault(record.variant, []).append(
                    {
                        "task": f"{name}: {record.task}",
                        "place": "",
                        "phase": "",
                        "rounds": list(record.rounds or range(len(record.samples))),
                        "samples": [float(f"{sample:.4g}") for sample in record.samples],
                    }
                )
    many = sum(len(one["samples"]) for series in found.values() for one in series)
    return found if many <= raw.MOST_SAMPLES else {}
