"""The answer that the user came for, at the end of a run: as words for a terminal, and as plain data."""

from collections.abc import Iterator, Sequence

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from suite.core.records import WORST_FIRST
from suite.core.workloads import PHASES
from suite.report import standing, units, wording
from suite.report.columns import Column, Columns, indented, literal
from suite.report.summary import left_out
from suite.report.tables import Tables


def words(tables: Tables) -> list[RenderableType]:
    """One table per workload and device, both phases side by side, with the answer above each; then what is amiss."""
    parts: list[RenderableType] = []
    for (workload, device), cells in tables.cells.groupby(["workload", "device"], sort=False):
        parts += [Text(), literal(f"{workload} on {device}", style="bold")]
        phases = _phases(cells)
        parts += [literal(f"{phase}: {_sentence(cells, phase)}") for phase in phases]
        timed = cells["latency_s"].notna() | (cells["skipped"] != "")
        parts.append(_table(cells, [phase for phase in phases if timed[cells["phase"] == phase].any()]))
        notes = wording.doubts(cells)
        if notes:
            parts.append(indented("doubt", *notes, style="yellow"))
    if tables.cells.empty and not tables.masking.empty:
        parts += [Text(), literal("Masking", style="bold"), _masking_alone(tables.masking)]
    if not tables.skips.empty:
        parts += [Text(), literal("Not measured", style="bold"), *_skips(tables.skips)]
    broken = _broken(tables)
    if not broken.empty:
        parts += [Text(), literal("Incorrect", style="bold red")]
        parts += [literal(f"{row.variant}: {row.property}: {row.summary}") for row in broken.itertuples()]
    return parts


def data(tables: Tables) -> dict[str, object]:
    """The same for a program, in base units: sentences, cells, verdicts, what was left out and what is broken."""
    return {
        "answer": [
            {"workload": workload, "device": device, "phase": phase, "sentence": _sentence(cells, phase)}
            for (workload, device), cells in tables.cells.groupby(["workload", "device"], sort=False)
            for phase in _phases(cells)
        ],
        "cells": list(wording.rows(tables.cells)),
        "masking": list(wording.rows(tables.masking)),
        "skips": list(wording.rows(tables.skips)),
        "broken": list(wording.rows(_broken(tables))),
    }


def _phases(cells: pd.DataFrame) -> list[str]:
    return [phase for phase in PHASES if (cells["phase"] == phase).any()]


def _sentence(cells: pd.DataFrame, phase: str) -> str:
    return standing.headline(cells[cells["phase"] == phase]).replace("**", "")


def _broken(tables: Tables) -> pd.DataFrame:
    return tables.findings[tables.findings["verdict"] == "broken"]


def _table(cells: pd.DataFrame, phases: Sequence[str]) -> Columns:
    columns = [Column(title="variant")]
    for phase in phases:
        columns.append(Column(title=phase, number=True))
        columns.append(Column(title="over its eager float32", number=True, of_last=True))
    columns += [Column(title="peak memory", number=True), Column(title="error", number=True)]
    columns += [Column(title="masking", words=True), Column(title="doubt", words=True)]
    letters = wording.footnotes(cells)
    indexed = {(row["variant"], row["phase"]): row for row in wording.rows(cells)}
    lines = []
    for variant in dict.fromkeys(cells["variant"]):
        here = [indexed[variant, phase] for phase in PHASES if (variant, phase) in indexed]
        texts = [literal(variant)]
        for phase in phases:
            row = indexed.get((variant, phase))
            texts += [_time(row), literal(wording.speedup(row) if row else units.MISSING)]
        last = here[-1]
        texts += [
            literal(units.binary(wording.number(last, "peak_memory_bytes"))),
            literal(units.error(wording.number(last, "agreement_error"))),
            _masking(str(last["masking_verdict"]), str(last["masking"])),
            literal(" ".join(dict.fromkeys(flag for row in here for flag in wording.flags(row, letters)))),
        ]
        lines.append(texts)
    return Columns(columns, lines)


def _time(row: wording.Row | None) -> Text:
    if row is None:
        return literal(units.MISSING)
    if row["hidden"]:
        return literal(str(row["hidden_by"]), style="red")
    if wording.number(row, "latency_s") is None:
        return literal("skipped" if row["skipped"] else units.MISSING, style="dim")
    return literal(units.seconds(wording.number(row, "latency_s")))


def _masking(verdict: str, said: str) -> Text:
    styles = {"broken": "red", "known": "yellow", "unclear": "yellow", "not judged": "yellow", "holds": "green"}
    return literal(said or units.MISSING, style=styles.get(verdict, ""))


def _masking_alone(masking: pd.DataFrame) -> Columns:
    """A line per variant, where nothing else was asked for: the worst verdict, and which properties have it."""
    lines = []
    for row in wording.rows(masking):
        verdicts = {str(name): str(verdict) for name, verdict in row.items() if name != "variant" and verdict}
        worst = min(verdicts.values(), key=WORST_FIRST.index)
        which = ", ".join(name for name, verdict in verdicts.items() if verdict == worst)
        lines.append([literal(row["variant"]), _masking(worst, worst if worst == "holds" else f"{worst}: {which}")])
    return Columns([Column(title="variant"), Column(title="masking", words=True)], lines)


def _skips(skips: pd.DataFrame) -> Iterator[RenderableType]:
    """Why, and below it the command that measures it, on lines of its own so that it can be copied."""
    for names, why, command in left_out(skips):
        yield indented(f"{', '.join(names)}: {why}", command)
