"""Every plot that a run has numbers for."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from suite.records import Finding
from suite.report import matrix, rows, scatter, style
from suite.report.tables import Tables

MOST_WORKLOADS = 8
"""Places that have plots of their own; beyond them a page is scrolled past, and the tables hold everything."""
MOST_LEAKS = 6


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
            path = folder / f"{re.sub(r'[^A-Za-z0-9.+_-]+', '-', f'{kind}-{name}').strip('-')}.png"
            # without its own version in the file the same records give the same bytes
            figure.savefig(path, dpi=style.DOTS_PER_INCH, facecolor="white", metadata={"Software": None})
            plots.append(Plot(path=path, title=title, kind=kind))
    return plots


def _drawn(made: Tables, findings: Iterable[Finding]) -> Iterator[tuple[str, str, tuple[Figure, str]]]:
    swept = set(made.growth["workload"]) - set(made.growth["start"])
    places = [item for item in made.cells.groupby(["workload", "device"], sort=False) if item[0][0] not in swept]
    for (workload, device), cells in places[:MOST_WORKLOADS]:
        for kind, drawn in (
            ("latency", rows.latency(cells)),
            ("memory", rows.memory(cells)),
            ("error", scatter.error(cells)),
            ("roofline", scatter.roofline(cells, made.peaks)),
        ):
            if drawn is not None:
                yield kind, f"{workload}-{device}", drawn
    for (axis, start, phase, device), line in made.growth.groupby(["axis", "start", "phase", "device"], sort=False):
        for quantity in scatter.COSTS:
            drawn = scatter.growth(line, quantity)
            if drawn is not None:
                yield "growth", f"{quantity.rpartition('_')[0]}-{axis}-{start}-{phase}-{device}", drawn
    drawn = matrix.verdicts(made.masking)
    if drawn is not None:
        yield "masking", "matrix", drawn
    leaks = 0
    for finding in findings:
        if finding.verdict in ("broken", "known") and leaks < MOST_LEAKS:
            drawn = matrix.leak(finding)
            if drawn is not None:
                leaks += 1
                yield "leak", f"{finding.variant}-{finding.quantity}", drawn
