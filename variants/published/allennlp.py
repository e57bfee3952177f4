"""allenai/allennlp-models, the attention of its bidirectional attention flow, as it behaves."""

import operator
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

from variants.published.checkpoint import Checkpoint

OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "*": operator.mul,
    "/": operator.truediv,
    "+": operator.add,
    "-": operator.sub,
}
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
    """A score for each pair: linear in one row, in the other and in their product, or in what else is combined.

    Args:
        width: of both sides.
        combination: what the score is linear in: ``x`` and ``y``, or two of them with ``*``, ``/``, ``+`` or ``-``
            between, with commas between the terms.
    """

    def __init__(self, width: int, combination: str = "x,y,x*y") -> None:
        super().__init__()
        self.terms = combination.split(",")
        unknown = [term for term in self.terms if term not in ("x", "y") and not re.fullmatch("[xy][-+*/][xy]", term)]
        if unknown:
            raise ValueError(f"combination {combination!r} has {unknown[0]!r}: expected terms such as x, y and x*y")
        self._weight_vector = nn.Parameter(torch.empty(len(self.terms) * width).normal_(std=(1 / width) ** 0.5))
        self._bias = nn.Parameter(torch.zeros(1))

    def forward(self, rows: Tensor, columns: Tensor) -> Tensor:
        """``[B, N, T]`` of ``[B, N, width]`` and ``[B, T, width]``."""
        sides = {"x": rows.unsqueeze(2), "y": columns.unsqueeze(1)}
        scores: Tensor = self._bias
        for term, weight in zip(self.terms, self._weight_vector.chunk(len(self.terms)), strict=True):
            if term == "x*y":  # as the product of two matrices, without the pairs' features
                scores = scores + (rows * weight) @ columns.mT
            elif term in sides:
                scores = scores + sides[term] @ weight
            else:
                first, sign, second = tuple(term)
                scores = scores + OPERATIONS[sign](sides[first], sides[second]) @ weight
        return scores


class BidirectionalAttentionFlow(nn.Module):
    """Passage and question read each other, with a mask on each.

    Args:
        width: of both sides.
        combination: as in `LinearMatrixAttention`.
    """

    def __init__(self, width: int, combination: str = "x,y,x*y") -> None:
        super().__init__()
        self._matrix_attention = LinearMatrixAttention(width, combination)

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
    """The attention in the sizes of its weights; ``combination`` is the configuration's, else ``x,y,x*y``."""
    combination = checkpoint.option("combination", "x,y,x*y").replace(" ", "")
    terms = combination.count(",") + 1
    return BidirectionalAttentionFlow(
        checkpoint.size("_matrix_attention._weight_vector", 0, times=terms, config="encoding_dim"), combination
    )
