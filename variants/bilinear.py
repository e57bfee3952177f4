"""Bilinear attention: a distribution over all pairs of a region and a word at once."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.elementwise import relu_of_own
from variants.interface import Attended, Batch, CoAttention, blanked, hidden_width
from variants.masking import blank, joint_softmax, pool, uniform
from variants.regions import region
from variants.registry import register
from variants.slots import Slots, slots_of


class Pooling(nn.Module):
    """The pairs of a glimpse in one vector: low-rank products of a region and a word under the pair's weight.

    Args:
        image_width: V.
        question_width: Q.
        hidden: K, how many ranks.
    """

    def __init__(self, image_width: int, question_width: int, hidden: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_width, hidden)
        self.question = nn.Linear(question_width, hidden)
        self.update = nn.Linear(hidden, question_width)

    def forward(self, image: Tensor, question: Tensor, weights: Tensor, at_regions: Slots, at_words: Slots) -> Tensor:
        """What the words are told, ``[B, Q]``, from weights ``[B, N, T]``; the sides may be the slots' rows alone."""
        regions = at_regions.spread(relu_of_own(self.image(image)))
        words = at_words.spread(relu_of_own(self.question(question)))
        if regions.shape[1] < words.shape[1]:  # what is multiplied by itself is the shorter side
            pairs = (regions * (weights @ words)).sum(1)
        else:
            pairs = (words * (weights.mT @ regions)).sum(1)
        told: Tensor = self.update(pairs)
        return told

    def multiplications(self, regions: int, words: int) -> int:
        """How many multiply-adds its products take for one example."""
        hidden = self.update.in_features
        sides = regions * self.image.in_features + words * self.question.in_features
        return (sides + regions * words + self.update.out_features) * hidden


def _marginal(weights: Tensor, valid: Tensor, other_valid: Tensor) -> Tensor:
    """``[B, G, L]``; equal over the valid slots where the other side has none, and so there is no pair."""
    return torch.where(other_valid.any(-1)[:, None, None], weights, uniform(valid, weights.dtype).unsqueeze(1))


@register("bilinear")
class Bilinear(CoAttention):
    """Kim et al. 2018, bilinear attention networks: equations 6 to 10, with a chain of residual glimpses.

    With K ranks, ``a = relu(V A + b_a)`` and ``c = relu(Q C + b_c)``, for each of G glimpses g::

        S_g  = (a * h_g) c'                                      [B, N, T]
        P_g  = softmax over all valid pairs of S_g               [B, N, T]
        u_g  = sum over n, t of P_g (relu(V A_g) * relu(Q C_g))  [B, K]
        Q   <- Q + u_g U_g,  the same for every word             [B, T, Q]
        a_v  = sum over t of P_g,  a_q = sum over n of P_g       [B, N], [B, T]
        v^_g = a_v V,  q^_g = a_q Q                              [B, V], [B, Q]

    All maps come from the question as it was given; each glimpse's pooling sees what the glimpses before it have told
    the words. The weights that are returned are the marginals of a glimpse's map, the vectors the sides under them.
    Where one side has no valid slot there is no pair: the other side is its mean, and is told the bias alone.

    The authors' code keeps the gain of each weight apart, masks regions of exact zeros and no words, and returns the
    sum over the words, padding included.

    Options: ``glimpses``; ``hidden`` is K, of the maps and of the pooling (the narrower of the two widths unless
    given); ``factor`` is how many times as many ranks the maps have, which the authors set to 3; ``residual=false``
    tells every glimpse's words of that glimpse alone. ``-pooling`` leaves the bilinear
    pooling out, so that glimpses differ by their maps alone.
    """

    source = "Kim et al. 2018, arXiv:1805.07932, sections 3 and 4, equations 6 to 10"
    parts = ("pooling",)

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        glimpses: int = 2,
        hidden: int | None = None,
        residual: bool = True,
        factor: int = 1,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        if glimpses < 1:
            raise ValueError(f"bilinear[glimpses={glimpses}]: expected at least one glimpse")
        if factor < 1:
            raise ValueError(f"bilinear[factor={factor}]: expected at least 1")
        hidden = hidden_width(hidden, image_width=image_width, question_width=question_width)
        self.residual = residual
        self.image_rank = nn.Linear(image_width, factor * hidden)
        self.question_rank = nn.Linear(question_width, factor * hidden)
        self.map = nn.Parameter(torch.zeros(glimpses, factor * hidden))
        self.poolings = nn.ModuleList(
            Pooling(image_width, question_width, hidden) for _ in range(0 if "pooling" in self.without else glimpses)
        )

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = blanked(batch)
        at_regions, at_words = slots_of(image_valid), slots_of(question_valid)
        image_rows = at_regions.taken(image)
        with region("affinity"):
            regions = at_regions.spread(relu_of_own(self.image_rank(image_rows))).unsqueeze(1)  # [B, 1, N, K]
            words = at_words.spread(relu_of_own(self.question_rank(at_words.taken(question)))).unsqueeze(1)
            maps = self.map.unsqueeze(1)  # [G, 1, K]
            shorter = regions.shape[2] < words.shape[2]
            scores = (regions * maps) @ words.mT if shorter else regions @ (words * maps).mT  # [B, G, N, T]
        with region("scores"):
            weights = joint_softmax(scores, image_valid, question_valid)
            image_weights = _marginal(weights.sum(-1), image_valid, question_valid)  # [B, G, N]
            question_weights = _marginal(weights.sum(-2), question_valid, image_valid)  # [B, G, T]
        with region("pooling"):
            told = [question] * self.map.shape[0]
            current = question
            for glimpse, pooling in enumerate(self.poolings):
                said = at_words.taken(current)
                update = pooling(image_rows, said, weights[:, glimpse], at_regions, at_words)  # [B, Q]
                told[glimpse] = blank(current + update.unsqueeze(1), question_valid)
                current = told[glimpse] if self.residual else question
            question_vectors = [pool(question_weights[:, glimpse], words) for glimpse, words in enumerate(told)]
            return Attended(
                image_weights @ image, torch.stack(question_vectors, dim=1), image_weights, question_weights
            )

    def matmul_flops(self, examples: int, regions: int, words: int) -> int:
        glimpses, hidden = self.map.shape
        each = (regions * self.image_width + words * self.question_width + glimpses * regions * words) * hidden
        each += glimpses * (regions * self.image_width + words * self.question_width)
        for pooling in self.poolings:
            assert isinstance(pooling, Pooling)
            each += pooling.multiplications(regions, words)
        return 2 * examples * each
