"""cvg/LightGlue, a layer of its transformer, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.heads import joined, split
from variants.interface import Attended, Batch, CoAttention, one_width
from variants.masking import masked_softmax
from variants.origin import Origin
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import EITHER, EMPTIED, known
from variants.published.rows import RowScores
from variants.registry import register
from variants.slots import EVERY, Slots, valid_rows


def _rotated(features: Tensor, encoding: Tensor) -> Tensor:
    """Each pair of channels turned by an angle; ``encoding`` ``[2, B, 1, L, d]`` holds its cosine and sine."""
    first, second = features.reshape(*features.shape[:-1], -1, 2).unbind(-1)
    return features * encoding[0] + torch.stack((-second, first), dim=-1).flatten(-2) * encoding[1]


def _weights(scores: Tensor, mask: Tensor | None, *, corrected: bool) -> Tensor:
    if corrected and mask is not None:
        return masked_softmax(scores, mask)  # a row without a partner is zeros, and has a gradient of zeros
    return torch.softmax(scores if mask is None else scores.masked_fill(~mask, float("-inf")), dim=-1)


def _repaired(read: Tensor, mask: Tensor | None, *, corrected: bool) -> Tensor:
    # forwards alone: the gradient of a row without a partner stays NaN
    return read if mask is None or corrected else read.nan_to_num()


def _ffn(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2 * width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), nn.Linear(2 * width, width)
    )


class SelfBlock(nn.Module):
    """A side reads itself, with rotary positions.

    Args:
        width: d, of the features.
        heads: how many.
        bias: whether the projections have one.
        corrected: whether its masked softmax is right backwards too.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, corrected: bool = False) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} heads cannot share a width of {width}: it has to be a multiple")
        self.heads = heads
        self.corrected = corrected
        self.Wqkv = nn.Linear(width, 3 * width, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=bias)
        self.ffn = _ffn(width)

    def forward(self, features: Tensor, encoding: Tensor, mask: Tensor | None = None) -> Tensor:
        """``[B, L, d]`` with what each slot read; ``mask`` ``[B, 1, L, L]`` bool, True on pairs of real slots."""
        # head outermost, query, key and value innermost
        qkv = self.Wqkv(features).unflatten(-1, (self.heads, -1, 3)).transpose(1, 2)  # [B, h, L, d/h, 3]
        query, key = _rotated(qkv[..., 0], encoding), _rotated(qkv[..., 1], encoding)
        weights = _weights(query @ key.mT * query.shape[-1] ** -0.5, mask, corrected=self.corrected)
        message = self.out_proj(joined(_repaired(weights @ qkv[..., 2], mask, corrected=self.corrected)))
        added: Tensor = features + self.ffn(torch.cat([features, message], -1))
        return added


class CrossBlock(nn.Module):
    """The sides read each other through one affinity, formed once, from one projection for both roles.

    Args:
        width: d, of the features.
        heads: how many.
        bias: whether the projections have one.
        corrected: as in `SelfBlock`.
    """

    def __init__(self, width: int, heads: int, *, bias: bool, corrected: bool = False) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} heads cannot share a width of {width}: it has to be a multiple")
        self.heads = heads
        self.corrected = corrected
        self.to_qk = nn.Linear(width, width, bias=bias)
        self.to_v = nn.Linear(width, width, bias=bias)
        self.to_out = nn.Linear(width, width, bias=bias)
        self.ffn = _ffn(width)

    def forward(
        self, x0: Tensor, x1: Tensor, mask: Tensor | None = None, at0: Slots = EVERY, at1: Slots = EVERY
    ) -> dict[str, Tensor]:
        """Both sides in their own shapes.

        Args:
            x0: ``[B, N, d]``.
            x1: ``[B, T, d]``.
            mask: ``[B, 1, N, T]`` bool, True on pairs of real slots.
            at0: the slots whose rows ``x0`` is; all, as published.
            at1: likewise of ``x1``.
        """
        sides = (x0, at0), (x1, at1)
        keys0, keys1 = (split(at.spread(self.to_qk(x)), self.heads) for x, at in sides)
        values0, values1 = (split(at.spread(self.to_v(x)), self.heads) for x, at in sides)
        scores = keys0 @ keys1.mT * keys0.shape[-1] ** -0.5  # [B, h, N, T]
        turned = None if mask is None else mask.mT
        messages = (
            _repaired(_weights(scores, mask, corrected=self.corrected) @ values1, mask, corrected=self.corrected),
            _repaired(_weights(scores.mT, turned, corrected=self.corrected) @ values0, mask, corrected=self.corrected),
        )
        return {
            name: x + self.ffn(torch.cat([x, self.to_out(at.taken(joined(message)))], -1))
            for name, (x, at), message in zip(("x0", "x1"), sides, messages, strict=True)
        }


