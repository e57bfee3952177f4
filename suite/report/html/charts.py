"""What charts have in common: their axes, their marks and how they say who is selected. Vega-Lite as plain JSON.

Colour is precision and shape is how a variant runs, as in the plots of REPORT.md; nothing rests on colour alone. Every
chart has a parameter ``selected``, the variant that was clicked on anywhere on the page, and ``narrow``, whether it has
the width of a telephone.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from suite.report import wording

Spec = dict[str, Any]
Datum = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
PRECISIONS = {
    "float32": "#0173b2",
    "bf16": "#de8f05",
    "fp16": "#029e73",
    "amp_bf16": "#cc78bc",
    "amp_fp16": "#56b4e9",
    "tf32": "#fbafe4",
}
SHAPES = {
    "eager": "circle",
    "compile": "diamond",
    "compile_tuned": "cross",
    "fused": "triangle-up",
    "chunked": "triangle-down",
    "sdpa": "square",
    "fast": "triangle-right",
    "cudagraph": "triangle-left",
}
INK = "#1b1f24"
QUIET = "#8a8a8a"
SECONDS = (
    "datum.value >= 1 ? format(datum.value, '.3~g') + ' s' : datum.value >= 1e-3 ? format(datum.value * 1e3, '.3~g') + "
    "' ms' : datum.value >= 1e-6 ? format(datum.value * 1e6, '.3~g') + ' µs' : format(datum.value * 1e9, '.3~g') + "
    "' ns'"
)
BYTES = (
    "datum.value >= 1073741824 ? format(datum.value / 1073741824, '.3~g') + ' GiB' : datum.value >= 1048576 ? "
    "format(datum.value / 1048576, '.3~g') + ' MiB' : datum.value >= 1024 ? format(datum.value / 1024, '.3~g') + "
    "' KiB' : format(datum.value, '.3~g') + ' B'"
)
TIMES = "'×' + format(datum.value, '.3~g')"
SCIENTIFIC = "format(datum.value, '.0e')"
COUNT = "format(datum.value, '.3~s')"
_OTHERS_FADE = {"condition": {"test": "selected === '' || datum.variant === selected", "value": 1}, "value": 0.18}


def chart(values: Sequence[Datum], *layers: Spec, height: Any, **more: Any) -> Spec:
    """A chart as wide as its place on the page."""
    return {
        "$schema": SCHEMA,
        "width": "container",
        "height": height,
        "params": [
            {"name": "selected", "value": ""},
            {"name": "precision", "value": "all"},
            {"name": "narrow", "value": False},
            {"name": "ink", "value": INK},
        ],
        "data": {"values": list(values)},
        "layer": list(layers),
        **more,
    }


def point(**encoding: Any) -> Spec:
    """The mark of a variant: hollow where there is a reason for doubt."""
    return {
        "mark": {"type": "point", "strokeWidth": 1.4, "size": 62, "cursor": "pointer"},
        "encoding": {
            "opacity": _OTHERS_FADE,
            "fillOpacity": {"condition": {"test": "datum.doubt !== ''", "value": 0}, "value": 0.9},
            **encoding,
        },
    }


def fades() -> Spec:
    """The opacity of what belongs to one variant."""
    return dict(_OTHERS_FADE)


def coloured(precisions: Iterable[str]) -> Spec:
    """Colour by the field ``precision``; those that occur, in an order of our own."""
    found = _in_order(precisions, PRECISIONS)
    scale = {"domain": found, "range": [PRECISIONS.get(name, QUIET) for name in found]}
    return {"field": "precision", "type": "nominal", "scale": scale, "legend": _legend("precision")}


def shaped(executions: Iterable[str]) -> Spec:
    """Shape by the field ``execution``."""
    found = _in_order(executions, SHAPES)
    scale = {"domain": found, "range": [SHAPES.get(name, "wedge") for name in found]}
    return {"field": "execution", "type": "nominal", "scale": scale, "legend": _legend("runs")}


def _in_order(words: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """Those that occur, once each: known ones in their order, then the others, which share a colour or a shape."""
    found = dict.fromkeys(words)
    return [*(word for word in known if word in found), *(word for word in found if word not in known)]


def _legend(title: str) -> Spec:
    return {"title": title, "orient": "top", "columns": {"expr": "narrow ? 2 : 8"}}


def logarithmic(
    field: str,
    title: str,
    label: str,
    ends: tuple[float, float],
    *,
    base: int = 10,
    until: str = "",
) -> Spec:
    """A logarithmic axis with few round marks; it ends where an expression says, or with the chart."""
    room = {"range": [0, {"expr": until}]} if until else {}
    return {
        "field": field,
        "type": "quantitative",
        "scale": {"type": "log", "domain": list(ends), "nice": False, "clamp": False, **room},
        "axis": {
            "title": title,
            "values": marks(*ends, base=base),
            "labelExpr": label,
            "labelOverlap": True,
        },
    }


def row_axis(names: Iterable[str], narrow_px: int, wide_px: int, *, small: bool = False) -> Spec:
    """An axis of names, a row each, in so many pixels of a telephone's screen and of another.

    Args:
        names: all of them.
        narrow_px: on a telephone.
        wide_px: elsewhere.
        small: with smaller letters on a telephone.
    """
    narrow, wide = 9.5 if small else _LETTER_PX, _LETTER_PX
    letters = [int(room / (size * _LETTER_WIDTH)) for room, size in ((narrow_px, narrow), (wide_px, wide))]
    return {
        "title": None, "ticks": False, "domain": False, "grid": True, "gridOpacity": 0.35,
        "labelFontSize": {"expr": f"narrow ? {narrow} : {wide}"},
        "labelExpr": shortened("datum.label", list(names), *letters),
        # letters may be wider than was thought
        "labelLimit": {"expr": f"narrow ? {1.15 * narrow_px:.0f} : {1.15 * wide_px:.0f}"},
    }  # fmt: skip


_LETTER_PX = 11.5
"""Height of a label's letters."""
_LETTER_WIDTH = 0.54
"""Of its height, in the middle of all letters."""


