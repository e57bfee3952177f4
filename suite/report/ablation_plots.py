"""Plots of an ablation, from its records alone."""

import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.report import attention, style
from suite.report.ablation import WAYS, Accuracies, Row, between, interval

MOST_UNMOVED = 12
"""Rows up to which those that lose nothing are drawn beside those that do."""


def write(accuracies: Accuracies, folder: Path) -> dict[str, list[str]]:
    """Draw every plot that the records allow.

    Returns:
        Paths relative to the folder, by study, and by ``attention``.
    """
    (folder / "plots").mkdir(exist_ok=True)
    paths: dict[str, list[str]] = defaultdict(list)
    with style.applied():
        for study in accuracies.rows:
            if accuracies.trained(study):
                paths[study].append(_save(accuracy(accuracies, study), folder, f"accuracy-{study}"))
            if any(accuracies.change_on_longer(study, row.label).seeds for row in accuracies.trained(study)):
                paths[study].append(_save(longer(accuracies, study), folder, f"longer-{study}"))
            if _leaks(accuracies, study):
                paths[study].append(_save(costs(accuracies, study), folder, f"padding-{study}"))
        for family, drawn in attention.drawings(accuracies, folder).items():
            paths["attention"].append(_save(attention.figure(family, drawn), folder, f"attention-{family}"))
    return paths


