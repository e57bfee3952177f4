"""Parallel co-attention: both sides attend at once, through one affinity."""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from variants.eager import is_plain
from variants.elementwise import tanh_of_own
from variants.interface import Attended, Batch, CoAttention, blanked, hidden_dropout, hidden_width
from variants.masking import blank, masked_softmax, pool
from variants.regions import region
from variants.registry import register


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
    eq. 3 out, as published ports do; ``bias`` adds biases as the authors' code does, the affinity's to ``V W_b'``;
    ``dropout`` is the share of H_v and H_q that is dropped in train mode, where the authors' code drops a half.
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
        dropout: float = 0.0,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = hidden_width(hidden, image_width=image_width, question_width=question_width)
        self.saturating = affinity == "tanh"
        self.dropout = hidden_dropout(dropout)
        self.affinity = nn.Linear(image_width, question_width, bias=bias)
        self.image_hidden = nn.Linear(image_width, hidden, bias=bias)
        self.question_hidden = nn.Linear(question_width, hidden, bias=bias)
        self.image_score = nn.Linear(hidden, 1, bias=bias)
        self.question_score = nn.Linear(hidden, 1, bias=bias)

    def forward(self, batch: Batch) -> Attended:
        return self.attend(blanked(batch))

    def attend(self, batch: Batch) -> Attended:
        """As ``forward``, for features that are blank on padding already."""
        image, question, image_valid, question_valid = batch
        image_scores, question_scores = self.scores(batch)  # [B, N], [B, T]
        with region("pooling"):
            image_weights = masked_softmax(image_scores, image_valid)  # [B, N]
            question_weights = masked_softmax(question_scores, question_valid)  # [B, T]
            return Attended(
                pool(image_weights, image).unsqueeze(1),  # [B, 1, V]
                pool(question_weights, question).unsqueeze(1),  # [B, 1, Q]
                image_weights.unsqueeze(1),
                question_weights.unsqueeze(1),
            )

    def scores(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the softmax of eq. 4 sees, ``[B, N]`` and ``[B, T]``; equal scores, so the mean, where it is removed."""
        image, question, image_valid, question_valid = batch
        image_scores = image.new_zeros(image_valid.shape)
        question_scores = question.new_zeros(question_valid.shape)
        if self.without.issuperset(self.parts):
            return image_scores, question_scores
        with region("affinity"):
            # C', since then the gradient of the image, the largest there is, comes in the image's own layout
            affinity = image @ (question @ self.affinity.weight).mT  # [B, N, T]
            if self.affinity.bias is not None:
                affinity = affinity + linear(question, self.affinity.bias.unsqueeze(0)).mT
            if self.saturating:
                affinity = tanh_of_own(affinity)
        with region("scores"):
            image_hidden = self.image_hidden(image)  # [B, N, K]
            question_hidden = self.question_hidden(question)  # [B, T, K]
            if self.image_hidden.bias is not None:  # a bias fills the padded rows again
                image_hidden = blank(image_hidden, image_valid)
                question_hidden = blank(question_hidden, question_valid)
            if "question_attention" not in self.without:
                mixed = tanh_of_own(torch.baddbmm(question_hidden, affinity.mT, image_hidden))  # [B, T, K]
                question_scores = self.question_score(self.dropout(mixed)).squeeze(-1)  # [B, T]
            if "image_attention" not in self.without:
                # the widest map by far; it takes over the memory of V W_v where nobody needs that any more
                take_over = is_plain() and not torch.is_grad_enabled()
                mix = image_hidden.baddbmm_ if take_over else image_hidden.baddbmm
                mixed = tanh_of_own(mix(affinity, question_hidden))  # [B, N, K]
                image_scores = self.image_score(self.dropout(mixed)).squeeze(-1)  # [B, N]
        return image_scores, question_scores

    def gain(self, parameter: str) -> float:
        # tenths in the affinity keep its sums over slots, and so both tanh, out of saturation
        return 0.1 / self.image_width**0.5 if parameter.startswith("affinity.") else 1.0

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        pooling = regions * self.image_width + words * self.question_width
        if self.without.issuperset(self.parts):
            return 2 * examples * pooling
        hidden = self.image_hidden.out_features
        affinity = words * self.question_width * self.image_width + words * regions * self.image_width
        if self.affinity.bias is not None:
            affinity += words * self.question_width
        projections = (regions * self.image_width + words * self.question_width) * hidden
        attending = {"image_attention": regions, "question_attention": words}
        scoring = sum(
            words * regions * hidden + slots * hidden for part, slots in attending.items() if part not in self.without
        )
        return 2 * examples * (affinity + projections + scoring + pooling)