class TransformerLayer(nn.Module):
    """Each side reads itself, with the same weights, then the other.

    Args:
        width: d, of the features.
        heads: how many.
        bias: whether the projections have one.
    """

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.self_attn = SelfBlock(width, heads, bias=bias)
        self.cross_attn = CrossBlock(width, heads, bias=bias)

    def forward(
        self,
        desc0: Tensor,
        desc1: Tensor,
        encoding0: Tensor,
        encoding1: Tensor,
        mask0: Tensor | None = None,
        mask1: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``desc0`` and ``desc1`` in their own shapes.

        Args:
            desc0: ``[B, N, d]``.
            desc1: ``[B, T, d]``.
            encoding0: ``[2, B, 1, N, d/h]``, cosine and sine of each channel's angle at each position.
            encoding1: ``[2, B, 1, T, d/h]``.
            mask0: ``[B, 1, N, 1]`` bool, True on real slots; with ``mask1`` or not at all. The package itself makes
                ``[B, N, 1]``, which pairs examples with heads.
            mask1: ``[B, 1, T, 1]``.
        """
        if mask0 is None or mask1 is None:
            masks: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None)
        else:
            masks = (mask0 & mask0.mT, mask1 & mask1.mT, mask0 & mask1.mT)
        desc0 = self.self_attn(desc0, encoding0, masks[0])
        desc1 = self.self_attn(desc1, encoding1, masks[1])
        both = self.cross_attn(desc0, desc1, masks[2])
        return {"desc0": both["x0"], "desc1": both["x1"]}


@register("published_lightglue")
class PublishedLightglue(CoAttention):
    """The authors' cross block on a batch; a score of ours pools the rows that it gives back.

    A batch has no positions, so the block of self-attention with its rotary encoding is left out.

    Options: ``heads`` and ``bias`` of its projections; ``corrected`` has its softmax right, with the same weights.
    """

    source = "cvg/LightGlue, lightglue.py, CrossBlock; Lindenberger et al. 2023, arXiv:2306.13643, section 3.1"
    origin = Origin(
        where="cvg/LightGlue, the authors of the paper",
        differs="one projection for both roles and sides; NaN is turned into 0 forwards alone",
        ours="published_lightglue[corrected=true]",
        nearest="bidirectional",
    )
    known_defects = (
        *known(
            "a NaN in the message becomes 0: one in a pad takes all that was read, and one in a real slot is hidden",
            {"P1n": EITHER, "P1v": (("NaN in a valid slot", "image"), ("NaN in a valid slot", "question"))},
        ),
        *known(
            "rows without a partner are softmaxes of -inf alone, repaired forwards and NaN backwards",
            {
                "P8": (("gradient at pads", "image"), ("gradient at pads", "question"), "gradients alone"),
                "P9b": EMPTIED,
            },
        ),
    )

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        heads: int = 4,
        bias: bool = True,
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = one_width("published_lightglue", image_width=image_width, question_width=question_width)
        self.network = CrossBlock(width, heads, bias=bias, corrected=corrected)
        self.scores = RowScores(width, width)
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def forward(self, batch: Batch) -> Attended:
        regions, words, at_regions, at_words = batch.image, batch.question, EVERY, EVERY
        if self.corrected:
            regions, at_regions = valid_rows(regions, batch.image_valid)
            words, at_words = valid_rows(words, batch.question_valid)
        pairs = (batch.image_valid.unsqueeze(-1) & batch.question_valid.unsqueeze(-2)).unsqueeze(1)  # [B, 1, N, T]
        found = self.network(regions, words, pairs, at_regions, at_words)
        return self.scores.attended(at_regions.spread(found["x0"]), at_words.spread(found["x1"]), batch)


def crossblock_from_checkpoint(checkpoint: Checkpoint) -> CrossBlock:
    """The block in the sizes of its weights; heads are the configuration's ``num_heads``, else 4."""
    return CrossBlock(
        checkpoint.size("to_qk.weight", 0, config="embed_dim"),
        checkpoint.option("num_heads", 4),
        bias="to_qk.bias" in checkpoint.state_dict,
    )


def layer_from_checkpoint(checkpoint: Checkpoint) -> TransformerLayer:
    """The layer in the sizes of its weights; heads as `crossblock_from_checkpoint`."""
    return TransformerLayer(
        checkpoint.size("cross_attn.to_qk.weight", 0, config="embed_dim"),
        checkpoint.option("num_heads", 4),
        bias="cross_attn.to_qk.bias" in checkpoint.state_dict,
    )


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedLightglue` has to be built with for the weights of a cross block."""
    width = checkpoint.size("to_qk.weight", 0)
    return Adapted(
        options={"heads": checkpoint.option("num_heads", 4), "bias": "to_qk.bias" in checkpoint.state_dict},
        image_width=width,
        question_width=width,
    )
