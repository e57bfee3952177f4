"""Plots with a row per variant: how long it takes, and what it holds in memory."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from suite.core.workloads import PHASES
from suite.report import standing, style, units, wording
from suite.report.style import Line
from suite.report.wording import number

Drawn = tuple[Figure, str]


class Label(NamedTuple):
    """Words beside a mark, which reaches from `low` to `high`."""

    low: float
    high: float
    height: float
    said: str
    colour: str = style.INK
    weight: str = "normal"
    about: float | None = None
    """The end that they are about, where the other end is of something else."""


def latency(cells: pd.DataFrame) -> Drawn | None:
    """Which variant is the fastest on one workload and device, and what each transform buys its mechanism?"""
    if not cells["latency_s"].notna().any():
        return None
    phases = [phase for phase in PHASES if (cells["phase"] == phase).any()]
    said = [f"{phase}: {standing.fastest(cells[cells['phase'] == phase])}" for phase in phases]
    title = f"Latency, {'; '.join(said)} ({_where(cells)})"
    rows = style.lines(cells, by="latency_s")
    made, panels = _panels(cells, rows, title)
    for phase, axes in panels:
        here = cells[cells["phase"] == phase]
        contenders = standing.contenders(here)
        first = standing.leaders(contenders)
        best = first[0]["variant"] if len(first) == 1 < len(contenders) else ""
        axes.set_xscale("log")
        axes.set_title(f"{phase}: median latency, 95 % as a line")
        labels: list[Label] = []
        gains: set[bool] = set()
        for line, row in _matched(rows, here):
            if row["hidden"] or number(row, "latency_s") is None:
                _excuse(axes, line, row)
            else:
                labels.append(_speed(axes, line, row, best=line.variant == best))
                gains.add(_gains(row))
        axes.set_xlabel(_FIGURES[frozenset(gains)], fontsize=7.5)
        _place(axes, labels)
        style.log_axis(axes.xaxis, units.round_seconds)
    style.legend(made, cells, [style.doubted()] if wording.doubted(cells).any() else [])
    return made, title


_FIGURES = {
    frozenset(): "",
    frozenset({False}): "in figures: the median",
    frozenset({True}): "in figures: times as fast as its own eager float32 (95 %)",
    frozenset({False, True}): "in figures: the median, or × its own eager float32 (95 %)",
}
"""What stands beside the marks of a panel: gains, times, or both."""


def _gains(row: wording.Row) -> bool:
    """Whether the figure beside a mark is what the variant gains, and not how long it takes."""
    return number(row, "speedup") is not None


def _excuse(axes: Axes, line: Line, row: wording.Row) -> None:
    """In place of a point, what was found, or why it was not measured."""
    said = wording.short(str(row["hidden"] or row["skipped"]), 42)
    axes.text(
        0.01, line.height, said, transform=axes.get_yaxis_transform(), va="center", fontsize=7, style="italic",
        color=style.RED if row["hidden"] else style.QUIET,
    )  # fmt: skip


def _speed(axes: Axes, line: Line, row: wording.Row, *, best: bool) -> Label:
    """One variant: its point with its interval; what it gains, or how long it takes, is for beside it."""
    time_s, low, high = (number(row, name) for name in ("latency_s", "latency_low_s", "latency_high_s"))
    assert time_s is not None
    style.point(axes, time_s, line.height, row, size=5)
    if low is not None and high is not None:
        # above the mark: below it most intervals would not be seen
        axes.plot([low, high], [line.height] * 2, color=style.INK, linewidth=0.9, zorder=4)
    said = wording.speedup(row)
    if not _gains(row):
        said = units.seconds(time_s)
    colour = {"faster": style.INK, "slower": style.RED}.get(str(row["verdict"]), style.QUIET)
    return Label(low or time_s, high or time_s, line.height, said, colour, "bold" if best else "normal")


def memory(cells: pd.DataFrame, skips: pd.DataFrame | None = None) -> Drawn | None:
    """How much memory does each variant need at its peak, and how much of it waits for the backward pass?

    Args:
        cells: of one workload and device.
        skips: what was not measured, and why; a row without a number says so.
    """
    shown = cells[(cells["hidden"] == "") & (cells["peak_memory_bytes"] > 0)]
    if shown.empty:
        return None
    title = _leanest(shown)
    rows = style.lines(cells, by="peak_memory_bytes")
    made, panels = _panels(cells, rows, title)
    for phase, axes in panels:
        axes.set_xscale("log", base=2)
        axes.set_title(f"{phase}: peak above what stood before")
        labels: list[Label] = []
        for line, row in _matched(rows, cells[cells["phase"] == phase]):
            peak, saved = number(row, "peak_memory_bytes"), number(row, "saved_for_backward_bytes")
            if row["hidden"] or not (peak or saved):
                _excuse(axes, line, {**row, "skipped": _why_no_memory(row, skips)})
                continue
            if saved:
                axes.plot([saved], [line.height], marker="|", color=style.INK, markersize=8, markeredgewidth=1.6)
            if peak:
                if saved:
                    axes.plot([saved, peak], [line.height] * 2, color=style.FAINT, linewidth=1.4, zorder=1)
                style.point(axes, peak, line.height, {**row, "trust": ()}, size=5)  # doubts are about times
                ends = (saved or peak, peak)
                about = peak if saved else None
                labels.append(Label(min(ends), max(ends), line.height, units.binary(peak), about=about))
        _place(axes, labels)
        style.log_axis(axes.xaxis, units.round_binary, base=2)
    kept = Line2D([], [], color=style.INK, marker="|", linestyle="", markersize=8, label="saved for backward")
    style.legend(made, cells, [kept] if cells["saved_for_backward_bytes"].notna().any() else [])
    return made, title


def _why_no_memory(row: wording.Row, skips: pd.DataFrame | None) -> str:
    """The reason on record: its own, or that of the task in which it stands beside others, where that was lost."""
    if skips is not None:
        own = skips["quantity"].isin(["peak_memory", ""])
        lost = (skips["quantity"] != "latency") & ~skips["cause"].isin(["impossible", "choice"])
        here = skips[own | lost]
        for name in ("variant", "workload", "phase", "device"):
            here = here[here[name] == row[name]]
        if len(here):
            return str(here["reason"].iloc[0])
    return str(row["skipped"]) or "not measured"


_ROOM_OF_WORDS = 0.24
"""Of the width of all marks, beyond the last of them."""


def _place(axes: Axes, labels: Sequence[Label]) -> None:
    """Words at the right of what stands in the left half, and at the left of the rest; so marks have all the width.

    Words about one end of two stand beside that end, wherever it is.
    """
    if not labels:
        return
    low, high = min(label.low for label in labels), max(label.high for label in labels)
    span = max(high / low, 4.0)
    room = dict.fromkeys(("left", "right"), 0.06)
    placed = []
    for label in labels:
        at_left = label.low * label.high > low**2 * span
        if label.about is not None and label.low < label.high:
            at_left = label.about == label.low
            room["left" if at_left else "right"] = _ROOM_OF_WORDS
        placed.append((label, at_left))
    axes.set_xlim(low * span ** -room["left"], low * span ** (1 + room["right"]))
    for label, at_left in placed:
        axes.annotate(
            label.said, (label.low if at_left else label.high, label.height), (-7 if at_left else 7, 0),
            textcoords="offset points", va="center", ha="right" if at_left else "left", color=label.colour,
            fontsize=7.5, fontweight=label.weight,
        )  # fmt: skip


def _panels(cells: pd.DataFrame, rows: Sequence[Line], title: str) -> tuple[Figure, list[tuple[str, Axes]]]:
    phases = [phase for phase in PHASES if (cells["phase"] == phase).any()]
    made = style.figure(title, style.rows_height_in(rows) + 1.5)
    axes = made.subplots(1, len(phases), sharey=True, squeeze=False)[0]
    style.name_rows(axes[0], rows)
    for panel in axes:
        panel.grid(visible=False, axis="y")
        for row in rows:
            panel.axhline(row.height, color="#f3f3f3", linewidth=0.8, zorder=0)
    return made, list(zip(phases, axes, strict=True))


def _matched(rows: Sequence[Line], cells: pd.DataFrame) -> list[tuple[Line, wording.Row]]:
    found = {str(row["variant"]): row for row in wording.rows(cells)}
    return [(line, found[line.variant]) for line in rows if line.variant in found]


def _where(cells: pd.DataFrame) -> str:
    first = cells.iloc[0]
    return f"{first['workload']}, {first['device']}"


def _leanest(cells: pd.DataFrame) -> str:
    """The least and the most that any row needs, phase by phase."""
    said = []
    for phase in PHASES:
        here = cells[cells["phase"] == phase]
        if here.empty:
            continue
        peaks = here["peak_memory_bytes"]
        least, most = (f"{_named(here[peaks == end])} {units.binary(float(end))}" for end in (peaks.min(), peaks.max()))
        said.append(f"{phase}: {least}" if peaks.min() == peaks.max() else f"{phase}: from {least} to {most}")
    return f"Peak memory, {'; '.join(said)} ({_where(cells)})"


def _named(cells: pd.DataFrame) -> str:
    names = list(map(str, cells["variant"]))
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
