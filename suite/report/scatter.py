"""Plots of one quantity against another: speed against error, cost against size, and work against the machine."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from suite.core.workloads import PHASES, named
from suite.report import labels, style, tables, units, wording
from suite.report.wording import number

Drawn = tuple[Figure, str]
LIKE_FLOAT32 = 1e-5
"""Errors below this are those of float32 itself."""


def error(cells: pd.DataFrame) -> Drawn | None:
    """What does each transform buy over the eager float32 form of its mechanism, and at what error?"""
    shown = wording.trusted(cells)
    shown = shown[(shown["speedup"] > 0) & (shown["agreement_error"] > 0)].copy()
    if shown.empty:
        return None
    title = f"{_gains(shown)} ({_where(cells)})"
    phases = [phase for phase in PHASES if (shown["phase"] == phase).any()]
    made = style.figure(title, 4.3 + 0.06 * max(shown.groupby("phase").size().max() - 8, 0))
    panels = made.subplots(1, len(phases), sharey=True, squeeze=False)[0]
    for phase, axes in zip(phases, panels, strict=True):
        here = shown[shown["phase"] == phase]
        axes.set(xscale="log", yscale="log", title=phase, xlabel="times as fast as its own eager float32")
        axes.axvline(1, color=style.QUIET, linewidth=0.8, linestyle=":")
        for row in wording.rows(here):
            x, y = number(row, "speedup"), number(row, "agreement_error")
            assert x is not None
            assert y is not None
            low, high = number(row, "speedup_low"), number(row, "speedup_high")
            if low and high:
                axes.plot([low, high], [y, y], color=style.FAINT, linewidth=1, zorder=1)
            style.point(axes, x, y, row, size=5)
        axes.margins(x=0.14, y=0.14)
        style.log_axis(axes.xaxis, lambda value: f"×{value:g}")
        style.log_axis(axes.yaxis, lambda value: f"{value:.0e}")
    panels[0].set_ylabel("error relative to float64 (lower is better)")
    style.legend(made, shown, [style.doubted()] if wording.doubted(shown).any() else [])
    labels.write(
        made,
        {
            axes: [
                labels.Named(number(row, "speedup") or 0.0, number(row, "agreement_error") or 0.0, str(row["variant"]))
                for row in wording.rows(shown[shown["phase"] == phase])
            ]
            for phase, axes in zip(phases, panels, strict=True)
        },
    )
    return made, title


def _gains(shown: pd.DataFrame) -> str:
    """How many points gain; the transform with the largest median gain, of all and of those as exact as float32."""
    told = int(((shown["verdict"] == "faster") & ~wording.doubted(shown)).sum())
    text = f"{told} of {len(shown)} points {'is' if told == 1 else 'are'} told faster than eager float32"
    exact = shown[shown["agreement_error"] < LIKE_FLOAT32]
    named = ""
    for some, where in ((shown, "largest median gain"), (exact, "and at an error like float32")):
        if some.empty:
            continue
        gains = some.groupby("form", sort=False)["speedup"].median()
        best = str(gains.idxmax())
        own = some[some["form"] == best]
        if best != named:
            text += f"; {where}: {best}, {_between(own['speedup'])} over {len(own)}"
            text += "" if named else f", error {_errors(own['agreement_error'])}"
        named = named or best
    return text


def _between(values: pd.Series) -> str:
    low, high = (units.factor(float(end)) for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _errors(values: pd.Series) -> str:
    low, high = (units.error(float(end)) for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


MOST_MARKS = 25
"""Values on an axis beyond which marks would hide their line, and take seconds to draw."""
SYMBOLS = {"batch": "B", "regions": "N", "words": "T", "width": "D", "image_width": "V", "question_width": "Q"}
COSTS = {"latency_s": ("latency", units.round_seconds), "peak_memory_bytes": ("peak memory", units.round_binary)}


def growth(line: pd.DataFrame, quantity: str) -> Drawn | None:
    """How does the cost of each mechanism grow with one axis of the workload?"""
    seen = line[(line[quantity] > 0) & (line["hidden"] == "")]
    if seen["value"].nunique() < 2:
        return None
    axis, (cost, text) = str(line["axis"].iloc[0]), COSTS[quantity]
    symbol = SYMBOLS.get(axis, axis)
    slopes = tables.slopes(seen, quantity)
    title = growth_title(slopes, cost, quantity, symbol, seen)
    seen = seen.assign(panel=seen["parent"].where(seen["role"] != "published", "published"))
    panels_of = seen.groupby("panel", sort=False)
    columns = min(3, panels_of.ngroups)
    rows = -(-panels_of.ngroups // columns)
    made = style.figure(title, 2.5 * rows + 1.1)
    grid = made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    values = sorted(seen["value"].unique())
    # one form a panel needs no names beside its line: the panel's own says it
    alone = all(own["variant"].nunique() == 1 for _, own in panels_of)
    room = 0.06 if alone else 0.85
    for (parent, own), axes in zip(panels_of, grid.flat, strict=False):
        axes.set(xscale="linear" if axis.endswith("fill") else "log", yscale="log")
        said = _power(str(own["variant"].iloc[0]), own, seen, quantity, slopes, symbol) if alone else ""
        axes.set_title(f"{parent}{said}", fontsize=8.5, fontweight="bold")
        for _, other in seen[(seen["variant"] == seen["parent"]) & (seen["panel"] != parent)].groupby("variant"):
            axes.plot(other["value"], other[quantity], color=style.FAINT, linewidth=0.9, zorder=1)
        for _, group in own.groupby("variant", sort=False):
            colour = style.colour_of(str(group["precision"].iloc[0]))
            axes.plot(group["value"], group[quantity], color=colour, linewidth=1.3, zorder=2)
            for row in wording.rows(group) if len(values) <= MOST_MARKS else ():
                x, y = number(row, "value"), number(row, quantity)
                if x is not None and y is not None:
                    style.point(axes, x, y, row, size=4)
        axes.xaxis.set_major_locator(FixedLocator(_apart(values, room)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(*_with_room(values, room, logarithmic=not axis.endswith("fill")))
    for index, axes in enumerate(grid.flat):
        axes.set_axis_on() if index < panels_of.ngroups else axes.set_axis_off()
        if index + columns >= panels_of.ngroups:
            axes.set_xlabel(axis_label(axis))
            axes.xaxis.set_tick_params(labelbottom=True)
        style.log_axis(axes.yaxis, text, base=2 if text is units.round_binary else 10)
    for (_, own), axes in zip(panels_of, grid.flat, strict=False) if not alone else ():
        _name_lines(axes, own, seen, quantity, slopes, symbol)
    for axes in grid[:, 0]:
        axes.set_ylabel(cost)
    style.legend(made, seen, [style.doubted()] if wording.doubted(seen).any() else [])
    return made, title


def axis_label(axis: str) -> str:
    """What a sweep moves, in words where it is no count."""
    if axis in SYMBOLS:
        return f"{axis} ({SYMBOLS[axis]})"
    return {"fill": "share of slots that are real"}.get(
        axis, f"share of {axis.removesuffix('_fill')} slots that are real"
    )


def _apart(values: Sequence[float], room: float) -> list[float]:
    """Those of the values whose labels do not run into each other, on an axis with so much room beside them."""
    kept: list[float] = []
    for value in reversed(values):
        if not kept or kept[-1] / value > (values[-1] / values[0]) ** (0.1 * (1.06 + room)):
            kept.append(value)
    return kept[::-1]


def _with_room(values: Sequence[float], room: float, *, logarithmic: bool) -> tuple[float, float]:
    """The ends of an axis, with so much of its length at the right as well."""
    first, last = values[0], values[-1]
    if not logarithmic:
        return first - 0.06 * (last - first), last + room * (last - first)
    return first * (last / first) ** -0.06, last * (last / first) ** room


def _name_lines(
    axes: Axes, cells: pd.DataFrame, seen: pd.DataFrame, quantity: str, slopes: Mapping[str, float], symbol: str
) -> None:
    """Each line's name and slope at its end, moved apart where ends meet."""
    low, high = axes.get_ylim()
    ends = []
    for name, group in cells.groupby("variant", sort=False):
        first = wording.rows(group.head(1))[0]
        # a panel of ours has one mechanism, that of published code many
        short = str(name if first["role"] == "published" else first["form"] or "eager float32")
        height = np.log(group[quantity].iloc[-1] / low) / np.log(high / low)
        power = _power(str(name), group, seen, quantity, slopes, symbol)
        ends.append((height, short + power, style.colour_of(str(first["precision"]))))
    ends.sort()
    heights = moved_apart([height for height, _, _ in ends], 0.078)
    for height, (_, said, colour) in zip(heights, ends, strict=True):
        axes.text(0.58, height, said, transform=axes.transAxes, va="center", fontsize=7, color=colour)


