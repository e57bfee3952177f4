"""Names beside the points of a plot, none of them over another name or over a point."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from suite.report import style

_FARTHEST = 24
"""Lines of text that a name may stand above or below its point, before it may cover something."""


class Named(NamedTuple):
    """A point in the units of its axes, and what is to be read beside it."""

    x: float
    y: float
    text: str


def write(figure: Figure, points: Mapping[Axes, Sequence[Named]], *, size: float = 6.6, radius_pt: float = 4.0) -> None:
    """Write each name near its point, in the first place that is free; one that is not beside it has a line to it.

    Call it last: where axes lie and how they are scaled must not change after it.

    Args:
        figure: with everything else drawn.
        points: by axes all that are in them, those without a text too, which nothing may cover.
        size: of the letters, in points.
        radius_pt: of the points.
    """
    figure.draw_without_rendering()
    for axes, own in points.items():
        _write(figure, axes, own, size=size, radius_pt=radius_pt)


def _write(figure: Figure, axes: Axes, points: Sequence[Named], *, size: float, radius_pt: float) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]  # matplotlib's own gap
    scale = figure.dpi / 72
    radius = radius_pt * scale
    bounds = axes.get_window_extent(renderer)
    at = [axes.transData.transform((point.x, point.y)) for point in points]
    taken = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in at]
    # those with little room choose first
    crowd = [sum(abs(x - u) < 60 * scale and abs(y - v) < 20 * scale for u, v in at) for x, y in at]
    for index in sorted(range(len(points)), key=lambda index: -crowd[index]):
        point, (x, y) = points[index], at[index]
        if not point.text:
            continue
        text = axes.annotate(
            point.text, (point.x, point.y), (0, 0), textcoords="offset points", fontsize=size, color=style.INK,
            va="center", ha="left", zorder=4, annotation_clip=False,
        )  # fmt: skip
        box = text.get_window_extent(renderer)
        width, height = box.width, box.height
        chosen = (x + 1.3 * radius, y, False)  # where nothing is free
        for place in _places(x, y, width, height, radius):
            left, middle, _ = place
            box = Bbox.from_extents(left, middle - height / 2, left + width, middle + height / 2)
            inside = bounds.x0 < box.x0 and box.x1 < bounds.x1 and bounds.y0 < box.y0 and box.y1 < bounds.y1
            if inside and not any(box.overlaps(other) for other in taken):
                chosen = place
                break
        left, middle, line = chosen
        taken.append(Bbox.from_extents(left, middle - height / 2, left + width, middle + height / 2))
        text.set_position(((left - x) / scale, (middle - y) / scale))
        text.set_in_layout(False)  # or the axes would move from under what was placed
        if line:
            end = (left if left >= x else left + width, middle)
            joined = axes.annotate(
                "", (point.x, point.y), ((end[0] - x) / scale, (end[1] - y) / scale), textcoords="offset points",
                annotation_clip=False,
                arrowprops={"arrowstyle": "-", "color": style.QUIET, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2},
                zorder=2,
            )  # fmt: skip
            joined.set_in_layout(False)


def _places(x: float, y: float, width: float, height: float, radius: float) -> Iterator[tuple[float, float, bool]]:
    """Where a name may begin, its middle, and whether it needs a line: beside the point first, then further away."""
    right, left = x + 1.3 * radius, x - 1.3 * radius - width
    yield from ((right, y, False), (left, y, False))
    above = radius + 0.6 * height
    yield from ((x - width / 2, y + above, False), (x - width / 2, y - above, False))
    for step in range(1, _FARTHEST):
        for side in (1, -1):
            middle = y + side * (above + (step - 0.5) * 0.9 * height)
            for start in (right, left, x - width / 2):
                yield start, middle, True
