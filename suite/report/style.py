"""How every plot looks: nine inches wide, a title that is the answer, and nothing that rests on colour alone.

Colour is precision and shape is how a variant runs, in every plot; names stand beside their points. Text keeps its size
in a README's 900 pixels, with forty variants too, because figures grow in height and never in width.
"""

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from suite.core.records import Role
from suite.report import wording
from suite.report.tables import EAGER, FULL

WIDTH_IN = 9.0
DOTS_PER_INCH = 200
INK, QUIET, FAINT = "#222222", "#6b6b6b", "#d9d9d9"
BLUE, ORANGE, GREEN, RED, PINK, _BROWN, ROSE, GREY, _YELLOW, SKY = sns.color_palette("colorblind").as_hex()
PRECISIONS = {FULL: BLUE, "bf16": ORANGE, "fp16": GREEN, "amp_bf16": PINK, "amp_fp16": SKY, "tf32": ROSE}
EXECUTIONS = {
    EAGER: "o",
    "compile": "D",
    "compile_tuned": "P",
    "fused": "^",
    "chunked": "v",
    "sdpa": "s",
    "fast": ">",
    "cudagraph": "X",
}
_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.edgecolor": "#bbbbbb",
    "axes.titlelocation": "left",
    "grid.color": "#e8e8e8",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.parse_math": False,  # a dollar sign in a reason opens no formula
}


@contextmanager
def applied() -> Iterator[None]:
    """The look, for as long as figures are drawn and saved; the process keeps its own afterwards."""
    with sns.axes_style("whitegrid"), mpl.rc_context(_SETTINGS):  # type: ignore[arg-type]  # a dict has plain keys
        yield


def figure(title: str, height_in: float) -> Figure:
    """An empty figure with its answer on top, as wide as a README."""
    made = Figure(figsize=(WIDTH_IN, height_in), layout=ConstrainedLayoutEngine(h_pad=0.06, w_pad=0.05))
    made.suptitle(textwrap.fill(title, 92, break_on_hyphens=False), x=0.008, ha="left", fontsize=11, fontweight="bold")
    return made


def colour_of(precision: str) -> str:
    """Of a precision; those that have none of their own share one."""
    return str(PRECISIONS.get(precision, GREY))


def shape_of(execution: str) -> str:
    """Of a way to run; those that have none of their own share one."""
    return EXECUTIONS.get(execution, "d")


def log_axis(axis: Axis, text: Callable[[float], str], *, base: int = 10) -> None:
    """Labels of a logarithmic axis in units, as many as its range can carry; call it once everything is drawn."""
    low, high = axis.get_view_interval()
    steps = math.log(high / low, base)
    if base == 10:
        every = tuple(range(1, 10)) if steps < 0.6 else (1, 2, 5) if steps < 1.7 else (1, 3) if steps < 2.6 else (1,)
        axis.set_major_locator(LogLocator(subs=every, numticks=12))
    else:
        axis.set_major_locator(LogLocator(base=base ** max(1, math.ceil(steps / 6)), numticks=12))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


class Line(NamedTuple):
    """A row of a plot: its variant, its height, and the label beside it."""

    variant: str
    height: float
    label: str
    block: str = ""
    """What to write above it, where it is the first of its block."""


BLOCKS: Mapping[Role, str] = {"mechanism": "mechanisms", "control": "controls", "published": "published code"}
"""What may win, what people would use instead, and what others published."""


def lines(cells: pd.DataFrame, *, by: str) -> list[Line]:
    """One row per variant, downwards, under short names: block by block, each with the least first.

    Transformed forms stand below their parent. Controls and published code are blocks of their own.

    Args:
        cells: of one place, in all its phases.
        by: the column to sort by.
    """
    # a variant's number is its least over phases; without one it comes last
    typical = {str(name): float(value) for name, value in cells.groupby("variant", sort=False)[by].min().items()}
    ranks = {name: (value != value, value) for name, value in typical.items()}
    known = {str(row["variant"]): row for row in wording.rows(cells)}
    families: dict[str, list[str]] = {}
    roles: dict[str, object] = {}
    for name in typical:
        parent = str(known[name]["parent"])
        families.setdefault(parent, []).append(name)
        roles[parent] = known[name]["role"]
    made: list[Line] = []
    height = 0.0
    for role, block in BLOCKS.items():
        own = [parent for parent in families if roles[parent] == role]
        above = block if own and len(families) > len(own) else ""
        height -= 1.1 if above else 0.0
        for parent in sorted(own, key=lambda parent: min(ranks[name] for name in families[parent])):
            forms = sorted(families[parent], key=lambda name: (name != parent, ranks[name]))
            for index, name in enumerate(forms):
                label = name if index == 0 else str(known[name]["form"])
                made.append(Line(name, height, label, above))
                above = ""
                height -= 1.0
            height -= 0.45 if len(forms) > 1 else 0.1
    return made


def rows_height_in(rows: Sequence[Line], *, each: float = 0.18) -> float:
    return each * (rows[0].height - rows[-1].height + 2)


MOST_LETTERS = 48
"""Of a name beside a plot: a longer one leaves the plot no room, and loses its middle."""


def name_rows(axes: Axes, rows: Sequence[Line]) -> None:
    """Names at the left, and above each block what it is."""
    short = wording.without_middles((row.label for row in rows), MOST_LETTERS)
    axes.set_yticks([row.height for row in rows], [short.get(row.label, row.label) for row in rows])
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.label == row.variant else "normal")
    axes.set_ylim(rows[-1].height - 0.8, rows[0].height + (1.9 if rows[0].block else 0.8))
    for row in rows:
        if row.block:
            axes.annotate(
                row.block, (0, row.height + 1.1), (-4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", va="center", color=QUIET, fontsize=7.5, style="italic",
            )  # fmt: skip
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def legend(made: Figure, cells: pd.DataFrame, extra: Sequence[Line2D] = ()) -> None:
    """What colours and shapes stand for, below the figure; only those that occur."""
    handles = [
        Line2D([], [], color=colour_of(word), marker="o", linestyle="", label=word)
        for word in in_order(cells["precision"], PRECISIONS)
    ]
    handles += [
        Line2D([], [], color=QUIET, marker=shape_of(word), linestyle="", label=word)
        for word in in_order(cells["execution"], EXECUTIONS)
    ]
    handles += extra
    made.legend(
        handles=handles, loc="outside lower left", ncols=min(len(handles), 10), frameon=False,
        handletextpad=0.1, columnspacing=0.9, fontsize=7.5,
    )  # fmt: skip


def in_order(words: Iterable[object], known: Mapping[str, object]) -> list[str]:
    """Those that occur, once each: known ones in their order, then the others as they came."""
    found = dict.fromkeys(map(str, words))
    return [*(word for word in known if word in found), *(word for word in found if word not in known)]


def doubted() -> Line2D:
    """The legend's entry for hollow points."""
    return Line2D(
        [], [], color=QUIET, marker="o", markerfacecolor="white", linestyle="", label="hollow: doubted, see table"
    )


def point(axes: Axes, x: float, y: float, row: wording.Row, *, size: float = 5.5) -> None:
    """A variant's mark: coloured by precision, shaped by execution, hollow where there is a reason for doubt."""
    colour = colour_of(str(row["precision"]))
    axes.plot(
        [x], [y], marker=shape_of(str(row["execution"])), color=colour, markersize=size, linestyle="",
        markerfacecolor="white" if row["trust"] else colour, markeredgewidth=1.1, zorder=3,
    )  # fmt: skip