def _power(
    name: str, line: pd.DataFrame, seen: pd.DataFrame, quantity: str, slopes: Mapping[str, float], symbol: str
) -> str:
    """By which power a line grows; of a share of real slots, which has no law of powers, by how much."""
    if symbol.endswith("fill"):
        return f"  {units.factor(_change(line, quantity))}" if name in _whole(seen) else ""
    return f"  {symbol}^{slopes[name]:.2f}" if name in slopes else ""


def moved_apart(heights: Sequence[float], least: float) -> list[float]:
    """Ascending heights with at least so much between neighbours, within 0 and 1, near their own."""
    moved = list(heights)
    for _ in range(50):
        for index in range(len(moved) - 1):
            missing = least - (moved[index + 1] - moved[index])
            if missing > 1e-6:
                moved[index] -= missing / 2
                moved[index + 1] += missing / 2
        if moved and moved[-1] > 1 - least / 2:
            moved[-1] = 1 - least / 2
        if moved and moved[0] < least / 2:
            moved[0] = least / 2
    return moved


def _change(line: pd.DataFrame, quantity: str) -> float:
    """How many times as much a line ends with as it begins with."""
    ordered = line.sort_values("value")[quantity]
    return float(ordered.iloc[-1] / ordered.iloc[0])


def _whole(cells: pd.DataFrame) -> list[str]:
    """Variants that were measured at both ends of the sweep: of the others the ends say something else."""
    ends = {cells["value"].min(), cells["value"].max()}
    return [str(name) for name, line in cells.groupby("variant", sort=False) if ends <= set(line["value"])]