def accuracy(accuracies: Accuracies, study: str) -> Figure:
    """Each row's accuracy with its interval and seeds, and beside it each family."""
    rows = accuracies.trained(study)
    seeing = [row for row in rows if not row.is_blindfolded] or rows
    best = max(seeing, key=lambda row: interval(accuracies.of(study, row.label).values()).mean)
    reached = interval(accuracies.of(study, best.label).values())
    title = f"{best.label} has the highest mean, {100 * reached.mean:.1f} % {between(reached)} of {reached.seeds} seeds"
    figure = style.figure(f"{study}: {title}", 1.5 + 0.3 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, row in enumerate(rows):
        _point(left, accuracies.of(study, row.label), place, row)
    data = rows[0].data
    for what, name in (("question only", "question alone\n(best possible)"), ("image only", "image alone\n(bound)")):
        ceiling = accuracies.ceilings.get((data, what), {}).get("all")
        if ceiling is not None:
            left.axvline(100 * ceiling, color=style.QUIET, linestyle=":" if what == "image only" else "--", linewidth=1)
            # on either side of their lines, which stand close
            side, shift = ("right", -3) if what == "question only" else ("left", 3)
            left.annotate(
                name, (100 * ceiling, len(rows) + 0.25), (shift, 0), textcoords="offset points", fontsize=6.5,
                color=style.QUIET, va="bottom", ha=side,
            )  # fmt: skip
    _within_shares(left)
    left.set_yticks(range(len(rows)), [row.label for row in rows])
    left.set_ylim(len(rows) + 0.3, -0.6)
    left.set_xlabel("accuracy in %, mean, 95 % interval and each seed")
    left.xaxis.grid(visible=True)
    left.yaxis.grid(visible=False)
    shares = np.array(
        [
            [
                100 * interval(accuracies.of(study, row.label, family=family).values()).mean
                for family in accuracies.families
            ]
            for row in rows
        ]
    )
    right.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    right.grid(visible=False)
    for (place, column), share in np.ndenumerate(shares):
        colour = "white" if share > 65 else style.INK
        right.text(column, place, f"{share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    right.set_xticks(range(len(accuracies.families)), accuracies.families, rotation=30, ha="right")
    right.set_title("by family of questions, %")
    right.tick_params(labelleft=False)
    return figure


def costs(accuracies: Accuracies, study: str) -> Figure:
    """What each row loses where padding or batch change in ways that must change nothing."""
    trained = [row for row in accuracies.trained(study) if not row.is_control]
    rows = [row for row in trained if len(trained) <= MOST_UNMOVED or _is_moved(accuracies, row)]

    def sure_loss(pair: tuple[Row, str]) -> tuple[float, float]:
        lost = interval(accuracies.cost(study, pair[0].label, pair[1]).values())
        return _finite(lost.low), _finite(lost.mean)

    worst, way = max(((row, way) for row in rows for way in WAYS), key=sure_loss)
    lost = interval(accuracies.cost(study, worst.label, way).values())
    title = f"{worst.label} loses {100 * lost.mean:.1f} points {between(lost)} with {WAYS[way]}"
    figure = style.figure(f"{study}: {title}", 1.3 + 0.34 * len(rows))
    axes = figure.subplots(1, len(WAYS), sharey=True, sharex=True)
    for axis, (key, name) in zip(axes, WAYS.items(), strict=True):
        for place, row in enumerate(rows):
            found = accuracies.cost(study, row.label, key)
            if found:
                _point(axis, found, place, row)
        axis.axvline(0, color=style.INK, linewidth=1)
        axis.set_title(name)
        axis.yaxis.grid(visible=False)
        axis.set_ylim(len(rows) - 0.4, -0.6)
    axes[0].set_yticks(range(len(rows)), [row.label for row in rows])
    others = f"; {len(trained) - len(rows)} rows that lose nothing are left out" if len(rows) < len(trained) else ""
    axes[1].set_xlabel(f"points of accuracy lost; a correct mask loses none{others}")
    return figure


def longer(accuracies: Accuracies, study: str) -> Figure:
    """Each row on sets as long as in training, hollow, and on longer ones, filled."""
    rows = [row for row in accuracies.trained(study) if not row.is_blindfolded]
    found = {row.label: accuracies.of(study, row.label, evaluation="longer") for row in rows}
    best = max(rows, key=lambda row: _finite(interval(found[row.label].values()).mean))
    short, reached = (interval(by_seed.values()) for by_seed in (accuracies.of(study, best.label), found[best.label]))
    means = f"{100 * reached.mean:.1f} % after {100 * short.mean:.1f} %"
    title = f"{best.label} has the highest mean on longer sets, {means}"
    figure = style.figure(f"{study}: {title}", 1.3 + 0.34 * len(rows))
    axis = figure.subplots()
    for place, row in enumerate(rows):
        before = interval(accuracies.of(study, row.label).values()).mean
        after = interval(found[row.label].values()).mean
        axis.plot([100 * before, 100 * after], [place, place], color=style.FAINT, linewidth=1, zorder=1)
        axis.plot(100 * before, place, "o", color=style.QUIET, markerfacecolor="white", markersize=6, zorder=2)
        _point(axis, found[row.label], place, row)
    _within_shares(axis)
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.yaxis.grid(visible=False)
    axis.set_xlabel(
        "accuracy in %; hollow: on sets as long as in training; filled, with 95 % interval and seeds: longer"
    )
    return figure


def _point(axis: Axes, by_seed: Mapping[int, float], place: int, row: Row) -> None:
    """An interval with its mean, and the seeds behind it."""
    here = interval(by_seed.values())
    colour = style.QUIET if row.is_control else style.ORANGE if "leaky" in row.variant else style.BLUE
    if math.isfinite(here.low):
        axis.plot([100 * here.low, 100 * here.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
    axis.plot(100 * here.mean, place, "s" if row.is_control else "o", color=colour, markersize=6, zorder=3)
    values = [100 * value for value in by_seed.values()]
    axis.plot(values, [place + 0.22] * len(values), "|", color=colour, markersize=5, alpha=0.7)


def _within_shares(axis: Axes) -> None:
    """No room for what an interval over few seeds holds below nothing or above everything."""
    low, high = axis.get_xlim()
    axis.set_xlim(max(low, 0.0), min(high, 100.0))


def _leaks(accuracies: Accuracies, study: str) -> bool:
    """Whether changed padding changes anything for anybody."""
    return any(_is_moved(accuracies, row) for row in accuracies.trained(study) if not row.is_control)


def _is_moved(accuracies: Accuracies, row: Row) -> bool:
    return any(abs(lost) > 1e-9 for way in WAYS for lost in accuracies.cost(row.study, row.label, way).values())


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _save(figure: Figure, folder: Path, name: str) -> str:
    path = folder / "plots" / f"{name}.png"
    figure.savefig(path, dpi=style.DOTS_PER_INCH)
    return path.relative_to(folder).as_posix()
