"""A run as pandas frames, for a notebook: ``cells, findings, samples = suite.load("results/...")``."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from suite.core import store
from suite.core.records import Measurement
from suite.report import tables


class Frames(NamedTuple):
    """A run in base units: seconds, bytes, 1."""

    cells: pd.DataFrame
    """A row per variant, workload, phase and device: `suite.report.tables.CELL_COLUMNS`. ``trust`` holds reasons not
    to believe the times, a tuple of texts."""
    findings: pd.DataFrame
    """A row per finding, as recorded."""
    samples: pd.DataFrame
    """A row per raw sample: ``task``, ``variant``, ``workload``, ``phase``, ``device``, ``quantity``, ``unit``,
    ``round`` (missing where none was noted) and ``value``; samples of one task and round were taken side by side."""


def load(folder: Path | str) -> Frames:
    """Read a run folder.

    Raises:
        UserError: it holds no records, or a line that is none; says which.
    """
    records = store.read(Path(folder))
    made = tables.make(records)
    taken = [
        (*(getattr(record, name) for name in _CELL), record.unit, turn, value)
        for record in records
        if isinstance(record, Measurement)
        for turn, value in zip(record.rounds or (None,) * len(record.samples), record.samples, strict=True)
    ]
    samples = pd.DataFrame(taken, columns=[*_CELL, "unit", "round", "value"])
    return Frames(made.cells, made.findings, samples.astype({"round": "Int64", "value": float}))


_CELL = ("task", "variant", "workload", "phase", "device", "quantity")
