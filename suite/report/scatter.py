"""Plots of one quantity against another: speed against error, cost against size, and work against the machine."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from suite.report import style, tables, units, wording
from suite.report.wording import number
from suite.workloads import PHASES

Drawn = tuple[Figure, str]


def error(cells: pd.DataFrame) -> Drawn | None:
    """What does each transform buy over the eager float32 form of its mechanism, and at what error?"""
    shown = wording.trusted(cells)
    shown = shown[(shown["speedup"] > 0) & (shown["agreement_error"] > 0)].copy()
    if shown.empty:
        return None
    shown["transforms"] = ["+" + "+".join(tables.transforms_of(str(name))) for name in shown["variant"]]
    typical = shown.groupby("transforms")[["speedup", "agreement_error"]].median().sort_values("speedup")
    gain, cost = (float(typical[name].iloc[-1]) for name in ("speedup", "agreement_error"))
    exact = typical[typical["agreement_error"] < 1e-5].tail(1)
    title = (
        f"{typical.index[-1]} is {units.factor(gain)} as fast, in the median of mechanisms and phases, "
        f"with an error of {units.error(cost)}"
    )
    if gain < 1:
        title = f"No transform is faster than eager float32; {title}"
    elif len(exact) and exact.index[0] != typical.index[-1]:
        title += f"; at float32's own error {exact.index[0]} is {units.factor(exact['speedup'].iloc[0])}"
    phases = [phase for phase in PHASES if (shown["phase"] == phase).any()]
    made = style.figure(f"{title} ({_where(cells)})", 4.3)
    panels = made.subplots(1, len(phases), sharey=True, squeeze=False)[0]
    for phase, axes in zip(phases, panels, strict=True):
        here = shown[shown["phase"] == phase]
        axes.set(xscale="log", yscale="log", title=phase, xlabel="times as fast as its own eager float32")
        axes.axvline(1, color=style.QUIET, linewidth=0.8, linestyle=":")
        for row in wording.rows(here):
            x, y = number(row, "speedup"), number(row, "agreement_error")
            assert x is not None
            assert y is not None
            style.point(axes, x, y, row, size=5)
        axes.margins(x=0.08, y=0.1)
        style.log_axis(axes.xaxis, lambda value: f"×{value:g}")
        style.log_axis(axes.yaxis, lambda value: f"{value:.0e}")
    panels[0].set_ylabel("error relative to float64 (lower is better)")
    style.legend(made, shown["variant"], [style.doubted()] if (shown["trust"] != "").any() else [])
    return made, title


MOST_MARKS = 25
"""Values on an axis beyond which marks would hide their line, and take seconds to draw."""
SYMBOLS = {"batch": "B", "regions": "N", "words": "T", "width": "D", "image_width": "V", "question_width": "Q"}
COSTS = {"latency_s": ("latency", units.round_seconds), "peak_memory_bytes": ("peak memory", units.round_binary)}


def growth(line: pd.DataFrame, quantity: str) -> Drawn | None:
    """How does the cost of each mechanism grow with one axis of the workload?"""
    seen = line[line[quantity].notna() & (line["hidden"] == "")]
    if seen["value"].nunique() < 2:
        return None
    axis, (cost, text) = str(line["axis"].iloc[0]), COSTS[quantity]
    symbol = SYMBOLS.get(axis, axis)
    slopes = tables.slopes(seen, quantity)
    title = _growth_title(slopes, cost, quantity, symbol, seen)
    panels_of = seen.groupby(seen["parent"].map(_panel_of), sort=False)
    columns = min(3, panels_of.ngroups)
    rows = -(-panels_of.ngroups // columns)
    made = style.figure(title, 2.5 * rows + 1.1)
    grid = made.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    values = sorted(seen["value"].unique())
    for (parent, own), axes in zip(panels_of, grid.flat, strict=False):
        axes.set(xscale="linear" if axis.endswith("fill") else "log", yscale="log")
        axes.set_title(str(parent), fontsize=8.5, fontweight="bold")
        for name, other in seen[seen["variant"] == seen["parent"]].groupby("variant"):
            if _panel_of(str(name)) != parent:
                axes.plot(other["value"], other[quantity], color=style.FAINT, linewidth=0.9, zorder=1)
        for name, group in own.groupby("variant", sort=False):
            colour = style.PRECISIONS[style.precision_of(str(name))]
            axes.plot(group["value"], group[quantity], color=colour, linewidth=1.3, zorder=2)
            for row in wording.rows(group) if len(values) <= MOST_MARKS else ():
                x, y = number(row, "value"), number(row, quantity)
                if x is not None and y is not None:
                    style.point(axes, x, y, row, size=4)
        axes.xaxis.set_major_locator(FixedLocator(_apart(values)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(*_room_for_names(values, logarithmic=not axis.endswith("fill")))
    for index, axes in enumerate(grid.flat):
        axes.set_axis_on() if index < panels_of.ngroups else axes.set_axis_off()
        if index + columns >= panels_of.ngroups:
            axes.set_xlabel(_axis_label(axis))
            axes.xaxis.set_tick_params(labelbottom=True)
        style.log_axis(axes.yaxis, text, base=2 if text is units.round_binary else 10)
    for (_, own), axes in zip(panels_of, grid.flat, strict=False):
        _name_lines(axes, own, quantity, slopes, symbol)
    for axes in grid[:, 0]:
        axes.set_ylabel(cost)
    style.legend(made, seen["variant"], [style.doubted()] if (seen["trust"] != "").any() else [])
    return made, title


def _axis_label(axis: str) -> str:
    """What a sweep moves, in words where it is no count."""
    if axis in SYMBOLS:
        return f"{axis} ({SYMBOLS[axis]})"
    return {"fill": "share of slots that are real"}.get(
        axis, f"share of {axis.removesuffix('_fill')} slots that are real"
    )


def _panel_of(parent: str) -> str:
    return "published" if parent.startswith("published_") else parent


def _apart(values: Sequence[float]) -> list[float]:
    """Those of the values whose labels do not run into each other."""
    kept: list[float] = []
    for value in reversed(values):
        if not kept or kept[-1] / value > (values[-1] / values[0]) ** 0.12:
            kept.append(value)
    return kept[::-1]


def _room_for_names(values: Sequence[float], *, logarithmic: bool) -> tuple[float, float]:
    first, last = values[0], values[-1]
    if not logarithmic:
        return first - 0.06 * (last - first), last + 0.85 * (last - first)
    return first * (last / first) ** -0.06, last * (last / first) ** 0.85


def _name_lines(axes: Axes, cells: pd.DataFrame, quantity: str, slopes: Mapping[str, float], symbol: str) -> None:
    """Each line's name and slope at its end, moved apart where ends meet."""
    low, high = axes.get_ylim()
    ends = []
    for name, group in cells.groupby("variant", sort=False):
        short = "+".join(("", *tables.transforms_of(str(name)))) or "eager float32"
        short = short if not str(name).startswith("published_") else str(name).removeprefix("published_")
        height = np.log(group[quantity].iloc[-1] / low) / np.log(high / low)
        power = f"  {symbol}$^{{{slopes[str(name)]:.2f}}}$" if str(name) in slopes else ""
        if symbol.endswith("fill"):  # a share of real slots has no law of powers
            power = f"  {units.factor(_change(group, quantity))}"
        ends.append((height, short + power, style.PRECISIONS[style.precision_of(str(name))]))
    ends.sort()
    heights = moved_apart([height for height, _, _ in ends], 0.078)
    for height, (_, said, colour) in zip(heights, ends, strict=True):
        axes.text(0.58, height, said, transform=axes.transAxes, va="center", fontsize=7, color=colour)


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


