"""Plots of an ablation, from its records alone."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from suite.core import folders
from suite.report import attention, style
from suite.report.accuracies import WAYS, Accuracies, Interval, Trained, Verdict, between, change, interval, verdict

MOST_UNMOVED = 12
"""Rows up to which those that lose nothing are drawn beside those that do."""
LEAST_REACH = 20.0
"""Points of change that are as dark as can be, where none is larger: small ones should look small."""
_VERDICTS: dict[Verdict, tuple[str, str, bool]] = {
    # colour, mark, and whether it is filled
    "helps": (style.BLUE, "^", True),
    "hurts": (style.ORANGE, "v", True),
    "no difference seen": (style.QUIET, "s", True),
    "unclear": (style.QUIET, "o", False),
}
_DIVERGING = LinearSegmentedColormap.from_list("worse to better", (style.ORANGE, "white", style.BLUE))
Pair = tuple[Trained, Trained]
"""A row, and the one that it is compared with."""


def write(accuracies: Accuracies, folder: Path) -> dict[str, list[str]]:
    """Draw every plot that the records allow.

    Returns:
        Paths relative to the folder, by study, and by ``attention``.
    """
    folders.made(folder, "plots")
    paths: dict[str, list[str]] = defaultdict(list)
    with style.applied():
        for study in accuracies.rows:
            if accuracies.trained(study):
                paths[study].append(_save(accuracy(accuracies, study), folder, f"accuracy-{study}"))
            if any(_change(accuracies, pair).seeds > 1 for pair in _pairs(accuracies, study)):
                paths[study].append(_save(changes(accuracies, study), folder, f"changes-{study}"))
            if any(accuracies.change_on_longer(study, row.label).seeds for row in accuracies.trained(study)):
                paths[study].append(_save(longer(accuracies, study), folder, f"longer-{study}"))
            if _leaks(accuracies, study):
                paths[study].append(_save(costs(accuracies, study), folder, f"padding-{study}"))
        for family, drawn in attention.drawings(accuracies, folder).items():
            paths["attention"].append(_save(attention.figure(family, drawn), folder, f"attention-{family}"))
    return paths


def accuracy(accuracies: Accuracies, study: str) -> Figure:
    """Each row's accuracy with its interval and seeds, and beside it each family."""
    every = accuracies.trained(study)
    rows = _in_bands(accuracies, _moved(accuracies, every))
    title = _highest({row.label: accuracies.of(study, row.label) for row in rows})
    figure = style.figure(f"{study}: {title}", 1.5 + 0.3 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for place, row in enumerate(rows):
        _point(left, accuracies.of(study, row.label), place, _look(accuracies, row))
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
    left_out = len(every) - len(rows)
    others = f";\n{left_out} rows as accurate with every seed as what they are beside are left out" if left_out else ""
    left.set_xlabel(f"accuracy in %, mean, 95 % interval and each seed{others}")
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
        said = "" if math.isnan(share) else f"{share:.0f}"
        right.text(column, place, said, ha="center", va="center", color=colour, fontsize=8)
    right.set_xticks(range(len(accuracies.families)), accuracies.families, rotation=30, ha="right")
    right.set_title("by family of questions, %")
    right.tick_params(labelleft=False)
    _what_colours_say(figure, accuracies, rows)
    return figure


def _moved(accuracies: Accuracies, rows: Sequence[Trained]) -> list[Trained]:
    """Of many rows those that differ with some seed from what they are beside, and those that others are beside."""
    if len(rows) <= MOST_UNMOVED:
        return list(rows)
    known = {row.label: row for row in rows}
    beside = {row.parent for row in rows}
    return [
        row for row in rows
        if row.label in beside or row.parent not in known or any(_by_seed(accuracies, (row, known[row.parent])))
    ]  # fmt: skip


def _in_bands(accuracies: Accuracies, rows: Sequence[Trained]) -> list[Trained]:
    """Mechanisms and then controls, each with the highest mean first."""

    def mean(row: Trained) -> float:
        return _finite(interval(accuracies.of(row.study, row.label).values()).mean)

    return sorted(rows, key=lambda row: (row.is_control, -mean(row)))


def _what_colours_say(figure: Figure, accuracies: Accuracies, rows: Sequence[Trained]) -> None:
    """A legend, where more than one colour is there."""
    looks = dict.fromkeys(_look(accuracies, row) for row in rows)
    if len(looks) > 1:
        handles = [Line2D([], [], color=colour, marker=mark, linestyle="", label=said) for colour, mark, said in looks]
        figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, handletextpad=0.2)


