"""Why something broke: what experiments on the module show, or else what planted defects that look alike suggest."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from suite.audit import experiments, own_backward
from suite.audit.checks.padding import OTHERS
from suite.audit.defects import DEFECTS, Defect
from suite.audit.lab import Lab
from suite.audit.observation import ANY, OWN_WORDS, Observation
from suite.audit.properties import Outcome
from suite.audit.subject import Side, Subject

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
    """What is known of why something broke, and what may be supposed."""

    shown: Mapping[str, str]
    """For each broken property, what an experiment on the module showed."""
    by_property: Mapping[str, tuple[Defect, ...]]
    """The planted defects that look most like it for each broken property, nearest first: a hint, and no more."""
    slots: str
    """``words`` or ``regions`` where only one side's padding is concerned, else ``slots``."""

    def causes(self, id: str) -> list[str]:
        """What was shown, else the names of the planted defects that look like it."""
        return [self.shown[id]] if id in self.shown else [defect.name for defect in self.by_property.get(id, ())]

    def sentence(self, id: str) -> str:
        """Why a property broke and what to change; empty where nothing is known."""
        if id in self.shown:
            return self.shown[id]
        texts = [f"{defect.cause.what}; {defect.cause.remedy}" for defect in self.by_property.get(id, ())]
        said = ", or ".join(text.replace("slots", self.slots) for text in texts)
        return f"perhaps {said}" if said else ""


NOTHING = Explanation(shown={}, by_property={}, slots="slots")
"""Where there is nothing to explain."""


def explain(lab: Lab, outcomes: Iterable[Outcome]) -> Explanation:
    """Account for failures by experiments, and for what these leave by the planted defects that look most like it."""
    outcomes = tuple(outcomes)
    broken = [outcome for outcome in outcomes if outcome.verdict == "broken"]
    shown = _shown(lab, broken)
    if any(found.what in OWN_WORDS for outcome in broken for found in outcome.failures):
        return Explanation(shown=shown, by_property={}, slots="slots")  # that one finding says it all
    return Explanation(shown=shown, by_property=hints(lab.subject, outcomes), slots=_slots(lab.subject, outcomes))


def hints(subject: Subject, outcomes: Iterable[Outcome]) -> dict[str, tuple[Defect, ...]]:
    """The fewest planted defects that account for what broke: the nearest signature first, then what it leaves."""
    outcomes = tuple(outcomes)
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
    return by_property


THROUGH = ("P1", "P2", "P3", "P4", "P6", "P8", "P9r", "P11", "P13")
"""Broken where padding gets through to what is valid."""


def _shown(lab: Lab, broken: Sequence[Outcome]) -> dict[str, str]:
    """What experiments show of each broken property."""
    lab = lab.loose
    by_id = {outcome.examined.id: outcome for outcome in broken}
    guilty: dict[Side, str] = {}
    trained: dict[Side, str] = {}
    for id in ("P1", "P2", "P6", "P3"):
        if id in by_id and not any(guilty.values()):
            alone = {found.sides[0] for found in by_id[id].failures if len(found.sides) == 1}
            for side in (side for side in lab.subject.masked if not alone or side in alone):
                guilty[side] = experiments.safely(partial(_nearest_fact, lab, side, counted=id != "P1"))
                if not guilty[side] and id == "P1":  # it may get through in train mode only
                    trained[side] = experiments.safely(partial(_nearest_fact, lab, side, train=True))
    shown: dict[str, str] = {}
    mixed = experiments.safely(partial(experiments.of_batch_mates, lab, full=True)) if "P3o" in by_id else ""
    for outcome in broken:
        id, worst = outcome.examined.id, outcome.failures[0]
        if worst.what in OWN_WORDS and worst.what != "ordinary padded batch":
            continue
        said = mixed if id in THROUGH else ""
        said = said or experiments.safely(partial(_of_property, lab, outcome))
        for causes in (trained if id in IN_TRAIN_MODE else {}, guilty if id in THROUGH else {}):
            said = said or "; ".join(dict.fromkeys(causes[s] for s in worst.sides or tuple(causes) if causes.get(s)))
        if said:
            shown[id] = said
    return shown


IN_TRAIN_MODE = ("P1", "P8", "P14")
"""Those of them that look at train mode too."""


def _of_property(lab: Lab, outcome: Outcome) -> str:
    """What an experiment for just this property shows; empty where there is none, or where it shows nothing."""
    id, worst = outcome.examined.id, outcome.failures[0]
    endless = not math.isfinite(worst.leak) and worst.output != ANY
    if worst.output == ANY and worst.severity == "fragile":
        return "a check of its own refuses such a batch, which it says, and answers nothing wrong"
    if worst.what == "ordinary padded batch":
        return experiments.of_ordinary_batch(lab)
    if id == "P3o":
        return experiments.of_batch_mates(lab)
    if id == "P5" and worst.sides:
        return experiments.of_holes(lab, worst.sides[0])
    if id == "P1n" and worst.sides:
        return experiments.of_nan_pads(lab, worst.sides[0])
    if id == "P8" and endless:
        return experiments.of_gradient(lab)
    if id in ("P9", "P9r") and worst.sides and endless:
        return experiments.of_empty_row(lab, worst.sides)
    if id == "P9" and worst.output != ANY and worst.where and worst.where[0] in OTHERS:
        return experiments.of_mates_of_empty_row(lab, worst.sides, worst.where[0])
    if id in ("P9", "P9r") and worst.sides:
        return experiments.of_equal_weights(lab, worst.sides)
    if id == "P17":
        return experiments.of_extreme_scores(lab)
    if id == "P9b" and worst.sides:
        return experiments.of_empty_gradient(lab, worst.sides)
    if id == "P8g" and worst.severity == "fragile":
        return "remove the detach, unless it is meant"
    if id == "P8g":
        return own_backward.of_own_backward(lab)
    if id == "P18" and worst.sides:
        return experiments.of_statistics(lab, worst.sides[0])
    if id == "P10" and worst.what in NARROW_TYPES:
        dtype, autocast = NARROW_TYPES[worst.what]
        return experiments.of_narrow_type(lab, dtype, autocast=autocast)
    return ""


NARROW_TYPES = {
    "fp16": (torch.float16, False),
    "bf16": (torch.bfloat16, False),
    "autocast to fp16": (torch.float16, True),
    "autocast to bf16": (torch.bfloat16, True),
}


def _nearest_fact(lab: Lab, side: Side, *, counted: bool = True, train: bool = False) -> str:
    return next(experiments.facts(lab, side, counted=counted, train=train), "")


def _possible(subject: Subject, outcomes: Iterable[Outcome], seen: frozenset[str]) -> dict[str, frozenset[str]]:
    """Each signature less what could not have shown in this subject, which counts neither for nor against."""
    examined = {o.examined.id for o in outcomes if o.verdict not in ("not applicable", "not judged")}
    both = len({output.side for output in subject.judged} & set(subject.names)) > 1
    broken = {trait.split()[0] for trait in seen}
    return {
        name: frozenset(
            trait
            for trait in signature
            if trait in seen or (trait.split()[0] in examined and (both or not trait.endswith("other")))
        )
        for name, signature in signatures().items()
        # a defect whose very own property was examined and holds is none that the subject has
        if not ((own := DEFECTS[name].caught_by[0]) in examined and own not in broken)
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
