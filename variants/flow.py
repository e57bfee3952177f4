"""Attention flow: one similarity, read by each slot along one axis and by the whole side along the other."""

from collections.abc import Collection

import torch
from torch import nn

from variants.interface import Attended, Batch, CoAttention, blanked, hidden_width
from variants.masking import masked_softmax, pool, uniform
from variants.regions import region
from variants.registry import register


@register("flow")
class Flow(CoAttention):
    """Seo et al. 2017, section 2.4: bidirectional attention flow, over any two sets.

    With both sides projected to one width, ``X = V A`` and ``Y = Q C``, the image in the place of the context and the
    question in that of the query::

        S    = X w_v + (Y w_q)' + (X * w) Y'                  [B, N, T]
        U    = softmax over words (S) Y                       [B, N, K]     what each region reads
        a_v  = softmax over regions (max over words of S)     [B, N]
        h    = a_v X                                          [B, K]
        v^   = a_v [X ; U ; X * U ; X * h]                    [B, 4 K]
        a_q  = a_v softmax over words (S),  q^ = a_q Q        [B, T], [B, Q]

    The paper hands ``[X ; U ; X * U ; X * h]`` to a recurrence over the context; a set has no order, so here it is
    pooled by the weights that the paper itself has over the context. The words' weights are how much of each word was
    read by the regions, under those weights. Without words every region weighs the same, and reads nothing; without
    regions every word weighs the same.

    Options: ``hidden`` is K (the narrower of the two widths unless given); ``projected=false`` takes sides of one width
    as they are, as the paper does behind its own encoder. ``-image_attention`` weighs all regions the
    same, ``-question_attention`` has each region read the mean of the words.
    """

    source = "Seo et al. 2017, arXiv:1611.01603, section 2, item 4, equations 1 and 2"
    parts = ("image_attention", "question_attention")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        hidden: int | None = None,
        projected: bool = True,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = hidden_width(hidden, image_width=image_width, question_width=question_width)
        if not projected and not image_width == question_width == hidden:
            raise ValueError(
                f"flow[projected=false] takes both sides as they are, but the image is {image_width} wide, the "
                f"question {question_width} and hidden {hidden}: expected one width, or leave projected out"
            )
        self.hidden = hidden
        self.image_projection = nn.Linear(image_width, hidden, bias=False) if projected else nn.Identity()
        self.question_projection = nn.Linear(question_width, hidden, bias=False) if projected else nn.Identity()
        self.image_similarity = nn.Linear(hidden, 1, bias=False)
        self.question_similarity = nn.Linear(hidden, 1, bias=False)
        self.product_similarity = nn.Parameter(torch.zeros(1, hidden))

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = blanked(batch)
        with region("affinity"):
            regions = self.image_projection(image)  # [B, N, K]
            words = self.question_projection(question)  # [B, T, K]
            similarity = regions @ (words * self.product_similarity).mT  # [B, N, T]
            similarity = similarity + self.image_similarity(regions) + self.question_similarity(words).mT
        with region("scores"):
            even_words, even_regions = uniform(question_valid, image.dtype), uniform(image_valid, image.dtype)
            looks = masked_softmax(similarity, question_valid.unsqueeze(1))  # [B, N, T]
            if "question_attention" in self.without:
                looks = even_words.unsqueeze(1).expand_as(looks)
            best = similarity.masked_fill(~question_valid.unsqueeze(1), float("-inf")).amax(-1)  # [B, N]
            best = torch.where(question_valid.any(-1, keepdim=True), best, 0.0)
            image_weights = masked_softmax(best, image_valid)
            if "image_attention" in self.without:
                image_weights = even_regions
            seen = pool(image_weights, looks)  # [B, T]
            question_weights = torch.where(image_valid.any(-1, keepdim=True), seen, even_words)
        with region("pooling"):
            # each block of the merged rows is pooled by itself, and no row of theirs is ever formed
            summary = pool(image_weights, regions)  # [B, K]
            shared = (image_weights.unsqueeze(-1) * looks).mT @ regions  # [B, T, K]
            blocks = summary, pool(seen, words), (words * shared).sum(1), summary * summary
            return Attended(
                torch.cat(blocks, dim=-1).unsqueeze(1),
                pool(question_weights, question).unsqueeze(1),
                image_weights.unsqueeze(1),
                question_weights.unsqueeze(1),
            )

    def guided_weights(self) -> tuple[str, ...]:
        # the words' weights come from what the regions read, so that removing that part unties both from the image
        words = () if "question_attention" in self.without else ("question_weights",)
        return words if "image_attention" in self.without else ("image_weights", *words)

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        hidden = self.hidden
        projected = isinstance(self.image_projection, nn.Linear)
        each = (regions * self.image_width + words * self.question_width) * hidden if projected else 0
        each += (regions + words) * hidden  # the two linear terms of the similarity
        each += 2 * regions * words * hidden  # its product, and the products of regions and what they read
        each += regions * words + (regions + words) * hidden + words * self.question_width
        return 2 * examples * each
