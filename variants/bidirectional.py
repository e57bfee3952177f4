"""Bidirectional cross-attention: one affinity, read along both of its axes."""

from collections.abc import Collection

from torch import Tensor, nn

from variants.heads import joined, split, width_of_heads
from variants.interface import Attended, Batch, CoAttention
from variants.masking import masked_mean, masked_softmax
from variants.regions import region
from variants.registry import register
from variants.scored import scored_pool
from variants.slots import valid_rows


@register("bidirectional")
class Bidirectional(CoAttention):
    """Scaled dot products of regions and words, formed once, with a softmax along each axis.

    Each region reads the words and each word reads the regions, as in the fusion of GLIP and Grounding DINO and in
    LightGlue's cross block; what a slot has read is added to it, and a learned score pools each side. For each of h
    heads, ``K / h`` wide::

        A    = (V W_v) (Q W_q)' / sqrt(K / h)                         [B, N, T]
        X    = V + sum over heads of softmax over words (A) (Q U_q) O_v     [B, N, V]
        Y    = Q + sum over heads of softmax over regions (A') (V U_v) O_q  [B, T, Q]
        a_v  = softmax(X w_v),  a_q = softmax(Y w_q)                  [B, N], [B, T]
        v^   = a_v X,           q^  = a_q Y                           [B, V], [B, Q]

    Where `cross` has an affinity for each direction, with weights of its own, here both read the same. The softmax
    subtracts each row's own maximum: Grounding DINO subtracts that of the whole batch and clamps, which makes examples
    touch each other.

    Options: ``heads``; ``hidden`` is K, a multiple of ``heads`` (the narrower of the two widths, rounded up to one,
    unless given).
    """

    source = "Li et al. 2022, arXiv:2112.03857, section 3.2 (GLIP's deep fusion), equations 4 to 6; one layer"
    parts = ("image_attention", "question_attention")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        heads: int = 8,
        hidden: int | None = None,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = width_of_heads("bidirectional", heads, hidden, image_width=image_width, question_width=question_width)
        self.heads = heads
        self.hidden = hidden
        self.image_affinity = nn.Linear(image_width, hidden, bias=False)
        self.question_affinity = nn.Linear(question_width, hidden, bias=False)
        self.image_value = nn.Linear(image_width, hidden, bias=False)
        self.question_value = nn.Linear(question_width, hidden, bias=False)
        self.image_merge = nn.Linear(hidden, image_width, bias=False)
        self.question_merge = nn.Linear(hidden, question_width, bias=False)
        self.image_score = nn.Linear(image_width, 1, bias=False)
        self.question_score = nn.Linear(question_width, 1, bias=False)

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = batch
        image_reads = "image_attention" not in self.without
        question_reads = "question_attention" not in self.without
        regions, at_regions = valid_rows(image, image_valid)
        words, at_words = valid_rows(question, question_valid)
        if image_reads or question_reads:
            with region("affinity"):
                rows = split(at_regions.spread(self.image_affinity(regions)), self.heads)  # [B, h, N, K/h]
                columns = split(at_words.spread(self.question_affinity(words)), self.heads)  # [B, h, T, K/h]
                # scaled before the product, which would otherwise be the first to leave the range of fp16
                affinity = (rows * rows.shape[-1] ** -0.5) @ columns.mT  # [B, h, N, T]
        if image_reads:
            read = self._read(affinity, at_words.spread(self.question_value(words)), question_valid)  # [B, N, K]
            tokens = regions + self.image_merge(at_regions.taken(read))
            image_vector, image_weights = scored_pool(self.image_score, tokens, image_valid, at_regions)
        else:
            image_vector, image_weights = masked_mean(image, image_valid)
        if question_reads:
            read = self._read(affinity.mT, at_regions.spread(self.image_value(regions)), image_valid)  # [B, T, K]
            tokens = words + self.question_merge(at_words.taken(read))
            question_vector, question_weights = scored_pool(self.question_score, tokens, question_valid, at_words)
        else:
            question_vector, question_weights = masked_mean(question, question_valid)
        return Attended(
            image_vector.unsqueeze(1),
            question_vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )

    def _read(self, affinity: Tensor, values: Tensor, valid: Tensor) -> Tensor:
        """What each slot reads from the valid slots of the other side, ``[B, L, K]``; zeros from none."""
        with region("pooling"):
            weights = masked_softmax(affinity, valid[:, None, None])
            return joined(weights @ split(values, self.heads))

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        each = 0
        reads = 0
        for side, slots, width, others, other_width in (
            ("image", regions, self.image_width, words, self.question_width),
            ("question", words, self.question_width, regions, self.image_width),
        ):
            each += slots * width  # the weighted sum of its slots
            if f"{side}_attention" not in self.without:
                reads += 1
                each += slots * width  # the scores
                each += others * other_width * self.hidden  # values
                each += slots * others * self.hidden + slots * self.hidden * width
        if reads:
            each += (regions * self.image_width + words * self.question_width + regions * words) * self.hidden
        return 2 * examples * each
