"""Learned queries that read both sides: a fixed number of glimpses, whatever the lengths."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.elementwise import relu_of_own
from variants.heads import Heads, width_of_heads
from variants.interface import Attended, Batch, CoAttention, blanked
from variants.masking import masked_softmax
from variants.regions import region
from variants.registry import register
from variants.slots import EVERY, Slots, slots_of


class Reader(nn.Module):
    """One layer: the queries read each other, the image, the question, and go through a feed-forward layer.

    Each step is added, behind a norm of what goes in.

    Args:
        width: K, of a query.
        image_width: V.
        question_width: Q.
        heads: of each attention.
        own: whether the queries read each other.
        feeds: whether there is a feed-forward layer.
    """

    def __init__(
        self, width: int, image_width: int, question_width: int, heads: int, *, own: bool, feeds: bool
    ) -> None:
        super().__init__()
        self.own_norm = nn.LayerNorm(width) if own else None
        self.own = Heads(width, width, width, heads, bias=False) if own else None
        self.image_norm = nn.LayerNorm(width)
        self.image = Heads(width, image_width, width, heads, bias=False)
        self.question_norm = nn.LayerNorm(width)
        self.question = Heads(width, question_width, width, heads, bias=False)
        self.forward_norm = nn.LayerNorm(width) if feeds else None
        self.expand = nn.Linear(width, 4 * width) if feeds else None
        self.contract = nn.Linear(4 * width, width) if feeds else None

    def forward(self, queries: Tensor, batch: Batch, at_regions: Slots, at_words: Slots) -> Tensor:
        """``[B, G, K]`` to the same; the sides of the batch may be the rows of these slots alone."""
        if self.own is not None and self.own_norm is not None:
            normed = self.own_norm(queries)
            queries = queries + self.own(normed, normed, queries.new_ones(queries.shape[:2], dtype=torch.bool))
        image, question, image_valid, question_valid = batch
        queries = queries + self.image(self.image_norm(queries), image, image_valid, EVERY, at_regions)
        queries = queries + self.question(self.question_norm(queries), question, question_valid, EVERY, at_words)
        if self.expand is not None and self.contract is not None and self.forward_norm is not None:
            queries = queries + self.contract(relu_of_own(self.expand(self.forward_norm(queries))))
        return queries

    def multiplications(self, queries: int, regions: int, words: int) -> int:
        """How many multiply-adds its products take for one example."""
        return (
            (self.own.multiplications(queries, queries) if self.own is not None else 0)
            + self.image.multiplications(queries, regions)
            + self.question.multiplications(queries, words)
            + (2 * queries * self.expand.weight.numel() if self.expand is not None else 0)
        )


@register("queries")
class Queries(CoAttention):
    """Learned queries, as a Q-Former or a perceiver's resampler has them, which read both sides.

    G learned rows ``Z_0`` go through layers that add to them what they read in each other, in the image and in the
    question, and a feed-forward layer. Each is then a glimpse: its map over each side, and the side under it::

        Z   <- Z + MH(norm Z, norm Z);  Z + MH(norm Z, V);  Z + MH(norm Z, Q);  Z + FF(norm Z)     [B, G, K]
        a_v  = softmax((Z A_v) (V C_v)' / sqrt(K)),  v^ = a_v V                                    [B, G, N], [B, G, V]
        a_q  = softmax((Z A_q) (Q C_q)' / sqrt(K)),  q^ = a_q Q                                    [B, G, T], [B, G, Q]

    The cost grows with N and T, not with their product. A Q-Former's queries read the image alone, and share their
    self-attention with the text; a resampler's read one side. Both give the queries themselves to what comes behind.

    Options: ``count`` is G; ``layers``; ``heads``; ``hidden`` is K, a multiple of ``heads`` (the narrower of the two
    widths, rounded up to one, unless given). ``-self_attention`` and ``-feed_forward`` leave those steps out.
    """

    source = (
        "Li et al. 2023, arXiv:2301.12597, section 3.1 (Q-Former); Alayrac et al. 2022, arXiv:2204.14198, section 3.1"
    )
    parts = ("self_attention", "feed_forward")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        count: int = 8,
        layers: int = 2,
        heads: int = 8,
        hidden: int | None = None,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        for option, value in (("count", count), ("layers", layers), ("heads", heads)):
            if value < 1:
                raise ValueError(f"queries[{option}={value}]: expected at least 1")
        hidden = width_of_heads("queries", heads, hidden, image_width=image_width, question_width=question_width)
        self.queries = nn.Parameter(torch.zeros(count, hidden))
        self.layers = nn.ModuleList(
            Reader(
                hidden,
                image_width,
                question_width,
                heads,
                own="self_attention" not in self.without,
                feeds="feed_forward" not in self.without,
            )
            for _ in range(layers)
        )
        self.image_query = nn.Linear(hidden, hidden, bias=False)
        self.image_key = nn.Linear(image_width, hidden, bias=False)
        self.question_query = nn.Linear(hidden, hidden, bias=False)
        self.question_key = nn.Linear(question_width, hidden, bias=False)

    def forward(self, batch: Batch) -> Attended:
        batch = blanked(batch)
        image, question, image_valid, question_valid = batch
        at_regions, at_words = slots_of(image_valid), slots_of(question_valid)
        rows = batch._replace(image=at_regions.taken(image), question=at_words.taken(question))
        queries = self.queries.to(image.dtype).repeat(image.shape[0], 1, 1)  # [B, G, K]
        for layer in self.layers:
            queries = layer(queries, rows, at_regions, at_words)
        keys = at_regions.spread(self.image_key(rows.image)), at_words.spread(self.question_key(rows.question))
        image_weights = self._look(self.image_query(queries), keys[0], image_valid)  # [B, G, N]
        question_weights = self._look(self.question_query(queries), keys[1], question_valid)  # [B, G, T]
        with region("pooling"):
            return Attended(image_weights @ image, question_weights @ question, image_weights, question_weights)

    def _look(self, queries: Tensor, keys: Tensor, valid: Tensor) -> Tensor:
        with region("affinity"):
            scores = (queries * queries.shape[-1] ** -0.5) @ keys.mT
        with region("scores"):
            return masked_softmax(scores, valid.unsqueeze(1))

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        layer = self.layers[0]
        assert isinstance(layer, Reader)
        count, hidden = self.queries.shape
        each = len(self.layers) * layer.multiplications(count, regions, words)
        for slots, width in ((regions, self.image_width), (words, self.question_width)):
            each += count * hidden * hidden + slots * width * hidden  # queries and keys
            each += count * slots * (hidden + width)
        return 2 * examples * each
