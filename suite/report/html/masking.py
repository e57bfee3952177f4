"""The masking audit: equal rows of its matrix in one, each cell with its evidence, and by how much anything moved."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from suite.core.records import WORST_FIRST, Finding, Record
from suite.report import summary, units
from suite.report.html import charts
from suite.report.html.charts import Datum, Spec
from suite.report.html.document import Figure, Screen, render
from suite.report.html.verdict import CALLED, GLYPHS, audited
from suite.report.leaks import movement_points, movement_title
from suite.report.matrix import PROPERTY, folded

MOST_FAILURES = 12
"""Ways in which one property fails that the page quotes, the worst first."""
MOST_CAUSES = 4
_CLASSES = {"broken": "broken", "known": "known", "unclear": "unclear", "not judged": "apart", "holds": "holds"}


def screen(masking: pd.DataFrame, records: Sequence[Record]) -> tuple[Screen, list[Figure]] | None:
    """The matrix and the plot of movements; None where nothing was audited."""
    found = audited(masking)
    if found.empty:
        return None
    properties = [str(name) for name in found.columns if name != "variant"]
    folds = folded(found)
    figures = movements(records)
    body = render(
        "masking.html.jinja",
        title=title(found),
        properties=[(name, masking.attrs.get("titles", {}).get(name, "")) for name in properties],
        statements=evidence(records)[1],
        folds=folds,
        glyphs=GLYPHS,
        classes=_CLASSES,
        called={**CALLED, "holds": "holds", "not applicable": "does not apply"},
        verdicts=[verdict for verdict in WORST_FIRST if (found == verdict).any(axis=None)],
    )
    drawn = Markup("").join(render("figure.html.jinja", one=figure) for figure in figures)
    return Screen(id="masking", title="Is it masked correctly?", short="Masking", body=body + drawn), figures


def title(found: pd.DataFrame) -> str:
    """How many rows have nothing against them, and what there is against the others."""
    by_worst = summary.by_worst(found)
    text = f"{len(by_worst.get('holds', ()))} of {len(found)} variants hold every property judged"
    return text + "".join(f"; {len(by_worst[worst])} {called}" for worst, called in CALLED.items() if worst in by_worst)


def evidence(records: Iterable[Record]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What a click shows: by variant and property, and what each property says.

    Returns:
        Findings that do not simply hold, and the statements of all properties.
    """
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    statements: dict[str, str] = {}
    worst: dict[tuple[str, str], int] = {}
    for record in records:
        if not isinstance(record, Finding) or not record.variant or not PROPERTY.fullmatch(record.quantity):
            continue
        statements.setdefault(record.quantity, str(record.details.get("statement", "")))
        key = record.variant, record.quantity
        rank = WORST_FIRST.index(record.verdict)
        if record.verdict != "holds" and rank < worst.get(key, len(WORST_FIRST)):
            worst[key] = rank
            found[record.variant][record.quantity] = _evidence(record)
    return dict(found), {name: text for name, text in statements.items() if text}


def _evidence(finding: Finding) -> dict[str, Any]:
    details = finding.details
    shown: dict[str, Any] = {
        "verdict": CALLED.get(finding.verdict, finding.verdict).removeprefix("with "),
        "said": finding.summary,
        "command": f"python run_all.py audit {shlex.quote(finding.variant)}",
    }
    if finding.verdict in ("not applicable", "not judged"):
        return shown
    if finding.value is not None:
        noise = details.get("noise")
        beside = f"; its own noise {units.moved(noise)}" if isinstance(noise, int | float) else ""
        shown["value"] = f"{units.moved(finding.value)}, relative{beside}"
    if finding.limit is not None:
        shown["limit"] = "nothing: exactly equal" if finding.limit == 0 else units.moved(finding.limit)
    shown["cause"] = "; ".join(_texts(details.get("causes"))[:MOST_CAUSES])
    shown["defects"] = "; ".join(_texts(details.get("defects")))
    failures = details.get("failures")
    if isinstance(failures, list | tuple):
        shown["failures"] = [
            [units.moved(cell) if isinstance(cell, int | float) else str(cell or "") for cell in row]
            for row in failures[:MOST_FAILURES]
            if isinstance(row, list | tuple)
        ]
    return {name: value for name, value in shown.items() if value}


