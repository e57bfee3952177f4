"""Cross-attention: scaled dot products in both directions, as transformers have it."""

from collections.abc import Collection

from torch import nn

from variants.heads import Heads, width_of_heads
from variants.interface import Attended, Batch, CoAttention
from variants.masking import masked_mean
from variants.registry import register
from variants.scored import scored_pool
from variants.slots import valid_rows


@register("cross")
class Cross(CoAttention):
    """Bidirectional scaled dot-product cross-attention: what people would use instead.

    Each region reads the words, each word reads the regions, and what a slot has read is added to it, as in a
    transformer's block without its norm and feed-forward layer; then a learned score pools each side::

        X    = V + sum over heads of softmax(V W_q (Q W_k)' / sqrt(K / heads)) Q W_v W_o     [B, N, V]
        Y    = Q + the same with V and Q exchanged, and weights of its own                   [B, T, Q]
        a_v  = softmax(X w_v),  a_q = softmax(Y w_q)                                         [B, N], [B, T]
        v^   = a_v X,           q^  = a_q Y                                                  [B, V], [B, Q]

    The weights returned are ``a_v`` and ``a_q``, over a side's own slots; the maps between the sides are not kept.
    A side without a valid slot gives nothing to read, and the other side pools its own features.

    Options: ``heads``; ``hidden`` is K, a multiple of ``heads`` (the narrower of the two widths, rounded up to one,
    unless given).
    """

    source = "Vaswani et al. 2017, arXiv:1706.03762, section 3.2, in both directions; pooled by a learned score"
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
        hidden = width_of_heads("cross", heads, hidden, image_width=image_width, question_width=question_width)
        self.hidden = hidden
        self.image_reads = Heads(image_width, question_width, hidden, heads, bias=False)
        self.question_reads = Heads(question_width, image_width, hidden, heads, bias=False)
        self.image_score = nn.Linear(image_width, 1, bias=False)
        self.question_score = nn.Linear(question_width, 1, bias=False)

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = batch
        regions, at_regions = valid_rows(image, image_valid)
        words, at_words = valid_rows(question, question_valid)
        if "image_attention" in self.without:
            image_vector, image_weights = masked_mean(image, image_valid)  # [B, V], [B, N]
        else:
            regions_read = regions + self.image_reads(regions, words, question_valid, at_regions, at_words)  # [.., V]
            image_vector, image_weights = scored_pool(self.image_score, regions_read, image_valid, at_regions)
        if "question_attention" in self.without:
            question_vector, question_weights = masked_mean(question, question_valid)  # [B, Q], [B, T]
        else:
            words_read = words + self.question_reads(words, regions, image_valid, at_words, at_regions)  # [.., Q]
            question_vector, question_weights = scored_pool(self.question_score, words_read, question_valid, at_words)
        return Attended(
            image_vector.unsqueeze(1),
            question_vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        image, question = regions * self.image_width, words * self.question_width
        if "image_attention" not in self.without:
            image = self.image_reads.multiplications(regions, words) + 2 * image
        if "question_attention" not in self.without:
            question = self.question_reads.multiplications(words, regions) + 2 * question
        return 2 * examples * (image + question)
