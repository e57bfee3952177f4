"""The page of a run: REPORT.md, its tables and its plots, from the records alone."""

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd

from suite.core import folders, stats, store
from suite.core.records import Finding, Record
from suite.report import (
    ablation,
    cell_columns,
    escape,
    plots,
    published,
    selfcheck,
    standing,
    summary,
    tables,
    units,
    wording,
)
from suite.report.html import bench, checked, study
from suite.report.plots import Plot
from suite.report.tables import Tables

MOST_ROWS = 1000
"""A longer page is not read, and not shown whole by those who host it."""
MOST_PLACES = 8
MOST_INCORRECT = 10
SHOWN = ("latency", "masking")
"""Plots on the page itself, the first of each kind; the others are linked."""
MOST_LINES = 40
_STOPPED = {
    "interval": "every ratio of their comparison was known to within 1 %",
    "budget": "the time for them was spent",
}
GLYPHS = {"holds": "✓", "broken": "✗", "known": "!", "unclear": "?", "not judged": "·", "not applicable": "–", "": ""}
"""Legible without colour."""


def made_of(records: Sequence[Record]) -> Tables | None:
    """The tables of a run; None for what has pages of its own: an ablation and a self-check."""
    return None if ablation.is_ablation(records) or selfcheck.is_selfcheck(records) else tables.make(records)


def write(folder: Path, records: Sequence[Record] | None = None, made: Tables | None = None) -> Path:
    """Write report.html, REPORT.md, tables/*.csv and plots/*.png into a run folder, over what was there.

    Args:
        folder: of the run.
        records: of that folder, where they were read already.
        made: their tables, where those were made already: of a large run that is most of the work.

    Returns:
        The path of report.html.

    Raises:
        UserError: the folder holds no records that can be read; says why.
    """
    records = store.read(folder) if records is None else records
    if ablation.is_ablation(records):
        shown = study.write(folder, records)
        ablation.write(folder, records)
        return shown
    if selfcheck.is_selfcheck(records):
        selfcheck.write(folder)
        return checked.write(folder)
    environment = folders.environment_or_nothing(folder)
    made = tables.make(records) if made is None else made
    shown = bench.write(folder, made, records, environment)
    _write_tables(made, folders.made(folder, "tables"))
    drawn = plots.write(
        made, (record for record in records if isinstance(record, Finding)), folders.made(folder, "plots")
    )
    # from here on for Markdown: what the records say is shown and not obeyed
    raw, made = made, escape.tables(made)
    apart = published.section(made.cells, map(escape.record, records))
    long = _long(made, apart)
    for name, (_, text) in long.items():
        folders.write(folders.made(folder, "tables"), f"{name}.md", text)
    text = _page(made, drawn, long, environment, title=escape.name(folder.resolve().name))
    folders.write(folder, "REPORT.md", text)
    try:
        from suite.report import dashboards
    except ModuleNotFoundError:  # TensorBoard shows nothing then, and all else is made
        return shown
    dashboards.write(folder, raw, records, [plot.path for plot in drawn], text, environment)
    return shown


def _write_tables(made: Tables, folder: Path) -> None:
    for name in ("cells", "findings", "masking", "skips", "growth", "peaks", "artifacts", "conditions"):
        table: pd.DataFrame = getattr(made, name)
        if not table.empty:
            escape.spreadsheet(table).to_csv(folders.target(folder, f"{name}.csv"), index=False)


