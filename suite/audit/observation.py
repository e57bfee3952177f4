"""One comparison as fields, and the one place where it becomes words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from suite.audit.subject import Side, Subject

Rule = Literal["exact", "band", "moves"]

ANY = "any"
"""The output of a comparison that never came to compare outputs; in a known defect, whatever there is."""

WHAT: Mapping[str, str] = {
    "the scene itself": "the scene itself",
    # what stands in padding, and how much of it there is
    "pads filled": "padded {slots}",
    "pads not finite": "padded {slots}",
    "pads added": "padded {slots}",
    "NaN in a valid slot": "valid {slot}",
    "side emptied": "empty {side}",
    # examples among others
    "alone": "example alone",
    "alone without a mask": "example alone without a mask",
    "mates' contents": "other contents in its batch mates",
    "mates' lengths": "other lengths of its batch mates",
    "batch reordered": "the batch in another order",
    "slots moved apart": "{slots} moved apart",
    "pads on the left": "padded {slots} on the left",
    "slots permuted": "permuted {slots}",
    # the mask
    "no mask": "padding",
    "hidden or removed": "a hidden {slot} against a removed one",
    "hidden": "a hidden {slot} must matter",
    "mask inverted": "an inverted mask of {slots} must matter",
    "sides of one width": "as many slots on every side",
    "booleans for a mask": "booleans for {slots}",
    "integers for a mask": "integers 0 and 1 for {slots}",
    "bytes for a mask": "bytes 0 and 1 for {slots}",
    "floats for a mask": "floats 0 and 1 for {slots}",
    "an additive mask": "an additive mask for {slots}",
    "int32 lengths": "int32 lengths of {slots}",
    "int64 lengths": "int64 lengths of {slots}",
    "lengths": "lengths",
    # weights
    "weight on pads": "weight on padded {slots}",
    "negative weights": "negative weights",
    "sum of weights": "the sum over valid {slots} is not 1",
    "shape of weights": "shape",
    "scores scaled": "scores scaled",
    "slot zeroed": "zero {slot}",
    "valid slots changed": "valid {slot}",
    # gradients
    "gradient at pads": "padded {slots} get a gradient",
    "gradients alone": "gradients of the same examples alone",
    "differences": "finite differences",
    # numbers
    "fp16": "fp16",
    "bf16": "bf16",
    "autocast to fp16": "autocast to fp16",
    "autocast to bf16": "autocast to bf16",
    "scores shifted": "shifted scores",
    "features scaled": "large features",
    # shapes
    "one example": "one example",
    "one slot": "one {slot}",
    "no row full": "no row of {slots} full",
    "mask expanded": "expanded mask of {slots}",
    "mask a slot too short": "a mask of {slots} that is a slot too short",
    "mask an example too short": "a mask of {slots} that is an example too short",
    "mask on another device": "a mask of {slots} on another device",
    "mask of floats": "a mask of {slots} in floats",
    # ways of execution
    "train mode": "train mode",
    "eval mode with gradients": "eval mode with gradients",
    "inference mode": "inference mode",
    "math backend": "math backend",
    "flash_attention backend": "flash attention backend",
    "efficient_attention backend": "efficient attention backend",
    "cudnn_attention backend": "cudnn attention backend",
    "first shape": "first shape",
    "second shape": "second shape",
    "first shape again": "first shape again",
    "first shape in train mode": "first shape, in train mode",
    "input written to": "an input was written to",
    "earlier result changed": "an earlier result changed after other calls",
    "call repeated": "the same call after others",
    "call with other randomness": "the same call again in eval mode",
    "ordinary padded batch": "any ordinary padded batch",
}
"""What may be done to a scene or looked at, and how it is said of a side; a known defect uses the same words."""


OWN_WORDS: Mapping[str, str] = {
    "call with other randomness": "equal calls in eval mode differ in {output}: {note}",
    "ordinary padded batch": "{output} is {note}",
}
"""What is said whole, since it is not about one property."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One comparison and its outcome."""

    what: str
    """What was done or looked at: a key of `WHAT`."""
    sides: tuple[Side, ...] = ()
    """To which sides it was done; none where it is no side's own."""
    output: str
    """Which output was looked at, ``gradients``, or ``any`` where the call itself failed."""
    leak: float
    limit: float
    noise: float = 0.0
    rule: Rule = "exact"
    where: tuple[int, ...] = ()
    """Index of the largest difference in that output."""
    note: str = ""
    """What happened, where a number does not say it."""
    severity: Literal["wrong", "fragile"] | None = None
    """Where it is not that of its property."""
    unjudged: bool = False
    """Whether the comparison could not be made, for a reason that is no fault of the subject: the note."""

    @property
    def verdict(self) -> Literal["holds", "broken", "unclear", "not judged"]:
        if self.unjudged:
            return "not judged"
        if self.rule == "moves":
            return "holds" if self.leak > self.limit else "broken"
        if self.leak <= self.limit:
            return "holds"
        return "unclear" if self.rule == "band" and self.leak <= 4 * self.noise else "broken"

    @property
    def ratio(self) -> float:
        """Leak over limit, larger is worse; for what must move, the inverse."""
        if self.rule == "moves":
            return self.limit / self.leak if self.leak else math.inf
        if self.leak == 0:
            return 0.0
        return self.leak / self.limit if self.limit else math.inf


def condition(what: str, sides: tuple[Side, ...], subject: Subject) -> str:
    """What was done, in words: ``padded words``, or ``padded regions and padded words``."""
    phrase = WHAT[what]
    if "{" not in phrase:
        return phrase
    owners = [subject.side(side) for side in sides]
    return " and ".join(phrase.format(slots=side.slots, slot=side.slot, side=side.name) for side in owners)
