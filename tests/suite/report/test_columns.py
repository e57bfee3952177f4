"""Every column that a table has is explained beside the runs."""

import re
from pathlib import Path

from suite.report import tables

ROOT = Path(__file__).parents[3]


def test_every_column_of_the_cells_is_explained() -> None:
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    explained: set[str] = set()
    for line in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", line)
        explained |= {first} | {f"{first}{other}" if other.startswith("_") else other for other in others}
    assert set(tables.CELL_COLUMNS) <= explained
