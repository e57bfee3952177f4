"""A few tokens over a bag of thousands: tokens read patches, and gates pool both."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.elementwise import relu_of_own
from variants.interface import Attended, Batch, CoAttention, blanked, hidden_width
from variants.masking import masked_softmax, pool, uniform
from variants.regions import region
from variants.registry import register


class GatedScore(nn.Module):
    """A score for each slot: a hidden layer under a gate (Ilse et al. 2018, equation 9).

    Args:
        width: of a slot.
        gated: whether there is the gate.
    """

    def __init__(self, width: int, *, gated: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.gate = nn.Linear(width, width) if gated else None
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, slots: Tensor, valid: Tensor) -> Tensor:
        """The slots' weights ``[B, L]``, of ``[B, L, K]``."""
        with region("scores"):
            hidden = torch.tanh(self.hidden(slots))
            if self.gate is not None:
                hidden = hidden * torch.sigmoid(self.gate(slots))
            return masked_softmax(self.score(hidden).squeeze(-1), valid)

    def multiplications(self, slots: int) -> int:
        """How many multiply-adds its products take for one example."""
        width = self.hidden.in_features
        return slots * width * (width * (1 if self.gate is None else 2) + 1)


@register("bags")
class Bags(CoAttention):
    """Chen et al. 2021, section 3: genomic-guided co-attention of MCAT, between its encoders and its answer.

    The question is the few tokens (groups of genes), the image the bag (patches of a slide). Each token reads the
    patches with one head, and gated attention pools what the tokens have read, and the tokens themselves::

        H    = relu(V A + a),  G = relu(Q C + c)                   [B, N, K], [B, T, K]
        R    = softmax over patches ((G W_q) (H W_k)' / sqrt(K))   [B, T, N]
        F    = R (H W_v) W_o                                       [B, T, K]    what each token reads
        e    = softmax(tanh(F B_1) * sigmoid(F B_2) b)             [B, T]
        a_v  = e R,   v^ = a_v (H W_v) W_o                         [B, N], [B, K]
        a_q  = softmax(tanh(G B_3) * sigmoid(G B_4) d),  q^ = a_q G    [B, T], [B, K]

    The tokens' own branch never sees the patches, as published: co-attention goes one way. The layers of
    self-attention over tokens that MCAT sets before the pooling are left out. Without tokens every patch weighs the
    same.

    Options: ``hidden`` is K (the narrower of the two widths unless given). ``-image_attention`` weighs all patches the
    same for every token, ``-gates`` leaves the gates out of both poolings.
    """

    source = "Chen et al. 2021 (MCAT), section 3; gated pooling of Ilse et al. 2018, arXiv:1802.04712, equation 9"
    parts = ("image_attention", "gates")

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
        self.image_encoder = nn.Linear(image_width, hidden)
        self.question_encoder = nn.Linear(question_width, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden, bias=False)
        self.merge = nn.Linear(hidden, hidden, bias=False)
        gated = "gates" not in self.without
        self.image_score = GatedScore(hidden, gated=gated)
        self.question_score = GatedScore(hidden, gated=gated)

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = blanked(batch)
        patches = relu_of_own(self.image_encoder(image))  # [B, N, K]
        tokens = relu_of_own(self.question_encoder(question))  # [B, T, K]
        even = uniform(image_valid, image.dtype)  # [B, N]
        with region("affinity"):
            if "image_attention" in self.without:
                looks = even.unsqueeze(1).expand(-1, tokens.shape[1], -1)
            else:
                # the few tokens go through the key's weights, not the thousands of patches
                queries = (self.query(tokens) * tokens.shape[-1] ** -0.5) @ self.key.weight  # [B, T, K]
                looks = masked_softmax(queries @ patches.mT, image_valid.unsqueeze(1))  # [B, T, N]
        with region("pooling"):
            read = self.merge(self.value(looks @ patches))  # [B, T, K]
            token_weights = self.image_score(read, question_valid)  # [B, T]
            image_weights = torch.where(question_valid.any(-1, keepdim=True), pool(token_weights, looks), even)
            image_vector = self.merge(self.value(pool(image_weights, patches)))  # [B, K]
        question_weights = self.question_score(tokens, question_valid)
        return Attended(
            image_vector.unsqueeze(1),
            pool(question_weights, tokens).unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )

    def guided_weights(self) -> tuple[str, ...]:
        return () if "image_attention" in self.without else ("image_weights",)

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        hidden = self.query.in_features
        each = (regions * self.image_width + words * self.question_width) * hidden
        if "image_attention" not in self.without:
            each += 2 * words * hidden * hidden + words * regions * hidden
        each += words * regions * hidden + 2 * words * hidden * hidden  # what tokens read
        each += self.image_score.multiplications(words) + self.question_score.multiplications(words)
        each += words * regions + regions * hidden + 2 * hidden * hidden + words * hidden
        return 2 * examples * each
