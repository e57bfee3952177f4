"""The page of many runs: how each variant moved from run to run, with the changes that are more than noise."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from suite.core import folders
from suite.core.history import FEWEST, History, Run, Series
from suite.core.records import ANCHOR
from suite.report import escape, movements, units
from suite.report.html import charts
from suite.report.html.answers import Answer, screen_of
from suite.report.html.charts import Datum, Spec
from suite.report.html.document import FILE, Figure, Page, Screen, document, render
from suite.report.html.tradeoffs import beside_of, with_names

MOST_LINES = 60
"""Variants of one place that are drawn; those that changed come first, and the table holds all."""
MOST_PLACES = 16
COLOURS = {"slower": "#d55e00", "faster": "#0173b2", "no change is told": "#8a8a8a"}


def write(history: History, folder: Path) -> Path:
    """Write report.html and history.csv into a folder, over what was there.

    Raises:
        UserError: they cannot be written.
    """
    table = escape.spreadsheet(pd.DataFrame(movements.rows(history)))
    folders.write(folder, "history.csv", table.to_csv(index=False))
    return folders.write(folder, FILE, document(page(history)))


def page(history: History) -> Page:
    """Everything that the page of a history shows."""
    groups: dict[tuple[str, ...], list[Series]] = {}
    for one in movements.ordered(history.series):
        groups.setdefault(one.cell[1:], []).append(one)
    figures = [figure(found, history, where) for where, found in list(groups.items())[:MOST_PLACES]]
    changed = [(one, move) for one in movements.ordered(history.series) for move in one.moves]
    body = render(
        "moved.html.jinja",
        figures=figures,
        columns=["variant", "where", "changed in", "after / before (95 %)", "of it"],
        rows=[movements.texts(one, move, history) for one, move in changed],
        runs=[
            [f"{at}. {run.name}", run.commit or units.MISSING, run.started or units.MISSING]
            for at, run in enumerate(history.runs, 1)
        ],
        left=max(len(groups) - MOST_PLACES, 0),
    )
    return Page(
        title=f"{len(history.runs)} runs, from {history.runs[0].name} to {history.runs[-1].name}",
        about=[f"{len(history.series)} times, made from the records of the runs alone"],
        screens=[screen_of(answers(history)), Screen(id="moved", title="How each moved", short="Runs", body=body)],
        figures=figures,
    )


def answers(history: History) -> list[Answer]:
    """Whether anything became slower, and whether that can be told."""
    enough = len(history.runs) >= FEWEST
    slower, faster = (
        list(dict.fromkeys(one.cell.variant for one in told)) for told in (history.slower, history.faster)
    )
    said = [f"{len(names)} {word}" for names, word in ((slower, "slower"), (faster, "faster")) if names]
    short = ", ".join(said) or "nothing that is told"
    return [
        Answer(
            question="Did anything change for good?",
            short=short if enough else f"{len(history.runs)} runs cannot tell",
            mood="care" if not enough else "bad" if slower else "good",
            names=[
                (glyph, word, found[:24])
                for glyph, word, found in (("✗", "slower", slower), ("✓", "faster", faster))
                if found
            ],
        ),
        Answer(
            question="How is a change told from noise?",
            short="",
            lines=[_whole(line) for line in movements.sentences(history)],
        ),
    ]


def _whole(line: str) -> str:
    """As a sentence among others, and not a line of a terminal."""
    return f"{line[0].upper()}{line[1:]}" + ("" if line.endswith((".", ":")) else ".")


def points(series: Sequence[Series], history: History) -> list[Datum]:
    """A datum for each run of each time, relative to its first run."""
    values: list[Datum] = []
    for one in series[:MOST_LINES]:
        first = one.points[0].estimate
        begins = {move.at: move for move in one.moves}
        last = one.moves[-1].ratio.verdict if one.moves else ""
        for point in one.points:
            move = begins.get(point.run)
            values.append(
                {
                    "variant": one.cell.variant,
                    "at": point.run,
                    "run": f"{point.run + 1}. {movements.called(history, point.run)}",
                    "short": f"{point.run + 1}. {_short(history.runs[point.run])}",
                    "value": charts.rounded(point.estimate / first),
                    "low": charts.rounded(point.low / first),
                    "high": charts.rounded(point.high / first),
                    "told": last if last in ("slower", "faster") else "no change is told",
                    "moved": movements.texts(one, move, history)[3] if move else "",
                    "said": units.seconds(point.estimate)
                    if one.cell.variant == ANCHOR
                    else f"{units.digits(point.estimate)} of {ANCHOR}",
                    "last": point is one.points[-1],
                    "doubt": "",
                }
            )
    return values


_SHORTEST = 12
"""Letters of a run that stand below its points; all of them are said on hovering, and in the table of runs."""


def _short(run: Run) -> str:
    """Its commit, or else its name, as far as there is room."""
    name = run.commit[:7] or run.name
    return name if len(name) <= _SHORTEST else f"{name[: _SHORTEST - 1]}…"


def title(values: Sequence[Datum], where: Sequence[str]) -> str:
    """Who changed last, by what and when."""
    place = ", ".join(text for text in where if text)
    moved = [value for value in values if value["moved"]]
    count = len({value["variant"] for value in values})
    if not moved:
        return f"None of {count} is told to have changed ({place})"
    names = {value["variant"] for value in moved}
    latest = max(moved, key=lambda value: int(value["at"]))
    text = f"{len(names)} of {count} changed; last {latest['variant']}, {latest['moved']}, in {latest['run']}"
    return f"{text} ({place})"


def figure(series: Sequence[Series], history: History, where: Sequence[str]) -> Figure:
    """The times of one place over all runs."""
    values = points(series, history)
    return Figure(
        id=f"moved-{'-'.join(where)}",
        title=title(values, where),
        spec=_spec(values),
        says="Time over that of the anchor in the same run, relative to the first run; of the anchor, its own time. A "
        "diamond begins a level that is told to be another one. Grey moved no more than noise does.",
    )


def _spec(values: Sequence[Datum]) -> Spec:
    # an interval that is drawn is seen whole, unless it would leave the others no room
    drawn_to = [
        end
        for value in values
        if value["told"] != "no change is told"
        for end in (max(value["low"], value["value"] / 2), min(value["high"], value["value"] * 2))
    ]
    ends = charts.ends([*(value["value"] for value in values), *drawn_to, 0.95, 1.05])
    found = [word for word in COLOURS if any(value["told"] == word for value in values)]
    placed = _with_names(values, ends)
    beside = beside_of([value["variant"] for value in placed]) if placed else "width"
    x = {
        "field": "short", "type": "ordinal", "sort": {"field": "at", "op": "min"},
        "scale": {"padding": 0.3, "range": [0, {"expr": beside}]},
        "axis": {"title": None, "labelAngle": -30, "labelOverlap": True, "labelLimit": 130},
    }  # fmt: skip
    y = charts.logarithmic("value", "time relative to the first run", charts.TIMES, ends)
    colour = {
        "field": "told", "type": "nominal", "legend": {"title": None, "orient": "top"},
        "scale": {"domain": found, "range": [COLOURS[word] for word in found]},
    }  # fmt: skip
    hover = charts.tooltip({"variant": "variant", "run": "run", "said": "time", "moved": "changed by"})
    changed = {"test": "datum.told !== 'no change is told' || datum.variant === selected", "value": 1}
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "strokeWidth": 1.5},
            "encoding": {
                "x": x, "y": y, "color": colour, "detail": {"field": "variant"},
                "opacity": {"condition": changed, "value": 0.4},
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 26, "cursor": "pointer"},
            "encoding": {
                "x": x, "y": y, "color": colour, "tooltip": hover, "opacity": {"condition": changed, "value": 0.5},
            },
        },
        {
            "transform": [{"filter": "datum.told !== 'no change is told' || datum.variant === selected"}],
            "mark": {"type": "rule", "strokeWidth": 1},
            "encoding": {
                "x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}, "color": colour,
                "opacity": {"value": 0.6},
            },
        },
        {
            "transform": [{"filter": "datum.moved !== ''"}],
            "mark": {"type": "point", "shape": "diamond", "size": 130, "filled": True, "stroke": "white"},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": hover},
        },
        {
            "data": {"values": placed},
            "mark": {
                "type": "text", "align": "left", "dx": 4, "fontSize": 11, "cursor": "pointer",
                "limit": {"expr": f"width - {beside} - 6"},
            },
            "encoding": {
                "x": {"value": {"expr": beside}}, "y": {"field": "name_y", "type": "quantitative"},
                "text": {"field": "variant"}, "color": colour,
            },
        },
    ]  # fmt: skip
    drawn = [value | {"low": max(value["low"], ends[0]), "high": min(value["high"], ends[1])} for value in values]
    return charts.chart(drawn, *layers, height=280)


def _with_names(values: Sequence[Datum], ends: tuple[float, float]) -> list[Datum]:
    """The names of those that changed, at the heights where they end."""
    last = [
        value | {"x": 1.0, "y": value["value"]}  # no line leads to a name, so that their heights alone order them
        for value in values
        if value["last"] and value["told"] != "no change is told"
    ]
    return with_names(last, ends, (0.5, 2.0), least=14 / 280)
