"""Two runs side by side: what became slower, larger or wrong, as far as the records can tell.

The samples of two runs shared no rounds. A variant is compared by its ratio to the anchor of its own tasks, which makes
a ratio of ratios. The anchor itself was timed in several tasks of each run, and is compared by how much these differ;
so is everything else where the anchor has changed.

Two processes of the same code differ, and two runs compare many cells. A regression is a time whose whole interval,
with both counted in, lies beyond the limit; a suspect lies beyond it and has surely changed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from suite.core import exits, folders, stats
from suite.core.errors import UserError
from suite.core.latencies import Latencies, Place, doubts
from suite.core.records import ANCHOR, FAILURES, Cell, Finding, Measurement, Record, Skip

EXACT = ("peak_memory", "saved_for_backward", "graph_breaks", "recompiles")
"""Quantities without noise: more of them than the limit allows is a regression too."""
FAMILY = 0.01
"""How often two runs of the same code may have one regression or suspect among all their cells (Holm)."""
Route = Literal["anchor", "moved anchor", "tasks", "counts"]
Standing = Literal["", "suspect", "regression"]


class CellKey(NamedTuple):
    """What a number is of, and where it was taken."""

    variant: str
    workload: str
    phase: str
    device: str

    @property
    def place(self) -> Place:
        """Where other variants stand beside it."""
        return Place(self.workload, self.phase, self.device)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One number of two runs."""

    cell: CellKey
    quantity: str
    unit: str
    old: float
    new: float
    ratio: stats.Ratio
    """New over old, with what differs between processes; exact quantities have an interval of no width."""
    through: Route
    """What the ratio was taken from: the anchor's time in the same rounds, times the anchor's own change where one was
    seen when it was measured again; medians of whole tasks; or exact counts."""
    standing: Standing = ""
    """What two runs say, all their cells considered; what is measured again has the last word."""
    trust: tuple[str, ...] = ()
    """Reasons against believing either side."""
    again: tuple[stats.Ratio, ...] = ()
    """The same, measured once more, each in a fresh pair of processes; a regression that does not recur is none."""
    together: stats.Ratio | None = None
    """What these pairs say of the code, and not of their processes."""

    @property
    def regressed(self) -> bool:
        if self.together is not None:
            return all(ratio.verdict == "slower" for ratio in (*self.again, self.together))
        return self.standing == "regression"

    @property
    def suspected(self) -> bool:
        """Whether only fresh processes can tell."""
        return self.together is None and self.standing == "suspect"


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """What two runs say together."""

    changes: tuple[Change, ...]
    broken: tuple[Finding, ...]
    """Findings of the new run that are broken, and were not in the old one."""
    lost: tuple[tuple[CellKey, str], ...]
    """Cells that the new run has no time of, and why."""
    failed: bool
    """Whether one of these was lost to a failure, and not by choice."""
    added: tuple[CellKey, ...]
    """Cells that the old run does not know."""
    fail_above: float
    settings: tuple[str, ...] = ()
    """Settings under which the two were measured and that differ, each as a phrase."""
    scatter: stats.Scatter = stats.ASSUMED
    """How much a ratio of two times differs between processes of either run."""

    @property
    def suspects(self) -> tuple[Change, ...]:
        """Times to be measured again, the anchor's first.

        They are slower or seem to be, with an interval too wide to say so, which is more than what is suspected. An
        anchor that others were compared through is one already where it is not known to have stayed the same.
        """
        through = {change.cell._replace(variant=ANCHOR) for change in self.changes if change.through == "anchor"}
        found = [
            change
            for change in self.changes
            if change.quantity == "latency"
            and (
                change.regressed
                or change.ratio.verdict == "slower"
                or (change.ratio.verdict == "unclear" and change.ratio.estimate > 1 + self.fail_above)
                or (change.ratio.verdict == "unclear" and change.cell in through)
            )
        ]
        return tuple(sorted(found, key=lambda change: change.cell.variant != ANCHOR))

    def with_again(self, cell: CellKey, again: tuple[stats.Ratio, ...]) -> "RunComparison":
        """With what came of measuring a time once more.

        Where the anchor turns out to have changed, what was compared through it is taken times its change, so that a
        slower anchor makes nothing faster.
        """
        moved = _moved(again) if cell.variant == ANCHOR else None
        changes = []
        for change in self.changes:
            if change.cell == cell and change.quantity == "latency":
                together = stats.across(again, self.scatter, margin=self.fail_above)
                change = replace(change, again=again, together=together)
            elif moved is not None and change.through == "anchor" and change.cell._replace(variant=ANCHOR) == cell:
                ratio = stats.product(change.ratio, moved, margin=self.fail_above)
                change = replace(change, ratio=ratio, through="moved anchor")
            changes.append(change)
        return replace(self, changes=_judged(changes, self.fail_above) if moved is not None else tuple(changes))

    def with_doubt(self, cell: CellKey, doubt: str) -> "RunComparison":
        """With a reason against believing a time."""
        changes = (
            replace(change, trust=(*change.trust, doubt))
            if change.cell == cell and change.quantity == "latency"
            else change
            for change in self.changes
        )
        return replace(self, changes=tuple(changes))

    def exit_code(self) -> int:
        if self.broken:
            return exits.INCORRECT
        if any(change.regressed for change in self.changes):
            return exits.REGRESSION
        if self.failed:
            return exits.CELLS_FAILED
        if any(change.suspected for change in self.changes):
            return exits.SUSPECT
        return exits.DONE if self.changes else exits.NOTHING_MEASURED


