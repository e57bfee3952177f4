"""Alternating co-attention: the question, then the image guided by it, then the question guided by the image."""

from collections.abc import Collection
from typing import Literal

from torch import Tensor, nn

from variants.elementwise import sum_of_own, tanh_of_own
from variants.interface import Attended, Batch, CoAttention, blanked, hidden_dropout, hidden_width
from variants.masking import masked_mean, masked_softmax, pool
from variants.regions import region
from variants.registry import register


class Guided(nn.Module):
    """The scores of one attention operation ``x^ = A(X; g)``: ``tanh(X W_x + 1 (W_g g)') w_hx``."""

    def __init__(self, width: int, guide_width: int | None, hidden: int, *, bias: bool, dropout: nn.Dropout) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden, bias=bias)
        self.guide = nn.Linear(guide_width, hidden, bias=bias) if guide_width is not None else None
        self.score = nn.Linear(hidden, 1, bias=bias)
        self.dropout = dropout

    def forward(self, features: Tensor, guide: Tensor | None) -> Tensor:
        mixed = self.hidden(features)  # [B, L, K]
        if self.guide is not None and guide is not None:
            mixed = sum_of_own(mixed, self.guide(guide).unsqueeze(1))
        scores: Tensor = self.score(self.dropout(tanh_of_own(mixed))).squeeze(-1)  # [B, L]
        return scores


@register("alternating")
class Alternating(CoAttention):
    """Lu et al. 2016, section 3.3, equation 6.

    One operation, ``x^ = A(X; g)``, used three times::

        H    = tanh(X W_x + 1 (W_g g)')      [B, L, K]
        a    = softmax(H w_hx)               [B, L]
        x^   = a X                           [B, D]

        s^ = A(Q; 0),  v^ = A(V; s^),  q^ = A(Q; v^)

    The paper leaves padding open; the softmax sees valid slots alone, and no other step mixes slots. The first step's
    weights are a means and are not returned.

    Options: ``hidden`` is K (the narrower of the two widths unless given); ``weights=shared`` reads the paper's
    parameters as one set for the three steps, which needs equal widths, where by default each step has its own, as in
    the authors' code; ``bias`` adds biases as the authors' code does; ``dropout`` is the share of each H that is
    dropped in train mode, where the authors' code drops a half. ``-question_attention`` replaces both steps on the
    question by its mean, which then guides the image.
    """

    source = "Lu et al. 2016, arXiv:1606.00061, section 3.3, equation 6"
    parts = ("image_attention", "question_attention")

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        hidden: int | None = None,
        weights: Literal["separate", "shared"] = "separate",
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = hidden_width(hidden, image_width=image_width, question_width=question_width)
        self.dropout = hidden_dropout(dropout)

        def guided(width: int, guide_width: int | None) -> Guided:
            return Guided(width, guide_width, hidden, bias=bias, dropout=self.dropout)

        if weights == "shared":
            if image_width != question_width:
                raise ValueError(
                    f"alternating[weights=shared] needs equal widths, but the image has {image_width} and the "
                    f"question {question_width}: leave weights=shared out, or project one side first"
                )
            self.summary = self.image_step = self.question_step = guided(question_width, image_width)
        else:
            self.summary = guided(question_width, None)
            self.image_step = guided(image_width, question_width)
            self.question_step = guided(question_width, image_width)

    def forward(self, batch: Batch) -> Attended:
        return self.attend(blanked(batch))

    def attend(self, batch: Batch) -> Attended:
        """As ``forward``, for features that are blank on padding already."""
        image, question, image_valid, question_valid = batch
        if "question_attention" in self.without:
            summary, question_weights = masked_mean(question, question_valid)  # [B, Q], [B, T]
        else:
            summary, question_weights = self._step(self.summary, question, question_valid, None)
        if "image_attention" in self.without:
            image_vector, image_weights = masked_mean(image, image_valid)  # [B, V], [B, N]
        else:
            image_vector, image_weights = self._step(self.image_step, image, image_valid, summary)
        question_vector = summary
        if "question_attention" not in self.without:
            question_vector, question_weights = self._step(self.question_step, question, question_valid, image_vector)
        return Attended(
            image_vector.unsqueeze(1),
            question_vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )

    def _step(self, step: Guided, features: Tensor, valid: Tensor, guide: Tensor | None) -> tuple[Tensor, Tensor]:
        with region("scores"):
            scores = step(features, guide)  # [B, L]
        with region("pooling"):
            weights = masked_softmax(scores, valid)
            return pool(weights, features), weights

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        hidden = self.summary.hidden.out_features

        def step(slots: int, width: int, guide_width: int) -> int:
            return (slots * width + guide_width + slots) * hidden + slots * width

        image = regions * self.image_width
        if "image_attention" not in self.without:
            image = step(regions, self.image_width, self.question_width)
        question = words * self.question_width
        if "question_attention" not in self.without:
            question = step(words, self.question_width, 0) + step(words, self.question_width, self.image_width)
        return 2 * examples * (image + question)
