"""The audit audited: every planted defect against every property, and correct mechanisms over many seeds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from suite.audit.defects import DEFECTS, SOUND, Defect, Sound, sound, subject_of
from suite.audit.findings import findings
from suite.audit.innocents import INNOCENTS, innocent
from suite.audit.properties import PROPERTIES, Outcome, examine
from suite.audit.reading import NotUnderstood, understand
from suite.audit.reading.doubt import doubted
from suite.audit.subject import from_module

REASONS: Mapping[str, str] = {
    "P1": "whatever breaks it breaks P1n too; it tells what is wrong from what is fragile",
    "P3": "it is what masking is for; the others say how it failed",
    "P3o": "bit for bit, it sees between examples what is too small for any band, and P17 only where scores explode",
    "P6": "it alone sees a dead mask on a batch without padding",
    "P8": "P8g needs float64; a kernel's own backward in a narrow type is seen here",
    "P9r": "for tokens, where an empty row is not zeros, nothing else looks at it",
}
"""Why a property that is no planted defect's only catcher is there."""
NEEDED = (
    *("P1", "P1n", "P1v", "P2", "P3", "P3o", "P4", "P4c", "P5", "P6", "P7", "P8", "P8g"),
    *("P9", "P9b", "P9r", "P10", "P15", "P17", "P19"),
)
"""The detectors that have to be a defect's only catcher or to have a reason."""


@dataclass(frozen=True, kw_only=True)
class Caught:
    """What the audit said of one planted defect."""

    defect: Defect
    broken: tuple[str, ...]
    """Ids of the properties that it breaks."""
    outcomes: tuple[Outcome, ...]

    @property
    def missed(self) -> tuple[str, ...]:
        """Properties that should have caught it and did not."""
        return tuple(id for id in self.defect.caught_by if id not in self.broken)


def plant_all(names: Iterable[str] | None = None, *, seed: int = 0) -> Iterator[Caught]:
    """Audit every planted defect, or those named."""
    for name in DEFECTS if names is None else names:
        defect = DEFECTS[name]
        outcomes = tuple(examine(subject_of(defect, seed=seed), seed=seed))
        broken = tuple(outcome.examined.id for outcome in outcomes if outcome.verdict == "broken")
        yield Caught(defect=defect, broken=broken, outcomes=outcomes)


def missed(defect: Defect, seed: int) -> tuple[str, ...]:
    """The properties that should catch a planted defect, and do not with that seed's weights and batches."""
    outcomes = examine(subject_of(defect, seed=seed), seed=seed, only=defect.caught_by)
    return tuple(outcome.examined.id for outcome in outcomes if outcome.verdict != "broken")


def false_alarms(
    seeds: Iterable[int], kinds: Sequence[type[Sound]] = SOUND, *, width: int = 32
) -> Iterator[tuple[int, str, Outcome]]:
    """What the audit wrongly says of correct mechanisms: seed, mechanism, outcome."""
    for seed in seeds:
        for kind in kinds:
            module = sound(kind, image_width=width, question_width=width, seed=seed)
            for outcome in examine(from_module(module, name=kind.__name__), seed=seed):
                if outcome.verdict in ("broken", "unclear"):
                    yield seed, kind.__name__, outcome


JUDGED = tuple(item.id for item in PROPERTIES if item.severity == "wrong")
"""What an innocent may break none of; what is fragile in it is its own business."""


def accusations(seeds: Iterable[int], names: Iterable[str] = tuple(INNOCENTS)) -> Iterator[tuple[str, int, str]]:
    """What the audit wrongly says of correct modules of each convention, from their signatures on.

    Yields:
        Name, seed, and what was said; nothing said is an empty string, so that trials can be counted.
    """
    for name in names:
        for seed in seeds:
            try:
                understood = understand(innocent(name, seed=seed), name=name)
            except NotUnderstood as refused:
                yield name, seed, f"refused: {str(refused).partition(chr(10))[0]}"
                continue
            outcomes = examine(understood.subject, seed=seed, only=JUDGED)
            found = findings(understood.subject, outcomes, task="selfcheck", device="cpu", seed=seed)
            wrong = [one for one in doubted(found, understood.doubts) if one.verdict == "broken"]
            yield name, seed, "; ".join(f"{one.quantity}: {one.details.get('said', one.summary)}" for one in wrong)


def only_catchers(caught: Iterable[Caught]) -> dict[str, tuple[str, ...]]:
    """For each property, the planted defects that it alone catches."""
    alone: dict[str, tuple[str, ...]] = {item.id: () for item in PROPERTIES}
    for found in caught:
        if len(found.broken) == 1:
            alone[found.broken[0]] += (found.defect.name,)
    return alone
