"""The cells of a run as the page holds them: for each a text as REPORT.md has it, and a number to sort by."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from suite.core.workloads import PHASES
from suite.report import units, wording
from suite.report.html.charts import rounded
from suite.report.wording import Row, number


@dataclass(frozen=True, kw_only=True)
class CellColumn:
    """A column of the table of variants."""

    key: str
    title: str
    says: Callable[[Row], str]
    by: str = ""
    """The field that it is sorted by as a number; empty: by its text."""
    shown: bool = False
    """Without being asked for."""


def _of(name: str, text: Callable[[float | None], str]) -> Callable[[Row], str]:
    return lambda row: text(number(row, name))


COLUMNS = (
    CellColumn(key="variant", title="variant", says=lambda row: str(row["variant"]), shown=True),
    CellColumn(key="latency", title="latency (95 %)", says=wording.latency, by="latency_s", shown=True),
    CellColumn(
        key="over_anchor", title="over parallel", says=lambda row: wording.speedup(row, "over_anchor"),
        by="over_anchor", shown=True,
    ),
    CellColumn(
        key="peak", title="peak memory", says=_of("peak_memory_bytes", units.binary), by="peak_memory_bytes", shown=True
    ),
    CellColumn(key="error", title="error", says=_of("agreement_error", units.error), by="agreement_error", shown=True),
    CellColumn(key="masking", title="masking", says=lambda row: str(row["masking"]), shown=True),
    CellColumn(key="doubt", title="doubt", says=lambda row: wording.reasons(wording.trust(row)), shown=True),
    CellColumn(key="over_eager", title="over its eager float32", says=wording.speedup, by="speedup"),
    CellColumn(key="of_machine", title="of this machine", says=wording.of_machine, by="of_machine"),
    CellColumn(
        key="examples",
        title="examples/s",
        says=lambda row: units.MISSING if row["hidden"] else units.count(number(row, "examples_per_s")),
        by="examples_per_s",
    ),
    CellColumn(key="rounds", title="samples", says=_of("samples", units.count), by="samples"),
    CellColumn(key="saved", title="saved for backward", says=_of("saved_for_backward_bytes", units.binary),
           by="saved_for_backward_bytes"),
    CellColumn(key="pool", title="graph pool", says=_of("graph_pool_bytes", units.binary), by="graph_pool_bytes"),
    CellColumn(key="first", title="first call", says=_of("first_call_s", units.seconds), by="first_call_s"),
    CellColumn(
        key="compiling", title="of it compiling", says=_of("compile_time_s", units.seconds), by="compile_time_s",
    ),
    CellColumn(key="start", title="cold start", says=_of("cold_start_s", units.seconds), by="cold_start_s"),
    CellColumn(key="cold", title="cold cache", says=_of("cold_latency_s", units.seconds), by="cold_latency_s"),
    CellColumn(key="launch", title="launch", says=_of("launch_s", units.seconds), by="launch_s"),
    CellColumn(key="flops", title="FLOP/s", says=lambda row: units.per_second(number(row, "flop_per_s"), "FLOP"),
           by="flop_per_s"),
    CellColumn(key="graphs", title="graphs", says=_of("graphs", units.count), by="graphs"),
    CellColumn(key="breaks", title="graph breaks", says=_of("graph_breaks", units.count), by="graph_breaks"),
    CellColumn(key="recompiles", title="recompiles", says=_of("recompiles", units.count), by="recompiles"),
    CellColumn(key="agreement", title="agreement", says=lambda row: str(row["agreement"])),
    CellColumn(key="known", title="known defects", says=lambda row: str(row["known"])),
    CellColumn(key="not_measured", title="not measured because", says=lambda row: str(row["skipped"])),
    CellColumn(key="remedy", title="what measures it", says=lambda row: str(row["remedy"])),
)  # fmt: skip
_NOTHING = ("", units.MISSING)


def place_of(row: Row) -> str:
    """What a person chooses: the workload and the device."""
    return f"{row['workload']} · {row['device']}"


def data(cells: pd.DataFrame) -> dict[str, object]:
    """Columns in which there is anything, places, phases and a row per cell.

    A field of a row is a text, or a number and its text where it is sorted by the number.
    """
    rows = wording.rows(cells)
    texts = [[column.says(row) for column in COLUMNS] for row in rows]
    used = [at for at, _ in enumerate(COLUMNS) if any(line[at] not in _NOTHING for line in texts)]
    places = list(dict.fromkeys(map(place_of, rows)))
    phases: list[str] = [phase for phase in PHASES if any(row["phase"] == phase for row in rows)]
    phases += list(dict.fromkeys(str(row["phase"]) for row in rows if row["phase"] not in phases))
    at_place = {place: at for at, place in enumerate(places)}
    at_phase = {phase: at for at, phase in enumerate(phases)}
    return {
        "columns": [
            {
                "key": COLUMNS[at].key, "title": COLUMNS[at].title, "number": bool(COLUMNS[at].by),
                "shown": COLUMNS[at].shown,
            }
            for at in used
        ],
        "places": places,
        "phases": phases,
        "rows": [
            [
                at_place[place_of(row)],
                at_phase[str(row["phase"])],
                str(row["precision"]),
                *(_field(row, COLUMNS[at], line[at]) for at in used),
            ]
            for row, line in zip(rows, texts, strict=True)
        ],
    }  # fmt: skip


def _field(row: Row, column: CellColumn, text: str) -> object:
    if not column.by:
        return text
    shown = None if row["hidden"] and column.by not in _NOT_OF_TIME else rounded(number(row, column.by))
    return [shown, text]


_NOT_OF_TIME = ("peak_memory_bytes", "saved_for_backward_bytes", "graph_pool_bytes", "agreement_error")
