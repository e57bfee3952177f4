"""What two runs say together, as a table in the terminal, and as a page with a plot."""

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.console import Console, RenderableType

from suite.core import folders, interrupts
from suite.core.compare import CellKey, Change, Remeasuring, RunComparison
from suite.core.records import ANCHOR
from suite.report import escape, units, wording
from suite.report.bar import progress_bar
from suite.report.columns import Column, Columns, literal

FILE = "COMPARISON.md"
MOST_LINES = 60
"""Lines that a plot can show so that they can still be read; the largest changes come first."""
_COLOURS = {"slower": "#b2182b", "faster": "#2166ac", "same": "#4d4d4d", "unclear": "#b0b0b0"}
_MOST_NAMED = 6
_COUNTED = {"slower": "more", "faster": "less"}
"""A memory is not slow."""


def words(comparison: RunComparison) -> list[RenderableType]:
    """What changed, for a terminal; what stayed the same is counted."""
    changed = [change for change in by_size(comparison.changes) if change.standing or change.ratio.verdict != "same"]
    if not changed:
        return [literal(sentence) for sentence in sentences(comparison)]
    # what all have in common stands above the table, where it takes no column
    varying = [name for name in CellKey._fields[1:] if len({getattr(change.cell, name) for change in changed}) > 1]
    common = [text for name, text in changed[0].cell._asdict().items() if name not in ("variant", *varying) and text]
    columns = [
        Column(title="variant"),
        *(Column(title=name) for name in varying),
        Column(title="quantity"),
        *(Column(title=title, number=True) for title in ("old", "new")),
        Column(title="new / old (95 %)", number=True, of_last=True),
        Column(title="verdict", words=True, of_last=True),
        *(Column(title=title, words=True) for title in ("through", "doubt")),
    ]
    rows = []
    for change in changed:
        texts = [change.cell.variant, *(getattr(change.cell, name) for name in varying)]
        texts += list(texts_of(change).values())[1:]
        rows.append([literal(text, style="red" if change.regressed else "") for text in texts])
    title = [literal(f"on {', '.join(common)}", style="bold")] if common else []
    return [*title, Columns(columns, rows), *(literal(sentence) for sentence in sentences(comparison))]


def data(comparison: RunComparison) -> dict[str, object]:
    """The same for a program, in base units, the unchanged numbers too."""
    return {
        "sentences": sentences(comparison),
        "fail_above": comparison.fail_above,
        "changes": list(wording.rows(frame(comparison))),
        "broken": [
            {
                **{name: getattr(item, name) for name in CellKey._fields},
                "property": item.quantity,
                "summary": item.summary,
            }
            for item in comparison.broken
        ],
        "lost": [cell._asdict() | {"reason": reason} for cell, reason in comparison.lost],
        "added": [cell._asdict() for cell in comparison.added],
    }


def watch(steps: Iterator[Remeasuring], *, suspect_s: float, console: Console) -> tuple[RunComparison, bool]:
    """Go through all steps of measuring again, with a bar and the time left.

    Args:
        steps: the first is the comparison as it was.
        suspect_s: what the rounds of one suspect take at most.
        console: where they are told.

    Returns:
        The last comparison, and whether Ctrl-C came before the end.
    """
    step = next(steps)
    count = len(step.waiting)
    console.print(f"suspects to measure again: {count}, at most {units.seconds(count * suspect_s)} of rounds")
    started = time.monotonic()
    with interrupts.heeded(), progress_bar(console) as bars:
        bar = bars.add_task("", total=count, left="")
        try:
            for done in itertools.count():
                each_s = (time.monotonic() - started) / done if done else suspect_s
                left = f"{units.seconds(each_s * len(step.waiting))} left"
                now = _label(step.waiting[0]) if step.waiting else ""
                bars.update(bar, completed=done, total=done + len(step.waiting), left=left, description=now)
                step = next(steps, step)
                if not step.waiting:
                    break
        except KeyboardInterrupt:
            return step.comparison, True
    return step.comparison, False


