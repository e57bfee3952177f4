"""Modular co-attention: units of self-attention and guided attention, encoder to decoder or in step."""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn

from variants.elementwise import relu_of_own
from variants.heads import Heads
from variants.interface import Attended, Batch, CoAttention
from variants.masking import masked_softmax
from variants.regions import region
from variants.registry import register
from variants.slots import Slots, valid_rows


class Norm(nn.Module):
    """``scale * (x - mean) / (deviation + 1e-6) + shift`` over the width, with the unbiased deviation.

    Unlike ``nn.LayerNorm``, which divides by the root of the biased variance plus eps.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        centred = wide - wide.mean(-1, keepdim=True)
        # torch.std takes four times as long, and this too has gradient 0 where all of a row is equal
        deviation = torch.linalg.vector_norm(centred, dim=-1, keepdim=True) / max(features.shape[-1] - 1, 1) ** 0.5
        normed = torch.addcmul(self.shift.to(wide.dtype), centred / (deviation + 1e-6), self.scale.to(wide.dtype))
        return normed.to(features.dtype)


class Unit(nn.Module):
    """Self-attention, then attention to a guide where there is one, then a feed-forward layer; each added and normed.

    Without one of the attentions, its norm still stands.
    """

    def __init__(self, width: int, heads: int, *, own: bool, guided: bool | None) -> None:
        """Make the unit.

        Args:
            width: D.
            heads: of each attention.
            own: whether its slots see one another.
            guided: whether they see the guide's; None for a unit that never has a guide.
        """
        super().__init__()
        hidden = -(-width // heads) * heads
        self.own = Heads(width, width, hidden, heads, bias=True) if own else None
        self.own_norm = Norm(width)
        self.guided = Heads(width, width, hidden, heads, bias=True) if guided else None
        self.guided_norm = Norm(width) if guided is not None else None
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.forward_norm = Norm(width)

    def forward(
        self, features: Tensor, valid: Tensor, slots: Slots, guide: Tensor, guide_valid: Tensor, guide_slots: Slots
    ) -> Tensor:
        """``[B, L, D]``, or the rows of ``slots``, to the same; what stands in padded slots means nothing."""
        if self.own is not None:
            features = features + self.own(features, features, valid, slots, slots)
        features = self.own_norm(features)
        if self.guided_norm is not None:
            if self.guided is not None:
                features = features + self.guided(features, guide, guide_valid, slots, guide_slots)
            features = self.guided_norm(features)
        normed: Tensor = self.forward_norm(features + self.contract(relu_of_own(self.expand(features))))
        return normed

    def multiplications(self, slots: int, guide_slots: int) -> int:
        """How many multiply-adds its products take for one example."""
        own = self.own.multiplications(slots, slots) if self.own is not None else 0
        guided = self.guided.multiplications(slots, guide_slots) if self.guided is not None else 0
        return own + guided + 2 * slots * self.expand.weight.numel()


class Flattening(nn.Module):
    """A side in one vector, twice as wide: a weighted sum by scores from two layers, projected."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)
        self.merge = nn.Linear(width, 2 * width)

    def forward(self, features: Tensor, valid: Tensor, slots: Slots) -> tuple[Tensor, Tensor]:
        """Vector ``[B, 1, 2 D]`` and weights ``[B, 1, L]``, of features as `Unit` takes them."""
        with region("scores"):
            scores = slots.spread(self.score(relu_of_own(self.hidden(features)))).mT  # [B, 1, L]
        with region("pooling"):
            weights = masked_softmax(scores, valid.unsqueeze(1))
            # the bias alone would stand for a side without a valid slot
            empty = ~valid.any(-1)[:, None, None]
            vector: Tensor = self.merge(weights @ slots.spread(features))
            return vector.masked_fill(empty, 0), weights


@register("modular")
class Modular(CoAttention):
    """Yu et al. 2019, section 3: deep modular co-attention between its encoders and its answer.

    With multi-head attention ``MH(x, y)`` of x to y, ``FF(x) = relu(x W_1 + b_1) W_2 + b_2`` four times as wide inside,
    and a norm after every sum, self-attention and guided attention are::

        SA(x)      x = n(x + MH(x, x)),  x = n(x + FF(x))
        SGA(y, x)  y = n(y + MH(y, y)),  y = n(y + MH(y, x)),  y = n(y + FF(y))

    Words go through SA, regions through SGA guided by the words: by those of the last layer (``arrangement=encdec``)
    or of the same layer (``arrangement=stack``). At last each side is flattened, the only weights that are returned::

        a    = softmax(relu(X S + s) r + t)      [B, L]
        x^   = (a X) F + f                       [B, 2 D]

    Attended vectors are twice as wide as the question, D, and zero for a side without a valid slot. An image of another
    width is projected to D first. The norm is the authors' code's, which has the unbiased deviation and adds eps to it.

    Options: ``layers``, ``heads``, ``arrangement``. Attention is as wide as D, rounded up to a multiple of the heads.
    A removed ``question_self_attention``, ``image_self_attention`` or ``guided_attention`` adds nothing, in all layers.
    """

    source = "Yu et al. 2019, arXiv:1906.10770, section 3"
    parts = ("question_self_attention", "image_self_attention", "guided_attention")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        layers: int = 6,
        heads: int = 8,
        arrangement: Literal["encdec", "stack"] = "encdec",
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        for option, value in (("layers", layers), ("heads", heads)):
            if value < 1:
                raise ValueError(f"modular[{option}={value}]: expected at least 1")
        self.arrangement = arrangement
        width = question_width
        self.image_projection = nn.Linear(image_width, width) if image_width != width else None
        self.question_units = nn.ModuleList(
            Unit(width, heads, own="question_self_attention" not in self.without, guided=None) for _ in range(layers)
        )
        self.image_units = nn.ModuleList(
            Unit(
                width,
                heads,
                own="image_self_attention" not in self.without,
                guided="guided_attention" not in self.without,
            )
            for _ in range(layers)
        )
        self.image_flattening = Flattening(width)
        self.question_flattening = Flattening(width)

    def forward(self, batch: Batch) -> Attended:
        image_valid, question_valid = batch.image_valid, batch.question_valid
        image, at_regions = valid_rows(batch.image, image_valid)
        question, at_words = valid_rows(batch.question, question_valid)
        if self.image_projection is not None:
            image = self.image_projection(image)  # [B, N, D]
        guides = []
        for unit in self.question_units:
            question = unit(question, question_valid, at_words, question, question_valid, at_words)
            guides.append(question)
        if self.arrangement == "encdec":
            guides = [question] * len(guides)
        for unit, guide in zip(self.image_units, guides, strict=True):
            image = unit(image, image_valid, at_regions, guide, question_valid, at_words)
        image_vector, image_weights = self.image_flattening(image, image_valid, at_regions)
        question_vector, question_weights = self.question_flattening(question, question_valid, at_words)
        return Attended(image_vector, question_vector, image_weights, question_weights)

    def guided_weights(self) -> tuple[str, ...]:
        return () if "guided_attention" in self.without else ("image_weights",)

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        width = self.question_width
        total = 0 if self.image_projection is None else regions * self.image_width * width
        for units, slots in ((self.question_units, words), (self.image_units, regions)):
            for unit in units:
                assert isinstance(unit, Unit)
                total += unit.multiplications(slots, words)
            total += slots * width * (width + 2) + 2 * width * width  # flattening
        return 2 * examples * total