def _page(
    made: Tables,
    drawn: Sequence[Plot],
    long: Mapping[str, tuple[str, str]],
    environment: Mapping[str, object],
    *,
    title: str,
) -> str:
    template = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, trim_blocks=False
    ).from_string(resources.files("suite.report").joinpath("page.md.jinja").read_text(encoding="utf-8"))
    broken = made.findings[made.findings["verdict"] == "broken"]
    first = {kind: next((plot for plot in drawn if plot.kind == kind), None) for kind in SHOWN}
    shown = [plot for plot in first.values() if plot is not None]
    places = list(made.cells.groupby(["workload", "phase", "device"], sort=False))
    tabled = list(made.cells.groupby(["workload", "device"], sort=False))
    return template.render(
        title=title,
        opening=_opening(made, environment),
        masked=summary.masked(made.masking),
        places=[
            {"name": " · ".join(map(str, place)), "headline": standing.headline(here)}
            for place, here in places[:MOST_PLACES]
        ],
        lacking=summary.lacking(made.peaks, made.cells),
        places_left=max(len(places) - MOST_PLACES, 0),
        believed=summary.believed(made.cells),
        incorrect=[f"`{row.variant}`: **{row.property}** {row.summary}" for row in broken.itertuples()][
            :MOST_INCORRECT
        ],
        incorrect_left=max(len(broken) - MOST_INCORRECT, 0),
        plots=[{"title": escape.prose(plot.title), "path": f"plots/{plot.path.name}"} for plot in shown],
        more_plots=[
            {"title": escape.prose(plot.title), "path": f"plots/{plot.path.name}"}
            for plot in drawn
            if plot not in shown
        ],
        tables=[
            {
                "name": f"{workload} · {device}",
                "table": wording.markdown(summary.table(here), right=summary.RIGHT),
            }
            for (workload, device), here in tabled[:1]
            if here["parent"].nunique() <= MOST_LINES
        ],
        tables_left=max(len(tabled) - 1, 0),
        long=[{"name": name, "says": says} for name, (says, _) in long.items()],
    )


def _long(made: Tables, apart: str) -> dict[str, tuple[str, str]]:
    """The tables that are too long for the page: by name, what each says, and its text."""
    back = "[Back to the report](../REPORT.md)"
    found = {
        "times": ("every time with its interval, memory, error and doubts", _times(made.cells)),
        "growth": ("how cost grows along an axis", _growth(made.growth)),
        "masking": ("every variant by every property", _masking(made.masking)),
        "published": ("what the public implementations do differently, and what it costs", apart),
        "not-measured": ("what was not measured, and the command that measures it", _skips(made.skips)),
        "machine": ("what this machine can do, and why to believe the numbers", _behind(made)),
    }
    return {
        name: (says, f"# {says[0].upper()}{says[1:]}\n\n{back}\n\n{text}\n")
        for name, (says, text) in found.items()
        if text
    }


def _times(cells: pd.DataFrame) -> str:
    """The table of each place and what its letters stand for; beyond so many rows that is left to the CSV."""
    if cells.empty:
        return ""
    parts = [
        "Latency is the median with its 95 % interval; a speed-up is taken from rounds in which both sides were timed, "
        "and ends in *same* or *unclear* where it shows no difference. `error` is relative to float64. *Of this "
        "machine* is the least time that it allows by its fastest route over the time taken, with its range over "
        "tasks. As numbers in base units: [cells.csv](cells.csv)."
    ]
    written = 0
    for (workload, phase, device), here in cells.groupby(["workload", "phase", "device"], sort=False):
        written += len(here)
        if written > MOST_ROWS:
            parts.append("The other tables are in [cells.csv](cells.csv) alone.")
            break
        parts += [f"## {workload} · {phase} · {device}", standing.headline(here)]
        parts.append(wording.markdown(cell_columns.place_table(here)))
        doubts = wording.doubts(here)
        if doubts:
            parts += ["Doubt, and why:", "\n".join(f"- {line}" for line in doubts)]
    return "\n\n".join(parts)


def _opening(made: Tables, environment: Mapping[str, object]) -> list[str]:
    variants, workloads = (units.many(made.cells[column].nunique(), column) for column in ("variant", "workload"))
    lines = [f"{variants} on {workloads}, made from `records.jsonl` alone."]
    said = [
        escape.prose(f"{name}: {value}")
        for name, value in environment.items()
        if isinstance(value, str | int | float) and value
    ]
    return [*lines, "", " · ".join(said)] if said else lines


