"""IDEA-Research/GroundingDINO, the fusion of image and text, as it behaves."""

import torch
from torch import Tensor, nn

from variants.published.bert import joined, split
from variants.published.checkpoint import Checkpoint

REACH = 50000.0
"""Scores are clamped to plus and minus this, below the largest number of half precision."""


def _clamped(scores: Tensor) -> Tensor:
    return scores.clamp(min=-REACH).clamp(max=REACH)


class BiMultiHeadAttention(nn.Module):
    """One affinity, read along both axes.

    The largest score of the whole batch, padding included, is subtracted before the clamp, so examples touch each
    other: by rounding, and where one's scores lie 50000 above another's, by making the other's attention uniform.

    Args:
        v_dim: width of the image.
        l_dim: width of the text.
        embed_dim: of all heads together.
        num_heads: how many.
    """

    def __init__(self, v_dim: int, l_dim: int, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"{num_heads} heads cannot share a width of {embed_dim}: it has to be a multiple")
        self.num_heads = num_heads
        self.v_proj = nn.Linear(v_dim, embed_dim)
        self.l_proj = nn.Linear(l_dim, embed_dim)
        self.values_v_proj = nn.Linear(v_dim, embed_dim)
        self.values_l_proj = nn.Linear(l_dim, embed_dim)
        self.out_v_proj = nn.Linear(embed_dim, v_dim)
        self.out_l_proj = nn.Linear(embed_dim, l_dim)

    def forward(
        self,
        v: Tensor,
        l: Tensor,  # noqa: E741  # the published name
        mask_v: Tensor | None = None,
        mask_l: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What each side read in the other, ``v`` ``[B, N, v_dim]`` and ``l`` ``[B, T, l_dim]``.

        Args:
            v: image ``[B, N, v_dim]``.
            l: text ``[B, T, l_dim]``.
            mask_v: ``[B, N]`` bool, True on padding.
            mask_l: ``[B, T]`` bool, True on padding.
        """
        scale = (self.v_proj.out_features // self.num_heads) ** -0.5
        scores = split(self.v_proj(v) * scale, self.num_heads) @ split(self.l_proj(l), self.num_heads).mT
        scores = _clamped(scores - scores.max())  # [B, h, N, T]
        turned = scores.mT
        turned = _clamped(turned - turned.max(dim=-1, keepdim=True)[0])  # [B, h, T, N]
        if mask_v is not None:
            turned = turned.masked_fill(mask_v[:, None, None], float("-inf"))
        if mask_l is not None:
            scores = scores.masked_fill(mask_l[:, None, None], float("-inf"))
        v_read = torch.softmax(scores, dim=-1) @ split(self.values_l_proj(l), self.num_heads)
        l_read = torch.softmax(turned, dim=-1) @ split(self.values_v_proj(v), self.num_heads)
        return {"v": self.out_v_proj(joined(v_read)), "l": self.out_l_proj(joined(l_read))}


class BiAttentionBlock(nn.Module):
    """Both sides normed, and what they read added to the *normed* sides, scaled channel by channel.

    Args:
        v_dim: width of the image.
        l_dim: width of the text.
        embed_dim: of all heads together.
        num_heads: how many.
    """

    def __init__(self, v_dim: int, l_dim: int, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.layer_norm_v = nn.LayerNorm(v_dim)
        self.layer_norm_l = nn.LayerNorm(l_dim)
        self.attn = BiMultiHeadAttention(v_dim, l_dim, embed_dim, num_heads)
        self.gamma_v = nn.Parameter(torch.full((v_dim,), 1e-4))
        self.gamma_l = nn.Parameter(torch.full((l_dim,), 1e-4))

    def forward(
        self,
        v: Tensor,
        l: Tensor,  # noqa: E741  # the published name
        mask_v: Tensor | None = None,
        mask_l: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Both sides in their own shapes; arguments as `BiMultiHeadAttention.forward`."""
        image, text = self.layer_norm_v(v), self.layer_norm_l(l)
        read = self.attn(image, text, mask_v, mask_l)
        return {"v": image + self.gamma_v * read["v"], "l": text + self.gamma_l * read["l"]}


def _sizes(checkpoint: Checkpoint, prefix: str) -> dict[str, int]:
    return {
        "v_dim": checkpoint.size(f"{prefix}v_proj.weight", 1, config="v_dim"),
        "l_dim": checkpoint.size(f"{prefix}l_proj.weight", 1, config="l_dim"),
        "embed_dim": checkpoint.size(f"{prefix}v_proj.weight", 0, config="embed_dim"),
        "num_heads": checkpoint.option("num_heads", 4),
    }


def bimha_from_checkpoint(checkpoint: Checkpoint) -> BiMultiHeadAttention:
    """The attention in the sizes of its weights; heads are the configuration's ``num_heads``, else 4."""
    return BiMultiHeadAttention(**_sizes(checkpoint, ""))


def block_from_checkpoint(checkpoint: Checkpoint) -> BiAttentionBlock:
    """The block in the sizes of its weights; heads as `bimha_from_checkpoint`."""
    return BiAttentionBlock(**_sizes(checkpoint, "attn."))
