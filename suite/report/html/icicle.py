"""Where the time of a step goes: its regions one inside the other, as wide as the time that they take.

The work of the backward pass stands under the region whose forward call caused it, in the colour of that region.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup

from suite.core.records import Artifact, Measurement, Record
from suite.report import units
from suite.report.html import charts
from suite.report.html.charts import Datum, Spec
from suite.report.html.document import Figure, render

QUANTITY = "traced_step"
MOST_FIGURES = 60
LEAST = 0.002
"""As a share of the step: what is narrower cannot be seen, and stays in what it lies in."""
COLOURS = {"affinity": "#0173b2", "scores": "#de8f05", "pooling": "#029e73", "encoder": "#cc78bc"}
_OTHER = "#8a8a8a"
_ROW_PX = 26
SPANS = ("forward", "backward")


class Traced(NamedTuple):
    """One variant's icicle, and the file that it was made from."""

    label: str
    figure: Figure
    path: str
    """Of the trace, relative to the page; empty where there is none."""


@dataclass
class _Node:
    own: float = 0.0
    calls: int = 0
    inside: dict[str, "_Node"] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return self.own + sum(node.total for node in self.inside.values())


def traced(records: Iterable[Record]) -> list[Traced]:
    """An icicle for each step that was traced, in the order of the records."""
    found: dict[str, Measurement] = {}
    paths: dict[str, str] = {}
    for record in records:
        label = " · ".join((record.variant, record.workload, record.device, record.phase))
        if isinstance(record, Measurement) and record.quantity == QUANTITY:
            found[label] = record
        elif isinstance(record, Artifact) and record.quantity == "trace":
            paths[label] = record.path
    made = []
    for label, record in found.items():
        values = blocks(record)
        if values:
            made.append(Traced(label, _figure(record, label, values), paths.get(label, "")))
    return made[:MOST_FIGURES]


def screen_body(steps: Sequence[Traced]) -> Markup:
    """A choice of variants, and of the chosen one the icicle and its trace."""
    return render("icicle.html.jinja", steps=steps)


def blocks(record: Measurement) -> list[Datum]:
    """A block for each region and operation: its depth, where it begins and ends in seconds, and what it is called."""
    root = _tree(record)
    if root.total <= 0:
        return []
    values: list[Datum] = []
    _lay(root, "step", "", 0.0, 0, root.total, record, values)
    return values


def _tree(record: Measurement) -> _Node:
    """Paths as a tree; times of the device where it was traced."""
    rows = [row for row in _rows(record.details) if not row[0].startswith("between")]
    on_device = sum(row[2] for row in rows) > 0
    root = _Node()
    for path, host, device, calls in rows:
        at = root
        for name in path.split("/"):
            at = at.inside.setdefault(name, _Node())
        at.own += max(device if on_device else host, 0.0)
        at.calls += calls
    return root


def _rows(details: Mapping[str, object]) -> list[tuple[str, float, float, int]]:
    found = details.get("regions")
    if not isinstance(found, list | tuple):
        return []
    return [
        (row[0], float(row[1]), float(row[2]), int(row[3]))
        for row in found
        if isinstance(row, list | tuple)
        and len(row) == 4
        and isinstance(row[0], str)
        and all(isinstance(number, int | float) for number in row[1:])
    ]


def _lay(
    node: _Node,
    name: str,
    region: str,
    start: float,
    depth: int,
    whole: float,
    record: Measurement,
    values: list[Datum],
) -> None:
    total = node.total
    values.append(
        {
            "name": name,
            "variant": record.variant,
            "region": region,
            "depth": depth,
            "below": depth + 0.94,
            "start": charts.rounded(start),
            "end": charts.rounded(start + total),
            "share": round(total / whole, 4),
            "said": f"{units.percent(total / whole)} of the step, {units.seconds(total)}",
            "calls": units.count(node.calls) if node.calls else "",
        }
    )  # fmt: skip
    inside = sorted(
        node.inside.items(), key=lambda item: (SPANS.index(item[0]) if item[0] in SPANS else -1, -item[1].total)
    )
    for below, child in inside:
        if child.total >= LEAST * whole:
            own = region or (below if name in SPANS and child.inside else "")
            _lay(child, below, own, start, depth + 1, whole, record, values)
        start += child.total