def _look(accuracies: Accuracies, row: Trained) -> tuple[str, str, str]:
    """A row's colour and mark, and what they say."""
    if row.is_control:
        return style.QUIET, "s", "control"
    if any(interval(accuracies.cost(row.study, row.label, way).values()).low > 0 for way in WAYS):
        return style.ORANGE, "D", "loses points where only padding or the batch changes"
    return style.BLUE, "o", "mechanism"


def _highest(by_row: Mapping[str, Mapping[int, float]]) -> str:
    """Who has the highest mean of all that are drawn, and whom its seeds do not tell from it."""
    means = {label: interval(by_seed.values()).mean for label, by_seed in by_row.items() if by_seed}
    if not means:
        return "nothing was measured"
    best = max(means, key=means.__getitem__)
    reached = interval(by_row[best].values())
    title = f"{best} has the highest mean, {100 * reached.mean:.1f} % {between(reached)}"
    title += f" of {reached.seeds} seeds" if reached.seeds > 1 else ""
    level = [
        label for label in means
        if label != best and verdict(change(by_row[best], by_row[label])) != "helps"
    ]  # fmt: skip
    if level:
        title += f"; not told from {level[0]}" + (f" and {len(level) - 1} more" if len(level) > 1 else "")
    return title


def changes(accuracies: Accuracies, study: str) -> Figure:
    """What sets each row apart from the one that it is compared with: over all questions, and by family."""
    compared = _pairs(accuracies, study)
    pairs = [pair for pair in compared if len(compared) <= MOST_UNMOVED or any(_by_seed(accuracies, pair))] or compared
    lines: list[Trained | Pair] = []
    for parent in dict.fromkeys(parent for _, parent in pairs):
        lines += [parent, *(pair for pair in pairs if pair[1] == parent)]
    figure = style.figure(f"{study}: {_surest(accuracies, pairs)}", 1.8 + 0.27 * len(lines))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    shares = np.full((len(lines), len(accuracies.families)), math.nan)
    for place, line in enumerate(lines):
        if isinstance(line, tuple):
            _changed(left, accuracies, line, place)
            shares[place] = [100 * _change(accuracies, line, family).mean for family in accuracies.families]
    left.axvline(0, color=style.INK, linewidth=1)
    left.set_yticks(range(len(lines)), [_beside(line) for line in lines])
    for label, line in zip(left.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if isinstance(line, Trained) else "normal")
    left.set_ylim(len(lines) - 0.4, -0.6)
    left.yaxis.grid(visible=False)
    left.set_xlabel("points of accuracy, paired by seed; 95 % interval")
    left.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    reach = np.nanmax(np.abs(shares), initial=LEAST_REACH)
    right.imshow(shares, cmap=_DIVERGING, vmin=-reach, vmax=reach, aspect="auto")
    right.grid(visible=False)
    for (place, column), share in np.ndenumerate(shares):
        line = lines[place]
        if isinstance(line, tuple) and not math.isnan(share):
            told = _is_told(_change(accuracies, line, accuracies.families[column]))
            right.text(
                column, place, f"{share:+.0f}" if round(share) else "0", ha="center", va="center", fontsize=8,
                color="white" if share > 0.65 * reach else style.INK if told else style.QUIET,
                fontweight="bold" if told else "normal",
            )  # fmt: skip
    right.set_xticks(range(len(accuracies.families)), accuracies.families, rotation=30, ha="right")
    right.set_title("by family; bold: told from zero")
    right.tick_params(labelleft=False)
    left_out = len(compared) - len(pairs)
    figure.legend(
        handles=_verdict_marks(), loc="outside lower left", ncols=4, frameon=False, handletextpad=0.2,
        title=f"{left_out} rows that change nothing with any seed are left out" if left_out else None,
    )  # fmt: skip
    return figure


