"""Two runs side by side: what became slower, larger or wrong, as far as the records can tell.

The samples of two runs shared no rounds. A variant is compared by its ratio to the anchor of its own task, which makes
a ratio of ratios. The anchor itself was timed in several tasks of each run, and is compared by how much these differ;
so is everything else where the anchor has changed.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from suite.core import exits, folders, stats
from suite.core.errors import UserError
from suite.core.records import ANCHOR, FAILURES, Cell, Finding, Measurement, Record, Skip

EXACT = ("peak_memory", "saved_for_backward", "graph_breaks", "recompiles")
"""Quantities without noise: more of them than the limit allows is a regression too."""
Route = Literal["anchor", "moved anchor", "tasks", "counts"]


class Place(NamedTuple):
    """Where a number was taken."""

    variant: str
    workload: str
    phase: str
    device: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """One number of two runs."""

    place: Place
    quantity: str
    unit: str
    old: float
    new: float
    ratio: stats.Ratio
    """New over old; exact quantities have an interval of no width."""
    through: Route
    """What the ratio was taken from: the anchor's time in the same rounds, times the anchor's own change where one was
    seen when it was measured again; medians of whole tasks; or exact counts."""
    trust: tuple[str, ...] = ()
    """Reasons against believing either side."""
    again: tuple[stats.Ratio, ...] = ()
    """The same, measured once more, each in a fresh pair of processes; a regression that does not recur is none."""

    @property
    def regressed(self) -> bool:
        return all(ratio.verdict == "slower" for ratio in (self.again or (self.ratio,)))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two runs say together."""

    changes: tuple[Change, ...]
    broken: tuple[Finding, ...]
    """Findings of the new run that are broken, and were not in the old one."""
    lost: tuple[tuple[Place, str], ...]
    """Cells that the new run has no time of, and why."""
    failed: bool
    """Whether one of these was lost to a failure, and not by choice."""
    added: tuple[Place, ...]
    """Cells that the old run does not know."""
    fail_above: float
    settings: tuple[str, ...] = ()
    """Settings under which the two were measured and that differ, each as a phrase."""

    @property
    def suspects(self) -> tuple[Change, ...]:
        """Times to be measured again, the anchor's first.

        They regressed, or seem to with an interval too wide to say so. An anchor that others were compared through is
        one already where it is not known to have stayed the same.
        """
        through = {change.place._replace(variant=ANCHOR) for change in self.changes if change.through == "anchor"}
        found = [
            change
            for change in self.changes
            if change.quantity == "latency"
            and (
                change.regressed
                or (change.ratio.verdict == "unclear" and change.ratio.estimate > 1 + self.fail_above)
                or (change.ratio.verdict == "unclear" and change.place in through)
            )
        ]
        return tuple(sorted(found, key=lambda change: change.place.variant != ANCHOR))

    def with_again(self, place: Place, again: tuple[stats.Ratio, ...]) -> "Comparison":
        """With what came of measuring a time once more.

        Where the anchor turns out to have changed, what was compared through it is taken times its change, so that a
        slower anchor makes nothing faster.
        """
        moved = _moved(again) if place.variant == ANCHOR else None
        changes = []
        for change in self.changes:
            if change.place == place and change.quantity == "latency":
                change = replace(change, again=again)
            elif moved is not None and change.through == "anchor" and change.place._replace(variant=ANCHOR) == place:
                ratio = stats.product(change.ratio, moved, margin=self.fail_above)
                change = replace(change, ratio=ratio, through="moved anchor")
            changes.append(change)
        return replace(self, changes=tuple(changes))

    def with_doubt(self, place: Place, doubt: str) -> "Comparison":
        """With a reason against believing a time."""
        changes = (
            replace(change, trust=(*change.trust, doubt))
            if change.place == place and change.quantity == "latency"
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
        return exits.DONE if self.changes else exits.NOTHING_MEASURED


class Step(NamedTuple):
    """Where measuring suspects again stands."""

    comparison: Comparison
    waiting: tuple[Place, ...]
    """Suspects that are still to be measured, the next one first."""


def compare(
    old: Sequence[Record], new: Sequence[Record], *, fail_above: float, settings: tuple[str, ...] = ()
) -> Comparison:
    """Every cell that both runs measured, with a verdict that must clear ``fail_above``, a share such as 0.05.

    Args:
        old: records of the baseline.
        new: records of the run to judge.
        fail_above: the share.
        settings: phrases on what was set differently, to be told with the rest.
    """
    sides = _Latencies(old), _Latencies(new)
    shared = [place for place in sides[1].home if place in sides[0].home]
    changes = [_latency_change(place, *sides, fail_above) for place in shared]
    changes += _exact_changes(old, new, fail_above)
    gone = [place for place in sides[0].home if place not in sides[1].home]
    skips = {_place(item): item for item in new if isinstance(item, Skip) and item.quantity in ("latency", "")}
    reasons = [skips[place].reason if place in skips else "the new run has no time of it" for place in gone]
    return Comparison(
        changes=tuple(changes),
        broken=tuple(_newly_broken(old, new)),
        lost=tuple(zip(gone, reasons, strict=True)),
        failed=any(place in skips and skips[place].cause in FAILURES for place in gone),
        added=tuple(place for place in sides[1].home if place not in sides[0].home),
        fail_above=fail_above,
        settings=settings,
    )


def check_machines(old: Path, new: Path) -> None:
    """Refuse two runs of different machines.

    Raises:
        UserError: they differ, or do not say; the message says in what, and how to compare them all the same.
    """
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


class _Latencies:
    """The times of a run, each with those taken in the same rounds."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._tasks: dict[str, dict[Place, Measurement]] = defaultdict(dict)
        self._products: dict[str, float] = {}
        for record in records:
            if not isinstance(record, Measurement):
                continue
            if record.quantity == "latency" and record.samples:
                self._tasks[record.task][_place(record)] = record
            elif record.quantity == "gemm_time" and record.details.get("dtype") == "float32":
                flops = record.details.get("flops")
                if record.value and isinstance(flops, int):
                    self._products[record.device] = record.value / flops
        worth: dict[Place, tuple[int, int]] = {}
        self.home: dict[Place, str] = {}
        """The task that a place is reported from: where most of the variants are of its own mechanism; of several, the
        one that took most samples."""
        for task, members in self._tasks.items():
            for place, record in members.items():
                count = sum(_mechanism(other.variant) == _mechanism(place.variant) for other in members)
                if (count, len(record.samples)) > worth.get(place, (0, 0)):
                    worth[place], self.home[place] = (count, len(record.samples)), task

    def record(self, place: Place) -> Measurement:
        return self._tasks[self.home[place]][place]

    def over_anchor(self, place: Place) -> stats.Ratio | None:
        """Time over the anchor's, in the rounds of its own task; None where the task timed no anchor."""
        anchor = self._tasks[self.home[place]].get(place._replace(variant=ANCHOR))
        record = self.record(place)
        if anchor is None or anchor is record:
            return None
        return stats.ratio(record.samples, record.rounds, anchor.samples, anchor.rounds)

    def medians(self, place: Place) -> list[float]:
        """One median for each task, and so for each process, that timed it."""
        return [stats.summarise(members[place].samples).median for members in self._tasks.values() if place in members]

    def product(self, device: str) -> float | None:
        """Seconds that this machine needed per FLOP of a matrix product."""
        return self._products.get(device)


def _latency_change(place: Place, old: _Latencies, new: _Latencies, margin: float) -> Change:
    ratio, through = _between(place, old, new, margin)
    records = old.record(place), new.record(place)
    return Change(
        place=place,
        quantity="latency",
        unit="s",
        old=stats.summarise(records[0].samples).median,
        new=stats.summarise(records[1].samples).median,
        ratio=ratio,
        through=through,
        trust=tuple(dict.fromkeys((*records[0].trust, *records[1].trust))),
    )


def _between(place: Place, old: _Latencies, new: _Latencies, margin: float) -> tuple[stats.Ratio, Route]:
    before, after = old.over_anchor(place), new.over_anchor(place)
    if before is not None and after is not None:
        anchor = place._replace(variant=ANCHOR)
        # an anchor that changed would pass its own change on to everything measured against it
        if _between_tasks(anchor, old, new, margin).verdict not in ("faster", "slower"):
            return stats.relative(after, before, margin=margin), "anchor"
    return _between_tasks(place, old, new, margin), "tasks"


def _between_tasks(place: Place, old: _Latencies, new: _Latencies, margin: float) -> stats.Ratio:
    """As timed, and with the change of the machine's own matrix product taken out: the interval spans both."""
    timed = stats.apart(new.medians(place), old.medians(place), margin=margin)
    before, after = old.product(place.device), new.product(place.device)
    if before is None or after is None:
        return timed
    machine_change = after / before
    low, high = min(timed.low, timed.low / machine_change), max(timed.high, timed.high / machine_change)
    return replace(timed, low=low, high=high, verdict=stats.verdict(low, high, margin))


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
            (_place(record), record.quantity): record
            for record in records
            if isinstance(record, Measurement) and record.quantity in EXACT and record.value is not None
        }
        for records in (old, new)
    )
    changes = []
    for (place, quantity), record in after.items():
        if (place, quantity) in before:
            was, now = before[place, quantity].value or 0.0, record.value or 0.0
            factor = now / was if was else (math.inf if now else 1.0)
            changes.append(
                Change(
                    place=place,
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
        (_place(item), item.quantity): item.verdict == "broken"
        for item in sorted(
            (item for item in old if isinstance(item, Finding)), key=lambda item: item.verdict == "broken"
        )
    }
    return [
        item
        for item in new
        if isinstance(item, Finding) and item.verdict == "broken" and before.get((_place(item), item.quantity)) is False
    ]


def _place(record: Cell) -> Place:
    return Place(record.variant, record.workload, record.phase, record.device)


def _mechanism(variant: str) -> str:
    return variant.partition("+")[0].partition("[")[0].partition("-")[0]
