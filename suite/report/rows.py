"""Plots with a row per variant: how long it takes, and what it holds in memory."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from suite.report import style, units, wording
from suite.report.style import Line
from suite.report.wording import number
from suite.workloads import PHASES

Drawn = tuple[Figure, str]


def latency(cells: pd.DataFrame) -> Drawn | None:
    """Which variant is the fastest on one workload and device, and what each transform buys its mechanism?"""
    if not cells["latency_s"].notna().any():
        return None
    title = f"{_fastest(cells)} on {_where(cells)}"
    rows = style.lines(cells)
    made, panels = _panels(cells, rows, title)
    for phase, axes in panels:
        here = cells[cells["phase"] == phase]
        best = _best(here)
        shown = wording.trusted(here)["latency_s"]
        axes.set_xscale("log")
        axes.set_title(phase)
        axes.set_xlabel("median latency, 95 % interval")
        axes.text(1.01, 1.004, "over its eager float32", transform=axes.transAxes, color=style.QUIET, fontsize=7.5)
        lowest = shown.min() if not shown.empty else 1.0
        for line, row in _matched(rows, here):
            _speed(axes, line, row, best=line.variant == best, start=lowest)
        style.log_axis(axes.xaxis, units.round_seconds)
    style.legend(made, cells["variant"], [style.doubted()] if (cells["trust"] != "").any() else [])
    return made, title


def _speed(axes: Axes, line: Line, row: wording.Row, *, best: bool, start: float) -> None:
    """One variant: its point and its speed-up, or in their place what was found, or why it was not measured."""
    if row["hidden"] or number(row, "latency_s") is None:
        said = wording.short(str(row["hidden"] or row["skipped"]), 42)
        colour = style.RED if row["hidden"] else style.QUIET
        if said:
            axes.text(start, line.height, f" {said}", va="center", color=colour, fontsize=7, style="italic")
        return
    time_s, low, high = (number(row, name) for name in ("latency_s", "latency_low_s", "latency_high_s"))
    assert time_s is not None
    if low is not None and high is not None:
        axes.plot([low, high], [line.height] * 2, color=style.QUIET, linewidth=1.1, zorder=2)
    style.point(axes, time_s, line.height, row)
    said = wording.speedup(row)
    if number(row, "speedup") is None:
        said = units.seconds(time_s)
    verdict = row["verdict"]
    colour = {"faster": style.INK, "slower": style.RED}.get(str(verdict), style.QUIET)
    axes.text(
        1.01, line.height, said, transform=axes.get_yaxis_transform(), va="center", color=colour, fontsize=7.5,
        fontweight="bold" if best else "normal",
    )  # fmt: skip


def memory(cells: pd.DataFrame) -> Drawn | None:
    """How much memory does each variant need at its peak, and how much of it waits for the backward pass?"""
    if not cells["peak_memory_bytes"].notna().any():
        return None
    title = f"{_leanest(cells)} on {_where(cells)}"
    rows = style.lines(cells)
    made, panels = _panels(cells, rows, title)
    for phase, axes in panels:
        here = cells[cells["phase"] == phase]
        axes.set_xscale("log", base=2)
        axes.set_title(phase)
        axes.set_xlabel("bytes")
        for line, row in _matched(rows, here):
            peak, saved = number(row, "peak_memory_bytes"), number(row, "saved_for_backward_bytes")
            if saved:
                axes.plot([saved], [line.height], marker="|", color=style.INK, markersize=8, markeredgewidth=1.6)
            if peak:
                if saved:
                    axes.plot([saved, peak], [line.height] * 2, color=style.FAINT, linewidth=1.4, zorder=1)
                style.point(axes, peak, line.height, {**row, "trust": ""})  # doubts are about times
                axes.text(
                    1.01, line.height, units.binary(peak), transform=axes.get_yaxis_transform(), va="center",
                    fontsize=7.5,
                )  # fmt: skip
        style.log_axis(axes.xaxis, units.round_binary, base=2)
    kept = Line2D([], [], color=style.INK, marker="|", linestyle="", markersize=8, label="saved for backward")
    style.legend(made, cells["variant"], [kept] if cells["saved_for_backward_bytes"].notna().any() else [])
    return made, title


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


def _best(cells: pd.DataFrame) -> str:
    ours = wording.contenders(cells)
    return str(ours.iloc[0]["variant"]) if not ours.empty else ""


def _fastest(cells: pd.DataFrame) -> str:
    """Such as ``parallel+bf16 is the fastest forward (×2.6 over parallel)``, once per phase."""
    said = []
    for phase, here in cells.groupby("phase", sort=False):
        ours = wording.contenders(here)
        if not ours.empty:
            (best,) = wording.rows(ours.head(1))
            gain, verdict = number(best, "over_anchor"), best["over_anchor_verdict"]
            doubt = "" if verdict in ("faster", "slower") else f", {verdict}"
            said.append(
                f"{best['variant']} {phase}" + (f" ({units.factor(gain)} over parallel{doubt})" if gain else "")
            )
    return f"Fastest: {', '.join(said)}," if said else "No speed may be shown"


def _leanest(cells: pd.DataFrame) -> str:
    last = cells[cells["phase"] == cells["phase"].iloc[-1]]
    ours = last[~last["mechanism"].isin(wording.CONTROLS)].dropna(subset="peak_memory_bytes")
    ours = ours.sort_values("peak_memory_bytes")
    if ours.empty:
        return "Peak memory"
    least, most = ours.iloc[0], ours.iloc[-1]
    times = float(most["peak_memory_bytes"]) / float(least["peak_memory_bytes"])
    return (
        f"{last['phase'].iloc[0]}: {least['variant']} needs {units.binary(float(least['peak_memory_bytes']))}, "
        f"{most['variant']} {times:.0f} times as much,"
        if np.isfinite(times)
        else "Peak memory"
    )
