"""The properties that "masked correctly" stands for, as the checks declare them, and how one is examined."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from suite.audit.calling import NotJudged, told
from suite.audit.checks import examples, execution, gradients, numbers, padding, weights
from suite.audit.declared import Property, Severity, declared_in
from suite.audit.lab import Lab, Lacking, Raised, attempt
from suite.audit.observation import ANY, Observation
from suite.audit.subject import Side, Subject


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the examination of one property gave."""

    examined: Property
    verdict: Literal["holds", "broken", "unclear", "not applicable", "not judged"]
    observations: tuple[Observation, ...] = ()
    """Every comparison that was made."""
    reason: str = ""
    """Why it does not apply or could not be judged."""

    @property
    def failures(self) -> tuple[Observation, ...]:
        """What broke, the worst first; what is unclear after it."""
        bad = [found for found in self.observations if found.verdict in ("broken", "unclear")]
        return tuple(sorted(bad, key=lambda found: (found.verdict != "broken", -found.ratio)))

    @property
    def severity(self) -> Severity:
        """That of the property, but where what broke says otherwise of itself; of several, the worse."""
        own = {found.severity or self.examined.severity for found in self.failures if found.verdict == "broken"}
        return self.examined.severity if not own else "wrong" if "wrong" in own else "fragile"

    @property
    def worst(self) -> Observation | None:
        """The comparison that came nearest to failing, or failed worst."""
        if self.failures:
            return self.failures[0]
        return max(self.observations, key=lambda found: found.ratio, default=None)


PROPERTIES = declared_in(examples, execution, gradients, numbers, padding, weights)
"""Every property that a check declares, in the order in which they are examined and shown."""

BY_ID = {item.id: item for item in PROPERTIES}


def examine(subject: Subject, *, seed: int = 0, only: Iterable[str] | None = None) -> Iterator[Outcome]:
    """Examine a subject, property by property, each as soon as it is examined.

    A subject that cannot be held to anything, because it raises, is NaN or is random on an ordinary padded batch, has
    that one outcome; the others are not judged.

    Args:
        subject: the callable under audit.
        seed: of the batches.
        only: ids of properties; all of them unless given.
    """
    lab = Lab(subject, seed)
    trouble = _trouble(lab)
    for item in PROPERTIES if only is None else [BY_ID[id] for id in only]:
        if trouble is None:
            yield _examine(item, lab)
        elif trouble.found is not None and item.id == trouble.id:
            yield Outcome(examined=item, verdict="broken", observations=(trouble.found,))
        else:
            yield Outcome(examined=item, verdict="not judged", reason=trouble.reason)


@dataclass(frozen=True, kw_only=True)
class _Trouble:
    """Why a subject cannot be held to the properties."""

    reason: str
    id: str = ""
    """The property that it breaks by that."""
    found: Observation | None = None


def _trouble(lab: Lab) -> _Trouble | None:
    try:
        reference = lab.reference
    except (Raised, NotJudged) as error:
        return _Trouble(reason=f"it cannot be called on an ordinary padded batch: {error}")
    except Exception as error:
        return _Trouble(reason=f"what it returns cannot be read: {told(error)}")
    if not lab.subject.judged:
        return _Trouble(reason="none of its outputs is of a known kind")
    if not lab.subject.exact:
        try:
            random = execution.randomness(lab)
        except (Raised, NotJudged) as error:
            return _Trouble(reason=f"it cannot be called twice on an ordinary padded batch: {error}")
        if random is not None:
            return _Trouble(id="P16", found=random, reason="equal calls of it in eval mode differ: see P16")
    bad = [name for name, value in reference.items() if not bool(value.isfinite().all())]
    if not bad:
        return None
    try:
        also = lab.forward(lab.full)
    except (Raised, NotJudged) as error:
        return _Trouble(reason=f"it is not finite on a padded batch, and cannot be called on a full one: {error}")
    if not all(bool(also[name].isfinite().all()) for name in bad):
        return _Trouble(reason=f"{', '.join(bad)} {_be(bad)} NaN or infinite without any padding too")
    if lab.subject.exact:  # what it is given is known to be right: each property tells what becomes of it
        return None
    found = Observation(
        what="ordinary padded batch",
        output=bad[0],
        leak=math.inf,
        limit=0.0,
        where=tuple(int(at) for at in (~reference[bad[0]].isfinite()).nonzero()[0]),
        note="NaN or not finite on any ordinary padded batch, and finite without padding",
    )
    return _Trouble(id="P3", found=found, reason="its outputs are not finite on any padded batch: see P3")


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _examine(item: Property, lab: Lab) -> Outcome:
    observations: list[Observation] = []
    try:
        # one by one: what was found stays when a later comparison fails
        observations.extend(attempt("the scene itself", (), lambda: item.check(lab)))
    except Lacking as lacking:
        if not observations:
            return Outcome(examined=item, verdict="not applicable", reason=str(lacking))
    if any(_may_be_rounding(found, lab.subject) for found in observations):
        observations = _without_rounding(item, lab, observations)
    verdicts = {found.verdict for found in observations}
    if not verdicts:
        return Outcome(examined=item, verdict="not applicable", reason="there was nothing to compare")
    verdict = next(verdict for verdict in _WORST_FIRST if verdict in verdicts)
    reason = next((found.note for found in observations if found.unjudged), "") if verdict == "not judged" else ""
    return Outcome(examined=item, verdict=verdict, observations=tuple(observations), reason=reason)


SHRINKS = 1e-3
"""A difference that is this much smaller in float64 than in float32 is rounding."""


def _may_be_rounding(found: Observation, subject: Subject) -> bool:
    """Whether it is a failure by a finite number; of what has to be exact, one that was allowed some rounding."""
    failed = found.verdict == "broken" and found.output != ANY and math.isfinite(found.leak)
    return failed and (found.rule == "band" if subject.exact else found.rule != "moves")


def _without_rounding(item: Property, lab: Lab, observations: list[Observation]) -> list[Observation]:
    """The observations, those that shrink as rounding does when the same is computed in float64 no longer broken."""
    if lab.subject.computes_in != torch.float32 or item.id in ("P8g", "P10"):
        return observations
    wide = Lab(lab.subject.cast(torch.float64), lab.seed)
    largest: dict[tuple[str, tuple[Side, ...], str], float] = {}
    try:
        for found in attempt("the scene itself", (), lambda: item.check(wide)):  # as the first time
            key = found.what, found.sides, found.output
            largest[key] = max(largest.get(key, 0.0), found.leak)
    except (Raised, NotJudged, Lacking):
        return observations

    def judged(found: Observation) -> Observation:
        left = largest.get((found.what, found.sides, found.output))
        if left is None or not _may_be_rounding(found, lab.subject) or left > SHRINKS * found.leak:
            return found
        note = f"rounding of float32: in float64 it is {left:.1e}"
        return replace(found, limit=found.leak, note=f"{found.note}; {note}" if found.note else note)

    return [judged(found) for found in observations]


_WORST_FIRST: tuple[Literal["broken", "unclear", "not judged", "holds"], ...] = (
    "broken",
    "unclear",
    "not judged",
    "holds",
)
