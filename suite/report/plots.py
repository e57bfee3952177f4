"""Every plot that a run has numbers for."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from suite.core import folders
from suite.core.records import Finding
from suite.report import leaks, matrix, rows, scatter, style
from suite.report.tables import Tables

MOST_PLACES = 8
"""Workloads that have plots of their own; beyond them a page is scrolled past, and the tables hold everything."""
MOST_SWEEPS = 12
MOST_CELLS = 3000
"""A larger run is for tables: it has one plot of latency, one of growth and those of masking."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture that was written, and what it says."""

    path: Path
    title: str
    kind: str


def write(made: Tables, findings: Iterable[Finding], folder: Path) -> list[Plot]:
    """Draw into a folder, over what was there; the plots in the order in which a page shows them."""
    folder.mkdir(exist_ok=True)
    plots = []
    with style.applied():
        for kind, name, (figure, title) in _drawn(made, findings):
            path = folders.target(folder, f"{folders.file_name(f'{kind}-{name}')}.png")
            # without its own version in the file the same records give the same bytes
            figure.savefig(path, dpi=style.DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
            plots.append(Plot(path=path, title=title, kind=kind))
    return plots


def _drawn(made: Tables, findings: Iterable[Finding]) -> Iterator[tuple[str, str, tuple[Figure, str]]]:
    swept = set(made.growth["workload"]) - set(made.growth["start"])
    places = [item for item in made.cells.groupby(["workload", "device"], sort=False) if item[0][0] not in swept]
    huge = len(made.cells) > MOST_CELLS
    kinds: dict[str, Callable[[pd.DataFrame], tuple[Figure, str] | None]] = {
        "latency": rows.latency,
        "memory": lambda cells: rows.memory(cells, made.skips),
        "error": scatter.error,
        "roofline": scatter.roofline,
    }
    for (workload, device), cells in places[: 1 if huge else MOST_PLACES]:
        for kind in list(kinds)[: 1 if huge else None]:
            drawn = kinds[kind](cells)
            if drawn is not None:
                yield kind, f"{workload}-{device}", drawn
    sweeps = list(made.growth.groupby(["axis", "start", "phase", "device"], sort=False))
    for (axis, start, phase, device), line in sweeps[: 1 if huge else MOST_SWEEPS]:
        for quantity in list(scatter.COSTS)[: 1 if huge else None]:
            drawn = scatter.growth(line, quantity)
            if drawn is not None:
                yield "growth", f"{quantity.rpartition('_')[0]}-{axis}-{start}-{phase}-{device}", drawn
    drawn = matrix.verdicts(made.masking)
    if drawn is not None:
        yield "masking", "matrix", drawn
    drawn = leaks.plot(findings)
    if drawn is not None:
        yield "leaks", "by-variant", drawn