def growth_title(slopes: Mapping[str, float], cost: str, quantity: str, symbol: str, cells: pd.DataFrame) -> str:
    """From the least to the most over all lines that are drawn."""
    workload = _without(str(cells["axis"].iloc[0]), str(cells["start"].iloc[0]))
    where = f"{workload}, {cells['phase'].iloc[0]}, {cells['device'].iloc[0]}"
    if symbol.endswith("fill"):
        first, last = (units.percent(float(end)) for end in (cells["value"].min(), cells["value"].max()))
        changes = {name: _change(cells[cells["variant"] == name], quantity) for name in _whole(cells)}
        said = _ends({name: units.factor(change) for name, change in changes.items()}, changes)
        return f"{cost.capitalize()} from {first} to {last} of real slots: {said} ({where})"
    said = _ends({name: f"{power:.2f}" for name, power in slopes.items()}, slopes)
    return f"{cost.capitalize()} goes with {symbol} to the power {said} ({where})"


def _ends(texts: Mapping[str, str], values: Mapping[str, float]) -> str:
    if not values:
        return "not known"
    least, most = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    if texts[least] == texts[most]:
        return texts[least] if len(values) > 1 else f"{texts[least]} ({least})"
    return f"{texts[least]} ({least}) to {texts[most]} ({most})"


def _without(axis: str, workload: str) -> str:
    """A workload's name without the axis that a sweep moves."""
    shape = named(workload)
    return str(replace(shape, overrides=tuple((key, text) for key, text in shape.overrides if key != axis)))


def roofline(cells: pd.DataFrame) -> Drawn | None:
    """How near does each variant come to what this machine was measured to do?"""
    shown = wording.trusted(cells)
    shown = shown[shown["of_machine"].notna()]
    if shown.empty:
        return None
    title = f"{shares(shown)} ({_where(cells)})"
    rows = style.lines(shown.assign(variant=shown["parent"]), by="latency_s")
    made = style.figure(title, style.rows_height_in(rows, each=0.24) + 1.4)
    phases = [phase for phase in PHASES if (shown["phase"] == phase).any()]
    panels = made.subplots(1, len(phases), sharey=True, squeeze=False)[0]
    style.name_rows(panels[0], rows)
    for phase, axes in zip(phases, panels, strict=True):
        axes.set(title=phase, xlim=(0, 1.03), xlabel="share of the least time; a line is the range over tasks")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.axvline(1, color=style.QUIET, linewidth=0.8, linestyle=":")
        for line in rows:
            axes.axhline(line.height, color="#f3f3f3", linewidth=0.8, zorder=0)
            forms = wording.rows(shown[(shown["phase"] == phase) & (shown["parent"] == line.variant)])
            for row, height in zip(forms, _spread(line.height, len(forms)), strict=True):
                low, share, high = (number(row, f"of_machine{end}") for end in ("_low", "", "_high"))
                assert low is not None
                assert share is not None
                assert high is not None
                axes.plot([low, high], [height] * 2, color=style.QUIET, linewidth=0.9, zorder=2)
                style.point(axes, share, height, row, size=4)
    style.legend(made, shown, [style.doubted()] if wording.doubted(shown).any() else [])
    return made, title


def _spread(middle: float, count: int) -> list[float]:
    """Heights around the middle of a row, so that forms as good as each other do not cover each other."""
    return [middle + 0.6 * ((count - 1) / 2 - index) / max(count - 1, 2) for index in range(count)]


def shares(shown: pd.DataFrame, *, over_tasks: bool = True) -> str:
    """From the least to the most that any form reached, and the same of eager float32.

    Args:
        shown: the cells that are drawn.
        over_tasks: whether the ends are those of any task, as lines show them; or those of the points.
    """
    lower, upper = ("of_machine_low", "of_machine_high") if over_tasks else ("of_machine", "of_machine")
    (least,) = wording.rows(shown.nsmallest(1, lower))
    (most,) = wording.rows(shown.nlargest(1, upper))
    low, high = units.percent(number(least, lower)), units.percent(number(most, upper))
    eager = shown[shown["variant"] == shown["parent"]]
    ends = [units.percent(float(end)) for end in (eager[lower].min(), eager[upper].max())]
    names = [f"{row['variant']}{', doubted' if row['trust'] else ''}" for row in (least, most)]
    text = f"{low} ({names[0]})" + ("" if low == high else f" to {high} ({names[1]})")
    text += " of what this machine can do by its fastest route"
    if len(eager) and len(eager) < len(shown) and ends != [low, high]:
        text += f"; eager float32 {' to '.join(dict.fromkeys(ends))}"
    return text


def _where(cells: pd.DataFrame) -> str:
    return f"{cells['workload'].iloc[0]}, {cells['device'].iloc[0]}"