def _growth_title(slopes: Mapping[str, float], cost: str, quantity: str, symbol: str, cells: pd.DataFrame) -> str:
    ours = {name: power for name, power in slopes.items() if tables.mechanism_of(name) not in wording.CONTROLS}
    ours = ours or dict(slopes)
    workload = _without(str(cells["axis"].iloc[0]), str(cells["start"].iloc[0]))
    where = f"{workload}, {cells['phase'].iloc[0]}, {cells['device'].iloc[0]}"
    least, most = min(ours, key=ours.__getitem__), max(ours, key=ours.__getitem__)
    if symbol.endswith("fill"):
        first, last = cells["value"].min(), cells["value"].max()
        changes = [
            f"{name} {units.factor(_change(cells[cells['variant'] == name], quantity))}" for name in (least, most)
        ]
        said = f"{cost.capitalize()} from {units.percent(first)} to {units.percent(last)} of real slots: "
        said += " to ".join(dict.fromkeys(changes))
        return f"{said}, {where}"
    text = f"{cost.capitalize()} grows with {symbol} to the power {ours[least]:.2f} ({least})"
    return f"{text} to {ours[most]:.2f} ({most}): {where}" if least != most else f"{text}: {where}"


def _without(axis: str, workload: str) -> str:
    """A workload's name without the axis that a sweep moves."""
    name, _, changes = workload.rstrip("]").partition("[")
    kept = [change for change in changes.split(",") if change and change.partition("=")[0] != axis]
    return f"{name}[{','.join(kept)}]" if kept else name


