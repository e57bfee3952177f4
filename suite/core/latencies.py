"""The times of a run, process by process: what each said, how much they differ, and what they say together.

A task is a process, and what stands in it shares its layout in memory. A variant or a ratio is reported from every
process that timed it. Whatever was timed in one alone is given the scatter that the others show.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from suite.core import stats
from suite.core.records import ANCHOR, Measurement, Record


class Place(NamedTuple):
    """Where variants stand side by side."""

    workload: str
    phase: str
    device: str


class Latencies:
    """Every latency of a run.

    Args:
        records: of the run; other quantities are passed over.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._tasks: dict[Place, dict[str, dict[str, Measurement]]] = defaultdict(dict)
        for record in records:
            if isinstance(record, Measurement) and record.quantity == "latency" and record.samples:
                place = Place(record.workload, record.phase, record.device)
                self._tasks[place].setdefault(record.task, {})[record.variant] = record
        # a run of a hundred thousand records has thousands of times, and each would ask for all of these again
        self._ratios: dict[tuple[Place, str, str, str], stats.Ratio] = {}
        self._scatters: dict[Place, stats.Scatter] = {}

    @property
    def places(self) -> Mapping[Place, Mapping[str, Mapping[str, Measurement]]]:
        """For each place, and each task there, which is a process: what was timed side by side."""
        return self._tasks

    def timed(self, place: Place, variant: str) -> list[Measurement]:
        """One record for each process that timed it: those without a doubt, or all where every one has some."""
        found = [members[variant] for members in self._tasks.get(place, {}).values() if variant in members]
        return [record for record in found if not record.trust] or found

    def time(self, place: Place, variant: str) -> stats.Ratio:
        """Its median in seconds, with an interval for the code and not for these processes."""
        parts = [stats.time(record.samples) for record in self.timed(place, variant)]
        if place not in self._scatters:
            self._scatters[place] = self._of_times(place)
        return stats.across(parts, self._scatters[place])

    def ratio(
        self, place: Place, variant: str, base: str, *, scatter: stats.Scatter | None = None
    ) -> stats.Ratio | None:
        """Its time over that of another, from every process in which both were timed; None where none did.

        Args:
            place: where both were timed.
            variant: whose time.
            base: over whose.
            scatter: between processes; what the run says of it, if left out.
        """
        parts = self._parts(place, variant, base)
        return stats.across(parts, self.scatter if scatter is None else scatter) if parts else None

    def first(self, place: Place, variant: str, base: str) -> stats.Ratio:
        """What the first process says of itself alone."""
        return self._parts(place, variant, base)[0]

    def beside_anchor(self) -> float:
        """How many others stand in a process beside the anchor, on average."""
        counts = [
            len(members) - 1
            for tasks in self._tasks.values()
            for members in tasks.values()
            if ANCHOR in members and len(members) > 1
        ]
        return sum(counts) / len(counts) if counts else 1.0

    @cached_property
    def scatter(self) -> stats.Scatter:
        """How much the ratio of two times differs between the processes of this run."""
        return stats.believed(*self.learnt)

    @cached_property
    def learnt(self) -> tuple[stats.Scatter | None, stats.Scatter | None]:
        """What the run says of that: by comparisons that were repeated, and by the anchor's times alone."""
        groups = []
        for place, tasks in self._tasks.items():
            together: dict[tuple[str, ...], list[str]] = defaultdict(list)
            for variant in dict.fromkeys(name for members in tasks.values() for name in members if name != ANCHOR):
                inside = tuple(task for task, members in tasks.items() if {variant, ANCHOR} <= members.keys())
                together[inside].append(variant)
            groups += [
                [self._parts(place, variant, ANCHOR, trusted=False) for variant in variants]
                for inside, variants in together.items()
                if len(inside) > 1
            ]
        return stats.scatter(groups), stats.anchored(self._anchors.values(), sides=2)

    def _of_times(self, place: Place) -> stats.Scatter:
        """How much times differ between processes here, the machine's pace included."""
        here = stats.anchored([self._anchors.get(place, [])], sides=1)
        return stats.believed(here, self._of_anchors)

    @cached_property
    def _of_anchors(self) -> stats.Scatter | None:
        return stats.anchored(self._anchors.values(), sides=1)

    @cached_property
    def _anchors(self) -> dict[Place, list[stats.Ratio]]:
        return {
            place: [stats.time(members[ANCHOR].samples) for members in tasks.values() if ANCHOR in members]
            for place, tasks in self._tasks.items()
        }

    def _parts(self, place: Place, variant: str, base: str, *, trusted: bool = True) -> list[stats.Ratio]:
        both = [
            (task, members[variant], members[base])
            for task, members in self._tasks.get(place, {}).items()
            if variant in members and base in members
        ]
        if trusted:
            both = [pair for pair in both if not pair[1].trust and not pair[2].trust] or both
        found = []
        for task, own, other in both:
            key = (place, task, variant, base)
            if key not in self._ratios:
                self._ratios[key] = stats.ratio(own.samples, own.rounds, other.samples, other.rounds)
            found.append(self._ratios[key])
        return found


def doubts(timed: Sequence[Measurement]) -> list[str]:
    """What the samples themselves say against a time: too few rounds, or calls of two kinds."""
    found = []
    rounds = sum(len(set(record.rounds)) or len(record.samples) for record in timed)
    if rounds < stats.FEWEST_FOR_A_VERDICT:
        found.append(f"{rounds} of the {stats.FEWEST_FOR_A_VERDICT} rounds that a verdict takes")
    modes = [two for two in (stats.two_modes(record.samples) for record in timed) if two is not None]
    if 2 * len(modes) > len(timed):
        share, factor = modes[0]
        found.append(
            f"its calls are of two kinds: {share:.0%} take {factor:.2f} times as long, and a median tells neither"
        )
    return found
