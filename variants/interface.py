"""The contract: what a co-attention sees, what it returns, and what it says of itself."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from variants.masking import blank
from variants.origin import Origin


class Batch(NamedTuple):
    """Two padded sets per example, with which of their slots are real.

    Validity comes from counts, never from zeros in the features, and may have any pattern: holes and left padding too.
    """

    image: Tensor  # [B, N, V]
    question: Tensor  # [B, T, Q]
    image_valid: Tensor  # [B, N] bool, True where the region is real
    question_valid: Tensor  # [B, T] bool, True where the word is real


def blanked(batch: Batch) -> Batch:
    """The batch with exact zeros in padded slots, whatever was there, NaN and Inf included."""
    return batch._replace(
        image=blank(batch.image, batch.image_valid), question=blank(batch.question, batch.question_valid)
    )


class Attended(NamedTuple):
    """One vector and one row of attention weights per glimpse and side.

    Weights are non-negative, exactly 0 on padding, and sum to 1 over the valid slots. A side without a valid slot has
    zero weights and zero vectors.
    """

    image: Tensor  # [B, G, V']
    question: Tensor  # [B, G, Q']
    image_weights: Tensor  # [B, G, N]
    question_weights: Tensor  # [B, G, T]


@dataclass(frozen=True, kw_only=True)
class KnownDefect:
    """A fault that a published implementation is known to have, in the terms of the masking audit."""

    property: str
    """The audit's property that it breaks, such as ``P1``."""
    output: str = "any"
    """The field of ``Attended`` (or ``gradients``) in which it shows, or ``any``."""
    what: str = "any"
    """What is done when it shows, in the audit's words (`suite.audit.observation.WHAT`), such as ``pads filled``."""
    side: str = "any"
    """On which side that is done: ``image`` or ``question``, or ``any``."""
    summary: str
    """What happens and why, in one sentence."""
    always: bool = True
    """Whether every audit finds it; what shows by chance, as rounding does, is not missing where it does not."""


class Skip(Exception):
    """A variant that cannot be had here (no GPU, no kernel for it); the message is the reason."""


class CoAttention(nn.Module, ABC):
    """A mechanism: a function with weights that sees one batch and keeps nothing on ``self``.

    A subclass is final. Its options are the keyword-only arguments that its constructor adds to the three below, each
    an ``int``, ``float``, ``bool``, a ``Literal`` of strings, or one of these ``| None``, with a default.
    """

    source: ClassVar[str]
    """Paper, section and equations; or the public implementation whose behaviour this is."""
    origin: ClassVar[Origin | None] = None
    """Where a published implementation is from; None for mechanisms of ours and of users."""
    parts: ClassVar[tuple[str, ...]] = ()
    """What ``-part`` may remove, each replaced by the plainest thing that keeps the shapes."""
    known_defects: tuple[KnownDefect, ...] = ()
    """Empty but for published implementations, which behave as published; an option of theirs may change them."""
    word_order_matters: ClassVar[bool] = False
    """Whether permuting the words (with their validity) may change the outputs, as n-grams and recurrence do."""

    image_width: int
    question_width: int
    without: frozenset[str]

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__()
        self.image_width = image_width
        self.question_width = question_width
        self.without = frozenset(without)

    @abstractmethod
    def forward(self, batch: Batch) -> Attended:
        """Attend from each side to the other."""

    def gain(self, parameter: str) -> float:
        """Factor on the bound of the seeded initialisation of ``parameter``; see `variants.build.initialise`."""
        return 1.0

    def guided_weights(self) -> tuple[str, ...]:
        """Which weights are meant to depend on the other side; a mean in place of a removed attention does not."""
        sides = ("image", "question")
        return tuple(f"{side}_weights" for side in sides if f"{side}_attention" not in self.without)

    def matmul_flops(self, examples: int, regions: int, words: int) -> int | None:
        """FLOPs of the forward pass's matrix products, two per multiply-add, in closed form; None if not known."""
        return None

    def written_out(self) -> "CoAttention":
        """This mechanism with the same weights, in operations that torch's FLOP counter sees; itself where it is so."""
        return self


def hidden_width(hidden: int | None, *, image_width: int, question_width: int) -> int:
    """K: as it is given, or the narrower of the two widths.

    Raises:
        ValueError: it is given as less than 1.
    """
    if hidden is None:
        return min(image_width, question_width)
    if hidden < 1:
        raise ValueError(f"hidden is {hidden}: expected at least 1, or none for the narrower of the two widths")
    return hidden


def one_width(name: str, *, image_width: int, question_width: int) -> int:
    """The width of both sides.

    Raises:
        ValueError: they have two.
    """
    if image_width != question_width:
        raise ValueError(
            f"{name} has one width for both sides, but image_width is {image_width} and question_width "
            f"{question_width}: project one side first"
        )
    return image_width


def hidden_dropout(share: float) -> nn.Dropout:
    """Dropout of the hidden maps, in train mode alone; it has no parameters, so a state dict does not see it.

    Raises:
        ValueError: it is given as all of them.
    """
    if not 0 <= share < 1:
        raise ValueError(f"dropout is {share}: expected at least 0 and below 1, the share of a hidden map to drop")
    return nn.Dropout(share)
