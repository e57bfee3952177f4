"""facebookresearch/vilbert-multi-task, the authors' own code, as it behaves."""

from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn

from variants.heads import joined, split, width_of_heads
from variants.interface import Attended, Batch, CoAttention
from variants.origin import Origin
from variants.published.bert import NORM_EPS, Intermediate, additive, attend
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import ADDED_MASKS
from variants.published.rows import RowScores
from variants.registry import register
from variants.slots import EVERY, Slots, valid_rows


class BertLayerNorm(nn.Module):
    """Its own norm, in the dtype of what it gets: in half precision 1e-12 is zero, and squares overflow."""

    safe = False
    """Whether it is torch's norm instead, which takes its sums in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        if self.safe:
            return nn.functional.layer_norm(features, self.weight.shape, self.weight, self.bias, NORM_EPS)
        apart = features - features.mean(-1, keepdim=True)
        return self.weight * (apart / torch.sqrt(apart.pow(2).mean(-1, keepdim=True) + NORM_EPS)) + self.bias


class Output(nn.Module):
    """A linear map, the sum with what came in, and `BertLayerNorm`."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, width)
        self.LayerNorm = BertLayerNorm(width)

    def forward(self, found: Tensor, features: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(found) + features)
        return normed


class BertBiAttention(nn.Module):
    """Two affinities with weights of their own: words read regions, regions read words.

    Args:
        v_width: of the regions.
        t_width: of the words.
        hidden: of all heads together.
        heads: how many.
    """

    def __init__(self, v_width: int, t_width: int, hidden: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or hidden % heads:
            raise ValueError(f"{heads} heads cannot share a width of {hidden}: it has to be a multiple")
        self.heads = heads
        self.query1, self.key1, self.value1 = (nn.Linear(v_width, hidden) for _ in range(3))
        self.query2, self.key2, self.value2 = (nn.Linear(t_width, hidden) for _ in range(3))

    def forward(
        self,
        v: Tensor,
        v_mask: Tensor,
        t: Tensor,
        t_mask: Tensor,
        at_regions: Slots = EVERY,
        at_words: Slots = EVERY,
    ) -> dict[str, Tensor]:
        """``context1`` ``[B, T, hidden]`` and ``attn1`` ``[B, h, T, N]``: words on regions; with 2, regions on words.

        The number is that of the side whose values are read.

        Args:
            v: regions ``[B, N, v_width]``.
            v_mask: ``[B, 1, 1, N]``, added to scores: 0 on real regions, -10000 on padding.
            t: words ``[B, T, t_width]``.
            t_mask: ``[B, 1, 1, T]``, likewise.
            at_regions: the slots whose rows ``v`` and ``context2`` are; all, as published.
            at_words: likewise of ``t`` and ``context1``.
        """
        query1, key1, value1 = (
            split(at_regions.spread(linear(v)), self.heads) for linear in (self.query1, self.key1, self.value1)
        )
        query2, key2, value2 = (
            split(at_words.spread(linear(t)), self.heads) for linear in (self.query2, self.key2, self.value2)
        )
        context1, attn1 = attend(query2, key1, value1, v_mask)
        context2, attn2 = attend(query1, key2, value2, t_mask)
        contexts = {"context1": at_words.taken(joined(context1)), "context2": at_regions.taken(joined(context2))}
        return contexts | {"attn1": attn1, "attn2": attn2}


class BertBiOutput(nn.Module):
    """Each side with what it read: the contexts cross back. ``q_dense1`` and ``q_dense2`` are never used."""

    def __init__(self, hidden: int, v_width: int, t_width: int) -> None:
        super().__init__()
        self.dense1 = nn.Linear(hidden, v_width)
        self.LayerNorm1 = BertLayerNorm(v_width)
        self.q_dense1 = nn.Linear(hidden, v_width)
        self.dense2 = nn.Linear(hidden, t_width)
        self.LayerNorm2 = BertLayerNorm(t_width)
        self.q_dense2 = nn.Linear(hidden, t_width)

    def forward(self, context2: Tensor, v: Tensor, context1: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.LayerNorm1(self.dense1(context2) + v), self.LayerNorm2(self.dense2(context1) + t)


class BertConnectionLayer(nn.Module):
    """A co-attentional transformer layer: the sides read each other, then each a feed-forward layer.

    Args:
        v_width: of the regions.
        t_width: of the words.
        hidden: of the attention's heads together.
        heads: how many.
        v_intermediate: width of the regions' feed-forward layer.
        t_intermediate: width of the words' one.
        v_activation: of the regions' feed-forward layer.
        t_activation: of the words' one.
    """

    def __init__(
        self,
        *,
        v_width: int,
        t_width: int,
        hidden: int,
        heads: int,
        v_intermediate: int,
        t_intermediate: int,
        v_activation: str,
        t_activation: str,
    ) -> None:
        super().__init__()
        self.biattention = BertBiAttention(v_width, t_width, hidden, heads)
        self.biOutput = BertBiOutput(hidden, v_width, t_width)
        self.v_intermediate = Intermediate(v_width, v_intermediate, v_activation)
        self.v_output = Output(v_intermediate, v_width)
        self.t_intermediate = Intermediate(t_width, t_intermediate, t_activation)
        self.t_output = Output(t_intermediate, t_width)

    def forward(
        self,
        v: Tensor,
        v_mask: Tensor,
        t: Tensor,
        t_mask: Tensor,
        at_regions: Slots = EVERY,
        at_words: Slots = EVERY,
    ) -> dict[str, Tensor]:
        """``v`` and ``t`` in their own shapes; arguments as `BertBiAttention.forward`."""
        found = self.biattention(v, v_mask, t, t_mask, at_regions, at_words)
        v, t = self.biOutput(found["context2"], v, found["context1"], t)
        return {"v": self.v_output(self.v_intermediate(v), v), "t": self.t_output(self.t_intermediate(t), t)}


@register("published_vilbert")
class PublishedVilbert(CoAttention):
    """The authors' co-attentional transformer layer on a batch; a score of ours pools the rows that it gives back.

    Options: ``hidden`` (the narrower width, rounded up to a multiple of ``heads``, unless given) and ``heads`` are its
    bi_hidden_size and bi_num_attention_heads, ``image_intermediate`` and ``question_intermediate`` (four times the
    width unless given) the widths of its feed-forward layers, ``image_activation`` and ``question_activation`` theirs;
    ``corrected`` has its masks and its norm right, with the same weights.
    """

    source = "facebookresearch/vilbert-multi-task, vilbert/vilbert.py, BertConnectionLayer; Lu et al. 2019, section 2.1"
    origin = Origin(
        where="facebookresearch/vilbert-multi-task, the authors of the paper",
        differs="two linear maps that nothing uses; its own norm fails in half precision; adds -10000 to padding",
        ours="published_vilbert[corrected=true]",
        nearest="transformer",
    )
    known_defects = ADDED_MASKS

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        hidden: int | None = None,
        heads: int = 8,
        image_intermediate: int | None = None,
        question_intermediate: int | None = None,
        image_activation: Literal["gelu", "relu", "swish"] = "gelu",
        question_activation: Literal["gelu", "relu", "swish"] = "gelu",
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = BertConnectionLayer(
            v_width=image_width,
            t_width=question_width,
            hidden=width_of_heads(
                "published_vilbert", heads, hidden, image_width=image_width, question_width=question_width
            ),
            heads=heads,
            v_intermediate=image_intermediate or 4 * image_width,
            t_intermediate=question_intermediate or 4 * question_width,
            v_activation=image_activation,
            t_activation=question_activation,
        )
        self.scores = RowScores(image_width, question_width)
        self.corrected = corrected
        if corrected:
            self.known_defects = ()
            for module in self.network.modules():
                if isinstance(module, BertLayerNorm):
                    module.safe = True

    def forward(self, batch: Batch) -> Attended:
        regions, words, at_regions, at_words = batch.image, batch.question, EVERY, EVERY
        if self.corrected:
            masks = [valid[:, None, None] for valid in (batch.image_valid, batch.question_valid)]
            regions, at_regions = valid_rows(regions, batch.image_valid)
            words, at_words = valid_rows(words, batch.question_valid)
        else:
            masks = [additive(valid, batch.image.dtype) for valid in (batch.image_valid, batch.question_valid)]
        found = self.network(regions, masks[0], words, masks[1], at_regions, at_words)
        return self.scores.attended(at_regions.spread(found["v"]), at_words.spread(found["t"]), batch)


def biattention_from_checkpoint(checkpoint: Checkpoint, prefix: str = "") -> BertBiAttention:
    """The attention in the sizes of its weights; heads are the configuration's ``bi_num_attention_heads``, else 8."""
    return BertBiAttention(
        v_width=checkpoint.size(f"{prefix}query1.weight", 1, config="v_hidden_size"),
        t_width=checkpoint.size(f"{prefix}query2.weight", 1, config="hidden_size"),
        hidden=checkpoint.size(f"{prefix}query1.weight", 0, config="bi_hidden_size"),
        heads=checkpoint.option("bi_num_attention_heads", 8),
    )


def connection_from_checkpoint(checkpoint: Checkpoint) -> BertConnectionLayer:
    """The layer in the sizes of its weights; heads as `biattention_from_checkpoint`."""
    activation = checkpoint.option("hidden_act", "gelu")
    return BertConnectionLayer(
        v_width=checkpoint.size("biattention.query1.weight", 1, config="v_hidden_size"),
        t_width=checkpoint.size("biattention.query2.weight", 1, config="hidden_size"),
        hidden=checkpoint.size("biattention.query1.weight", 0, config="bi_hidden_size"),
        heads=checkpoint.option("bi_num_attention_heads", 8),
        v_intermediate=checkpoint.size("v_intermediate.dense.weight", 0, config="v_intermediate_size"),
        t_intermediate=checkpoint.size("t_intermediate.dense.weight", 0, config="intermediate_size"),
        v_activation=checkpoint.option("v_hidden_act", activation),
        t_activation=activation,
    )


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedVilbert` has to be built with for a layer's weights."""
    activation = checkpoint.option("hidden_act", "gelu")
    return Adapted(
        options={
            "hidden": checkpoint.size("biattention.query1.weight", 0),
            "heads": checkpoint.option("bi_num_attention_heads", 8),
            "image_intermediate": checkpoint.size("v_intermediate.dense.weight", 0),
            "question_intermediate": checkpoint.size("t_intermediate.dense.weight", 0),
            "image_activation": checkpoint.option("v_hidden_act", activation),
            "question_activation": activation,
        },
        image_width=checkpoint.size("biattention.query1.weight", 1),
        question_width=checkpoint.size("biattention.query2.weight", 1),
    )
