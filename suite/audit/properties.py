"""The properties that "masked correctly" stands for: a table, and how one is examined."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch

from suite.audit.calling import NotJudged, told
from suite.audit.checks import examples, execution, gradients, numbers, padding, weights
from suite.audit.lab import Lab, Lacking, Raised, attempt
from suite.audit.observation import ANY, Observation
from suite.audit.subject import Side, Subject

Severity = Literal["wrong", "fragile"]


@dataclass(frozen=True, kw_only=True)
class Property:
    """One property: what it says, how bad its failure is, and how it is examined."""

    id: str
    statement: str
    severity: Severity
    says: str
    """What a failure means in a sentence, with ``{output}``, ``{leak}`` and ``{condition}``."""
    check: Callable[[Lab], Iterator[Observation]]
    """Raises `Lacking` where the subject has nothing to be examined on."""


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
        """That of the property, but where what broke is worse."""
        own = {found.severity for found in self.failures if found.verdict == "broken"}
        return "wrong" if "wrong" in own else self.examined.severity

    @property
    def worst(self) -> Observation | None:
        """The comparison that came nearest to failing, or failed worst."""
        if self.failures:
            return self.failures[0]
        return max(self.observations, key=lambda found: found.ratio, default=None)


def _property(
    id: str, severity: Severity, statement: str, says: str, check: Callable[[Lab], Iterator[Observation]]
) -> Property:
    return Property(id=id, statement=statement, severity=severity, says=says, check=check)


PROPERTIES: tuple[Property, ...] = (
    _property(
        "P1",
        "wrong",
        "what stands in padded slots reaches no output",
        "{output} moved by {leak} when {condition} changed",
        padding.contents,
    ),
    _property(
        "P1n",
        "fragile",
        "NaN and Inf in padded slots reach no output and no gradient",
        "{output} moved by {leak} when {condition} held NaN or Inf",
        padding.quarantine,
    ),
    _property(
        "P1v",
        "fragile",
        "a NaN in a valid slot shows in the outputs that see it",
        "{output} hid a NaN in a {condition}",
        padding.laundering,
    ),
    _property(
        "P2",
        "wrong",
        "more padding changes nothing",
        "{output} moved by {leak} when more {condition} were added",
        padding.width,
    ),
    _property(
        "P3",
        "wrong",
        "an example in a padded batch equals the same example alone",
        "{output} differed by {leak} from the same {condition}",
        examples.compaction,
    ),
    _property(
        "P3o",
        "wrong",
        "an example does not depend on its batch mates",
        "{output} moved by {leak} with {condition}",
        examples.batch_mates,
    ),
    _property(
        "P4",
        "wrong",
        "weights are at least 0, exactly 0 on padding, and sum to 1 over valid slots",
        "{output} broke the simplex by {leak}: {condition}",
        weights.simplex,
    ),
    _property(
        "P4c",
        "wrong",
        "weights can differ within a row by more than a factor e",
        "{output} stayed within a factor {leak} in every row, however large the scores",
        weights.contrast,
    ),
    _property(
        "P5",
        "wrong",
        "permuting slots with their validity permutes the weights and leaves the vectors",
        "{output} moved by {leak} with {condition}",
        examples.permutation,
    ),
    _property(
        "P6",
        "wrong",
        "hiding a slot through the mask equals removing it, and matters",
        "{output} differed by {leak}: {condition}",
        examples.live_mask,
    ),
    _property(
        "P7",
        "wrong",
        "validity is not inferred from the features",
        "{output} took a valid {condition} for padding",
        weights.not_from_values,
    ),
    _property(
        "P8",
        "wrong",
        "padding gets no gradient, and gives the parameters none",
        "{output} moved by {leak}: {condition}",
        gradients.isolation,
    ),
    _property(
        "P8g",
        "wrong",
        "gradients are those of the function",
        "{output} differed from finite differences by {leak}",
        gradients.finite_differences,
    ),
    _property(
        "P9",
        "fragile",
        "a side without a valid slot gives exact zeros and changes no other example",
        "{output} moved by {leak} with {condition}",
        padding.empty_row,
    ),
    _property(
        "P9b",
        "fragile",
        "a side without a valid slot leaves all gradients finite",
        "{output} were not finite with {condition}",
        gradients.empty_row,
    ),
    _property(
        "P9r",
        "fragile",
        "an empty side hears nothing from the other side, and its padding reaches nobody",
        "{output} moved by {leak} with {condition}",
        padding.empty_residual,
    ),
    _property(
        "P10",
        "fragile",
        "half precision and autocast neither raise nor overflow, and stay near float64",
        "{output} was off by {leak} with {condition}",
        numbers.narrow_types,
    ),
    _property(
        "P11",
        "wrong",
        "the two validities are not swapped",
        "{output} differed by {leak} with {condition}",
        examples.sides,
    ),
    _property(
        "P12",
        "fragile",
        "a mask means one thing, or is refused",
        "{output} moved by {leak} with validity as {condition}",
        execution.encodings,
    ),
    _property(
        "P13",
        "fragile",
        "odd shapes work, and shapes, dtypes and devices that do not fit are refused",
        "{output} was off by {leak} with {condition}",
        execution.shapes,
    ),
    _property(
        "P14",
        "wrong",
        "modes agree: eval and train without dropout, with and without gradients",
        "{output} moved by {leak} in {condition}",
        execution.modes,
    ),
    _property(
        "P15",
        "wrong",
        "however it is executed, it is the same function",
        "{output} differed by {leak} from eager execution: {condition}",
        execution.agreement,
    ),
    _property(
        "P16",
        "fragile",
        "equal calls give equal results, and leave inputs and earlier results alone",
        "{output} moved by {leak}: {condition}",
        execution.determinism,
    ),
    _property(
        "P17",
        "fragile",
        "no score is so extreme that padding gets through",
        "{output} moved by {leak} with extreme scores: {condition}",
        numbers.extreme_scores,
    ),
    _property(
        "P18",
        "wrong",
        "normalisation in train mode pools valid slots only",
        "{output} moved by {leak} in train mode when {condition} changed",
        padding.statistics,
    ),
    _property(
        "P19",
        "wrong",
        "each side's weights see the other side",
        "{output} moved by only {leak} when every {condition} changed",
        weights.other_side_seen,
    ),
)

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
            return _Trouble(id="P16", found=random, reason="its outputs are random in eval mode: see P16")
    bad = [name for name, value in reference.items() if not bool(value.isfinite().all())]
    if not bad or lab.subject.exact:
        return None
    try:
        also = lab.forward(lab.full)
    except (Raised, NotJudged) as error:
        return _Trouble(reason=f"it is not finite on a padded batch, and cannot be called on a full one: {error}")
    if not all(bool(also[name].isfinite().all()) for name in bad):
        return _Trouble(reason=f"{', '.join(bad)} is NaN or infinite without any padding too")
    found = Observation(
        what="ordinary padded batch",
        output=bad[0],
        leak=math.inf,
        limit=0.0,
        where=tuple(int(at) for at in (~reference[bad[0]].isfinite()).nonzero()[0]),
        note="NaN or not finite on any ordinary padded batch, and finite without padding",
    )
    return _Trouble(id="P3", found=found, reason="its outputs are not finite on any padded batch: see P3")


def _examine(item: Property, lab: Lab) -> Outcome:
    observations: list[Observation] = []
    try:
        # one by one: what was found stays when a later comparison fails
        observations.extend(attempt("the scene itself", (), lambda: item.check(lab)))
    except Lacking as lacking:
        if not observations:
            return Outcome(examined=item, verdict="not applicable", reason=str(lacking))
    if not lab.subject.exact and any(_finite_failure(found) for found in observations):
        observations = _without_rounding(item, lab, observations)
    verdicts = {found.verdict for found in observations}
    if not verdicts:
        return Outcome(examined=item, verdict="not applicable", reason="there was nothing to compare")
    verdict = next(verdict for verdict in _WORST_FIRST if verdict in verdicts)
    reason = next((found.note for found in observations if found.unjudged), "") if verdict == "not judged" else ""
    return Outcome(examined=item, verdict=verdict, observations=tuple(observations), reason=reason)


SHRINKS = 1e-3
"""A difference that is this much smaller in float64 than in float32 is rounding."""


def _finite_failure(found: Observation) -> bool:
    return found.verdict == "broken" and found.rule != "moves" and found.output != ANY and math.isfinite(found.leak)


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
        if left is None or not _finite_failure(found) or left > SHRINKS * found.leak:
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
