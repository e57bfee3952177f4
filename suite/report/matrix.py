"""The masking audit in one plot: every variant by every property, equal rows in one."""

import re
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from suite.core.records import WORST_FIRST
from suite.report import style, summary

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


MOST_NAMED = 3
"""Variants by name that share a row of the plot; the others are counted, and a table names all."""


class Fold(NamedTuple):
    """Variants of which the same was said in everything."""

    names: tuple[str, ...]
    verdicts: tuple[str, ...]

    @property
    def rest(self) -> str:
        """What a narrow screen says of the properties that it does not list."""
        said = {"holds": "hold", "not applicable": "do not apply"}
        counts = [(self.verdicts.count(verdict), words) for verdict, words in said.items()]
        return ", ".join(f"{count} properties {words}" for count, words in counts if count)


def folded(found: pd.DataFrame) -> list[Fold]:
    """Rows with the same verdicts become one, the worst first; the order of the variants stays."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, *verdicts in found.itertuples(index=False):
        groups[tuple(map(str, verdicts))].append(str(name))
    folds = [Fold(tuple(names), verdicts) for verdicts, names in groups.items()]
    return sorted(folds, key=lambda fold: [-fold.verdicts.count(word) for word in ("broken", "known", "unclear")])


def verdicts(masking: pd.DataFrame) -> Drawn | None:
    """Which variant is masked correctly, and what is wrong with the others?"""
    titles = masking.attrs.get("titles", {})
    table = masking.set_index("variant")
    audited = table[[name for name in table.columns if PROPERTY.fullmatch(str(name))]]
    table = table[(audited != "").any(axis=1)]
    if table.empty:
        return None
    title = _summary(table)
    folds = folded(table.reset_index())
    names = [_named(fold) for fold in folds]
    edges = np.cumsum([0.0, *(1 + 0.75 * name.count("\n") for name in names)])
    middles = (edges[:-1] + edges[1:]) / 2
    made = style.figure(title, 0.185 * float(edges[-1]) + 2.2)
    axes = made.subplots()
    said = np.array([fold.verdicts for fold in folds], dtype=object)
    codes = np.vectorize(lambda verdict: WORST_FIRST.index(verdict) if verdict else np.nan, otypes=[float])(said)
    colours = ListedColormap([VERDICTS[verdict][0] for verdict in WORST_FIRST])
    axes.pcolormesh(
        np.arange(len(table.columns) + 1), edges, codes, cmap=colours,
        norm=BoundaryNorm(np.arange(-0.5, len(WORST_FIRST)), len(WORST_FIRST)), edgecolors="white", linewidth=1.0,
    )  # fmt: skip
    for verdict in WORST_FIRST:
        at_row, at_column = np.nonzero(said == verdict)
        _, glyph, ink = VERDICTS[verdict]
        # as markers: a text object for each of a thousand cells takes seconds
        axes.scatter(at_column + 0.5, middles[at_row], marker=_marker(glyph), s=26, color=ink, linewidths=0.4)
    axes.set_xticks(
        np.arange(len(table.columns)) + 0.5,
        [f"{name} {titles.get(name, '')}".strip() for name in table.columns],
        rotation=55, ha="left", rotation_mode="anchor",
    )  # fmt: skip
    axes.xaxis.tick_top()
    axes.set_yticks(middles, names)
    for label, fold in zip(axes.get_yticklabels(), folds, strict=True):
        bad = "broken" in fold.verdicts
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
        for verdict in WORST_FIRST
        if (table == verdict).any(axis=None)
    ]  # fmt: skip
    made.legend(handles=handles, loc="outside lower left", ncols=5, frameon=False, handletextpad=0.3)
    return made, title


def _named(fold: Fold) -> str:
    first = fold.names[:MOST_NAMED] if len(fold.names) > MOST_NAMED + 1 else fold.names
    more = len(fold.names) - len(first)
    return "\n".join([*first, *([f"and {more} more"] if more else [])])


def _marker(glyph: str) -> Path:
    """A glyph's outline, centred, and as large beside the others as in the font."""
    outline = TextPath((0, 0), glyph, size=1)
    extent = outline.get_extents()
    return outline.transformed(Affine2D().translate(-(extent.x0 + extent.x1) / 2, -(extent.y0 + extent.y1) / 2))


def _summary(table: pd.DataFrame) -> str:
    """How many rows have nothing against them, and what there is against the others, each counted once."""
    by_worst = summary.by_worst(table.reset_index())
    text = f"{len(by_worst.get('holds', ()))} of {len(table)} variants hold every property judged"
    broken = by_worst.get("broken", [])
    if broken:
        text += f"; broken: {', '.join(broken[:3])}" + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
    others = {"known": "with known defects", "unclear": "unclear", "not judged": "not judged in everything"}
    return text + "".join(f"; {len(by_worst[worst])} {words}" for worst, words in others.items() if worst in by_worst)