def _growth(growth: pd.DataFrame) -> str:
    """A row per variant and sweep, a column per value of the axis."""
    if growth.empty:
        return ""
    parts = ["Latency and examples a second; *power* is the slope of log latency over log axis: 1 is linear."]
    for (axis, start, phase, device), line in growth.groupby(["axis", "start", "phase", "device"], sort=False):
        if len(parts) * line["variant"].nunique() > MOST_ROWS:
            return "\n\n".join([*parts, "The other sweeps are in [growth.csv](growth.csv)."])
        values = sorted(line["value"].unique())
        rows = []
        for variant, group in line.groupby("variant", sort=False):
            slope = group["slope"].iloc[0]
            power = f"{slope:.2f}" if units.is_number(slope) else units.MISSING
            row = {"variant": f"`{variant}`", "power": power}
            cells = {row["value"]: row for row in wording.rows(group)}
            rows.append(row | {f"{axis} {value:g}": _cost(cells.get(value)) for value in values})
        parts.append(f"**{axis}** from {start} · {phase} · {device}\n\n{wording.markdown(pd.DataFrame(rows))}")
    return "\n\n".join(parts)


def _cost(row: wording.Row | None) -> str:
    """Latency, and what it comes to a second."""
    if row is None or row["hidden"] or wording.number(row, "latency_s") is None:
        return units.MISSING
    return f"{units.seconds(wording.number(row, 'latency_s'))}, {units.count(wording.number(row, 'examples_per_s'))}/s"


def _masking(masking: pd.DataFrame) -> str:
    if masking.empty:
        return ""
    glyphs = masking.set_index("variant").map(lambda verdict: GLYPHS[verdict])
    said = "✓ holds · ✗ broken · ! a known defect · ? unclear · · not judged · – not applicable. "
    said += "What each property says is in `suite/README.md`; the evidence is in [findings.csv](findings.csv)."
    return f"{said}\n\n{wording.markdown(glyphs.reset_index())}"


def _skips(skips: pd.DataFrame) -> str:
    rows = [
        {
            "variants": ", ".join(name if name == "all" else f"`{name}`" for name in names),
            "why": why,
            "what measures it": escape.code(command) or units.MISSING,
        }
        for names, why, command in summary.left_out(skips)
    ]
    return wording.markdown(pd.DataFrame(rows)) if rows else ""


def _between(scatter: stats.Scatter) -> str:
    """How much processes differ, and whence that is known."""
    apart = units.percent(math.sqrt(scatter.variance))
    known = f"by {apart} (standard deviation, {scatter.freedom:.0f} degrees of freedom)"
    learnt = {
        "repeats": f"{known}, learnt from comparisons that were repeated in fresh processes.",
        "anchor": f"{known} at most, learnt from the anchor's times in all processes, in which the machine's pace is "
        "too: no comparison was repeated often enough to tell the two apart.",
        "assumed": f"{known}, which is assumed: nothing here was timed in two processes.",
    }
    return f"Between processes of the same code the ratio of two times differs {learnt[scatter.source]}"


def _behind(made: Tables) -> str:
    """What the machine was measured to do, and what stands behind the numbers."""
    lines = [
        "- Every raw sample with its round is in `records.jsonl`; every statistic here can be computed again from them."
    ]
    behind = made.conditions
    if not behind.empty:
        lines.append(
            "- [conditions.csv](conditions.csv) names for every time the `task` whose lines in `records.jsonl` hold "
            "its samples, and what the machine was doing meanwhile."
        )
        for stopped, words in _STOPPED.items():
            count = int((behind["stopped"] == stopped).sum())
            if count:
                lines.append(f"- {count} of {len(behind)} series of samples ended because {words}.")
        lines.append(f"- {_between(made.scatter)}")
        harness_s = behind["harness_s"].median()
        if units.is_number(harness_s):
            lines.append(f"- Between two samples the harness took {units.seconds(harness_s)} of its own (median).")
    return "\n".join([*(f"- {line}" for line in summary.machine(made.peaks)), *lines])
