"""MILVLG/mcan-vqa, the authors' own code, as it behaves."""

import math
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import CONTENTS_FOR_MASK, known
from variants.registry import register

FILL = -1e9
"""What it writes over the scores of padding."""


class LayerNorm(nn.Module):
    """Its own normalisation: the unbiased deviation, with eps added to the deviation; not ``nn.LayerNorm``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.a_2 = nn.Parameter(torch.ones(size))
        self.b_2 = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., size]`` to the same."""
        return self.a_2 * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + self.b_2


class FC(nn.Module):
    """A layer and its ReLU."""

    def __init__(self, in_size: int, out_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_size]`` to ``[..., out_size]``."""
        return torch.relu(self.linear(x))


class MLP(nn.Module):
    """Two layers with a ReLU between them; dropout left out."""

    def __init__(self, in_size: int, mid_size: int, out_size: int) -> None:
        super().__init__()
        self.fc = FC(in_size, mid_size)
        self.linear = nn.Linear(mid_size, out_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_size]`` to ``[..., out_size]``."""
        out: Tensor = self.linear(self.fc(x))
        return out


class MHAtt(nn.Module):
    """Attention with heads.

    Args:
        hidden_size: width.
        multi_head: heads.
    """

    def __init__(self, hidden_size: int, multi_head: int) -> None:
        super().__init__()
        if multi_head < 1 or hidden_size % multi_head:
            raise ValueError(f"{multi_head} heads cannot share a width of {hidden_size}: it has to be a multiple")
        self.multi_head = multi_head
        self.linear_v = nn.Linear(hidden_size, hidden_size)
        self.linear_k = nn.Linear(hidden_size, hidden_size)
        self.linear_q = nn.Linear(hidden_size, hidden_size)
        self.linear_merge = nn.Linear(hidden_size, hidden_size)

    def forward(self, v: Tensor, k: Tensor, q: Tensor, mask: Tensor | None) -> Tensor:
        """``[B, L_q, D]`` of values and keys ``[B, L_k, D]`` and queries; ``mask`` True on padded keys."""
        value, key, query = (
            linear(x).unflatten(-1, (self.multi_head, -1)).transpose(1, 2)  # [B, h, L, D/h]
            for linear, x in ((self.linear_v, v), (self.linear_k, k), (self.linear_q, q))
        )
        scores = query @ key.mT / math.sqrt(query.shape[-1])  # [B, h, L_q, L_k]
        if mask is not None:
            scores = scores.masked_fill(mask, FILL)
        attended = torch.softmax(scores, dim=-1) @ value
        merged: Tensor = self.linear_merge(attended.transpose(1, 2).flatten(2))
        return merged