class Remeasuring(NamedTuple):
    """Where measuring suspects again stands."""

    comparison: RunComparison
    waiting: tuple[CellKey, ...]
    """Suspects that are still to be measured, the next one first."""


def compare(
    old: Sequence[Record], new: Sequence[Record], *, fail_above: float, settings: tuple[str, ...] = ()
) -> RunComparison:
    """Every cell that both runs measured, with a verdict that must clear ``fail_above``, a share such as 0.05.

    Args:
        old: records of the baseline.
        new: records of the run to judge.
        fail_above: the share.
        settings: phrases on what was set differently, to be told with the rest.
    """
    sides = Latencies(old), Latencies(new)
    cells = tuple(_cells(side) for side in sides)
    shared = [cell for cell in cells[1] if cell in cells[0]]
    scatter = stats.believed(*(stats.pooled(*learnt) for learnt in zip(*(side.learnt for side in sides), strict=True)))
    rates = _machine_change(old, new)
    changes = _latency_changes(shared, *sides, scatter, rates, fail_above)
    changes += _exact_changes(old, new, fail_above)
    gone = [cell for cell in cells[0] if cell not in cells[1]]
    skips = {_key(item): item for item in new if isinstance(item, Skip) and item.quantity in ("latency", "")}
    reasons = [skips[cell].reason if cell in skips else "the new run has no time of it" for cell in gone]
    return RunComparison(
        changes=_judged(changes, fail_above),
        broken=tuple(_newly_broken(old, new)),
        lost=tuple(zip(gone, reasons, strict=True)),
        failed=any(cell in skips and skips[cell].cause in FAILURES for cell in gone),
        added=tuple(cell for cell in cells[1] if cell not in cells[0]),
        fail_above=fail_above,
        settings=settings,
        scatter=scatter,
    )


