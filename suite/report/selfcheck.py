"""The page of a self-check: every row with its counts, its exact interval, and the samples behind it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_low

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import RenderableType

from suite.core import folders, stats, store
from suite.core.records import SELFCHECK, Finding, Measurement, Record
from suite.report import escape, style, units
from suite.report.columns import literal

FILE = "SELFCHECK.md"
PLOT = "plots/pairs.png"
PAIRS = "timing pairs"
"""How the names of the tasks begin whose comparisons are plotted."""
GLYPHS = {"holds": "✓", "broken": "✗ FAILS", "unclear": "? no trials", "not applicable": "– not here"}


def write(folder: Path) -> Path:
    """Write SELFCHECK.md and its plot into the folder of a self-check, from its records alone.

    Raises:
        ValueError: the folder holds no records that can be read; says why.
    """
    records = store.read(folder)
    rows = latest(records)
    lines = [
        "# Self-check",
        "",
        *opening(folder, records, rows),
        "",
        "| | what | count | exact 95 % interval | limit | remark |",
        "|---|---|---|---|---|---|",
        *(line_of(row) for row in rows),
        "",
        *_reading(timed=any(record.task.startswith("timing") for record in records)),
    ]
    pairs = ratios(records)
    if pairs:
        folders.made(folder, "plots")
        with style.applied():
            plot(pairs).savefig(folders.target(folder, PLOT), dpi=style.DOTS_PER_INCH)
        lines += [f"![Every pair with its interval]({PLOT})", "", *plotted(pairs)]
    return folders.write(folder, FILE, "\n".join([*lines, ""]))


def is_selfcheck(records: Sequence[Record]) -> bool:
    """Whether these are the records of a self-check, which has a page of its own."""
    return any(isinstance(record, Finding) and record.quantity == SELFCHECK for record in records)


def latest(records: Sequence[Record]) -> list[Finding]:
    """The rows; of one that was counted again, after a self-check was gone on with, the last."""
    rows: dict[object, Finding] = {}
    for record in records:
        if isinstance(record, Finding) and record.quantity == SELFCHECK:
            rows[record.details.get("check")] = record
    return list(rows.values())


def data(records: Sequence[Record]) -> list[dict[str, object]]:
    """What each row of the page says, for a program."""
    return [
        {"task": row.task, "verdict": row.verdict, "remark": row.summary} | dict(row.details) for row in latest(records)
    ]


def words(records: Sequence[Record]) -> list[RenderableType]:
    """The verdict for a terminal, and each row that fails."""
    rows = latest(records)
    failed = [row for row in rows if row.verdict == "broken"]
    named = [f"{row.details.get('check')}: {row.details.get('count')} of {row.details.get('trials')}" for row in failed]
    return [literal(line) for line in (" ".join(filter(None, verdict(rows))), *(f"  {name}" for name in named))]


def verdict(rows: Sequence[Finding]) -> tuple[str, str]:
    """How many rows hold of those that have a limit, or how many fail; and how many had no trials, or nothing."""
    failed = sum(row.verdict == "broken" for row in rows)
    judged = sum(row.verdict in ("holds", "broken") and bool(row.details.get("limit")) for row in rows)
    untried = sum(row.verdict == "unclear" for row in rows)
    said = f"All {judged} rows that were tried hold." if judged else "No row was tried."
    if failed:
        said = f"{failed} of {judged} rows that were tried fail."
    return said, f"{untried} had no trials." if untried else ""


def ratios(records: Sequence[Record]) -> dict[str, list[stats.Ratio]]:
    """Each planted variant over its base, comparison by comparison, computed again from the raw samples."""
    tasks: dict[str, dict[str, Measurement]] = {}
    for record in records:
        if isinstance(record, Measurement) and record.quantity == "latency" and record.task.startswith(PAIRS):
            tasks.setdefault(record.task, {})[record.variant] = record
    found: dict[str, list[stats.Ratio]] = {}
    for timed in tasks.values():
        planted = [name for name in timed if name.startswith("work")]
        for name in planted[1:]:
            one, base = timed[name], timed[planted[0]]
            ratio = stats.ratio(one.samples, one.rounds, base.samples, base.rounds)
            found.setdefault(f"{name} over {planted[0]}", []).append(ratio)
    return found


def plot(pairs: Mapping[str, Sequence[stats.Ratio]]) -> Figure:
    """A panel for each planted variant: its intervals in order of their estimates, and the margin as a band."""
    figure = style.figure(plot_title(pairs), 4.4)
    panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    panel: Axes
    for panel, (name, found) in zip(panels, pairs.items(), strict=True):
        panel.axhspan(1 / 1.02, 1.02, color="#e8e8e8", zorder=0)
        panel.axhline(1, color="#808080", linewidth=0.8)
        for place, ratio in enumerate(sorted(found, key=lambda ratio: ratio.estimate)):
            colour = {"slower": "#b2182b", "faster": "#2166ac"}.get(ratio.verdict, "#4d4d4d")
            panel.plot([place, place], [max(ratio.low, 0.5), min(ratio.high, 2.0)], color=colour, linewidth=1)
            panel.plot(place, ratio.estimate, "o", color=colour, markersize=2.5)
        slower = sum(ratio.verdict == "slower" for ratio in found)
        faster = sum(ratio.verdict == "faster" for ratio in found)
        panel.set_title(f"{name}\n{slower} slower, {faster} faster of {len(found)}", fontsize=9, loc="left")
        panel.set_xticks([])
        panel.spines[["top", "right", "bottom"]].set_visible(False)
    panels[0].set_ylabel("ratio of times, 95 % interval")
    return figure


def plot_title(pairs: Mapping[str, Sequence[stats.Ratio]]) -> str:
    """How many comparisons of each pair are told to differ."""
    told = {name: sum(ratio.verdict in ("slower", "faster") for ratio in found) for name, found in pairs.items()}
    said = ", ".join(f"{count} of {len(pairs[name])} ({name})" for name, count in told.items())
    return f"Told to differ: {said}"


def opening(folder: Path, records: Sequence[Record], rows: Sequence[Finding]) -> list[str]:
    parts = [record.value for record in records if isinstance(record, Measurement) and record.task == "selfcheck"]
    took = sum(part for part in parts if part is not None) if parts else None
    counted, untried = verdict(rows)
    bold = f"**{counted}**" + (f" {untried}" if untried else "")
    environment = folders.environment_or_nothing(folder)
    said = [
        escape.prose(f"{key}: {environment[key]}")
        for key in ("device", "torch", "python", "commit", "started")
        if environment.get(key)
    ]
    machine = environment.get("machine", {})
    if machine.get("cores"):
        said.insert(1, escape.prose(f"{machine['cores']} cores"))
    return [f"{bold} It took {units.seconds(took)}.", "", " · ".join(said)]


def line_of(row: Finding) -> str:
    details = row.details
    trials = details.get("trials")
    low, high = details.get("low"), details.get("high")
    interval = (
        f"{units.percent(low)} to {units.percent(high)}"
        if trials and isinstance(low, float) and isinstance(high, float)
        else units.MISSING
    )
    cells = (
        "for show" if row.verdict == "holds" and not details.get("limit") else GLYPHS.get(row.verdict, row.verdict),
        escape.prose(str(details.get("check", ""))),
        escape.prose(f"{details.get('count')} of {trials}") if trials else units.MISSING,
        interval,
        escape.prose(str(details.get("limit") or units.MISSING)),
        escape.prose(row.summary) or units.MISSING,
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _reading(*, timed: bool) -> list[str]:
    lines = [
        "A row fails where its exact (Clopper-Pearson) interval excludes the limit; a count alone may miss it by",
        "chance, and few trials prove little either way, which is why their number stands beside every count.",
        "",
    ]
    if timed:
        lines += [
            "Every pair went through the planner, the worker processes and the store of an ordinary run. Its raw",
            "samples, the round of each, and what the machine was doing meanwhile are in `records.jsonl` beside this",
            "page, under tasks that begin with `timing pairs`; the rows here are findings of the quantity `selfcheck`.",
            "",
        ]
    return lines


def plotted(pairs: Mapping[str, Sequence[stats.Ratio]]) -> list[str]:
    """The figures behind the plot."""
    lines = [
        "| | pairs | median estimate | median half width | slower | faster | same | unclear |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in pairs.items():
        verdicts = [ratio.verdict for ratio in found]
        estimate = median_low(ratio.estimate for ratio in found)
        half = median_low(ratio.half_width for ratio in found)  # infinite where there were too few rounds
        counts = " | ".join(str(verdicts.count(word)) for word in ("slower", "faster", "same", "unclear"))
        lines.append(f"| `{name}` | {len(found)} | {estimate:.4f} | {half:.2%} | {counts} |")
    return lines
