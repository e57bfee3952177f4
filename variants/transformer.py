"""Co-attentional transformer layers: the sides read each other, then themselves, then each a feed-forward layer."""

from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor, nn

from variants.elementwise import relu_of_own
from variants.heads import Heads
from variants.interface import Attended, Batch, CoAttention
from variants.registry import register
from variants.scored import scored_pool
from variants.slots import Slots, valid_rows


class State(NamedTuple):
    """One side between layers."""

    features: Tensor
    """``[B, L, D]``, or the rows of ``slots`` alone; what stands in padded slots is finite and means nothing."""
    valid: Tensor
    slots: Slots


class Side(nn.Module):
    """What one side does in a layer. Each step is added and normed; the norms stand where a step is left out.

    Args:
        width: D, of this side.
        other_width: of the other one.
        heads: of each attention.
        expansion: how many times as wide as the side its feed-forward layer is.
        reads: whether it reads the other side.
        own: whether it reads itself.
        feeds: whether it has the feed-forward layer.
    """

    def __init__(
        self, width: int, other_width: int, heads: int, expansion: int, *, reads: bool, own: bool, feeds: bool
    ) -> None:
        super().__init__()
        hidden = -(-width // heads) * heads
        self.other = Heads(width, other_width, hidden, heads, bias=True) if reads else None
        self.other_norm = nn.LayerNorm(width)
        self.own = Heads(width, width, hidden, heads, bias=True) if own else None
        self.own_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width) if feeds else None
        self.contract = nn.Linear(expansion * width, width) if feeds else None
        self.forward_norm = nn.LayerNorm(width)

    def cross(self, side: State, other: State, heads: Heads | None) -> State:
        """The side with what it reads in the other one, by its own heads or by those that are given."""
        heads = heads if heads is not None else self.other
        features = side.features
        if heads is not None:
            features = features + heads(features, other.features, other.valid, side.slots, other.slots)
        return side._replace(features=self.other_norm(features))

    def forward(self, side: State) -> State:
        """The rest of the layer."""
        features = side.features
        if self.own is not None:
            features = features + self.own(features, features, side.valid, side.slots, side.slots)
        features = self.own_norm(features)
        if self.expand is not None and self.contract is not None:
            features = features + self.contract(relu_of_own(self.expand(features)))
        return side._replace(features=self.forward_norm(features))

    def multiplications(self, slots: int, others: int, *, shared: Heads | None) -> int:
        """How many multiply-adds its products take for one example."""
        other = shared if shared is not None else self.other
        return (
            (other.multiplications(slots, others) if other is not None else 0)
            + (self.own.multiplications(slots, slots) if self.own is not None else 0)
            + (2 * slots * self.expand.weight.numel() if self.expand is not None else 0)
        )


class Layer(nn.Module):
    """Both sides from the layer's inputs: neither sees what the other has just read.

    Args:
        image: what the image does.
        question: what the question does.
        shared: attention for both directions in place of one for each, if they share it.
    """

    def __init__(self, image: Side, question: Side, shared: Heads | None) -> None:
        super().__init__()
        self.image = image
        self.question = question
        self.shared = shared

    def forward(self, image: State, question: State) -> tuple[State, State]:
        regions = self.image.cross(image, question, self.shared)
        words = self.question.cross(question, image, self.shared)
        return self.image(regions), self.question(words)


@register("transformer")
class Transformer(CoAttention):
    """Co-attentional transformer layers, in ViLBERT's form or with LXMERT's shared cross attention.

    In each layer, with multi-head attention ``MH(X, Y)`` of X on Y and a norm behind each sum::

        X <- norm(V + MH(V, Q)),  Y <- norm(Q + MH(Q, V))     both from the layer's inputs
        X <- norm(X + MH(X, X)),  Y <- norm(Y + MH(Y, Y))
        V <- norm(X + FF(X)),     Q <- norm(Y + FF(Y))

    and behind the last layer a learned score pools each side, ``a_v = softmax(V w_v)``, ``v^ = a_v V``. ViLBERT sets
    layers of self-attention between its co-attentional ones; here each layer has its own. The feed-forward layer has a
    rectifier, where the originals have a GELU.

    Options: ``layers``; ``heads`` of each attention; ``expansion``, the feed-forward layers' width over the side's;
    ``shared`` has one cross attention for both directions, as LXMERT has, and wants equal widths. Inside, an attention
    is as wide as its side, rounded up to a multiple of the heads. ``-image_attention`` and ``-question_attention``
    leave out what a side reads in the other, ``-self_attention`` and ``-feed_forward`` those steps of both sides.
    """

    source = "Lu et al. 2019, arXiv:1908.02265, section 2.1 (ViLBERT); Tan & Bansal 2019, arXiv:1908.07490, section 2.2"
    parts = ("image_attention", "question_attention", "self_attention", "feed_forward")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        layers: int = 2,
        heads: int = 8,
        expansion: int = 4,
        shared: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        for option, value in (("layers", layers), ("heads", heads), ("expansion", expansion)):
            if value < 1:
                raise ValueError(f"transformer[{option}={value}]: expected at least 1")
        if shared and image_width != question_width:
            raise ValueError(
                f"transformer[shared=true] has one attention for both directions, but the image is {image_width} wide "
                f"and the question {question_width}: project them to one width, or leave shared out"
            )
        if shared and {"image_attention", "question_attention"} & self.without:
            raise ValueError("transformer[shared=true] has one attention for both directions: one cannot be left out")

        def side(name: str, width: int, other_width: int) -> Side:
            return Side(
                width,
                other_width,
                heads,
                expansion,
                reads=not shared and f"{name}_attention" not in self.without,
                own="self_attention" not in self.without,
                feeds="feed_forward" not in self.without,
            )

        hidden = -(-image_width // heads) * heads
        self.layers = nn.ModuleList(
            Layer(
                side("image", image_width, question_width),
                side("question", question_width, image_width),
                Heads(image_width, image_width, hidden, heads, bias=True) if shared else None,
            )
            for _ in range(layers)
        )
        self.image_score = nn.Linear(image_width, 1, bias=False)
        self.question_score = nn.Linear(question_width, 1, bias=False)

    def forward(self, batch: Batch) -> Attended:
        regions, at_regions = valid_rows(batch.image, batch.image_valid)
        words, at_words = valid_rows(batch.question, batch.question_valid)
        image = State(regions, batch.image_valid, at_regions)
        question = State(words, batch.question_valid, at_words)
        for layer in self.layers:
            image, question = layer(image, question)
        image_vector, image_weights = scored_pool(self.image_score, *image)
        question_vector, question_weights = scored_pool(self.question_score, *question)
        return Attended(
            image_vector.unsqueeze(1),
            question_vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        layer = self.layers[0]
        assert isinstance(layer, Layer)
        each = layer.image.multiplications(regions, words, shared=layer.shared)
        each += layer.question.multiplications(words, regions, shared=layer.shared)
        pooled = 2 * (regions * self.image_width + words * self.question_width)
        return 2 * examples * (len(self.layers) * each + pooled)
