"""The table that the user came for, at the end of a run."""

from collections.abc import Sequence

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from suite.report import units, wording
from suite.report.tables import SEVERITY, Tables
from suite.workloads import PHASES

WIDTH = 150
"""Columns where the output is no terminal and so has no width of its own."""


def show(tables: Tables) -> None:
    """Print `summary`."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(summary(tables))


def summary(tables: Tables) -> RenderableType:
    """One table per workload and device, both phases side by side, with the answer above each."""
    parts: list[RenderableType] = []
    for (workload, device), cells in tables.cells.groupby(["workload", "device"], sort=False):
        parts += [Text(), Text(f"{workload} on {device}", style="bold")]
        phases = [phase for phase in PHASES if (cells["phase"] == phase).any()]
        for phase in phases:
            sentence = wording.headline(cells[cells["phase"] == phase]).replace("**", "")
            parts.append(Text(f"{phase}: {sentence}"))
        timed = cells["latency_s"].notna() | (cells["skipped"] != "")
        parts.append(_table(cells, [phase for phase in phases if timed[cells["phase"] == phase].any()]))
        notes = wording.doubts(cells)
        if notes:
            parts.append(Padding(Text("doubt\n" + "\n".join(notes), style="yellow"), (0, 2)))
    if tables.cells.empty and not tables.masking.empty:
        parts += [Text(), Text("Masking", style="bold"), _masking_alone(tables.masking)]
    if not tables.skips.empty:
        parts += [Text(), Text("Not measured", style="bold"), _skips(tables.skips)]
    broken = tables.findings[tables.findings["verdict"] == "broken"]
    if not broken.empty:
        parts += [Text(), Text("Incorrect", style="bold red")]
        parts += [Text(f"{row.variant}: {row.property}: {row.summary}") for row in broken.itertuples()]
    return Group(*parts)


def _table(cells: pd.DataFrame, phases: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    table.add_column("variant", no_wrap=True)
    for phase in phases:
        table.add_column(phase, justify="right", min_width=8)
        table.add_column("over its eager float32", justify="right", min_width=13)
    for name in ("peak memory", "error"):
        table.add_column(name, justify="right", overflow="fold")
    for name in ("masking", "doubt"):
        table.add_column(name, overflow="fold")
    letters = wording.footnotes(cells)
    indexed = {(row["variant"], row["phase"]): row for row in wording.rows(cells)}
    mechanism = None
    for variant in dict.fromkeys(cells["variant"]):
        here = [indexed[variant, phase] for phase in PHASES if (variant, phase) in indexed]
        # as Text: a plain string would lose its [options] to rich's markup
        texts: list[Text | str] = [Text(str(variant))]
        for phase in phases:
            row = indexed.get((variant, phase))
            texts += [_time(row), wording.speedup(row) if row else units.MISSING]
        last = here[-1]
        texts += [
            units.binary(wording.number(last, "peak_memory_bytes")),
            units.error(wording.number(last, "agreement_error")),
            _masking(str(last["masking"])),
            " ".join(dict.fromkeys(flag for row in here for flag in wording.flags(row, letters).split())),
        ]
        if mechanism not in (None, last["mechanism"]):
            table.add_section()
        mechanism = last["mechanism"]
        table.add_row(*texts)
    return table


def _time(row: wording.Row | None) -> Text:
    if row is None:
        return Text(units.MISSING)
    if row["hidden"]:
        return Text(str(row["hidden"]).split(":")[0], style="red")
    if wording.number(row, "latency_s") is None:
        return Text("skipped" if row["skipped"] else units.MISSING, style="dim")
    return Text(units.seconds(wording.number(row, "latency_s")))


def _masking(said: str) -> Text:
    style = {"broken": "red", "known": "yellow", "unclear": "yellow", "not judged": "yellow", "holds": "green"}.get(
        said.partition(":")[0], ""
    )
    return Text(said or units.MISSING, style=style)


def _masking_alone(masking: pd.DataFrame) -> Table:
    """A line per variant, where nothing else was asked for: the worst verdict, and which properties have it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("variant", "masking"):
        table.add_column(name, overflow="fold")
    for row in wording.rows(masking):
        verdicts = {str(name): str(verdict) for name, verdict in row.items() if name != "variant" and verdict}
        worst = min(verdicts.values(), key=SEVERITY.index)
        which = ", ".join(name for name, verdict in verdicts.items() if verdict == worst)
        table.add_row(Text(str(row["variant"])), _masking(worst if worst == "holds" else f"{worst}: {which}"))
    return table


def _skips(skips: pd.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("variants", "why", "what measures it"):
        table.add_column(name, overflow="fold")
    for (reason, remedy), group in skips.groupby(["reason", "remedy"], sort=False):
        names = ", ".join(dict.fromkeys(name or "all" for name in group["variant"]))
        table.add_row(Text(names), Text(str(reason)), Text(str(remedy)))
    return table
