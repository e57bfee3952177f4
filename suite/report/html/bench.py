"""The page of a run: its screens, from its tables and records."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from suite.core import folders
from suite.core.records import Record
from suite.report import summary, wording
from suite.report.html import cells, icicle, masking, raw, speed, tradeoffs, verdict
from suite.report.html.document import FILE, Figure, Page, Screen, document, render
from suite.report.tables import Tables

MOST_PLACES = 8
"""Places that have charts of their own; the table holds every place."""


def write(folder: Path, made: Tables, records: Sequence[Record], environment: Mapping[str, object]) -> Path:
    """Write report.html into a run folder, over what was there.

    Raises:
        UserError: it cannot be written.
    """
    return folders.write(folder, FILE, document(page(folder, made, records, environment)))


def page(folder: Path, made: Tables, records: Sequence[Record], environment: Mapping[str, object]) -> Page:
    """Everything that the page of a run shows."""
    held = cells.data(made.cells)
    found, statements = masking.evidence(records)
    figures: list[Figure] = []
    screens = [verdict.screen(made)]
    if not made.cells.empty:
        latency = [
            figure
            for _, here in list(made.cells.groupby(["workload", "device", "phase"], sort=False))[: 2 * MOST_PLACES]
            if here["latency_s"].notna().any()
            for figure in speed.figures(here)
        ]
        figures += latency
        controls = render("controls.html.jinja", held=held, precisions=_precisions(held))
        body = controls + _drawn(latency)
        screens.append(Screen(id="latency", title="Latency", body=body))
        screens.append(Screen(id="table", title="Every variant", short="Table", body=Markup(_TABLE)))
    audit = masking.screen(made.masking, records)
    if audit is not None:
        screens.append(audit[0])
        figures += audit[1]
    for name, title, drawn in _against(made):
        if drawn:
            figures += drawn
            screens.append(Screen(id=name, title=title, body=_drawn(drawn)))
    steps = icicle.traced(records)
    if steps:
        figures += [step.figure for step in steps]
        body = icicle.screen_body(steps)
        screens.append(Screen(id="time", title="Where the time goes", short="Time", body=body))
    screens.append(Screen(id="behind", title="Why believe it", body=_behind(made, traces=not steps)))
    return Page(
        title=folder.resolve().name,
        about=about(made, environment),
        screens=screens,
        figures=figures,
        data={
            "cells": held,
            "samples": raw.samples(records),
            "raw": raw.chart(),
            "traced": [(step.label.partition(" · ")[0], step.label) for step in steps],
            "findings": found,
            "statements": statements,
            "properties": made.masking.attrs.get("titles", {}),
        },
    )


MOST_SKIPS = 300


def _behind(made: Tables, *, traces: bool) -> Markup:
    """What the machine can do, what stands behind each time, and what was not measured; its traces where asked for."""
    skips = [(", ".join(names), why, command) for names, why, command in summary.left_out(made.skips)]
    found = _traces(made) if traces else []
    stopped = made.conditions["stopped"].value_counts().to_dict() if not made.conditions.empty else {}
    return render(
        "behind.html.jinja",
        machine=summary.machine(made.peaks),
        series=len(made.conditions),
        stopped=[(STOPPED.get(str(word), str(word)), count) for word, count in stopped.items()],
        skips=skips[:MOST_SKIPS],
        left=max(len(skips) - MOST_SKIPS, 0),
        traces=[(str(row["variant"]), f"{row['workload']} · {row['phase']}", str(row["path"])) for row in found],
    )


STOPPED = {
    "interval": "every ratio of their comparison was known to within 1 %",
    "budget": "the time for them was spent",
}


def _traces(made: Tables) -> list[wording.Row]:
    return [row for row in wording.rows(made.artifacts) if row["quantity"] == "trace"]


def _against(made: Tables) -> list[tuple[str, str, list[Figure]]]:
    """The screens that set one quantity against another."""
    places = list(made.cells.groupby(["workload", "device", "phase"], sort=False))[: 2 * MOST_PLACES]
    drawn = [figure for _, here in places for figure in tradeoffs.figures(here)]
    roofs = [figure for figure in drawn if figure.id.startswith("roofline")]
    return [
        ("trade-offs", "Trade-offs", [figure for figure in drawn if figure not in roofs]),
        ("roofline", "Roofline", roofs),
        ("growth", "Growth", tradeoffs.growth(made.growth)),
    ]


_TABLE = '<div class="table" data-table="cells"></div>'


def about(made: Tables, environment: Mapping[str, object]) -> list[str]:
    """What was measured on what, in small letters."""
    said = [f"{name}: {value}" for name, value in environment.items() if isinstance(value, str | int | float) and value]
    return [f"{made.cells['variant'].nunique()} variants, made from records.jsonl alone", *said]


def _drawn(figures: Sequence[Figure]) -> Markup:
    return Markup("").join(render("figure.html.jinja", one=figure) for figure in figures)


def _precisions(held: Mapping[str, object]) -> list[str]:
    rows = held["rows"]
    assert isinstance(rows, list)
    return list(dict.fromkeys(row[2] for row in rows))