def costs(accuracies: Accuracies, study: str) -> Figure:
    """What each row loses where padding or batch change in ways that must change nothing."""
    trained = [row for row in accuracies.trained(study) if not row.is_control]
    rows = [row for row in trained if len(trained) <= MOST_UNMOVED or _is_moved(accuracies, row)]
    rows.sort(key=lambda row: -max(_finite(_lost(accuracies, row, way).mean) for way in WAYS))

    def sure_loss(pair: tuple[Trained, str]) -> tuple[float, float]:
        lost = interval(accuracies.cost(study, pair[0].label, pair[1]).values())
        return _finite(lost.low), _finite(lost.mean)

    ways = accuracies.ways(study)
    worst, way = max(((row, way) for row in rows for way in ways), key=sure_loss)
    lost = interval(accuracies.cost(study, worst.label, way).values())
    title = f"{worst.label} loses {100 * lost.mean:.1f} points {between(lost)} with {WAYS[way]}"
    if not lost.low > 0:
        title = "no loss to changed padding is told from zero"
    figure = style.figure(f"{study}: {title}", 1.5 + 0.34 * len(rows))
    axes = figure.subplots(1, len(ways), sharey=True, sharex=True, squeeze=False)[0]
    for axis, (key, name) in zip(axes, ways.items(), strict=True):
        for place, row in enumerate(rows):
            found = accuracies.cost(study, row.label, key)
            if found:
                _point(axis, found, place, _look(accuracies, row))
        axis.axvline(0, color=style.INK, linewidth=1)
        axis.set_title(name)
        axis.yaxis.grid(visible=False)
        axis.set_ylim(len(rows) - 0.4, -0.6)
    axes[0].set_yticks(range(len(rows)), [row.label for row in rows])
    others = f"; {len(trained) - len(rows)} rows that lose nothing are left out" if len(rows) < len(trained) else ""
    axes[len(ways) // 2].set_xlabel(f"points of accuracy lost; a correct mask loses none{others}")
    _what_colours_say(figure, accuracies, rows)
    return figure


def longer(accuracies: Accuracies, study: str) -> Figure:
    """Each row on sets as long as in training, hollow, and on longer ones, filled."""
    rows = [row for row in accuracies.trained(study) if not row.is_blindfolded]
    rows = _in_bands(accuracies, rows)
    found = {row.label: accuracies.of(study, row.label, evaluation="longer") for row in rows}
    title = f"on longer sets, {_highest(found)}"
    figure = style.figure(f"{study}: {title}", 1.5 + 0.34 * len(rows))
    axis = figure.subplots()
    for place, row in enumerate(rows):
        before = interval(accuracies.of(study, row.label).values()).mean
        after = interval(found[row.label].values()).mean
        axis.plot([100 * before, 100 * after], [place, place], color=style.FAINT, linewidth=1, zorder=1)
        axis.plot(100 * before, place, "o", color=style.QUIET, markerfacecolor="white", markersize=6, zorder=2)
        _point(axis, found[row.label], place, _look(accuracies, row))
    _within_shares(axis)
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.yaxis.grid(visible=False)
    axis.set_xlabel(
        "accuracy in %; hollow: on sets as long as in training; filled, with 95 % interval and seeds: longer"
    )
    _what_colours_say(figure, accuracies, rows)
    return figure


def _lost(accuracies: Accuracies, row: Trained, way: str) -> Interval:
    return interval(accuracies.cost(row.study, row.label, way).values())


def _point(axis: Axes, by_seed: Mapping[int, float], place: int, look: tuple[str, str, str]) -> None:
    """An interval with its mean, and the seeds behind it."""
    here = interval(by_seed.values())
    colour, mark, _ = look
    axis.plot(100 * here.mean, place, mark, color=colour, markersize=5.5, zorder=3)
    if math.isfinite(here.low):
        # over the mark, which may be wider than it
        ends = [100 * here.low, 100 * here.high]
        axis.plot(ends, [place, place], color=style.INK, linewidth=1.2, solid_capstyle="butt", zorder=4)
    values = [100 * value for value in by_seed.values()]
    axis.plot(values, [place + 0.22] * len(values), "|", color=colour, markersize=5, alpha=0.7)


def _pairs(accuracies: Accuracies, study: str) -> list[Pair]:
    """Rows beside those that they are compared with; what a blindfold costs is no finding about a mechanism."""
    rows = {row.label: row for row in accuracies.trained(study)}
    return [(row, rows[row.parent]) for row in rows.values() if row.parent in rows and not row.is_blindfolded]


def _change(accuracies: Accuracies, pair: Pair, family: str = "all") -> Interval:
    row, parent = (accuracies.of(each.study, each.label, family=family) for each in pair)
    return change(row, parent)


def _by_seed(accuracies: Accuracies, pair: Pair) -> list[float]:
    row, parent = (accuracies.of(each.study, each.label) for each in pair)
    return [row[seed] - parent[seed] for seed in row if seed in parent]


def _is_told(change: Interval) -> bool:
    """Whether a change is told from zero."""
    return verdict(change) in ("helps", "hurts")


def _surest(accuracies: Accuracies, pairs: Sequence[Pair]) -> str:
    """The change whose interval stays furthest from zero; among mechanisms before those beside mean pooling."""
    told = [pair for pair in pairs if _is_told(_change(accuracies, pair))]
    told = [pair for pair in told if not pair[1].is_control] or told
    if not told:
        return "these seeds tell no row from the one that it is compared with"

    def least(pair: Pair) -> float:
        found = _change(accuracies, pair)
        return min(abs(found.low), abs(found.high))

    row, parent = max(told, key=least)
    found = _change(accuracies, (row, parent))
    side = "above" if found.mean > 0 else "below"
    return f"{row.label} ends {100 * abs(found.mean):.1f} points {side} {parent.label} {between(found)}"


def _changed(axis: Axes, accuracies: Accuracies, pair: Pair, place: int) -> None:
    """A paired change with its interval, its verdict, and the seeds behind it."""
    here = _change(accuracies, pair)
    colour, mark, filled = _VERDICTS[verdict(here)]
    if math.isfinite(here.low):
        axis.plot([100 * here.low, 100 * here.high], [place, place], color=colour, linewidth=2.2, solid_capstyle="butt")
    axis.plot(
        100 * here.mean,
        place,
        mark,
        color=colour,
        markerfacecolor=colour if filled else "white",
        markersize=6,
        zorder=3,
    )
    values = [100 * value for value in _by_seed(accuracies, pair)]
    axis.plot(values, [place + 0.25] * len(values), "|", color=colour, markersize=5, alpha=0.7)


def _verdict_marks() -> list[Line2D]:
    """The legend's entries."""
    return [
        Line2D(
            [], [], linestyle="", marker=mark, color=colour, markerfacecolor=colour if filled else "white", label=name
        )
        for name, (colour, mark, filled) in _VERDICTS.items()
    ]


def _beside(line: Trained | Pair) -> str:
    """A parent's headline, or a row below it."""
    return f"beside {line.label}:" if isinstance(line, Trained) else line[0].label


def _within_shares(axis: Axes) -> None:
    """No room for what an interval over few seeds holds below nothing or above everything."""
    low, high = axis.get_xlim()
    axis.set_xlim(max(low, 0.0), min(high, 100.0))


def _leaks(accuracies: Accuracies, study: str) -> bool:
    """Whether changed padding changes anything for anybody."""
    return any(_is_moved(accuracies, row) for row in accuracies.trained(study) if not row.is_control)


def _is_moved(accuracies: Accuracies, row: Trained) -> bool:
    return any(abs(lost) > 1e-9 for way in WAYS for lost in accuracies.cost(row.study, row.label, way).values())


def _finite(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def _save(figure: Figure, folder: Path, name: str) -> str:
    path = folders.target(folder, f"plots/{folders.file_name(name)}.png")
    figure.savefig(path, dpi=style.DOTS_PER_INCH)
    return path.relative_to(folder).as_posix()