def check_machines(old: Path, new: Path) -> None:
    """Refuse two runs of different machines; of two on clusters, those of different kinds of nodes.

    Raises:
        UserError: they differ, or do not say; the message says in what, and how to compare them all the same.
    """
    before, after = (folders.kind_of_nodes(folders.environment(folder)) for folder in (old, new))
    if before is None or after is None:
        before, after = (_machine(folder) for folder in (old, new))
    differences = [
        f"{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]
    if differences:
        raise UserError(
            f"{old} and {new} were measured on different machines: {'; '.join(differences)}; "
            "--across-machines compares them all the same"
        )


def check_measured_here(old: Path, new: Path) -> None:
    """Refuse to measure on this machine again what was measured on the nodes of a cluster.

    Raises:
        UserError: one of the runs was; the message names it, and a way out.
    """
    for folder in (old, new):
        if folders.kind_of_nodes(folders.environment(folder)) is not None:
            raise UserError(
                f"--remeasure measures on this machine, and {folder} is of the nodes of a cluster: "
                "expected two runs of one machine, such as a node of that kind"
            )


def changed_settings(old: Path, new: Path) -> tuple[str, ...]:
    """Which settings of the two runs differ that change what a processor does, each as a phrase."""
    return tuple(folders.changed_settings(folders.environment(old), folders.environment(new)))


def _machine(folder: Path) -> Mapping[str, object]:
    found: Mapping[str, object] | None = folders.environment(folder).get("machine")
    if found is None:
        raise UserError(
            f"{folder / folders.ENVIRONMENT} does not describe a machine: expected an object named 'machine'"
        )
    return found


def share(text: str) -> float:
    """Read ``5%`` or ``0.05``.

    Raises:
        UserError: it is neither, or negative.
    """
    number, sign, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if sign else 1)
    except ValueError:
        value = -1.0
    # a bare 5 would be 500 %, which nobody means
    if rest or not 0 <= value < (math.inf if sign else 1):
        raise UserError(f"--fail-above {text}: expected a share such as 5% or 0.05")
    return value


def _cells(times: Latencies) -> tuple[CellKey, ...]:
    """Every cell that a run timed."""
    found = (
        CellKey(variant, *place)
        for place, tasks in times.places.items()
        for members in tasks.values()
        for variant in members
    )
    return tuple(dict.fromkeys(found))


def _latency_changes(
    shared: Sequence[CellKey],
    old: Latencies,
    new: Latencies,
    scatter: stats.Scatter,
    rates: Mapping[str, float],
    margin: float,
) -> list[Change]:
    routes = {cell: _route(cell, old, new, rates, margin) for cell in shared}
    through = [cell for cell, route in routes.items() if route == "anchor"]
    # what processes differ by is seen best in the changes themselves: most cells of two runs are the same code
    alone = {cell: _through_anchor(cell, old, new, stats.NONE, margin) for cell in through}
    between = stats.among(list(alone.values()), alike=new.beside_anchor())
    changes = []
    for cell in shared:
        if routes[cell] != "anchor":
            ratio = _between_tasks(cell, old, new, rates, margin)
        elif between is not None:
            ratio = stats.across([alone[cell]], between, margin=margin)
        else:
            ratio = _through_anchor(cell, old, new, scatter, margin)
        place = cell.place
        timed = old.timed(place, cell.variant), new.timed(place, cell.variant)
        reasons = [reason for side in timed for record in side for reason in record.trust]
        reasons += [reason for side in timed for reason in doubts(side)]
        changes.append(
            Change(
                cell=cell,
                quantity="latency",
                unit="s",
                old=old.time(place, cell.variant).estimate,
                new=new.time(place, cell.variant).estimate,
                ratio=ratio,
                through=routes[cell],
                trust=tuple(dict.fromkeys(reasons)),
            )
        )
    return changes


def _route(cell: CellKey, old: Latencies, new: Latencies, rates: Mapping[str, float], margin: float) -> Route:
    place = cell.place
    if cell.variant == ANCHOR or any(side.ratio(place, cell.variant, ANCHOR) is None for side in (old, new)):
        return "tasks"
    # an anchor that changed would pass its own change on to everything measured against it
    moved = _between_tasks(cell._replace(variant=ANCHOR), old, new, rates, margin).verdict in ("faster", "slower")
    return "tasks" if moved else "anchor"


def _through_anchor(
    cell: CellKey, old: Latencies, new: Latencies, scatter: stats.Scatter, margin: float
) -> stats.Ratio:
    before, after = (side.ratio(cell.place, cell.variant, ANCHOR, scatter=scatter) for side in (old, new))
    assert before is not None
    assert after is not None
    return stats.relative(after, before, margin=margin)