def shortened(text: str, names: Sequence[str], narrow: int, wide: int) -> str:
    """An expression that shortens what is longer than so many letters, on a telephone and elsewhere.

    Args:
        text: the expression of a name.
        names: all that it may be.
        narrow: letters on a telephone.
        wide: letters elsewhere.
    """

    def within(letters: int) -> str:
        short = wording.without_middles(names, letters)
        if not short:
            return text
        # two lists, since a name may be one that an object has by itself
        return f"({json.dumps(list(short.values()))}[indexof({json.dumps(list(short))}, {text})] || {text})"

    return f"narrow ? {within(narrow)} : {within(wide)}"


def ends(numbers: Iterable[float], *, below: float = 0.05, above: float = 0.05) -> tuple[float, float]:
    """The ends of a logarithmic axis, with room on either side as a share of its length."""
    found = [number for number in numbers if number > 0]
    if not found:
        return 0.1, 10.0
    low, high = math.log(min(found)), math.log(max(found))
    span = max(high - low, 0.4)
    return _rounded(math.exp(low - below * span)), _rounded(math.exp(high + above * span))


def marks(low: float, high: float, *, base: int = 10) -> list[float]:
    """Round values between two ends: 1, 2, 5 and their like, powers of 2, or fewer where there are many decades."""
    if base == 2:
        first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
        step = max(1, math.ceil((last - first + 1) / 8))
        return [2.0**power for power in range(first, last + 1, step)]
    decades = math.log10(high / low)
    if decades < 0.9:
        step = 10 ** math.floor(math.log10((high - low) / 3))
        step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= 7)
        return [_rounded(step * at) for at in range(math.ceil(low / step), math.floor(high / step) + 1)]
    every = (1, 2, 5) if decades <= 2.5 else (1, 3) if decades <= 4 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    thin = max(1, math.ceil((last - first) / 10))
    found = [float(f"{one}e{power}") for power in range(first, last + 1, thin) for one in every]
    return [value for value in found if low <= value <= high]


def tooltip(fields: Mapping[str, str]) -> list[Spec]:
    """What is said on hovering: a field of the datum under each title."""
    return [{"field": field, "title": title, "type": "nominal"} for field, title in fields.items()]


def rounded(number: float | None) -> float | None:
    """Four digits: a page needs no more, and the records hold them all."""
    return None if number is None else _rounded(number)


def _rounded(number: float) -> float:
    return float(f"{number:.4g}")


def moved_apart(heights: Sequence[float], least: float, *, most: float = 1.0) -> list[float]:
    """Heights with at least so much between neighbours, in the same order, as near to their own as that allows.

    Args:
        heights: ascending.
        least: between neighbours; less where they would not fit below ``most``.
        most: the highest; the lowest is 0.
    """
    if not heights:
        return []
    least = min(least, most / max(len(heights) - 1, 1))
    # neighbours that meet become one block around the mean of its own heights
    blocks: list[list[float]] = []  # of each, the sum of heights less their places in it, and how many there are
    for height in heights:
        blocks.append([height, 1.0])
        while len(blocks) > 1 and _start(blocks[-2], least) + blocks[-2][1] * least > _start(blocks[-1], least):
            total, count = blocks.pop()
            blocks[-1][0] += total - count * blocks[-1][1] * least
            blocks[-1][1] += count
    placed = [_start(block, least) + at * least for block in blocks for at in range(int(block[1]))]
    placed = [min(height, most - least * (len(placed) - 1 - at)) for at, height in enumerate(placed)]
    return [max(height, least * at) for at, height in enumerate(placed)]


def uncrossed(points: Sequence[tuple[float, float]], heights: Sequence[float], *, at: float = 1.0) -> list[int]:
    """Which point each height of a column belongs to, so that no two of the lines that join them cross.

    Of all ways to join them this one has the shortest lines together: two that crossed could be exchanged for two
    that are shorter. Whether lines cross is the same at every width and height of a chart.

    Args:
        points: to the right and upwards, both as shares of the chart.
        heights: of the column, as many, ascending.
        at: where the column stands, to the right of every point.

    Returns:
        For each height the index of its point.
    """
    if len(points) > MOST_UNCROSSED:
        return sorted(range(len(points)), key=lambda index: (points[index][1], -points[index][0]))
    across, upwards = np.array(points, float).reshape(-1, 2).T
    lengths = np.hypot(_WIDE * (at - across), np.asarray(heights, float)[:, None] - upwards)
    return [int(index) for index in linear_sum_assignment(lengths)[1]]


MOST_UNCROSSED = 400
"""Names beyond which a column is scrolled and not seen at once, and the search for it takes seconds."""
_WIDE = 2.0
"""How much wider than high a chart is, on a screen of usual width."""


def _start(block: Sequence[float], least: float) -> float:
    """Where a block's first height lies: its heights are that and so many times the least above it."""
    return block[0] / block[1]
