"""allenai/allennlp-models, the attention of its bidirectional attention flow, as it behaves."""

import operator
import re
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention, one_width
from variants.masking import blank, pool
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import EITHER, known
from variants.registry import register

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
        merged, weights, _ = self.flow(question, passage, question_mask, passage_mask)
        return {"merged": merged, "passage_question_attention": weights}

    def flow(
        self, question: Tensor, passage: Tensor, question_mask: Tensor, passage_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`forward`'s outputs, and the weights of the passage's rows ``[B, N]``."""
        scores = self._matrix_attention(passage, question)
        weights = masked_softmax(scores, question_mask.unsqueeze(1))
        read = weights @ question
        lowest = torch.finfo(scores.dtype).min
        best = scores.masked_fill(~question_mask.unsqueeze(1), lowest).max(dim=-1)[0].squeeze(-1)
        rows = masked_softmax(best, passage_mask)
        summary = (rows.unsqueeze(1) @ passage).expand_as(passage)
        return torch.cat([passage, read, passage * read, passage * summary], dim=-1), weights, rows


@register("published_allennlp")
class PublishedAllennlp(CoAttention):
    """The package's attention flow on a batch; its rows are pooled by the weights that it has over the passage itself.

    The pooling is ours and takes no padded row, so leaks are the package's own.
    """

    source = "allenai/allennlp-models, rc/models/bidaf.py; after Seo et al. 2017, arXiv:1611.01603, section 2"
    origin = Origin(
        where="allenai/allennlp-models",
        differs="scores of padding become 0 and are cut out behind the softmax",
        ours="flow[projected=false]",
        source="allennlp/bidaf",
    )
    known_defects = (
        *known("NaN in a pad survives its weight of zero, and reaches the other side", {"P1n": EITHER}),
        *known(
            "scores of padding are 0, so that where real scores are lower most of their weight is thrown away",
            {"P10": (("scores shifted", "image"), ("scores shifted", "question"), "autocast to bf16")},
        ),
        *known(
            "and so it is where features are large",
            {"P17": (("sum of weights", "image"), ("sum of weights", "question"))},
            always=False,
        ),
        *known(
            "the constant that it adds to a sum of weights in half precision is as large as some of them",
            {"P10": ("fp16", "autocast to fp16")},
        ),
        *known("it has no constant for bf16", {"P10": ("bf16",)}),
        *known("a passage of one row loses its axis", {"P13": (("one slot", "image"),), "P17": ("features scaled",)}),
    )

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = BidirectionalAttentionFlow(
            one_width("published_allennlp", image_width=image_width, question_width=question_width)
        )

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = batch
        rows, looks, image_weights = self.network.flow(question, image, question_valid, image_valid)
        question_weights = pool(image_weights, blank(looks, image_valid))
        return Attended(
            pool(image_weights, blank(rows, image_valid)).unsqueeze(1),
            pool(question_weights, blank(question, question_valid)).unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )


def bidaf_from_checkpoint(checkpoint: Checkpoint) -> BidirectionalAttentionFlow:
    """The attention in the sizes of its weights; ``combination`` is the configuration's, else ``x,y,x*y``."""
    combination = checkpoint.option("combination", "x,y,x*y").replace(" ", "")
    terms = combination.count(",") + 1
    return BidirectionalAttentionFlow(
        checkpoint.size("_matrix_attention._weight_vector", 0, times=terms, config="encoding_dim"), combination
    )