def _texts(value: object) -> list[str]:
    return [str(item) for item in value if item] if isinstance(value, list | tuple) else []


def movements(records: Iterable[Record]) -> list[Figure]:
    """Of every variant, the property that moved most beyond what it is allowed, on one axis with that tolerance."""
    values: list[Datum] = [
        point | {end: charts.rounded(point[end]) for end in ("value", "limit")} for point in movement_points(records)
    ]
    if not values:
        return []
    return [
        Figure(
            id="movements",
            title=movement_title(values),
            spec=_movement_spec(values),
            says="For each variant the largest movement of an output, relative to it, where only padding or its masks "
            "changed, and what moved. A vertical mark is the tolerance, where it is not zero; at the left edge nothing "
            "moved at all.",
        )
    ]


_SHAPES = {"broken": "cross", "known": "triangle-up", "holds": "circle"}


def _movement_spec(values: Sequence[Datum]) -> Spec:
    seen = [value["value"] for value in values if value["value"] > 0]
    seen += [value["limit"] for value in values if value["limit"]]
    low, high = charts.ends(seen or [1e-8, 1.0], below=0.4, above=0.4)
    x: Mapping[str, Any] = charts.logarithmic("at", "largest movement, relative", charts.SCIENTIFIC, (low, high))
    placed = [value | {"at": max(value["value"], low)} for value in values]
    colours = {"broken": "#a63603", "known": "#de8f05", "holds": "#0173b2"}
    found = [word for word in colours if any(value["wrong"] == word for value in values)]
    point = charts.point(
        x=x,
        color={
            "field": "wrong",
            "type": "nominal",
            "scale": {"domain": found, "range": [colours[word] for word in found]},
            "legend": {"title": None, "orient": "top"},
        },
        shape={
            "field": "wrong",
            "type": "nominal",
            "scale": {"domain": found, "range": [_SHAPES[word] for word in found]},
            "legend": {"title": None, "orient": "top"},
        },
        tooltip=charts.tooltip({"variant": "variant", "summary": "what moved"}),
    )  # fmt: skip
    limit: Spec = {
        "transform": [{"filter": "datum.limit"}],
        "mark": {"type": "tick", "thickness": 2, "size": 12},
        "encoding": {"x": {"field": "limit", "type": "quantitative"}, "color": {"value": {"expr": "ink"}}},
    }
    # what is right lies left of its tolerance, and says so on its left
    texts = [
        {
            "transform": [{"filter": f"datum.wrong {test} 'holds' && {room}"}],
            "mark": {"type": "text", "align": align, "dx": shift, "fontSize": 11, "limit": {"expr": f"{space} - 12"}},
            "encoding": {
                "x": {"field": "at", "type": "quantitative"},
                "text": {
                    "condition": {"test": "narrow", "field": "short", "type": "nominal"},
                    "field": "said",
                    "type": "nominal",
                },
                "opacity": charts.fades(),
            },
        }
        for test, room, align, shift, space in (
            ("!==", "true", "left", 9, "width - scale('x', datum.at)"),
            ("===", "datum.value > 0", "right", -9, "scale('x', datum.at)"),
            ("===", "datum.value === 0", "left", 9, "width - scale('x', datum.at)"),
        )
    ]
    sort = {"field": "rank", "op": "min"}
    y = {
        "field": "name",
        "type": "nominal",
        "sort": sort,
        "axis": charts.row_axis((value["name"] for value in values), 150, 320),
    }
    return charts.chart(placed, limit, point, *texts, height={"step": 19}, encoding={"y": y})
