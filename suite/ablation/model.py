"""A classifier around a co-attention: words and regions in, logits out."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from suite.ablation.leaky import LeakyHierarchical
from suite.ablation.scenes import Examples
from suite.audit import defects
from variants import Attended, Batch, CoAttention, Variant, build, canonical, valid_from_lengths
from variants.build import initialise
from variants.hierarchical import AnswerEncoder, Hierarchical, Phrases
from variants.masking import blank
from variants.recurrence import Recurrence
from variants.spec import Spec

Reads = Literal["words", "phrases", "question"]


class Inputs(NamedTuple):
    """Examples as tensors."""

    image: Tensor  # [B, N, V]
    words: Tensor  # [B, T] int64, numbers of words
    image_valid: Tensor  # [B, N] bool
    question_valid: Tensor  # [B, T] bool


def inputs(examples: Examples, device: torch.device | str = "cpu") -> Inputs:
    """Examples as tensors, validity from their counts."""
    image, words = torch.from_numpy(examples.image), torch.from_numpy(examples.words)
    return Inputs(
        image.to(device, torch.float32),
        words.to(device),
        valid_from_lengths(torch.from_numpy(examples.regions), image.shape[1]).to(device),
        valid_from_lengths(torch.from_numpy(examples.word_count), words.shape[1]).to(device),
    )


class QuestionEncoder(nn.Module):
    """The text encoder of hierarchical co-attention up to one of its levels, for mechanisms that have none.

    So a comparison of mechanisms is one of attention, not of who has been given an LSTM. Words themselves pass as they
    are, padding included: a mechanism has to mask what it is given.
    """

    def __init__(self, width: int, reads: Reads) -> None:
        super().__init__()
        self.phrases = Phrases(width, bias=False) if reads != "words" else None
        self.recurrence = Recurrence(width, 1) if reads == "question" else None

    def forward(self, words: Tensor, valid: Tensor) -> Tensor:
        """``[B, T, D]`` from left-aligned words ``[B, T, D]``."""
        if self.phrases is not None:
            words = blank(self.phrases(blank(words, valid)), valid)
        if self.recurrence is not None:
            words = blank(self.recurrence(words), valid)
        return words

    def gain(self, parameter: str) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the task fixes of a classifier."""

    image_width: int
    vocabulary: int
    classes: int


class Classifier(nn.Module):
    """Embedded words and projected, normalised regions, a co-attention, its answer encoder (equation 7), and logits.

    Args:
        name: of a variant, or what `build_mechanism` knows beside them.
        shape: what the task fixes.
        width: D, of words, regions and everything after them.
        reads: the level of the question that a mechanism without a text encoder of its own attends to.
        seed: of all weights.
    """

    def __init__(self, name: str, shape: Shape, *, width: int, reads: Reads = "question", seed: int = 0) -> None:
        super().__init__()
        self.variant = build_mechanism(name, width=width, seed=seed)
        self.mechanism = self.variant.module
        self.encoder = QuestionEncoder(width, "words" if isinstance(self.mechanism, Hierarchical) else reads)
        initialise(self.encoder, seed)  # type: ignore[arg-type]  # it asks for parameters and gains only
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self.embedding = nn.Embedding(shape.vocabulary, width)
            self.projection = nn.Sequential(
                nn.Linear(shape.image_width, width),
                nn.LayerNorm(width, elementwise_affine=False),  # regions as long as words are
            )
            glimpses, *widths = self._attended_shape(shape)
            # equation 7 adds the sides, which some mechanisms leave in two widths
            apart = widths[0] != widths[1]
            self.sides = nn.ModuleList(nn.Linear(side, width) for side in widths) if apart else None
            self.fusion = AnswerEncoder(width if apart else widths[0], width, glimpses=glimpses)
            self.logits = nn.Linear(width, shape.classes)

    @property
    def device(self) -> torch.device:
        return self.logits.weight.device

    def forward(self, given: Inputs) -> Tensor:
        """Logits ``[B, classes]``."""
        attended = self.attend(given)
        vectors = Attended(*(field.float() for field in attended))
        if self.sides is not None:
            image, question = self.sides
            vectors = vectors._replace(image=image(vectors.image), question=question(vectors.question))
        logits: Tensor = self.logits(self.fusion(vectors))
        return logits

    def attend(self, given: Inputs) -> Attended:
        """What the mechanism makes of the embedded words and projected regions."""
        words = self.encoder(self.embedding(given.words), given.question_valid)  # [B, T, D]
        image = self.projection(given.image)  # [B, N, D]
        dtype = self.variant.dtype
        return self.variant.run(Batch(image.to(dtype), words.to(dtype), given.image_valid, given.question_valid))

    def _attended_shape(self, shape: Shape) -> tuple[int, int, int]:
        """Glimpses, and the width of each side's vectors."""
        ones = torch.ones(2, 3, dtype=torch.bool)
        with torch.no_grad():
            attended = self.attend(Inputs(torch.zeros(2, 3, shape.image_width), ones.long(), ones, ones))
        return attended.image.shape[1], attended.image.shape[2], attended.question.shape[2]


LEAKY = "hierarchical_leaky"
"""Name of the leaky port, which is measured here alone."""
PLANTED = "planted "
"""What stands before the name of one of the audit's planted defects."""
SOUND = {"sound" if kind is defects.Sound else f"sound {kind.__name__.lower()}": kind for kind in defects.PLANTED_IN}
"""The audit's correct mechanisms by the names that they have here."""


def correct_form(planted: str) -> str:
    """The name in `SOUND` of the mechanism that a planted defect stands in."""
    ancestors = defects.DEFECTS[planted.removeprefix(PLANTED)].mechanism.__mro__
    return next(name for ancestor in ancestors for name, kind in SOUND.items() if ancestor is kind)


def build_mechanism(name: str, *, width: int, seed: int) -> Variant:
    """The variant of that name, or one of those that are measured here alone.

    Raises:
        ValueError: the name is not known.
        Skip: the variant cannot be had here.
    """
    module: CoAttention
    if name == LEAKY:
        module = LeakyHierarchical(image_width=width, question_width=width)
        initialise(module, seed)
    elif name in SOUND:
        module = defects.sound(SOUND[name], image_width=width, question_width=width, seed=seed)
    elif name.startswith(PLANTED):
        module = defects.plant(name.removeprefix(PLANTED), image_width=width, question_width=width, seed=seed)
    else:
        return build(canonical(name), width=width, seed=seed)
    return Variant(spec=Spec(name), module=module, dtype=torch.float32, run=module)
