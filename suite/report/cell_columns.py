"""What is said of a cell, column by column: the tables of REPORT.md and of the page are made from this list."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from suite.core.records import ANCHOR
from suite.report import units, wording
from suite.report.wording import Row, number


@dataclass(frozen=True, kw_only=True)
class CellColumn:
    """A column of a table of cells."""

    key: str
    title: str
    says: Callable[[Row], str]
    by: str = ""
    """The field that it is sorted by as a number; empty: by its text."""
    shown: bool = False
    """Whether the page shows it without being asked."""
    printed: bool = True
    """Whether it stands in REPORT.md, too."""


def _of(name: str, text: Callable[[float | None], str]) -> Callable[[Row], str]:
    return lambda row: text(number(row, name))


def _time(name: str) -> Callable[[Row], str]:
    """Seconds; of what was found wrong, no time is shown."""
    return lambda row: units.MISSING if row["hidden"] else units.seconds(number(row, name))


def _examples(row: Row) -> str:
    return units.MISSING if row["hidden"] else units.count(number(row, "examples_per_s"))


COLUMNS = (
    CellColumn(key="variant", title="variant", says=lambda row: str(row["variant"]), shown=True),
    CellColumn(key="latency", title="latency (95 %)", says=wording.latency, by="latency_s", shown=True),
    CellColumn(key="examples", title="examples/s", says=_examples, by="examples_per_s"),
    CellColumn(key="over_eager", title="over its eager float32", says=wording.speedup, by="speedup"),
    CellColumn(
        key="over_anchor",
        title=f"over {ANCHOR}",
        says=lambda row: wording.speedup(row, "over_anchor"),
        by="over_anchor",
        shown=True,
    ),
    CellColumn(key="rounds", title="rounds", says=wording.rounds, by="samples"),
    CellColumn(
        key="peak", title="peak memory", says=_of("peak_memory_bytes", units.binary), by="peak_memory_bytes", shown=True
    ),
    CellColumn(key="pool", title="graph pool", says=_of("graph_pool_bytes", units.binary), by="graph_pool_bytes"),
    CellColumn(
        key="saved",
        title="saved for backward",
        says=_of("saved_for_backward_bytes", units.binary),
        by="saved_for_backward_bytes",
    ),
    CellColumn(key="error", title="error", says=_of("agreement_error", units.error), by="agreement_error", shown=True),
    CellColumn(key="masking", title="masking", says=lambda row: str(row["masking"]) or units.MISSING, shown=True),
    CellColumn(key="of_machine", title="of this machine", says=wording.of_machine, by="of_machine"),
    CellColumn(key="first", title="first call", says=_time("first_call_s"), by="first_call_s"),
    CellColumn(key="compiling", title="of it compiling", says=_time("compile_time_s"), by="compile_time_s"),
    CellColumn(key="start", title="cold start", says=_time("cold_start_s"), by="cold_start_s"),
    CellColumn(key="graphs", title="graphs", says=_of("graphs", units.count), by="graphs"),
    CellColumn(key="breaks", title="graph breaks", says=_of("graph_breaks", units.count), by="graph_breaks"),
    CellColumn(key="recompiles", title="recompiles", says=_of("recompiles", units.count), by="recompiles"),
    CellColumn(key="device", title="on the device", says=_time("device_s"), by="device_s"),
    CellColumn(key="device_cold", title="there with a cold cache", says=_time("device_cold_s"), by="device_cold_s"),
    CellColumn(key="cold", title="cold cache", says=_time("cold_latency_s"), by="cold_latency_s"),
    CellColumn(key="launch", title="launch", says=_time("launch_s"), by="launch_s"),
    CellColumn(
        key="flops",
        title="FLOP/s",
        says=lambda row: units.MISSING if row["hidden"] else units.per_second(number(row, "flop_per_s"), "FLOP"),
        by="flop_per_s",
        printed=False,
    ),
    CellColumn(key="agreement", title="agreement", says=lambda row: str(row["agreement"]), printed=False),
    CellColumn(key="known", title="known defects", says=lambda row: str(row["known"]), printed=False),
    CellColumn(key="not_measured", title="not measured because", says=lambda row: str(row["skipped"]), printed=False),
    CellColumn(key="remedy", title="what measures it", says=lambda row: str(row["remedy"]), printed=False),
    CellColumn(key="doubt", title="doubt", says=lambda row: wording.reasons(wording.trust(row)), shown=True),
)


def place_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of one place as text, a row per variant; columns in which nothing was measured are left out.

    Doubts are letters here, which `suite.report.wording.doubts` explains below the table.
    """
    letters = wording.footnotes(cells)
    printed = [column for column in COLUMNS if column.printed]
    table = pd.DataFrame([{column.title: column.says(row) for column in printed} for row in wording.rows(cells)])
    table["variant"] = [f"`{row['variant']}`" for row in wording.rows(cells)]
    table["doubt"] = [" ".join(wording.flags(row, letters)) or units.MISSING for row in wording.rows(cells)]
    table = table[[name for name in table if (table[name] != units.MISSING).any()]]
    return table.rename(columns={f"over {ANCHOR}": f"over `{ANCHOR}`"})
