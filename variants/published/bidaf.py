"""galsang/BiDAF-pytorch, its attention flow, as it behaves."""

import torch
from torch import Tensor, nn

from variants.published.checkpoint import Checkpoint


class Linear(nn.Module):
    """A linear map under the name of its own that the published code gives it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        mapped: Tensor = self.linear(features)
        return mapped


class AttentionFlow(nn.Module):
    """Context and question read each other through one affinity; no mask of any kind.

    Squeezes without an axis drop a batch of one example, which then raises, as published.

    Args:
        width: of both sides.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.att_weight_c = Linear(width, 1)
        self.att_weight_q = Linear(width, 1)
        self.att_weight_cq = Linear(width, 1)

    def forward(self, c: Tensor, q: Tensor) -> dict[str, Tensor]:
        """``g`` ``[B, N, 4 width]``: the context, what it reads, and its products with that and with its summary.

        Args:
            c: context ``[B, N, width]``.
            q: question ``[B, T, width]``.
        """
        length, words = c.shape[1], q.shape[1]
        products = [self.att_weight_cq(c * word.unsqueeze(1)).squeeze() for word in q.unbind(1)]
        scores = (
            self.att_weight_c(c).expand(-1, -1, words)
            + self.att_weight_q(q).permute(0, 2, 1).expand(-1, length, -1)
            + torch.stack(products, dim=-1)
        )  # [B, N, T]
        read = torch.bmm(torch.softmax(scores, dim=2), q)  # [B, N, width]
        weights = torch.softmax(torch.max(scores, dim=2)[0], dim=1).unsqueeze(1)  # [B, 1, N]
        summary = torch.bmm(weights, c).squeeze().unsqueeze(1).expand(-1, length, -1)
        return {"g": torch.cat([c, read, c * read, c * summary], dim=-1)}


def attflow_from_checkpoint(checkpoint: Checkpoint) -> AttentionFlow:
    """The attention in the sizes of its weights."""
    return AttentionFlow(checkpoint.size("att_weight_c.linear.weight", 1))
