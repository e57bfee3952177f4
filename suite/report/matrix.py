"""Plots of the masking audit: every variant by every property, and where a leak comes from and goes to."""

import re

import numpy as np
import pandas as pd
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from suite.core.records import Finding
from suite.report import style, summary, units
from suite.report.tables import SEVERITY

Drawn = tuple[Figure, str]
PROPERTY = re.compile(r"P\d+[a-z]?")
"""What the audit's properties are called; other examinations have words for names."""
VERDICTS = {
    # colour, glyph and its ink: legible in grey, and the eye goes to what is broken
    "broken": ("#a63603", "✗", "white"),
    "known": ("#fdae6b", "!", style.INK),
    "unclear": ("#cfcfcf", "?", style.INK),
    "not judged": ("#f0f0f0", "·", "#6a6a6a"),
    "holds": ("#e3f1fa", "✓", "#0173b2"),
    "not applicable": ("#ffffff", "–", "#9a9a9a"),
}


def verdicts(masking: pd.DataFrame) -> Drawn | None:
    """Which variant is masked correctly, and what is wrong with the others?"""
    titles = masking.attrs.get("titles", {})
    table = masking.set_index("variant")
    audited = table[[name for name in table.columns if PROPERTY.fullmatch(str(name))]]
    table = table[(audited != "").any(axis=1)]
    if table.empty:
        return None
    title = _summary(table)
    made = style.figure(title, 0.185 * len(table) + 2.2)
    axes = made.subplots()
    codes = table.map(lambda verdict: SEVERITY.index(verdict) if verdict else np.nan).to_numpy(dtype=float)
    colours = ListedColormap([VERDICTS[verdict][0] for verdict in SEVERITY])
    axes.pcolormesh(
        codes, cmap=colours, norm=BoundaryNorm(np.arange(-0.5, len(SEVERITY)), len(SEVERITY)),
        edgecolors="white", linewidth=1.0,
    )  # fmt: skip
    for verdict in SEVERITY:
        at_row, at_column = np.nonzero(table.to_numpy() == verdict)
        _, glyph, ink = VERDICTS[verdict]
        # as markers: a text object for each of a thousand cells takes seconds
        axes.scatter(at_column + 0.5, at_row + 0.5, marker=_marker(glyph), s=26, color=ink, linewidths=0.4)
    axes.set_xticks(
        np.arange(len(table.columns)) + 0.5,
        [f"{name} {titles.get(name, '')}".strip() for name in table.columns],
        rotation=55, ha="left", rotation_mode="anchor",
    )  # fmt: skip
    axes.xaxis.tick_top()
    axes.set_yticks(np.arange(len(table)) + 0.5, table.index)
    for label, bad in zip(axes.get_yticklabels(), (table == "broken").any(axis=1), strict=True):
        label.set_color("#a63603" if bad else style.INK)
        label.set_fontweight("bold" if bad else "normal")
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    handles = [
        Line2D([], [], color=VERDICTS[verdict][0], marker="s", markersize=9, markeredgecolor="#bbbbbb", linestyle="",
               label=f"{VERDICTS[verdict][1]} {verdict if verdict != 'known' else 'known defect'}")
        for verdict in SEVERITY
        if (table == verdict).any(axis=None)
    ]  # fmt: skip
    made.legend(handles=handles, loc="outside lower left", ncols=5, frameon=False, handletextpad=0.3)
    return made, title


def _marker(glyph: str) -> Path:
    """A glyph's outline, centred, and as large beside the others as in the font."""
    outline = TextPath((0, 0), glyph, size=1)
    extent = outline.get_extents()
    return outline.transformed(Affine2D().translate(-(extent.x0 + extent.x1) / 2, -(extent.y0 + extent.y1) / 2))


def _summary(table: pd.DataFrame) -> str:
    """How many rows have nothing against them, and what there is against the others, each counted once."""
    by_worst = summary.by_worst(table.reset_index())
    text = f"{len(by_worst.get('holds', ()))} of {len(table)} variants hold every property"
    broken = by_worst.get("broken", [])
    if broken:
        text += f"; broken: {', '.join(broken[:3])}" + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
    others = {"known": "with known defects", "unclear": "unclear", "not judged": "not judged in everything"}
    return text + "".join(f"; {len(by_worst[worst])} {words}" for worst, words in others.items() if worst in by_worst)


def leak(finding: Finding) -> Drawn | None:
    """Which padded slot moves which position of the output?"""
    values = finding.details.get("leak")
    if not isinstance(values, list | tuple) or not values:
        return None
    moved = np.array(values, dtype=float)
    if not np.isfinite(moved).any():
        return None
    slots = str(finding.details.get("padding", "slots"))
    slot = str(finding.details.get("pad", slots.removesuffix("s")))
    output = finding.details.get("output", "output")
    row, column = np.unravel_index(np.nanargmax(moved), moved.shape)
    rows, columns = (
        _labels(finding, name, length) for name, length in zip(("slots", "positions"), moved.shape, strict=True)
    )
    title = (
        f"{finding.variant} leaks ({finding.quantity}): padded {slot} {rows[row]} moves {output} "
        f"at {columns[column]} by {units.digits(float(moved[row, column]))}"
    )
    made = style.figure(title, min(0.28 * moved.shape[0], 6.0) + 1.6)
    axes = made.subplots()
    mesh = axes.pcolormesh(moved, cmap="cividis", vmin=0)
    place = "slot of" if str(output).endswith("_weights") else "channel of attended"
    axes.set(xlabel=f"{place} {output}", ylabel=f"padded {slots}")
    for axis, names in ((axes.xaxis, columns), (axes.yaxis, rows)):
        picked = [
            int(at) for at in MaxNLocator(24, integer=True).tick_values(0, len(names) - 1) if 0 <= at < len(names)
        ]
        axis.set_ticks([at + 0.5 for at in picked], [names[at] for at in picked])
    axes.invert_yaxis()
    axes.grid(visible=False)
    made.colorbar(mesh, ax=axes, label="moved by, relative", pad=0.01)
    return made, title


def _labels(finding: Finding, name: str, length: int) -> list[str]:
    given = finding.details.get(name)
    return [str(value) for value in given] if isinstance(given, list | tuple) else [str(at) for at in range(length)]
