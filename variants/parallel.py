"""Parallel co-attention: both sides attend at once, through one affinity."""

from collections.abc import Collection
from typing import Literal

import torch
from torch import nn

from variants.build import register
from variants.interface import Attended, Batch, CoAttention
from variants.masking import blank, masked_mean, masked_softmax, pool
from variants.regions import region


@register("parallel")
class Parallel(CoAttention):
    """Lu et al. 2016, section 3.3, equations 3 to 5.

    With ``Q`` the question and ``V`` the image, one row per step::

        C    = tanh(Q W_b V')                  [B, T, N]   eq. 3
        H_v  = tanh(V W_v + C' (Q W_q))        [B, N, K]   eq. 4
        H_q  = tanh(Q W_q + C (V W_v))         [B, T, K]   eq. 4
        a_v  = softmax(H_v w_hv)               [B, N]      eq. 4
        a_q  = softmax(H_q w_hq)               [B, T]      eq. 4
        v^   = a_v V,  q^ = a_q Q              [B, D]      eq. 5

    The paper leaves padding open. ``C' (Q W_q)`` sums over words and ``C (V W_v)`` over regions, so a mask on the
    softmax alone would still let padding into the other side; both projections are zero on padding before they are
    mixed. ``Q W_b`` is formed first: it costs T rows, where ``W_b V'`` would cost N.

    Options: ``hidden`` is K (the narrower of the two widths unless given); ``affinity=linear`` leaves the tanh of
    eq. 3 out, as published ports do; ``bias`` adds biases as the authors' code does, the affinity's to ``V W_b'``.
    """

    source = "Lu et al. 2016, arXiv:1606.00061, section 3.3, equations 3 to 5"
    parts = ("image_attention", "question_attention")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        hidden: int | None = None,
        affinity: Literal["tanh", "linear"] = "tanh",
        bias: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = hidden or min(image_width, question_width)
        self.saturating = affinity == "tanh"
        self.affinity = nn.Linear(image_width, question_width, bias=bias)
        self.image_hidden = nn.Linear(image_width, hidden, bias=bias)
        self.question_hidden = nn.Linear(question_width, hidden, bias=bias)
        self.image_score = nn.Linear(hidden, 1, bias=bias)
        self.question_score = nn.Linear(hidden, 1, bias=bias)

    def forward(self, batch: Batch) -> Attended:
        image = blank(batch.image, batch.image_valid)  # [B, N, V]
        question = blank(batch.question, batch.question_valid)  # [B, T, Q]
        with region("affinity"):
            affinity = (question @ self.affinity.weight) @ image.mT  # [B, T, N]
            if self.affinity.bias is not None:
                affinity = affinity + (question @ self.affinity.bias).unsqueeze(-1)
            if self.saturating:
                affinity = torch.tanh(affinity)
        with region("scores"):
            image_hidden = self.image_hidden(image)  # [B, N, K]
            question_hidden = self.question_hidden(question)  # [B, T, K]
            if self.image_hidden.bias is not None:  # a bias fills the padded rows again
                image_hidden = blank(image_hidden, batch.image_valid)
                question_hidden = blank(question_hidden, batch.question_valid)
            image_mixed = torch.tanh(image_hidden + affinity.mT @ question_hidden)  # [B, N, K]
            question_mixed = torch.tanh(question_hidden + affinity @ image_hidden)  # [B, T, K]
            image_scores = self.image_score(image_mixed).squeeze(-1)  # [B, N]
            question_scores = self.question_score(question_mixed).squeeze(-1)  # [B, T]
        with region("pooling"):
            if "image_attention" in self.without:
                image_vector, image_weights = masked_mean(image, batch.image_valid)
            else:
                image_weights = masked_softmax(image_scores, batch.image_valid)
                image_vector = pool(image_weights, image)  # [B, V]
            if "question_attention" in self.without:
                question_vector, question_weights = masked_mean(question, batch.question_valid)
            else:
                question_weights = masked_softmax(question_scores, batch.question_valid)
                question_vector = pool(question_weights, question)  # [B, Q]
        return Attended(
            image_vector.unsqueeze(1),
            question_vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )

    def gain(self, parameter: str) -> float:
        # tenths in the affinity keep its sums over slots, and so both tanh, out of saturation
        return 0.1 / self.image_width**0.5 if parameter.startswith("affinity.") else 1.0

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        hidden = self.image_hidden.out_features
        affinity = words * self.question_width * self.image_width + words * regions * self.image_width
        projections = (regions * self.image_width + words * self.question_width) * hidden
        mixing = 2 * words * regions * hidden
        scores = (regions + words) * hidden
        pooling = regions * self.image_width + words * self.question_width
        return 2 * examples * (affinity + projections + mixing + scores + pooling)
