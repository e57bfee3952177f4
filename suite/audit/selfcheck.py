"""The audit audited: every planted defect against every property, and correct mechanisms over many seeds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from suite.audit.defects import DEFECTS, SOUND, Defect, Sound, sound, subject_of
from suite.audit.properties import PROPERTIES, Outcome, examine
from suite.audit.subject import from_module

REASONS: Mapping[str, str] = {}


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


def only_catchers(caught: Iterable[Caught]) -> dict[str, tuple[str, ...]]:
    """For each property, the planted defects that it alone catches."""
    alone: dict[str, tuple[str, ...]] = {item.id: () for item in PROPERTIES}
    for found in caught:
        if len(found.broken) == 1:
            alone[found.broken[0]] += (found.defect.name,)
    return alone