def roofline(cells: pd.DataFrame, peaks: pd.DataFrame) -> Drawn | None:
    """How near does each variant come to what this machine was measured to do?"""
    shown = wording.trusted(cells)
    shown = shown[shown["of_machine"].notna() & (shown["least_bytes"] > 0)]
    if shown.empty:
        return None
    (best,) = wording.rows(_named(shown).nlargest(1, "of_machine"))
    eager = shown[shown["variant"] == shown["parent"]]["of_machine"].median()
    title = (
        f"{best['variant']} reaches {units.percent(number(best, 'of_machine'))} of what this machine can do"
        f"; median of eager float32 {units.percent(eager)} ({_where(cells)})"
    )
    parents = list(dict.fromkeys(shown["parent"]))
    made = style.figure(title, max(4.2, 0.27 * len(parents) + 1.9))
    left, right = made.subplots(1, 2, width_ratios=(1.25, 1))
    both = shown["phase"].nunique() > 1
    _roofs(left, shown, peaks)
    for row in wording.rows(shown):
        flops, moved, share = (number(row, name) for name in ("matmul_flops", "least_bytes", "of_machine"))
        rate = number(row, "flop_per_s")
        assert flops is not None
        assert moved is not None
        assert share is not None
        if flops and rate:
            style.point(left, flops / moved, rate, row, size=4.5)
        offset = 0.14 * (1 if row["phase"] == PHASES[0] else -1) if both else 0
        style.point(right, share, offset - parents.index(row["parent"]), row, size=4)
    left.set(title="work done a second", xlabel="FLOP per byte that must move", ylabel="FLOP a second")
    style.log_axis(left.xaxis, units.round_count)
    style.log_axis(left.yaxis, units.round_count)
    right.set(title="share of it reached", xlim=(0, max(1.0, shown["of_machine"].max() * 1.05)))
    right.set_xlabel(f"above {PHASES[0]}, below {PHASES[1]}" if both else shown["phase"].iloc[0])
    right.set_yticks([-index for index in range(len(parents))], parents)
    right.xaxis.set_major_formatter(PercentFormatter(1.0))
    right.axvline(1, color=style.QUIET, linewidth=0.8, linestyle=":")
    style.legend(made, shown["variant"], [style.doubted()] if (shown["trust"] != "").any() else [])
    return made, title


def _named(shown: pd.DataFrame) -> pd.DataFrame:
    """What a title may name, as far as there is any: a mechanism of ours, and a point without a doubt."""
    ours = shown[[wording.may_win(str(mechanism)) for mechanism in shown["mechanism"]]]
    ours = ours if len(ours) else shown
    sure = ours[ours["trust"] == ""]
    return sure if len(sure) else ours


def _roofs(axes: Axes, cells: pd.DataFrame, peaks: pd.DataFrame) -> None:
    """The measured copy rate as a slope, the measured matrix products as ceilings."""
    axes.set(xscale="log", yscale="log")
    here = peaks[peaks["device"] == cells["device"].iloc[0]].set_index("what")["per_second"]
    intensity = cells["matmul_flops"] / cells["least_bytes"]
    lowest = max(float(intensity[intensity > 0].min()) / 2, 1e-3)
    highest = float(intensity.max()) * 2
    used = {tables.dtype_of(str(name)) for name in cells["variant"]}
    roofs: list[tuple[float, str, str]] = []
    for dtype, ceiling in here.drop("copy", errors="ignore").items():
        if dtype not in used:
            continue
        colour = style.PRECISIONS[{"float16": "fp16", "bfloat16": "bf16"}.get(str(dtype), "float32")]
        right = max(highest, ceiling / here["copy"] * 2)
        xs = np.array([lowest, ceiling / here["copy"], right])
        axes.plot(xs, np.minimum(xs * here["copy"], ceiling), color=colour, linewidth=1.2, zorder=1)
        roofs.append((float(ceiling), f"{dtype}\n{units.per_second(float(ceiling), 'FLOP')}", colour))
    bottom, top = axes.get_ylim()
    apart = (top / bottom) ** 0.085  # two lines of type
    height = 0.0
    for ceiling, label, colour in sorted(roofs):
        height = max(ceiling, height * apart)
        axes.text(
            1.01, height, label, va="center", fontsize=7, color=colour, transform=axes.get_yaxis_transform()
        )  # fmt: skip


def _where(cells: pd.DataFrame) -> str:
    return f"{cells['workload'].iloc[0]}, {cells['device'].iloc[0]}"