def _between_tasks(
    cell: CellKey, old: Latencies, new: Latencies, rates: Mapping[str, float], margin: float
) -> stats.Ratio:
    """As timed, and with the change of the machine's own matrix product taken out: the interval spans both."""
    before, after = (
        [stats.summarise(record.samples).median for record in side.timed(cell.place, cell.variant)]
        for side in (old, new)
    )
    timed = stats.apart(after, before, margin=margin)
    machine_change = rates.get(cell.device)
    if machine_change is None:
        return timed
    low, high = min(timed.low, timed.low / machine_change), max(timed.high, timed.high / machine_change)
    return replace(timed, low=low, high=high, verdict=stats.verdict(low, high, margin))


def _machine_change(old: Iterable[Record], new: Iterable[Record]) -> dict[str, float]:
    """For each device, seconds per FLOP of a matrix product in the new run over those in the old one."""
    before, after = (
        {
            record.device: record.value / flops
            for record in records
            if isinstance(record, Measurement)
            and record.quantity == "gemm_time"
            and record.details.get("dtype") == "float32"
            and record.value
            and isinstance(flops := record.details.get("flops"), int)
        }
        for records in (old, new)
    )
    return {device: after[device] / before[device] for device in after if device in before}


def _judged(changes: Sequence[Change], limit: float) -> tuple[Change, ...]:
    """With what all cells together allow to be said of each."""
    timed = [change for change in changes if change.quantity == "latency"]
    slower = [change.ratio.estimate > 1 for change in timed]
    surely, beyond = (
        stats.holm(
            [change.ratio.chance(bound) if is_slower else 1.0 for change, is_slower in zip(timed, slower, strict=True)],
            level=FAMILY,
        )
        for bound in (1.0, 1 + limit)
    )
    standing: dict[int, Standing] = {}
    for change, is_changed, is_beyond in zip(timed, surely, beyond, strict=True):
        if is_beyond and change.ratio.verdict == "slower":
            standing[id(change)] = "regression"
        elif is_changed and change.ratio.estimate > 1 + limit:
            standing[id(change)] = "suspect"
    for change in changes:
        if change.quantity != "latency" and change.ratio.verdict == "slower":
            standing[id(change)] = "regression"
    return tuple(replace(change, standing=standing.get(id(change), "")) for change in changes)


def _moved(again: Sequence[stats.Ratio]) -> stats.Ratio | None:
    """The change of an anchor that every fresh pair saw, with an interval that holds all of theirs."""
    verdicts = {ratio.verdict for ratio in again}
    if verdicts not in ({"slower"}, {"faster"}):
        return None
    return stats.Ratio(
        estimate=math.exp(sum(math.log(ratio.estimate) for ratio in again) / len(again)),
        low=min(ratio.low for ratio in again),
        high=max(ratio.high for ratio in again),
        verdict=again[0].verdict,
        count=min(ratio.count for ratio in again),
    )


def _exact_changes(old: Iterable[Record], new: Iterable[Record], margin: float) -> list[Change]:
    before, after = (
        {
            (_key(record), record.quantity): record
            for record in records
            if isinstance(record, Measurement) and record.quantity in EXACT and record.value is not None
        }
        for records in (old, new)
    )
    changes = []
    for (cell, quantity), record in after.items():
        if (cell, quantity) in before:
            was, now = before[cell, quantity].value or 0.0, record.value or 0.0
            factor = now / was if was else (math.inf if now else 1.0)
            changes.append(
                Change(
                    cell=cell,
                    quantity=quantity,
                    unit=record.unit,
                    old=was,
                    new=now,
                    ratio=stats.Ratio(
                        estimate=factor,
                        low=factor,
                        high=factor,
                        verdict=stats.verdict(factor, factor, margin),
                        count=1,
                    ),
                    through="counts",
                )
            )
    return changes


def _newly_broken(old: Iterable[Record], new: Iterable[Record]) -> list[Finding]:
    """Each broken finding whose like the old run saw, and did not see broken."""
    before = {
        (_key(item), item.quantity): item.verdict == "broken"
        for item in sorted(
            (item for item in old if isinstance(item, Finding)), key=lambda item: item.verdict == "broken"
        )
    }
    return [
        item
        for item in new
        if isinstance(item, Finding) and item.verdict == "broken" and before.get((_key(item), item.quantity)) is False
    ]


def _key(record: Cell) -> CellKey:
    return CellKey(record.variant, record.workload, record.phase, record.device)
