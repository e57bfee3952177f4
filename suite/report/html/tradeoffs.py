"""One quantity against another, with every point named: what is given up for speed, the roofline, and growth."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from suite.report import scatter, tables, units, wording
from suite.report.html import charts
from suite.report.html.cells import place_of
from suite.report.html.charts import Datum, Spec
from suite.report.html.document import Figure
from suite.report.wording import Row, number

_ROW_PX = 15
"""Of a name and the room around it."""


class Axis(NamedTuple):
    """A quantity of a cell, and how it is written."""

    field: str
    title: str
    text: Callable[[float | None], str]
    label: str
    base: int = 10
    more_is_better: bool = False


LATENCY = Axis("latency_s", "latency", units.seconds, charts.SECONDS)
ERROR = Axis("agreement_error", "error relative to float64", units.error, charts.SCIENTIFIC)
MEMORY = Axis("peak_memory_bytes", "peak memory", units.binary, charts.BYTES, 2)


def figures(cells: pd.DataFrame) -> list[Figure]:
    """Error and memory against latency, and the roofline, of one workload, phase and device."""
    rows = wording.rows(wording.trusted(cells))
    made = [trade(rows, LATENCY, cost) for cost in (ERROR, MEMORY)]
    return [figure for figure in (*made, roofline(cells)) if figure is not None]


def trade(rows: Sequence[Row], x: Axis, y: Axis) -> Figure | None:
    """Two costs of each variant; what another variant beats in both is grey. None where two points are not there."""
    chosen = [row for row in rows if (number(row, x.field) or 0) > 0 and (number(row, y.field) or 0) > 0]
    if len(chosen) < 2:
        return None
    pairs = {str(row["variant"]): (number(row, x.field) or 0.0, number(row, y.field) or 0.0) for row in chosen}
    # what people use instead is drawn, and grey: it attends to little or nothing, which is cheap
    ours = {str(row["variant"]) for row in chosen if row["role"] != "control"}
    best = undominated({name: pair for name, pair in pairs.items() if name in ours})
    values = [_point(row, x, y, best=str(row["variant"]) in best) for row in chosen]
    place, phase = place_of(chosen[0]), str(chosen[0]["phase"])
    return Figure(
        id=f"{y.field}-{x.field}-{place}-{phase}",
        title=f"{trade_title(values, x, y)} ({place}, {phase})",
        spec=named_points(values, x, y),
        says="Medians. Grey is what another variant meets or beats in both, and what people use instead, which no "
        "other is held against; hollow: doubted.",
        when={"place": place, "phase": phase},
    )  # fmt: skip


def undominated(pairs: Mapping[str, tuple[float, float]]) -> set[str]:
    """Names to whom no other costs at most as much in both, and less in one."""
    front: set[str] = set()
    least = math.inf
    # in the order of the first cost, one is on the front where it has less of the second than all before it
    for name, (first, second) in sorted(pairs.items(), key=lambda item: item[1]):
        if second < least:
            front.add(name)
            least = second
        elif second == least and any(pairs[other] == (first, second) for other in front):
            front.add(name)
    return front


def trade_title(values: Sequence[Datum], x: Axis, y: Axis) -> str:
    """How many nothing dominates, and the ends of their row."""
    front = sorted((value for value in values if value["best"]), key=lambda value: float(value["x"]))

    def told(value: Datum) -> str:
        return f"{value['variant']} ({x.text(value['x'])}, {y.text(value['y'])})"

    what = f"{x.title} and {y.title.partition(' ')[0] if y is ERROR else y.title}"
    if len(front) == 1:
        return f"{told(front[0])} is at least as good as every other in {what}"
    if not front:
        return f"Only what people use instead has both {what}"
    return f"{len(front)} of {len(values)} are not dominated in {what}: from {told(front[0])} to {told(front[-1])}"


def _point(row: Row, x: Axis, y: Axis, *, best: bool) -> Datum:
    name = str(row["variant"])
    return {
        "variant": name,
        "x": charts.rounded(number(row, x.field)),
        "y": charts.rounded(number(row, y.field)),
        "precision": str(row["precision"]),
        "execution": str(row["execution"]),
        "best": best,
        "doubt": "; ".join(wording.trust(row)),
        "said": f"{x.text(number(row, x.field))}, {y.text(number(row, y.field))}",
    }


def _height(names: int) -> int:
    """At this height names of a usual size do not meet."""
    return max(200, _ROW_PX * names + 30)


def beside_of(names: Sequence[str]) -> str:
    """Where a column begins that is as wide as the longest name, as an expression; never beyond the middle."""
    return f"max(width * 0.5, width - {6.6 * max(map(len, names), default=0) + 34:.0f})"


def named_points(values: Sequence[Datum], x: Axis, y: Axis, *more: Spec, roofs: Sequence[float] = ()) -> Spec:
    """Points with all their names in a column beside them, each joined to its point.

    Args:
        values: a datum each, as `_point` makes them.
        x: the quantity to the right.
        y: the quantity upwards.
        more: layers below the points.
        roofs: what the vertical axis has to reach beside the points.
    """
    x_ends = charts.ends(value["x"] for value in values)
    height = _height(len(values))
    y_ends = charts.ends([*(value["y"] for value in values), *roofs], below=0.08, above=0.08)
    placed = with_names(values, y_ends, x_ends, least=(_ROW_PX - 1) / height)
    beside = beside_of([str(value["variant"]) for value in values])
    joins, names = _names(beside, "variant", values)
    colour = charts.coloured(value["precision"] for value in values)
    quiet = {"condition": {"test": "!datum.best", "value": charts.QUIET}, **colour}
    point = charts.point(
        x=charts.logarithmic("x", x.title, x.label, x_ends, base=x.base, until=beside),
        y=charts.logarithmic("y", y.title, y.label, y_ends, base=y.base),
        color=quiet,
        fill=quiet,
        shape=charts.shaped(value["execution"] for value in values),
        tooltip=charts.tooltip({"variant": "variant", "said": f"{x.title}, {y.title}"}),
    )
    return charts.chart(placed, *more, joins, point, names, height=height)


def with_names(
    values: Sequence[Datum], ends: tuple[float, float], x_ends: tuple[float, float], *, least: float
) -> list[Datum]:
    """The data with ``name_y``, the height of each name in a column at the right.

    Names are near the heights of their points, no two at one height, and no line to a point crosses another.

    Args:
        values: a datum each, with ``x`` and ``y``.
        ends: of the vertical axis.
        x_ends: of the horizontal axis, at whose right end the column stands.
        least: between two names, as a share of the chart's height.
    """
    span = math.log(ends[1] / ends[0])
    points = [(_share(value["x"], x_ends), _share(value["y"], ends)) for value in values]
    moved = charts.moved_apart(sorted(height for _, height in points), least)
    return [
        values[index] | {"name_y": charts.rounded(ends[0] * math.exp(height * span))}
        for index, height in zip(charts.uncrossed(points, moved), moved, strict=True)
    ]


def _share(value: float, ends: tuple[float, float]) -> float:
    """Where a value lies on a logarithmic axis."""
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])


INTENSITY = Axis("intensity", "FLOP per byte that has to move", units.count, charts.COUNT)
SPEED = Axis("flop_per_s", "FLOP/s", lambda value: units.per_second(value, "FLOP"), charts.COUNT)


def roofline(cells: pd.DataFrame) -> Figure | None:
    """Work done a second over work a byte, below what the machine was measured to do; None without a peak."""
    shown = wording.trusted(cells)
    shown = shown[shown["of_machine"].notna() & (shown["least_bytes"] > 0) & (shown["matmul_flops"] > 0)]
    if shown.empty:
        return None
    rows = wording.rows(shown.assign(intensity=shown["matmul_flops"] / shown["least_bytes"]))
    values = [
        _point(row, INTENSITY, SPEED, best=True)
        | {"said": f"{wording.of_machine(row)} of the machine, by {row['bound']}"}
        for row in rows
    ]
    place, phase = place_of(rows[0]), str(rows[0]["phase"])
    levels = _levels(rows)
    roofs = _roofs(rows, levels, until=beside_of([str(row["variant"]) for row in rows]))
    return Figure(
        id=f"roofline-{place}-{phase}",
        title=f"{scatter.shares(shown, over_tasks=False)} ({place}, {phase})",
        spec=named_points(values, INTENSITY, SPEED, *roofs, roofs=list(levels.values())),
        says="The roofs are what this machine was measured to do: below the slanted line a variant waits for memory, "
        "below a level one for arithmetic. A level line is the fastest route for its type of number.",
        when={"place": place, "phase": phase},
    )


def _levels(rows: Sequence[Row]) -> dict[str, float]:
    """By type, the FLOP/s that its fastest route allows: for each the least time of its cells gives the roof."""
    found: dict[str, float] = {}
    for row in rows:
        share, speed = number(row, "of_machine"), number(row, "flop_per_s")
        if share and speed and row["bound"] == "arithmetic":
            dtype = str(row["dtype"])
            found[dtype] = max(found.get(dtype, 0.0), speed / share)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _roofs(rows: Sequence[Row], levels: Mapping[str, float], *, until: str) -> list[Spec]:
    """A level line for each type, with its name, as far as an expression says; a slanted one for what is moved."""
    copies = [
        speed / share / intensity
        for row in rows
        if row["bound"] != "arithmetic"
        and (share := number(row, "of_machine"))
        and (speed := number(row, "flop_per_s"))
        and (intensity := number(row, "intensity"))
    ]
    layers: list[Spec] = []
    if levels:
        layers += _level(list(levels.items()), until=until)
    if copies:
        low, high = charts.ends(number(row, "intensity") or 0.0 for row in rows)
        top = max([*levels.values(), *(number(row, "flop_per_s") or 0.0 for row in rows)])
        # a line from edge to edge bends on these axes where it is cut, so that it ends where the highest roof begins
        ends = (low, max(min(high, top / max(copies)), low))
        line = [{"x": charts.rounded(end), "y": charts.rounded(end * max(copies))} for end in ends]
        mark: Spec = {"type": "line", "strokeDash": [5, 3], "color": charts.QUIET, "clip": True}
        x, y = ({"field": name, "type": "quantitative"} for name in ("x", "y"))
        layers.append({"data": {"values": line}, "mark": mark, "encoding": {"x": x, "y": y}})
    return layers


def _level(roofs: Sequence[tuple[str, float]], *, until: str) -> list[Spec]:
    """The level lines, the lowest first; a name that would meet the line above it stands below its own.

    Of three that are near each other the names stand one after the other as well.
    """
    values: list[Datum] = []
    for at, (dtype, roof) in enumerate(roofs):
        near = bool(values) and roof < values[-1]["y"] * 1.6
        below = at + 1 < len(roofs) and roofs[at + 1][1] < roof * 1.6
        said = f"{dtype}: {units.per_second(roof, 'FLOP')}"
        values.append(
            {"y": charts.rounded(roof), "said": said, "turn": values[-1]["turn"] + 1 if near else 0, "below": below}
        )
    y = {"field": "y", "type": "quantitative"}
    rule: Spec = {
        "mark": {"type": "rule", "strokeDash": [5, 3], "color": charts.QUIET},
        "encoding": {"y": y, "x": {"value": 0}, "x2": {"value": {"expr": until}}},
    }
    texts: list[Spec] = [
        {
            "transform": [{"filter": f"datum.turn === {turn} && datum.below === {below}"}],
            "mark": {"type": "text", "align": "left", "dy": dy, "fontSize": 10.5, "color": charts.QUIET},
            "encoding": {
                "y": y, "x": {"value": {"expr": f"4 + {turn} * (narrow ? 118 : 150)"}}, "text": {"field": "said"},
            },
        }
        for turn in sorted({value["turn"] for value in values})
        for below, dy in (("true", 9), ("false", -6))
    ]  # fmt: skip
    return [{"data": {"values": values}, **layer} for layer in (rule, *texts)]


MOST_SWEEPS = 12
MOST_POINTS = 12_000
"""Of all sweeps together: a page stays light, and the tables hold every number."""


def growth(made: pd.DataFrame) -> list[Figure]:
    """How latency and memory grow along each axis that was swept."""
    figures = []
    drawn = 0
    sweeps = list(made.groupby(["axis", "start", "phase", "device"], sort=False))
    for (axis, start, phase, device), line in sweeps[:MOST_SWEEPS]:
        for quantity in scatter.COSTS:
            seen = line[(line[quantity] > 0) & (line["hidden"] == "")]
            if seen["value"].nunique() < 2 or str(axis).endswith("fill") or drawn + len(seen) > MOST_POINTS:
                continue
            drawn += len(seen)
            slopes = tables.slopes(seen, quantity)
            symbol = scatter.SYMBOLS.get(str(axis), str(axis))
            cost = scatter.COSTS[quantity][0]
            figures.append(
                Figure(
                    id=f"growth-{quantity}-{axis}-{start}-{phase}-{device}",
                    title=scatter.growth_title(slopes, cost, quantity, symbol, seen),
                    spec=_growth_spec(seen, quantity, str(axis), slopes, symbol),
                    says=f"The number beside a name is the power of {axis} with which it grows: 1 is linear.",
                    when={"phase": str(phase)},
                )
            )
    return figures


def _growth_spec(seen: pd.DataFrame, quantity: str, axis: str, slopes: Mapping[str, float], symbol: str) -> Spec:
    cost = MEMORY if quantity == MEMORY.field else LATENCY
    x = Axis("value", axis, units.count, charts.COUNT)
    values = [_point(row, x, cost, best=True) for row in wording.rows(seen)]
    last: dict[str, Datum] = {}
    for value in values:
        if value["x"] >= last.get(value["variant"], {"x": 0})["x"]:
            last[value["variant"]] = value
    x_ends = charts.ends(value["x"] for value in values)
    y_ends = charts.ends((value["y"] for value in values), below=0.08, above=0.08)
    height = _height(len(last))
    named = [
        value | {"name": _with_power(value["variant"], slopes, symbol)}
        for value in with_names(list(last.values()), y_ends, x_ends, least=(_ROW_PX - 1) / height)
    ]
    beside = beside_of([value["name"] for value in named])
    x_axis = charts.logarithmic("x", scatter.axis_label(axis), charts.COUNT, x_ends, until=beside)
    swept = sorted({value["x"] for value in values})
    few = len(swept) <= scatter.MOST_MARKS
    if few:
        x_axis["axis"]["values"] = swept
    hover = {"variant": "variant"} | ({"said": f"{axis}, {cost.title}"} if few else {})
    line: Spec = {
        "mark": {"type": "line", "strokeWidth": 1.4, "point": {"size": 22} if few else False},
        "encoding": {
            "x": x_axis,
            "y": charts.logarithmic("y", cost.title, cost.label, y_ends, base=cost.base),
            "color": charts.coloured(value["precision"] for value in values),
            "detail": {"field": "variant"},
            "opacity": charts.fades(),
            "tooltip": charts.tooltip(hover),
        },
    }
    return charts.chart(values, *_names(beside, "name", named, data={"values": named}), line, height=height)


def _with_power(name: str, slopes: Mapping[str, float], symbol: str) -> str:
    return f"{name}  {symbol}^{slopes[name]:.2f}" if name in slopes else name


_NARROW_LETTERS, _WIDE_LETTERS = 26, 96
"""Of a name in half the width of a telephone, and of another screen."""


def _names(at: str, text: str, values: Sequence[Datum], **more: object) -> list[Spec]:
    """A column of names from a width on, and a thin line from each to its point."""
    joins: Spec = {
        "mark": {"type": "rule", "strokeWidth": 0.6},
        "encoding": {
            "x": {"field": "x", "type": "quantitative"},
            "x2": {"value": {"expr": at}},
            "y": {"field": "y", "type": "quantitative"},
            "y2": {"field": "name_y"},
            "color": {"value": charts.QUIET},
            "opacity": {
                "condition": [
                    {"test": "datum.variant === selected", "value": 1},
                    {"test": "datum.best && selected === ''", "value": 0.8},
                ],
                "value": 0.4,
            },
        },
    }
    lettering = charts.shortened(f"datum.{text}", [value[text] for value in values], _NARROW_LETTERS, _WIDE_LETTERS)
    names: Spec = {
        "mark": {
            "type": "text", "align": "left", "dx": 4, "fontSize": 11, "cursor": "pointer",
            "limit": {"expr": f"width - {at} - 6"}, "text": {"expr": lettering},
        },
        "encoding": {
            "x": {"value": {"expr": at}},
            "y": {"field": "name_y", "type": "quantitative"},
            "color": {"condition": {"test": "datum.best", "value": {"expr": "ink"}}, "value": charts.QUIET},
            "opacity": charts.fades(),
        },
    }  # fmt: skip
    return [joins | more, names | more]