def title(values: Sequence[Datum], where: str) -> str:
    """The region that takes most, forward and backward together, and how the step divides into the two."""
    whole = values[0]["share"]
    shares: dict[str, float] = defaultdict(float)
    for value in values:
        if value["depth"] == 2 and value["region"]:
            shares[value["region"]] += value["share"]
    spans = {value["name"]: value["share"] for value in values if value["depth"] == 1}
    text = values[0]["variant"]
    if shares:
        most = max(shares, key=lambda name: shares[name])
        text += f" spends {units.percent(shares[most] / whole)} of its step in {most}"
        text += ", forward and backward together" if len(spans) > 1 else ""
    else:
        deepest = [value for value in values if value["depth"] == 2] or list(values[1:]) or list(values)
        most_of = max(deepest, key=lambda value: float(value["share"]))
        text += (
            f" names no region; the largest part of its step is {most_of['name']}, {units.percent(most_of['share'])}"
        )
    if "backward" in spans:
        text += f"; the backward pass is {units.percent(spans['backward'])} of it"
    return f"{text} ({where})"


def _figure(record: Measurement, label: str, values: Sequence[Datum]) -> Figure:
    where = " · ".join((record.workload, record.device, record.phase))
    return Figure(
        id=f"icicle-{label}",
        title=title(values, where),
        spec=spec(values),
        says="One traced step: below each block is what it is made of, as wide as the time it takes; the backward "
        "work stands under the region that caused it. The profiler itself costs time, most where calls are short: "
        "read shares, and take times from above.",
        when={"traced": label},
    )


def spec(values: Sequence[Datum]) -> Spec:
    """The chart of `blocks`."""
    whole = values[0]["end"]
    deepest = max(value["depth"] for value in values)
    named = [name for name in COLOURS if any(value["region"] == name for value in values)]
    others = sorted({value["region"] for value in values if value["region"] not in ("", *named)})
    rest = ["#56b4e9", "#ca9161", "#fbafe4", "#949494", "#d55e00"]
    palette = [COLOURS[name] for name in named] + [rest[at % len(rest)] for at, _ in enumerate(others)]
    x = {
        "field": "start", "type": "quantitative", "scale": {"domain": [0, whole], "nice": False},
        "axis": {"title": "time within the step", "labelExpr": charts.SECONDS, "tickCount": 6, "grid": False},
    }  # fmt: skip
    y = {"field": "depth", "type": "quantitative", "scale": {"domain": [deepest + 1, 0], "nice": False}, "axis": None}
    width = f"(datum.end - datum.start) / {whole} * width"
    rect: Spec = {
        "mark": {"type": "rect", "stroke": None, "cornerRadius": 2, "clip": True},
        "encoding": {
            "x": x, "x2": {"field": "end"}, "y": y, "y2": {"field": "below"},
            "color": {
                "condition": {
                    "test": "datum.region !== ''", "field": "region", "type": "nominal", "legend": None,
                    "scale": {"domain": [*named, *others], "range": palette},
                },
                "value": _OTHER,
            },
            "opacity": {"condition": {"test": "datum.name === datum.region", "value": 0.85}, "value": 0.45},
            "tooltip": charts.tooltip({"name": "what", "region": "region", "said": "takes", "calls": "calls"}),
        },
    }  # fmt: skip
    text: Spec = {
        "transform": [{"filter": f"{width} > 34"}],
        "mark": {
            "type": "text", "align": "left", "baseline": "middle", "dx": 5, "dy": _ROW_PX // 2 - 1, "fontSize": 11,
            "limit": {"expr": f"{width} - 8"},
        },
        "encoding": {"x": x, "y": y, "text": {"field": "label"}, "color": {"value": {"expr": "ink"}}},
    }  # fmt: skip
    labelled = [value | {"label": f"{value['name']} {units.percent(value['share'])}"} for value in values]
    return charts.chart(labelled, rect, text, height=_ROW_PX * (deepest + 1))
