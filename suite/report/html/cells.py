"""The cells of a run as the page holds them: for each a text as REPORT.md has it, and a number to sort by."""

import pandas as pd

from suite.core.workloads import PHASES
from suite.report import units, wording
from suite.report.cell_columns import COLUMNS, CellColumn
from suite.report.html.charts import rounded
from suite.report.wording import Row, number

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