class FFN(nn.Module):
    """The feed-forward half of a block."""

    def __init__(self, hidden_size: int, ff_size: int) -> None:
        super().__init__()
        self.mlp = MLP(hidden_size, ff_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to the same."""
        out: Tensor = self.mlp(x)
        return out


class SA(nn.Module):
    """Self-attention, normalised after each residual."""

    def __init__(self, hidden_size: int, multi_head: int, ff_size: int) -> None:
        super().__init__()
        self.mhatt = MHAtt(hidden_size, multi_head)
        self.ffn = FFN(hidden_size, ff_size)
        self.norm1 = LayerNorm(hidden_size)
        self.norm2 = LayerNorm(hidden_size)

    def forward(self, x: Tensor, x_mask: Tensor | None) -> Tensor:
        """``[B, L, D]`` to the same."""
        x = self.norm1(x + self.mhatt(x, x, x, x_mask))
        normed: Tensor = self.norm2(x + self.ffn(x))
        return normed


class SGA(nn.Module):
    """Self-attention, then attention to the other side, normalised after each residual."""

    def __init__(self, hidden_size: int, multi_head: int, ff_size: int) -> None:
        super().__init__()
        self.mhatt1 = MHAtt(hidden_size, multi_head)
        self.mhatt2 = MHAtt(hidden_size, multi_head)
        self.ffn = FFN(hidden_size, ff_size)
        self.norm1 = LayerNorm(hidden_size)
        self.norm2 = LayerNorm(hidden_size)
        self.norm3 = LayerNorm(hidden_size)

    def forward(self, x: Tensor, y: Tensor, x_mask: Tensor | None, y_mask: Tensor | None) -> Tensor:
        """``x`` ``[B, N, D]`` guided by ``y`` ``[B, L, D]``, to the shape of ``x``."""
        x = self.norm1(x + self.mhatt1(x, x, x, x_mask))
        x = self.norm2(x + self.mhatt2(y, y, x, y_mask))
        normed: Tensor = self.norm3(x + self.ffn(x))
        return normed


class MCA_ED(nn.Module):
    """Encoder of the language, decoder of the image.

    Args:
        hidden_size: width of both sides.
        multi_head: heads.
        layers: of each.
        ff_size: width of the feed-forward halves.
    """

    def __init__(self, hidden_size: int, multi_head: int, layers: int, ff_size: int) -> None:
        super().__init__()
        self.enc_list = nn.ModuleList([SA(hidden_size, multi_head, ff_size) for _ in range(layers)])
        self.dec_list = nn.ModuleList([SGA(hidden_size, multi_head, ff_size) for _ in range(layers)])

    def forward(
        self, x: Tensor, y: Tensor, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``x`` and ``y`` in their own shapes.

        Args:
            x: language ``[B, L, D]``.
            y: image ``[B, N, D]``.
            x_mask: ``[B, 1, 1, L]`` bool, True on padding.
            y_mask: ``[B, 1, 1, N]`` bool, True on padding.
        """
        for encoder in self.enc_list:
            x = encoder(x, x_mask)
        for decoder in self.dec_list:
            y = decoder(y, x, y_mask, x_mask)
        return {"x": x, "y": y}


class Flattened(NamedTuple):
    """A side in one vector."""

    vector: Tensor  # [B, flat_out_size]
    weights: Tensor  # [B, g, L]


class AttFlat(nn.Module):
    """Attention flattening: weighted sums, concatenated over glimpses and projected.

    Args:
        hidden_size: width of the side.
        flat_mlp_size: width inside the attention.
        flat_glimpses: attention maps.
        flat_out_size: width of the vector.
    """

    def __init__(self, hidden_size: int, flat_mlp_size: int, flat_glimpses: int, flat_out_size: int) -> None:
        super().__init__()
        self.mlp = MLP(hidden_size, flat_mlp_size, flat_glimpses)
        self.linear_merge = nn.Linear(hidden_size * flat_glimpses, flat_out_size)

    def flatten(self, x: Tensor, x_mask: Tensor) -> Flattened:
        """Of ``[B, L, D]`` with ``x_mask`` ``[B, 1, 1, L]`` bool, True on padding."""
        scores = self.mlp(x).masked_fill(x_mask.squeeze(1).squeeze(1).unsqueeze(2), FILL)  # [B, L, g]
        weights = torch.softmax(scores, dim=1).mT  # [B, g, L]
        return Flattened(self.linear_merge((weights @ x).flatten(1)), weights)

    def forward(self, x: Tensor, x_mask: Tensor) -> dict[str, Tensor]:
        """``x_atted`` ``[B, flat_out_size]``; arguments as `flatten`."""
        return {"x_atted": self.flatten(x, x_mask).vector}


def padding_by_contents(features: Tensor) -> Tensor:
    """``[B, 1, 1, L]`` bool, True where a slot of ``[B, L, D]`` is all zeros, real or not."""
    return (features.abs().sum(-1) == 0)[:, None, None]


class Net(nn.Module):
    """The whole network, from image features and word ids to scores; dropout left out.

    Args:
        token_size: words known; id 0 pads.
        word_embed_size: width of their rows.
        img_feat_size: width of the image's features.
        backbone: the blocks.
        attflat_img: flattening of the image.
        attflat_lang: flattening of the language.
        answer_size: answers known.
    """

    def __init__(
        self,
        *,
        token_size: int,
        word_embed_size: int,
        img_feat_size: int,
        hidden_size: int,
        backbone: MCA_ED,
        attflat_img: AttFlat,
        attflat_lang: AttFlat,
        answer_size: int,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(token_size, word_embed_size)
        self.lstm = nn.LSTM(word_embed_size, hidden_size, batch_first=True)
        self.img_feat_linear = nn.Linear(img_feat_size, hidden_size)
        self.backbone = backbone
        self.attflat_img = attflat_img
        self.attflat_lang = attflat_lang
        flat_out_size = attflat_img.linear_merge.out_features
        self.proj_norm = LayerNorm(flat_out_size)
        self.proj = nn.Linear(flat_out_size, answer_size)

    def forward(self, img_feat: Tensor, ques_ix: Tensor) -> dict[str, Tensor]:
        """``proj_feat`` ``[B, answer_size]``, each from 0 to 1.

        Args:
            img_feat: ``[B, N, img_feat_size]``; a region of zeros counts as padding.
            ques_ix: ids ``[B, L]``, 0 on padding.
        """
        lang_mask = (ques_ix == 0)[:, None, None]
        img_mask = padding_by_contents(img_feat)
        lang, _ = self.lstm(self.embedding(ques_ix))
        both = self.backbone(lang, self.img_feat_linear(img_feat), lang_mask, img_mask)
        summed = (
            self.attflat_lang.flatten(both["x"], lang_mask).vector
            + self.attflat_img.flatten(both["y"], img_mask).vector
        )
        return {"proj_feat": torch.sigmoid(self.proj(self.proj_norm(summed)))}


@register("published_mcan")
class PublishedMcan(CoAttention):
    """The authors' modular co-attention on a batch, from encoded words to both flattened vectors.

    As the whole network does, it takes a region of zeros for padding and any other for real; only the words' padding
    comes from the batch. The image is projected where it is not as wide as the question. Attended vectors are twice as
    wide as the question, as published.

    Options: ``layers`` and ``heads``; ``heads`` has to divide the question's width.
    """

    source = "MILVLG/mcan-vqa, core/model; Yu et al. 2019, arXiv:1906.10770, section 3"
    origin = Origin(
        where="MILVLG/mcan-vqa, the authors of the paper",
        differs="takes regions of zeros for padding; fills with -1e9; unbiased standard deviation in its norm",
        ours="modular",
        source="mcan/net",
    )
    known_defects = (
        *CONTENTS_FOR_MASK,
        *known("NaN in a padded word survives its weight of zero", {"P1n": (("pads not finite", "question"),)}),
        *known(
            "an empty question is flattened as the plain mean of its padding, which also guides the image",
            {"P9": (("side emptied", "question"),), "P9r": (("side emptied", "question"),)},
        ),
        *known("its fill does not fit into half precision", {"P10": ("fp16", "autocast to fp16")}),
    )

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        layers: int = 6,
        heads: int = 8,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = question_width
        self.img_feat_linear = nn.Linear(image_width, width) if image_width != width else None
        self.backbone = MCA_ED(width, heads, layers, 4 * width)
        self.attflat_img = AttFlat(width, width, 1, 2 * width)
        self.attflat_lang = AttFlat(width, width, 1, 2 * width)

    def guided_weights(self) -> tuple[str, ...]:
        return ("image_weights",)

    def forward(self, batch: Batch) -> Attended:
        lang_mask = ~batch.question_valid[:, None, None]
        img_mask = padding_by_contents(batch.image)
        image = batch.image if self.img_feat_linear is None else self.img_feat_linear(batch.image)
        both = self.backbone(batch.question, image, lang_mask, img_mask)
        image_found = self.attflat_img.flatten(both["y"], img_mask)
        question_found = self.attflat_lang.flatten(both["x"], lang_mask)
        return Attended(
            image_found.vector.unsqueeze(1),
            question_found.vector.unsqueeze(1),
            image_found.weights,
            question_found.weights,
        )


def _mca_ed(checkpoint: Checkpoint, prefix: str) -> MCA_ED:
    return MCA_ED(
        hidden_size=checkpoint.size(f"{prefix}enc_list.0.mhatt.linear_q.weight", 0, config="HIDDEN_SIZE"),
        multi_head=checkpoint.option("MULTI_HEAD", 8),
        layers=checkpoint.count(rf"{prefix}enc_list\.(\d+)\."),
        ff_size=checkpoint.size(f"{prefix}enc_list.0.ffn.mlp.fc.linear.weight", 0, config="FF_SIZE"),
    )


def _attflat(checkpoint: Checkpoint, prefix: str) -> AttFlat:
    return AttFlat(
        hidden_size=checkpoint.size(f"{prefix}mlp.fc.linear.weight", 1, config="HIDDEN_SIZE"),
        flat_mlp_size=checkpoint.size(f"{prefix}mlp.fc.linear.weight", 0, config="FLAT_MLP_SIZE"),
        flat_glimpses=checkpoint.size(f"{prefix}mlp.linear.weight", 0, config="FLAT_GLIMPSES"),
        flat_out_size=checkpoint.size(f"{prefix}linear_merge.weight", 0, config="FLAT_OUT_SIZE"),
    )


def mca_ed_from_checkpoint(checkpoint: Checkpoint) -> MCA_ED:
    """The blocks in the sizes of their weights; heads are the configuration's ``MULTI_HEAD``, else 8."""
    return _mca_ed(checkpoint, "")


def attflat_from_checkpoint(checkpoint: Checkpoint) -> AttFlat:
    """The flattening in the sizes of its weights."""
    return _attflat(checkpoint, "")


def net_from_checkpoint(checkpoint: Checkpoint) -> Net:
    """The network in the sizes of its weights; heads as `mca_ed_from_checkpoint`."""
    return Net(
        token_size=checkpoint.size("embedding.weight", 0, config="token_size"),
        word_embed_size=checkpoint.size("embedding.weight", 1, config="WORD_EMBED_SIZE"),
        img_feat_size=checkpoint.size("img_feat_linear.weight", 1, config="IMG_FEAT_SIZE"),
        hidden_size=checkpoint.size("img_feat_linear.weight", 0, config="HIDDEN_SIZE"),
        backbone=_mca_ed(checkpoint, "backbone."),
        attflat_img=_attflat(checkpoint, "attflat_img."),
        attflat_lang=_attflat(checkpoint, "attflat_lang."),
        answer_size=checkpoint.size("proj.weight", 0, config="answer_size"),
    )
