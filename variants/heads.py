"""Multi-head scaled dot-product attention."""

from torch import Tensor, nn

from variants.interface import hidden_width
from variants.masking import masked_softmax
from variants.regions import region


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

    def forward(self, features: Tensor, other: Tensor, other_valid: Tensor) -> Tensor:
        """What each slot of ``[B, L, D]`` reads from the valid slots of ``other``; from none, the last map's bias."""
        with region("affinity"):
            query = self.split(self.query(features))  # [B, heads, L, K/heads]
            # scaled before the product, which would otherwise be the first to leave the range of fp16
            affinity = (query * query.shape[-1] ** -0.5) @ self.split(self.key(other)).mT  # [B, heads, L, M]
            weights = masked_softmax(affinity, other_valid[:, None, None])
        with region("pooling"):
            return self.join(weights @ self.split(self.value(other)))

    def split(self, projected: Tensor) -> Tensor:
        """As `split`, into its own heads."""
        return split(projected, self.heads)

    def join(self, context: Tensor) -> Tensor:
        """``[B, heads, L, K/heads]`` to what is read, ``[B, L, D]``."""
        merged: Tensor = self.merge(context.transpose(1, 2).flatten(2))
        return merged

    def multiplications(self, slots: int, others: int) -> int:
        """How many multiply-adds its products take for one example."""
        hidden, width = self.query.weight.shape
        return 2 * slots * width * hidden + 2 * others * self.key.in_features * hidden + 2 * slots * others * hidden
