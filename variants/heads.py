"""Multi-head scaled dot-product attention."""

from torch import Tensor, nn

from variants.interface import hidden_width
from variants.masking import masked_softmax
from variants.regions import region
from variants.slots import EVERY, Slots


def width_of_heads(name: str, heads: int, hidden: int | None, *, image_width: int, question_width: int) -> int:
    """K, of all heads together: as it is given, or the narrower of the two widths, rounded up to a multiple of heads.

    Args:
        name: of the mechanism, quoted in errors.
        heads: how many.
        hidden: K, if it is given.
        image_width: V.
        question_width: Q.

    Raises:
        ValueError: there is no head, or K is less than 1 or no multiple of them.
    """
    if heads < 1:
        raise ValueError(f"{name}[heads={heads}]: expected at least one head")
    if hidden is None:
        hidden = -(-min(image_width, question_width) // heads) * heads
    hidden = hidden_width(hidden, image_width=image_width, question_width=question_width)
    if hidden % heads:
        raise ValueError(f"{name}[heads={heads},hidden={hidden}]: expected hidden to be a multiple of heads")
    return hidden


def split(projected: Tensor, heads: int) -> Tensor:
    """``[B, L, K]`` to ``[B, heads, L, K/heads]``."""
    return projected.view(*projected.shape[:-1], heads, -1).transpose(1, 2)


def joined(context: Tensor) -> Tensor:
    """``[B, heads, L, K/heads]`` to ``[B, L, K]``, the inverse of `split`."""
    return context.transpose(1, 2).flatten(2)


class Heads(nn.Module):
    """What slots X read from slots Y (Vaswani et al. 2017, section 3.2).

    Side by side over heads, ``softmax(X W_q (Y W_k)' / sqrt(K / heads)) Y W_v``; then ``W_o`` over all of it.

    Args:
        width: D, of the slots that read.
        other_width: of the slots that are read.
        hidden: K, a multiple of ``heads``.
        heads: how many.
        bias: whether the four linear maps have one.
    """

    def __init__(self, width: int, other_width: int, hidden: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, hidden, bias=bias)
        self.key = nn.Linear(other_width, hidden, bias=bias)
        self.value = nn.Linear(other_width, hidden, bias=bias)
        self.merge = nn.Linear(hidden, width, bias=bias)

    def forward(
        self, features: Tensor, other: Tensor, other_valid: Tensor, own: Slots = EVERY, others: Slots = EVERY
    ) -> Tensor:
        """What each slot reads from the valid slots of ``other``; from none, the last map's bias.

        Args:
            features: ``[B, L, D]``, or the rows of ``own`` alone; so is what comes back.
            other: ``[B, M, E]``, or the rows of ``others`` alone.
            other_valid: ``[B, M]`` bool.
            own: the slots that read.
            others: the slots that are read.
        """
        with region("affinity"):
            query = self.split(own.spread(self.query(features)))  # [B, heads, L, K/heads]
            key = self.split(others.spread(self.key(other)))
            # scaled before the product, which would otherwise be the first to leave the range of fp16
            affinity = (query * query.shape[-1] ** -0.5) @ key.mT  # [B, heads, L, M]
            weights = masked_softmax(affinity, other_valid[:, None, None])
        with region("pooling"):
            return self.join(weights @ self.split(others.spread(self.value(other))), own)

    def split(self, projected: Tensor) -> Tensor:
        """As `split`, into its own heads."""
        return split(projected, self.heads)

    def join(self, context: Tensor, own: Slots = EVERY) -> Tensor:
        """``[B, heads, L, K/heads]`` to what is read, ``[B, L, D]`` or the rows of ``own`` alone."""
        merged: Tensor = self.merge(own.taken(joined(context)))
        return merged

    def multiplications(self, slots: int, others: int) -> int:
        """How many multiply-adds its products take for one example."""
        hidden, width = self.query.weight.shape
        return 2 * slots * width * hidden + 2 * others * self.key.in_features * hidden + 2 * slots * others * hidden
