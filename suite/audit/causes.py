"""What a pattern of failures points to: each planted defect leaves a signature, and the nearest ones are named."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from suite.audit.defects import DEFECTS, Defect
from suite.audit.observation import ANY, OWN_WORDS, Observation
from suite.audit.properties import Outcome
from suite.audit.subject import Subject

SIGNATURES = Path(__file__).with_name("signatures.json")
"""The signature of each planted defect, written by ``run_all.py selfcheck masking --write``."""
EXPECTED = 0.6
"""Share of a signature's traits that have to be seen for it to count as a cause."""
AGAINST = 3
"""How much a trait that was looked for and not seen weighs against a seen one."""
MOST = 2


def traits(subject: Subject, outcomes: Iterable[Outcome]) -> frozenset[str]:
    """Which properties broke, and whether in outputs of the side that was changed or of the other one."""
    return frozenset(
        f"{outcome.examined.id} {_relation(subject, found)}"
        for outcome in outcomes
        for found in outcome.failures
        if found.verdict == "broken"
    )


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Which planted defects account for what broke."""

    by_property: Mapping[str, tuple[Defect, ...]]
    """The nearest defects for each broken property, nearest first."""
    slots: str
    """``words`` or ``regions`` where only one side's padding is concerned, else ``slots``."""

    def sentence(self, id: str) -> str:
        """Why a property broke and what to change; empty where nothing is near."""
        texts = [f"{defect.cause.what}; {defect.cause.remedy}" for defect in self.by_property.get(id, ())]
        return ", or ".join(text.replace("slots", self.slots) for text in texts)


def explain(subject: Subject, outcomes: Iterable[Outcome]) -> Explanation:
    """Account for failures by the fewest planted defects: the nearest signature first, then what it leaves."""
    outcomes = tuple(outcomes)
    if any(found.what in OWN_WORDS for outcome in outcomes for found in outcome.failures):
        return Explanation(by_property={}, slots="slots")  # that one finding says it all
    seen = traits(subject, outcomes)
    possible = _possible(subject, outcomes, seen)
    by_property: dict[str, tuple[Defect, ...]] = {}
    left = seen
    while left and subject.masked:
        near = _nearest(possible, seen, left)
        if not near:
            break
        for name in near:
            for id in {trait.split()[0] for trait in possible[name] & left}:
                by_property[id] = (*by_property.get(id, ()), DEFECTS[name])
        left = left - frozenset().union(*(possible[name] for name in near))
    return Explanation(by_property=by_property, slots=_slots(subject, outcomes))


def _possible(subject: Subject, outcomes: Iterable[Outcome], seen: frozenset[str]) -> dict[str, frozenset[str]]:
    """Each signature less what could not have shown in this subject, which counts neither for nor against."""
    examined = {o.examined.id for o in outcomes if o.verdict not in ("not applicable", "not judged")}
    both = len({output.side for output in subject.judged} & set(subject.names)) > 1
    return {
        name: frozenset(
            trait
            for trait in signature
            if trait in seen or (trait.split()[0] in examined and (both or not trait.endswith("other")))
        )
        for name, signature in signatures().items()
    }


def _nearest(possible: Mapping[str, frozenset[str]], seen: frozenset[str], left: frozenset[str]) -> tuple[str, ...]:
    """Signatures that share most with what is left to account for; those that promise what was not seen fall behind."""
    shares = {
        name: len(signature & left) / (len(left) + AGAINST * len(signature - seen))
        for name, signature in possible.items()
        if signature & left and len(signature & seen) >= EXPECTED * len(signature)
    }
    best = max(shares.values(), default=0.0)
    near = sorted((name for name, share in shares.items() if share >= 0.9 * best), key=lambda name: -shares[name])
    return tuple(near[:MOST])


def signatures() -> Mapping[str, frozenset[str]]:
    """Each planted defect's traits."""
    return {name: frozenset(traits) for name, traits in json.loads(SIGNATURES.read_text()).items() if name in DEFECTS}


def write_signatures(found: Mapping[str, frozenset[str]]) -> None:
    """Keep what the planted defects showed."""
    rows = {name: sorted(traits) for name, traits in found.items()}
    SIGNATURES.write_text(json.dumps(rows, indent=1) + "\n")


def _relation(subject: Subject, found: Observation) -> str:
    if found.output in (ANY, "gradients"):
        return found.output
    owners = [output.side for output in subject.judged if output.name == found.output]
    if len(found.sides) != 1 or not owners:
        return "own"
    return "own" if owners[0] in found.sides else "other"


def _slots(subject: Subject, outcomes: Iterable[Outcome]) -> str:
    sides = {
        side
        for outcome in outcomes
        if outcome.examined.id in ("P1", "P2")
        for found in outcome.failures
        if len(found.sides) == 1  # more padding on both sides says nothing about which
        for side in found.sides
    }
    return subject.side(next(iter(sides))).slots if len(sides) == 1 else "slots"
