"""The page of a run: REPORT.md, its tables and its plots, from the records alone."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd

from suite import folders, store
from suite.records import Finding
from suite.report import ablation, escape, plots, published, standing, tables, units, wording
from suite.report.plots import Plot
from suite.report.tables import Tables

MOST_ROWS = 1000
"""A longer page is not read, and not shown whole by those who host it."""
GLYPHS = {"holds": "✓", "broken": "✗", "known": "!", "unclear": "?", "not judged": "·", "not applicable": "–", "": ""}
"""Legible without colour."""


def write(folder: Path) -> Path:
    """Write REPORT.md, tables/*.csv and plots/*.png into a run folder, over what was there.

    Raises:
        UserError: the folder holds no records that can be read; says why.
    """
    records = store.read(folder)
    if ablation.is_ablation(records):
        return ablation.write(folder, records)
    environment = folders.environment_or_nothing(folder)
    made = tables.make(records)
    _write_tables(made, folders.made(folder, "tables"))
    drawn = plots.write(
        made, (record for record in records if isinstance(record, Finding)), folders.made(folder, "plots")
    )
    # from here on for Markdown: what the records say is shown and not obeyed
    made = escape.tables(made)
    apart = published.section(made.cells, map(escape.record, records))
    text = _page(made, drawn, apart, environment, title=escape.name(folder.resolve().name))
    return folders.write(folder, "REPORT.md", text)


def _write_tables(made: Tables, folder: Path) -> None:
    for name in ("cells", "findings", "masking", "skips", "growth", "peaks", "artifacts", "conditions"):
        table: pd.DataFrame = getattr(made, name)
        if not table.empty:
            escape.spreadsheet(table).to_csv(folders.target(folder, f"{name}.csv"), index=False)


def _page(made: Tables, drawn: Sequence[Plot], apart: str, environment: Mapping[str, object], *, title: str) -> str:
    template = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, trim_blocks=False
    ).from_string(resources.files("suite.report").joinpath("page.md.jinja").read_text(encoding="utf-8"))
    broken = made.findings[made.findings["verdict"] == "broken"]
    return template.render(
        title=title,
        opening=_opening(made, environment),
        places=_places(made.cells),
        incorrect=[f"`{row.variant}`: **{row.property}** {row.summary}" for row in broken.itertuples()],
        plots=[{"title": escape.prose(plot.title), "path": f"plots/{plot.path.name}"} for plot in drawn],
        growth=_growth(made.growth),
        published=apart,
        masking=_masking(made.masking),
        machine=_machine(made.peaks),
        skips=_skips(made.skips),
        conditions=_conditions(made),
    )


def _places(cells: pd.DataFrame) -> list[dict[str, object]]:
    """The answer, the table and the doubts of each place; beyond so many rows the tables are left to the CSV."""
    places = []
    written = 0
    for (workload, phase, device), here in cells.groupby(["workload", "phase", "device"], sort=False):
        written += len(here)
        fits = written <= MOST_ROWS
        places.append(
            {
                "name": workload,
                "phase": phase,
                "device": device,
                "headline": standing.headline(here),
                "table": wording.markdown(wording.place_table(here)) if fits else "",
                "doubts": wording.doubts(here) if fits else [],
            }
        )
    return places


def _opening(made: Tables, environment: Mapping[str, object]) -> list[str]:
    variants = made.cells["variant"].nunique()
    lines = [f"{variants} variants on {made.cells['workload'].nunique()} workload(s), made from `records.jsonl` alone."]
    said = [
        escape.prose(f"{name}: {value}")
        for name, value in environment.items()
        if isinstance(value, str | int | float) and value
    ]
    return [*lines, "", " · ".join(said)] if said else lines


def _growth(growth: pd.DataFrame) -> str:
    """A row per variant and sweep, a column per value of the axis."""
    parts: list[str] = []
    for (axis, start, phase, device), line in growth.groupby(["axis", "start", "phase", "device"], sort=False):
        if len(parts) * line["variant"].nunique() > MOST_ROWS:
            return "\n\n".join([*parts, "The other sweeps are in [growth.csv](tables/growth.csv)."])
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
    return wording.markdown(glyphs.reset_index())


def _machine(peaks: pd.DataFrame) -> str:
    lines = []
    for row in wording.rows(peaks):
        rate = wording.number(row, "per_second")
        if row["what"] == "copy":
            text = f"- {row['device']}, copy: {units.binary_per_second(rate)}"
        else:
            text = f"- {row['device']}, matrix product in {row['what']}: {units.per_second(rate, 'FLOP')}"
        if row["reached_by"]:
            text += f", which `{row['reached_by']}` did: more than the peak that was measured apart"
        lines.append(text)
    return "\n".join(lines)


def _skips(skips: pd.DataFrame) -> str:
    rows = [
        {
            "variants": ", ".join(f"`{name}`" if name else "all" for name in dict.fromkeys(group["variant"])),
            "why": reason,
            "what measures it": escape.code(str(remedy)) or units.MISSING,
        }
        for (reason, remedy), group in skips.groupby(["reason", "remedy"], sort=False)
    ]
    return wording.markdown(pd.DataFrame(rows)) if rows else ""


def _conditions(made: Tables) -> list[str]:
    lines = [
        "Every raw sample with its round is in `records.jsonl`; every statistic here can be computed again from them."
    ]
    behind = made.conditions
    if not behind.empty:
        narrow = int((behind["stopped"] == "interval").sum())
        lines.append(
            "[conditions.csv](tables/conditions.csv) names for every time the `task` whose lines in `records.jsonl` "
            "hold its samples, and what the machine was doing meanwhile."
        )
        lines.append(
            f"Of {len(behind)} series of samples, {narrow} ended because every ratio of their comparison was known to "
            f"within 1 %, and {len(behind) - narrow} because the time for them was spent."
        )
        harness_s = behind["harness_s"].median()
        if units.is_number(harness_s):
            lines.append(f"Between two samples the harness took {units.seconds(harness_s)} of its own (median).")
    doubted = (made.cells["trust"] != "").sum()
    lines.append(f"{doubted} of {len(made.cells)} cells carry a reason for doubt, printed below their table.")
    return lines