def write(comparison: RunComparison, folder: Path, *, old: str, new: str) -> Path:
    """Write COMPARISON.md, comparison.csv and comparison.png into a folder, over what was there.

    Args:
        comparison: what to show.
        folder: made if it is missing.
        old: what to call the first run.
        new: what to call the second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    escape.spreadsheet(frame(comparison)).to_csv(folders.target(folder, "comparison.csv"), index=False)
    latencies = [change for change in comparison.changes if change.quantity == "latency"]
    if latencies:
        plot(latencies, limit=comparison.fail_above).savefig(folders.target(folder, "comparison.png"), dpi=150)
    lines = [
        f"# {escape.name(new)} against {escape.name(old)}",
        "",
        *(f"- {escape.prose(line)}" for line in sentences(comparison)),
        "",
    ]
    if latencies:
        lines += ["![New over old, per cell, with 95 % intervals](comparison.png)", ""]
    if comparison.changes:
        rows = [texts_of(change) for change in by_size(comparison.changes)]
        lines += [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
        lines += [f"| {' | '.join(map(escape.prose, row.values()))} |" for row in rows]
        lines += ["", "As numbers in base units: [comparison.csv](comparison.csv).", "", *reading(comparison), ""]
    return folders.write(folder, FILE, "\n".join(lines))


def frame(comparison: RunComparison) -> pd.DataFrame:
    """One row per number that both runs have, in base units."""
    return pd.DataFrame(
        [
            {
                **change.cell._asdict(),
                "quantity": change.quantity,
                "unit": change.unit,
                "old": change.old,
                "new": change.new,
                "ratio": change.ratio.estimate,
                "low": change.ratio.low,
                "high": change.ratio.high,
                "verdict": change.ratio.verdict,
                "through": change.through,
                "measured_again": "; ".join(f"{ratio.estimate:.4f} {ratio.verdict}" for ratio in change.again),
                "regressed": change.regressed,
                "suspected": change.suspected,
                "trust": "; ".join(change.trust),
            }
            for change in comparison.changes
        ]
    )


def plot(changes: list[Change], *, limit: float) -> Figure:
    """New over old of each time, with its interval; the band is what does not count as a change."""
    shown = by_size(changes)[:MOST_LINES]
    common = [
        texts.pop() for texts in map(set, zip(*(change.cell[1:] for change in changes), strict=True)) if len(texts) == 1
    ]
    labels = [" · ".join(text for text in change.cell if text and text not in common) for change in shown]
    figure = Figure(figsize=(9, 1.4 + 0.26 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(1 / (1 + limit), 1 + limit, color="#e8e8e8", zorder=0)
    axes.axvline(1, color="#808080", linewidth=0.8)
    points = [ratio.estimate for change in shown for ratio in (change.ratio, *change.again)]
    edge = max([1 + 2 * limit, *(max(point, 1 / point) for point in points)]) * 1.15
    for line, change in enumerate(shown):
        ratio, colour = change.ratio, _COLOURS[change.ratio.verdict]
        # an interval without an end reaches the edge of the plot
        axes.plot([max(ratio.low, 1 / edge), min(ratio.high, edge)], [line, line], color=colour, linewidth=2)
        axes.plot(ratio.estimate, line, "s" if change.through == "tasks" else "o", color=colour, markersize=5)
        for again in change.again:
            axes.plot(again.estimate, line + 0.25, "|", color="black", markersize=7)
    axes.set_yticks(range(len(shown)), labels, fontsize=7)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlim(1 / edge, edge)
    axes.minorticks_off()
    ticks = sorted({round(tick, 2) for tick in (1 / edge, 1 / (1 + limit), 1.0, 1 + limit, edge)})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlabel("time in the new run / time in the old run (95 % interval)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(finding(changes, limit, common, shown=len(shown)), fontsize=9, fontweight="bold", loc="left", x=0)
    handles = [
        Line2D([], [], color=colour, linewidth=2, label=word)
        for word, colour in _COLOURS.items()
        if any(change.ratio.verdict == word for change in shown)
    ]
    if any(change.through == "tasks" for change in shown):
        handles.append(
            Line2D([], [], color="black", marker="s", linestyle="", markersize=5, label="whole tasks compared")
        )
    if any(change.again for change in shown):
        handles.append(Line2D([], [], color="black", marker="|", linestyle="", markersize=7, label="measured again"))
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def finding(changes: list[Change], limit: float, common: list[str], *, shown: int) -> str:
    """What the plot says, for its title."""
    slower = [change.cell.variant for change in changes if change.regressed]
    said = f"{len(slower) or 'None'} of {len(changes)} times regressed beyond {units.percent(limit)}"
    names = list(dict.fromkeys(slower))
    said += f": {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}" if names else ""
    unclear = sum(change.ratio.verdict == "unclear" for change in changes)
    said += f"; {unclear} unclear" if unclear else ""
    where = f"\n{', '.join(common)}" if common else ""
    return said + where + (f"; the {shown} largest changes" if len(changes) > shown else "")


def by_size(changes: "list[Change] | tuple[Change, ...]") -> list[Change]:
    """Regressions first, and then by how far from 1 they are."""

    def size(change: Change) -> tuple[bool, float]:
        factor = change.ratio.estimate
        return not change.regressed, -abs(math.log(factor)) if 0 < factor < math.inf else -math.inf

    return sorted(changes, key=size)


def _label(cell: CellKey) -> str:
    return " · ".join(text for text in cell if text)


def texts_of(change: Change) -> dict[str, str]:
    ratio = change.ratio
    timed = change.quantity == "latency"
    verdict: str = ratio.verdict if timed else _COUNTED.get(ratio.verdict, ratio.verdict)
    if change.again:
        recurred = sum(again.verdict == "slower" for again in change.again)
        verdict += f", then slower in {recurred} of {len(change.again)} fresh pairs"
    known = ratio.low > 0 or not math.isinf(ratio.high)
    interval = f" ({_bound(ratio.low)} to {_bound(ratio.high)})" if timed and known else ""
    return {
        "cell": _label(change.cell),
        "quantity": change.quantity.replace("_", " "),
        "old": units.quantity(change.old, change.unit),
        "new": units.quantity(change.new, change.unit),
        "new / old (95 %)": f"{ratio.estimate:.3f}{interval}",
        "verdict": f"{_said(change)}{verdict}",
        "through": change.through,
        "doubt": wording.reasons(change.trust) or units.MISSING,
    }


def _said(change: Change) -> str:
    if change.regressed:
        return "REGRESSION: "
    return "suspect: " if change.suspected else ""


def _bound(value: float) -> str:
    return "?" if value == 0 or math.isinf(value) else f"{value:.3f}"


def _lost(comparison: RunComparison) -> list[str]:
    """What the new run lacks, a line for each cell and reason."""
    alike: dict[tuple[str, str], list[str]] = {}
    for cell, reason in comparison.lost:
        alike.setdefault((" · ".join(text for text in cell[1:] if text), reason), []).append(cell.variant)
    lines = []
    for (where, reason), names in alike.items():
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        named = f"{', '.join(names[:_MOST_NAMED])}{more}"
        lines.append(f"lost: {named}{' · ' if where else ''}{where}: {reason}")
    return lines


def sentences(comparison: RunComparison) -> list[str]:
    """What to take away, the worst first."""
    changes = comparison.changes
    regressions = [change for change in changes if change.regressed]
    counts = {
        verdict: sum(change.ratio.verdict == verdict for change in changes)
        for verdict in ("slower", "faster", "same", "unclear")
    }
    limit = units.percent(comparison.fail_above)
    lines = [f"broken since: {item.variant}: {item.quantity}: {item.summary}" for item in comparison.broken]
    lines += [
        f"regression beyond {limit}: {_label(item.cell)}: {item.quantity.replace('_', ' ')}" for item in regressions
    ]
    lines += _lost(comparison)
    if comparison.settings:
        lines.append(f"measured under other settings, which may be the whole change: {'; '.join(comparison.settings)}")
    lines.append(
        f"{len(changes)} numbers compared: {len(regressions)} regressed; slower or more {counts['slower']}, "
        f"faster or less {counts['faster']}, same {counts['same']}, unclear {counts['unclear']} "
        f"(a regression's whole interval lies beyond {limit}, with what differs between processes, and after Holm's "
        f"correction at 1 % for all cells)"
    )
    if comparison.added:
        lines.append(f"{len(comparison.added)} cells are new and have nothing to be compared with")
    lines += _unsure_anchors(changes)
    suspected = [change for change in changes if change.suspected]
    if suspected:
        names = ", ".join(_label(change.cell) for change in suspected[:_MOST_NAMED])
        more = f" and {len(suspected) - _MOST_NAMED} more" if len(suspected) > _MOST_NAMED else ""
        lines.append(
            f"suspected beyond {limit}: {names}{more}: changed, by more than chance and processes explain, but not "
            "surely beyond the limit"
        )
    waiting = [change for change in comparison.suspects if change.together is None]
    if waiting:
        lines.append(
            f"{len(waiting)} times cannot be told by two runs alone, since processes of the same code differ; "
            "--remeasure OLD_TREE NEW_TREE times them again, interleaved, in fresh processes"
        )
    return lines


def _unsure_anchors(changes: tuple[Change, ...]) -> list[str]:
    """Where what is compared through an anchor holds only as far as the anchor itself stayed the same."""
    lines = []
    for anchor in changes:
        through = [
            change
            for change in changes
            if change.through == "anchor" and change.cell._replace(variant=ANCHOR) == anchor.cell
        ]
        if anchor.cell.variant == ANCHOR and anchor.quantity == "latency" and anchor.ratio.verdict == "unclear":
            known = anchor.again and all(ratio.verdict == "same" for ratio in anchor.again)
            if through and not known:
                ends = [_bound(end) for end in (anchor.ratio.low, anchor.ratio.high)]
                by = "" if set(ends) == {"?"} else f", by {' to '.join(ends)}"
                lines.append(
                    f"{_label(anchor.cell)} may itself have changed{by}: what was compared through it, "
                    f"{len(through)} of the times, holds beside it alone"
                )
    return lines


def reading(comparison: RunComparison) -> list[str]:
    limit = units.percent(comparison.fail_above)
    return [
        "How to read it: a cell *through the anchor* is the ratio of its two ratios to eager float32 `parallel`, each",
        "taken within rounds of its own run, so what the machine did between the runs cancels; with a *moved anchor*,",
        "times the change of `parallel` itself, measured again. *Through tasks*, whole tasks are compared,",
        "which is what is left for the anchor itself, and where their medians alone show that it has changed; the",
        "interval is then as wide as tasks differ among each other and as the machine's own matrix product has",
        "changed. Counts are exact. *Unclear* means that the interval has a foot on either side of",
        f"{limit}, and *?* that there is none.",
    ]
