"""The coattention of dynamic coattention networks: each side reads the other, and one of them what was read."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention, blanked, hidden_width
from variants.masking import masked_mean, masked_softmax
from variants.regions import region
from variants.registry import register
from variants.scored import scored_pool


@register("dynamic")
class Dynamic(CoAttention):
    """Xiong et al. 2017, section 2.2: the coattention encoder, over any two sets, with a sentinel on each side.

    The image stands in the place of the document. Both sides are projected to one width, and a learned sentinel is set
    in front of each, which a slot that fits nothing may look at instead::

        D    = [d_0 ; V A]                         [B, 1 + N, K]
        Y    = tanh([q_0 ; Q C] W + b)             [B, 1 + T, K]
        L    = D Y'                                [B, 1 + N, 1 + T]
        R_q  = softmax over regions (L)' D         [B, 1 + T, K]      what each word reads
        R_d  = softmax over words (L) [Y ; R_q]    [B, 1 + N, 2 K]    what each region reads, and what its words read
        X    = [D ; R_d],  Z = [Y ; R_q]           without the sentinels' rows
        a_v  = softmax(X w_v),  v^ = a_v X         [B, N], [B, 3 K]
        a_q  = softmax(Z w_q),  q^ = a_q Z         [B, T], [B, 2 K]

    The paper hands X to a recurrence over the document; a set has no order, so here a learned score pools it. One
    public port has the two softmaxes over each other's axes.

    Options: ``hidden`` is K (the narrower of the two widths unless given). ``-image_attention`` and
    ``-question_attention`` leave out what a side reads, and pool it by its mean; ``-sentinels`` leaves those out.
    """

    source = "Xiong et al. 2017, arXiv:1611.01604, section 2.2"
    parts = ("image_attention", "question_attention", "sentinels")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        hidden: int | None = None,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = hidden_width(hidden, image_width=image_width, question_width=question_width)
        sentinels = 0 if "sentinels" in self.without else 1
        self.image_projection = nn.Linear(image_width, hidden, bias=False)
        self.question_projection = nn.Linear(question_width, hidden, bias=False)
        self.question_hidden = nn.Linear(hidden, hidden)
        self.image_sentinel = nn.Parameter(torch.zeros(sentinels, hidden)) if sentinels else None
        self.question_sentinel = nn.Parameter(torch.zeros(sentinels, hidden)) if sentinels else None
        self.image_score = nn.Linear(3 * hidden, 1, bias=False)
        self.question_score = nn.Linear(2 * hidden, 1, bias=False)

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = blanked(batch)
        with region("affinity"):
            regions, regions_valid = _behind(self.image_sentinel, self.image_projection(image), image_valid)
            words, words_valid = _behind(self.question_sentinel, self.question_projection(question), question_valid)
            words = torch.tanh(self.question_hidden(words))  # [B, 1 + T, K]
            affinity = regions @ words.mT  # [B, 1 + N, 1 + T]
        first = 0 if self.image_sentinel is None else 1
        with region("pooling"):
            by_words = masked_softmax(affinity.mT, regions_valid.unsqueeze(1)) @ regions  # [B, 1 + T, K]
            read_words = torch.cat([words, by_words], dim=-1)  # [B, 1 + T, 2 K]
            by_regions = masked_softmax(affinity, words_valid.unsqueeze(1)) @ read_words  # [B, 1 + N, 2 K]
        if "image_attention" in self.without:
            by_regions = torch.zeros_like(by_regions)
        if "question_attention" in self.without:
            read_words = torch.cat([words, torch.zeros_like(by_words)], dim=-1)
        image_tokens = torch.cat([regions, by_regions], dim=-1)[:, first:]  # [B, N, 3 K]
        question_tokens = read_words[:, first:]  # [B, T, 2 K]
        image_vector, image_weights = (
            masked_mean(image_tokens, image_valid)
            if "image_attention" in self.without
            else scored_pool(self.image_score, image_tokens, image_valid)
        )
        question_vector, question_weights = (
            masked_mean(question_tokens, question_valid)
            if "question_attention" in self.without
            else scored_pool(self.question_score, question_tokens, question_valid)
        )
        return Attended(
            image_vector.unsqueeze(1),
            question_vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        hidden = self.question_hidden.in_features
        sentinels = 0 if self.image_sentinel is None else 1
        rows, columns = regions + sentinels, words + sentinels
        each = (regions * self.image_width + words * self.question_width + columns * hidden) * hidden
        each += 4 * rows * columns * hidden  # the affinity, what words read, and twice as wide what regions read
        each += 3 * regions * hidden * (1 if "image_attention" in self.without else 2)
        each += 2 * words * hidden * (1 if "question_attention" in self.without else 2)
        return 2 * examples * each


def _behind(sentinel: Tensor | None, features: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The slots behind a sentinel, which is always valid."""
    if sentinel is None:
        return features, valid
    first = sentinel.to(features.dtype).expand(features.shape[0], -1, -1)
    return torch.cat([first, features], dim=1), torch.cat([valid.new_ones(valid.shape[0], 1), valid], dim=1)
