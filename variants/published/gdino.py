"""IDEA-Research/GroundingDINO, the fusion of image and text, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.heads import joined, split, width_of_heads
from variants.interface import Attended, Batch, CoAttention
from variants.masking import masked_softmax
from variants.origin import Origin
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import EITHER, EMPTIED, known
from variants.published.rows import RowScores
from variants.registry import register
from variants.slots import EVERY, Slots, valid_rows

SHARED_MAXIMUM = "the largest score of the whole batch is subtracted, so that padding and mates move the last bits"
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
        at_regions: Slots = EVERY,
        at_words: Slots = EVERY,
    ) -> dict[str, Tensor]:
        """What each side read in the other, ``v`` ``[B, N, v_dim]`` and ``l`` ``[B, T, l_dim]``.

        Args:
            v: image ``[B, N, v_dim]``.
            l: text ``[B, T, l_dim]``.
            mask_v: ``[B, N]`` bool, True on padding.
            mask_l: ``[B, T]`` bool, True on padding.
            at_regions: the slots whose rows ``v`` is, as given and as read; all, as published.
            at_words: likewise of ``l``.
        """
        scale = (self.v_proj.out_features // self.num_heads) ** -0.5
        rows, values_v = (
            split(at_regions.spread(mapped), self.num_heads)
            for mapped in (self.v_proj(v) * scale, self.values_v_proj(v))
        )
        columns, values_l = (
            split(at_words.spread(mapped), self.num_heads) for mapped in (self.l_proj(l), self.values_l_proj(l))
        )
        v_looks, l_looks = self.weights(rows @ columns.mT, mask_v, mask_l)
        v_read, l_read = at_regions.taken(joined(v_looks @ values_l)), at_words.taken(joined(l_looks @ values_v))
        return {"v": self.out_v_proj(v_read), "l": self.out_l_proj(l_read)}

    def weights(self, scores: Tensor, mask_v: Tensor | None, mask_l: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of the image over the text ``[B, h, N, T]``, and of the text over the image ``[B, h, T, N]``."""
        scores = _clamped(scores - scores.max())  # [B, h, N, T]
        turned = scores.mT
        turned = _clamped(turned - turned.max(dim=-1, keepdim=True)[0])  # [B, h, T, N]
        if mask_v is not None:
            turned = turned.masked_fill(mask_v[:, None, None], float("-inf"))
        if mask_l is not None:
            scores = scores.masked_fill(mask_l[:, None, None], float("-inf"))
        return torch.softmax(scores, dim=-1), torch.softmax(turned, dim=-1)


class Corrected(BiMultiHeadAttention):
    """The same with each row's own maximum, no clamp, and zeros for what an empty side would be read with."""

    def weights(self, scores: Tensor, mask_v: Tensor | None, mask_l: Tensor | None) -> tuple[Tensor, Tensor]:
        assert mask_v is not None
        assert mask_l is not None
        return masked_softmax(scores, ~mask_l[:, None, None]), masked_softmax(scores.mT, ~mask_v[:, None, None])


class BiAttentionBlock(nn.Module):
    """Both sides normed, and what they read added to the *normed* sides, scaled channel by channel.

    Args:
        v_dim: width of the image.
        l_dim: width of the text.
        embed_dim: of all heads together.
        num_heads: how many.
        attention: published or `Corrected`.
    """

    def __init__(
        self,
        v_dim: int,
        l_dim: int,
        embed_dim: int,
        num_heads: int,
        attention: type[BiMultiHeadAttention] = BiMultiHeadAttention,
    ) -> None:
        super().__init__()
        self.layer_norm_v = nn.LayerNorm(v_dim)
        self.layer_norm_l = nn.LayerNorm(l_dim)
        self.attn = attention(v_dim, l_dim, embed_dim, num_heads)
        self.gamma_v = nn.Parameter(torch.full((v_dim,), 1e-4))
        self.gamma_l = nn.Parameter(torch.full((l_dim,), 1e-4))

    def forward(
        self,
        v: Tensor,
        l: Tensor,  # noqa: E741  # the published name
        mask_v: Tensor | None = None,
        mask_l: Tensor | None = None,
        at_regions: Slots = EVERY,
        at_words: Slots = EVERY,
    ) -> dict[str, Tensor]:
        """Both sides in their own shapes; arguments as `BiMultiHeadAttention.forward`."""
        image, text = self.layer_norm_v(v), self.layer_norm_l(l)
        read = self.attn(image, text, mask_v, mask_l, at_regions, at_words)
        return {"v": image + self.gamma_v * read["v"], "l": text + self.gamma_l * read["l"]}


@register("published_gdino")
class PublishedGdino(CoAttention):
    """The authors' fusion block on a batch; a score of ours pools the rows that it gives back.

    Options: ``hidden`` (the narrower width, rounded up to a multiple of ``heads``, unless given) and ``heads`` are its
    embed_dim and num_heads; ``corrected`` has its softmax right, with the same weights.
    """

    source = "IDEA-Research/GroundingDINO, fuse_modules.py, BiAttentionBlock; Liu et al. 2023, arXiv:2303.05499"
    origin = Origin(
        where="IDEA-Research/GroundingDINO, the authors of the paper",
        differs="subtracts the largest score of the whole batch and clamps; the residual starts behind the norm",
        ours="published_gdino[corrected=true]",
        nearest="bidirectional",
    )
    known_defects = (
        *known(SHARED_MAXIMUM, {"P3o": ("mates' contents",), "P8": ("gradient at pads",)}),
        *known(SHARED_MAXIMUM, {"P1": ("pads filled",), "P17": ("pads filled",)}, always=False),
        *known(
            "NaN in a pad becomes the largest score of the whole batch, and makes every output of every example NaN",
            {"P1n": EITHER},
        ),
        *known(
            "scores of an empty side are all -inf, so that what reads it is NaN, and so are gradients",
            {"P9": EMPTIED, "P9b": EMPTIED, "P9r": EMPTIED},
        ),
    )

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        hidden: int | None = None,
        heads: int = 4,
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = width_of_heads(
            "published_gdino", heads, hidden, image_width=image_width, question_width=question_width
        )
        attention = Corrected if corrected else BiMultiHeadAttention
        self.network = BiAttentionBlock(image_width, question_width, hidden, heads, attention)
        self.scores = RowScores(image_width, question_width)
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def forward(self, batch: Batch) -> Attended:
        regions, words, at_regions, at_words = batch.image, batch.question, EVERY, EVERY
        if self.corrected:
            regions, at_regions = valid_rows(regions, batch.image_valid)
            words, at_words = valid_rows(words, batch.question_valid)
        found = self.network(regions, words, ~batch.image_valid, ~batch.question_valid, at_regions, at_words)
        return self.scores.attended(at_regions.spread(found["v"]), at_words.spread(found["l"]), batch)

    def gain(self, parameter: str) -> float:
        # its channels start at 1e-4, where nothing that is read would show
        return 10.0 if parameter.startswith("network.gamma") else 1.0


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
    sizes = _sizes(checkpoint, "attn.")
    return BiAttentionBlock(sizes["v_dim"], sizes["l_dim"], sizes["embed_dim"], sizes["num_heads"])


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedGdino` has to be built with for a block's weights."""
    sizes = _sizes(checkpoint, "attn.")
    return Adapted(
        options={"hidden": sizes["embed_dim"], "heads": sizes["num_heads"]},
        image_width=sizes["v_dim"],
        question_width=sizes["l_dim"],
    )
