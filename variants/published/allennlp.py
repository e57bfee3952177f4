"""allenai/allennlp-models, the attention of its bidirectional attention flow, as it behaves."""

import torch
from torch import Tensor, nn

from variants.published.checkpoint import Checkpoint

TINY = {torch.float32: 1e-13, torch.float64: 1e-13, torch.float16: 1e-4}


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Scores of padding are replaced by 0, not by minus infinity, then cut out, and the rest is divided by its sum.

    Where all valid scores lie far below 0 most of the weight goes to padding first, and is thrown away.

    Raises:
        TypeError: there is no tiny number for the scores' dtype, as published.
    """
    if scores.dtype not in TINY:
        raise TypeError(f"there is no tiny value for {scores.dtype}")
    weights = torch.softmax(scores * mask, dim=-1) * mask
    return weights / (weights.sum(dim=-1, keepdim=True) + TINY[scores.dtype])


class LinearMatrixAttention(nn.Module):
    """A score for each pair: linear in one row, in the other and in their product.

    Args:
        width: of both sides.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self._weight_vector = nn.Parameter(torch.empty(3 * width).normal_(std=(1 / width) ** 0.5))
        self._bias = nn.Parameter(torch.zeros(1))

    def forward(self, rows: Tensor, columns: Tensor) -> Tensor:
        """``[B, N, T]`` of ``[B, N, width]`` and ``[B, T, width]``."""
        first, second, product = self._weight_vector.chunk(3)
        scores: Tensor = (rows @ first).unsqueeze(-1) + (columns @ second).unsqueeze(1)
        return scores + (rows * product) @ columns.mT + self._bias


class BidirectionalAttentionFlow(nn.Module):
    """Passage and question read each other, with a mask on each.

    Args:
        width: of both sides.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self._matrix_attention = LinearMatrixAttention(width)

    def forward(
        self, question: Tensor, passage: Tensor, question_mask: Tensor, passage_mask: Tensor
    ) -> dict[str, Tensor]:
        """``merged`` ``[B, N, 4 width]`` and ``passage_question_attention`` ``[B, N, T]``.

        Args:
            question: ``[B, T, width]``.
            passage: ``[B, N, width]``.
            question_mask: ``[B, T]`` bool, True on real words.
            passage_mask: ``[B, N]`` bool, likewise.
        """
        scores = self._matrix_attention(passage, question)
        weights = masked_softmax(scores, question_mask.unsqueeze(1))
        read = weights @ question
        lowest = torch.finfo(scores.dtype).min
        best = scores.masked_fill(~question_mask.unsqueeze(1), lowest).max(dim=-1)[0].squeeze(-1)
        summary = (masked_softmax(best, passage_mask).unsqueeze(1) @ passage).expand_as(passage)
        merged = torch.cat([passage, read, passage * read, passage * summary], dim=-1)
        return {"merged": merged, "passage_question_attention": weights}


def bidaf_from_checkpoint(checkpoint: Checkpoint) -> BidirectionalAttentionFlow:
    """The attention in the sizes of its weights."""
    return BidirectionalAttentionFlow(checkpoint.size("_matrix_attention._weight_vector", 0, times=3))
