"""peizhenbai/DrugBAN, bilinear attention between a drug and a protein, as it behaves."""

import torch
from torch import Tensor, nn

from variants.published.ban import BCNet, bc_net
from variants.published.checkpoint import Checkpoint


class BANLayer(BCNet):
    """Maps over all pairs of an atom and a residue, pooled together, behind a norm over the batch.

    It takes no mask on either side, and unless asked takes the maps' scores for weights, without a softmax.

    Args:
        net: the maps.
        width: of what comes out.
        softmax: whether each map is a distribution.
        momentum: of the norm's running statistics.
        eps: of the norm.
        by_batch: whether the norm takes the statistics of the batch, and moves the running ones.
    """

    def __init__(self, net: BCNet, width: int, *, softmax: bool, momentum: float, eps: float, by_batch: bool) -> None:
        super().__init__(net.v_net, net.q_net, rank=width * net.k, k=net.k, maps=net.maps, normed=True)
        self.softmax = softmax
        self.by_batch = by_batch
        self.bn = nn.BatchNorm1d(width, eps=eps, momentum=momentum)

    def forward(self, v: Tensor, q: Tensor, w: Tensor | None = None) -> dict[str, Tensor]:
        """``f`` ``[B, width]`` and ``att`` ``[B, G, N, T]``; with the batch's statistics also the running ones.

        Args:
            v: drug atoms ``[B, N, dv]``.
            q: protein positions ``[B, T, dq]``.
            w: not taken.
        """
        att = self.pairs(v, q)
        if self.softmax:
            att = torch.softmax(att.flatten(2), 2).view_as(att)
        self.bn.train(self.by_batch)
        outputs = {"f": self.bn(self.pooled(v, q, att.sum(1))), "att": att}
        if self.by_batch:
            assert self.bn.running_mean is not None
            assert self.bn.running_var is not None
            outputs |= {"running_mean_after": self.bn.running_mean, "running_var_after": self.bn.running_var}
        return outputs


def banlayer_from_checkpoint(checkpoint: Checkpoint) -> BANLayer:
    """The layer in the sizes of its weights; ``k`` (3), ``softmax`` (no) and ``bn`` (eval) are the configuration's."""
    return BANLayer(
        bc_net(checkpoint, "", k=checkpoint.option("k", 3)),
        checkpoint.size("bn.weight", 0),
        softmax=checkpoint.option("softmax", False),
        momentum=float(str(checkpoint.config.get("bn_momentum", 0.1))),
        eps=float(str(checkpoint.config.get("bn_eps", 1e-5))),
        by_batch=checkpoint.option("bn", "eval") == "train",
    )
