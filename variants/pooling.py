"""Plain pooling: what any attention has to beat."""

from collections.abc import Collection

import torch

from variants.interface import Attended, Batch, CoAttention, blanked
from variants.masking import masked_mean
from variants.regions import region
from variants.registry import register


@register("pool")
class Pool(CoAttention):
    """The masked mean of each side; neither side sees the other.

    With ``n`` valid regions and ``t`` valid words, ``v^ = sum(V) / n`` and ``q^ = sum(Q) / t``.
    """

    source = "the control: every valid slot counts the same"

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        # it has no weights, and this says which device it is on
        self.register_buffer("place", torch.empty(0), persistent=False)

    def forward(self, batch: Batch) -> Attended:
        return self.attend(blanked(batch))

    def attend(self, batch: Batch) -> Attended:
        """As ``forward``, for features that are blank on padding already."""
        with region("pooling"):
            image, image_weights = masked_mean(batch.image, batch.image_valid)  # [B, V], [B, N]
            question, question_weights = masked_mean(batch.question, batch.question_valid)  # [B, Q], [B, T]
        return Attended(
            image.unsqueeze(1), question.unsqueeze(1), image_weights.unsqueeze(1), question_weights.unsqueeze(1)
        )

    def guided_weights(self) -> tuple[str, ...]:
        return ()

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        return 2 * examples * (regions * self.image_width + words * self.question_width)
