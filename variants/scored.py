"""A side in one vector, by a score for each of its slots."""

from torch import Tensor, nn

from variants.masking import masked_softmax, pool
from variants.regions import region
from variants.slots import EVERY, Slots


def scored_pool(score: nn.Linear, tokens: Tensor, valid: Tensor, slots: Slots = EVERY) -> tuple[Tensor, Tensor]:
    """The slots under a softmax of their scores.

    Args:
        score: from a slot to one number.
        tokens: ``[B, L, D]``, finite on padding; or the rows of ``slots`` alone.
        valid: ``[B, L]`` bool.
        slots: that the tokens stand in.

    Returns:
        ``[B, D]`` and the weights ``[B, L]``, both zero for a row without a valid slot.
    """
    with region("scores"):
        scores = slots.spread(score(tokens)).squeeze(-1)  # [B, L]
    with region("pooling"):
        weights = masked_softmax(scores, valid)
        return pool(weights, slots.spread(tokens)), weights
