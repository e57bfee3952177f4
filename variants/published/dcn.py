"""cvlab-tohoku/Dense-CoAttention-Network, the authors' own code, as it behaves."""

import math
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import known
from variants.registry import register

FILL = -65504.0
"""What it writes over the scores of padding, the lowest number of half precision."""


def _hide(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        # behind the back of autograd, as published: a row of padding alone keeps its gradient
        scores.data.masked_fill_(mask == 0, FILL)
    return scores


class DenseCoAttn(nn.Module):
    """One layer's attention in both directions, and its maps, which it keeps.

    Args:
        dim1: width of the image.
        dim2: width of the question.
        num_attn: heads.
        num_none: learned slots in front of each side, always valid.
    """

    attn1: Tensor  # [B, h, L, N], of the last call
    attn2: Tensor  # [B, h, N, L]

    def __init__(self, dim1: int, dim2: int, num_attn: int, num_none: int) -> None:
        super().__init__()
        dim = min(dim1, dim2)
        if num_attn < 1 or dim % num_attn:
            raise ValueError(f"{num_attn} heads cannot share a width of {dim}: it has to be a multiple")
        self.num_attn = num_attn
        self.num_none = num_none
        self.linears = nn.ModuleList([nn.Linear(dim1, dim, bias=False), nn.Linear(dim2, dim, bias=False)])
        self.nones = nn.ParameterList([torch.empty(num_none, dim1), torch.empty(num_none, dim2)])
        for none in self.nones:
            nn.init.xavier_uniform_(none)

    def forward(
        self, value1: Tensor, value2: Tensor, mask1: Tensor | None, mask2: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What each word found in the image ``[B, L, dim1]``, and each region in the question ``[B, N, dim2]``.

        Args:
            value1: image ``[B, N, dim1]``.
            value2: question ``[B, L, dim2]``.
            mask1: ``[B, N]``, 1 on real regions and 0 on padding.
            mask2: ``[B, L]``, likewise.
        """
        batch = value1.shape[0]
        values = []
        queries = []
        masks: list[Tensor | None] = []
        for value, mask, none, linear in zip((value1, value2), (mask1, mask2), self.nones, self.linears, strict=True):
            wide = torch.cat([none.expand(batch, -1, -1), value], dim=1)  # [B, num_none + L, dim]
            values.append(wide)
            queries.append(linear(wide).unflatten(-1, (self.num_attn, -1)).transpose(1, 2))  # [B, h, num_none + L, d_k]
            if mask is not None:
                mask = torch.cat([mask.new_ones(batch, self.num_none), mask], dim=1)[:, None, None]
            masks.append(mask)
        scale = math.sqrt(queries[0].shape[-1])
        attn1 = torch.softmax(_hide(queries[1] @ queries[0].mT / scale, masks[0]), dim=-1)
        attn2 = torch.softmax(_hide(queries[0] @ queries[1].mT / scale, masks[1]), dim=-1)
        weighted1 = (attn1 @ values[0].unsqueeze(1)).mean(1)[:, self.num_none :]
        weighted2 = (attn2 @ values[1].unsqueeze(1)).mean(1)[:, self.num_none :]
        self.attn1 = attn1[:, :, self.num_none :, self.num_none :]
        self.attn2 = attn2[:, :, self.num_none :, self.num_none :]
        return weighted1, weighted2


class FusionLayer(nn.Module):
    """Attention, and each side's residual fusion with what it found in the other; dropout left out."""

    def __init__(self, dim1: int, dim2: int, num_attn: int, num_none: int) -> None:
        super().__init__()
        self.dense_coattn = DenseCoAttn(dim1, dim2, num_attn, num_none)
        self.linears = nn.ModuleList([nn.Sequential(nn.Linear(dim1 + dim2, dim), nn.ReLU()) for dim in (dim1, dim2)])

    def forward(
        self, data1: Tensor, data2: Tensor, mask1: Tensor | None, mask2: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Both sides in their own shapes; arguments as `DenseCoAttn.forward`."""
        weighted1, weighted2 = self.dense_coattn(data1, data2, mask1, mask2)
        fused1 = data1 + self.linears[0](torch.cat([data1, weighted2], dim=2))
        fused2 = data2 + self.linears[1](torch.cat([data2, weighted1], dim=2))
        return fused1, fused2


class DCNLayer(nn.Module):
    """Layers of dense co-attention.

    Args:
        dim1: width of the image.
        dim2: width of the question.
        num_attn: heads.
        num_none: learned slots in front of each side.
        num_seq: layers.
    """

    def __init__(self, dim1: int, dim2: int, num_attn: int, num_none: int, num_seq: int) -> None:
        super().__init__()
        self.dcn_layers = nn.ModuleList([FusionLayer(dim1, dim2, num_attn, num_none) for _ in range(num_seq)])

    def forward(
        self, data1: Tensor, data2: Tensor, mask1: Tensor | None, mask2: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Both sides in their own shapes; arguments as `DenseCoAttn.forward`."""
        for layer in self.dcn_layers:
            data1, data2 = layer(data1, data2, mask1, mask2)
        return data1, data2


class Summary(NamedTuple):
    """A side in one vector."""

    vector: Tensor  # [B, dim]
    weights: Tensor  # [B, L], the mean over glimpses


class SelfAttn(nn.Module):
    """A side's summary: the mean over glimpses of its weighted sums.

    Args:
        dim: width of the side.
        glimpses: attention maps.
    """

    def __init__(self, dim: int, glimpses: int) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, glimpses))

    def forward(self, data: Tensor, mask: Tensor | None) -> Summary:
        """Of ``[B, L, dim]`` with ``mask`` ``[B, L]``, 1 on real slots."""
        scores = self.linear(data).mT  # [B, g, L]
        weights = torch.softmax(_hide(scores, None if mask is None else mask.unsqueeze(1)), dim=-1)
        return Summary((weights @ data).mean(1), weights.mean(1))


class PredictLayer(nn.Module):
    """Both summaries, and the answer's score.

    Args:
        dim1: width of the image.
        dim2: width of the question.
        num_attn: glimpses of each summary.
        num_ans: answers known; None leaves the score out.
        hidden: width of the score's hidden layer.
    """

    def __init__(self, dim1: int, dim2: int, num_attn: int, num_ans: int | None, hidden: int | None = None) -> None:
        super().__init__()
        self.summaries = nn.ModuleList([SelfAttn(dim1, num_attn), SelfAttn(dim2, num_attn)])
        middle = hidden if hidden is not None else (dim1 + dim2) // 2
        self.predict = (
            nn.Sequential(nn.Linear(dim1 + dim2, middle), nn.ReLU(), nn.Identity(), nn.Linear(middle, num_ans))
            if num_ans is not None
            else None
        )

    def summarise(
        self, data1: Tensor, data2: Tensor, mask1: Tensor | None, mask2: Tensor | None
    ) -> tuple[Summary, Summary]:
        """The image's and the question's; arguments as `DenseCoAttn.forward`."""
        return self.summaries[0](data1, mask1), self.summaries[1](data2, mask2)


class DenseCoattentionNet(nn.Module):
    """What the network does between its encoders and its loss: layers, then the prediction where there is one.

    Args:
        layers: dense co-attention.
        predict: summaries and score; None leaves both out.
    """

    def __init__(self, layers: DCNLayer, predict: PredictLayer | None) -> None:
        super().__init__()
        self.dense_coattn = layers
        self.predict = predict

    def forward(
        self, data1: Tensor, data2: Tensor, mask1: Tensor | None = None, mask2: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``data1``, ``data2`` in their own shapes; with a prediction ``score`` ``[B, num_ans]``, else the maps.

        ``attn1_j`` ``[B, h, L, N]`` and ``attn2_j`` ``[B, h, N, L]`` are those of layer j, without the nowhere slots.

        Args:
            data1: image ``[B, N, dim1]``.
            data2: question ``[B, L, dim2]``.
            mask1: ``[B, N]``, 1 on real regions; None if all are.
            mask2: ``[B, L]``, likewise.
        """
        data1, data2 = self.dense_coattn(data1, data2, mask1, mask2)
        outputs = {"data1": data1, "data2": data2}
        if self.predict is not None:
            summaries = self.predict.summarise(data1, data2, mask1, mask2)
            assert self.predict.predict is not None  # a network with a prediction has a score
            outputs["score"] = self.predict.predict(torch.cat([summary.vector for summary in summaries], dim=1))
        else:
            for number, layer in enumerate(self.dense_coattn.dcn_layers):
                attention = layer.get_submodule("dense_coattn")
                assert isinstance(attention, DenseCoAttn)
                outputs |= {f"attn1_{number}": attention.attn1, f"attn2_{number}": attention.attn2}
        return outputs


@register("published_dcn")
class PublishedDcn(CoAttention):
    """The authors' dense co-attention on a batch, with the summaries of both sides as the glimpse.

    Options: ``layers``, ``heads`` and ``nowhere`` are its num_seq, num_attn and num_none; ``heads`` has to divide the
    narrower width.
    """

    source = "cvlab-tohoku/Dense-CoAttention-Network, dense_coattn/modules; Nguyen & Okatani 2018, section 3"
    origin = Origin(
        where="cvlab-tohoku/Dense-CoAttention-Network, the authors of the paper",
        differs="fills masked scores with -65504; keeps its attention maps on itself",
        ours="dense",
        source="dcn/stack",
    )
    known_defects = (
        *known(
            "NaN in a pad survives its weight of zero, and poisons the other side",
            {"P1n": (("pads not finite", "image"), ("pads not finite", "question"))},
        ),
        *known(
            "the summary of an empty side is the plain mean of its padding",
            {
                "P9": (("side emptied", "image"), ("side emptied", "question")),
                "P9r": (("side emptied", "image"), ("side emptied", "question")),
            },
        ),
    )

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        layers: int = 3,
        heads: int = 4,
        nowhere: int = 3,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.dense_coattn = DCNLayer(image_width, question_width, heads, nowhere, layers)
        self.predict = PredictLayer(image_width, question_width, heads, None)

    def forward(self, batch: Batch) -> Attended:
        masks = batch.image_valid.to(batch.image.dtype), batch.question_valid.to(batch.question.dtype)
        data1, data2 = self.dense_coattn(batch.image, batch.question, *masks)
        image, question = self.predict.summarise(data1, data2, *masks)
        return Attended(
            image.vector.unsqueeze(1),
            question.vector.unsqueeze(1),
            image.weights.unsqueeze(1),
            question.weights.unsqueeze(1),
        )


def _layers(checkpoint: Checkpoint) -> DCNLayer:
    first = "dense_coattn.dcn_layers.0"
    return DCNLayer(
        dim1=checkpoint.size(f"{first}.dense_coattn.nones.0", 1, config="dim1"),
        dim2=checkpoint.size(f"{first}.dense_coattn.nones.1", 1, config="dim2"),
        num_attn=checkpoint.option("num_attn", 4),
        num_none=checkpoint.size(f"{first}.dense_coattn.nones.0", 0, config="num_none"),
        num_seq=checkpoint.count(r"dense_coattn\.dcn_layers\.(\d+)\."),
    )


def layer_from_checkpoint(checkpoint: Checkpoint) -> DenseCoattentionNet:
    """The layers in the sizes of their weights; their heads are the configuration's ``num_attn``, 4 unless it says."""
    return DenseCoattentionNet(_layers(checkpoint), None)


def stack_from_checkpoint(checkpoint: Checkpoint) -> DenseCoattentionNet:
    """The layers and the prediction in the sizes of their weights; the summaries have a glimpse for each head."""
    first = "predict.summaries.0.linear"
    return DenseCoattentionNet(
        _layers(checkpoint),
        PredictLayer(
            dim1=checkpoint.size(f"{first}.0.weight", 1, config="dim1"),
            dim2=checkpoint.size("predict.summaries.1.linear.0.weight", 1, config="dim2"),
            num_attn=checkpoint.size(f"{first}.2.weight", 0),
            num_ans=checkpoint.size("predict.predict.3.weight", 0, config="num_ans"),
            hidden=checkpoint.size("predict.predict.0.weight", 0),
        ),
    )
