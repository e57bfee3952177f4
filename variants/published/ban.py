"""jnhwkim/ban-vqa, the authors' own code, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.interface import Attended, Batch, CoAttention
from variants.origin import Origin
from variants.published.checkpoint import Checkpoint
from variants.published.defects import CONTENTS_FOR_MASK, NO_WORD_MATTERS, WORDS_NOT_MASKED
from variants.registry import register

MOST_GLIMPSES = 32
"""Up to so many output maps it multiplies by a plain array, beyond them by a linear layer."""


class NormedLinear(nn.Module):
    """A linear map under weight normalisation with one gain for the whole weight, as ``weight_norm(dim=None)`` has it.

    Args:
        inputs: width of what comes in.
        outputs: width of what goes out.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        plain = nn.Linear(inputs, outputs)
        self.bias = plain.bias
        self.weight_g = nn.Parameter(plain.weight.detach().norm())
        self.weight_v = nn.Parameter(plain.weight.detach())

    @property
    def weight(self) -> Tensor:
        normed: Tensor = self.weight_v * (self.weight_g / self.weight_v.norm())
        return normed

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(features, self.weight, self.bias)


class FCNet(nn.Module):
    """One normed linear map with its activation.

    Args:
        inputs: width of what comes in.
        outputs: width of what goes out.
        activation: a class of ``torch.nn`` by name, or empty.
        place: where the map stands in ``main``: 1 behind a dropout, which is left out here, else 0.
    """

    def __init__(self, inputs: int, outputs: int, activation: str, place: int = 1) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.main = nn.Sequential(
            *(nn.Identity() for _ in range(place)),
            NormedLinear(inputs, outputs),
            *([getattr(nn, activation)()] if activation else []),
        )

    def forward(self, features: Tensor) -> Tensor:
        mapped: Tensor = self.main(features)
        return mapped


class BCNet(nn.Module):
    """Low-rank bilinear maps of every pair of a region and a word.

    Args:
        v_net: from a region to K ranks.
        q_net: from a word to K ranks.
        rank: K, which is ``h_dim * k``.
        k: adjacent ranks that are summed when the pairs are pooled.
        maps: G, how many maps; None gives the products of all ranks.
        normed: whether the maps' weights are under weight normalisation.
    """

    def __init__(
        self, v_net: nn.Module, q_net: nn.Module, *, rank: int, k: int, maps: int | None, normed: bool = False
    ) -> None:
        super().__init__()
        self.v_net = v_net
        self.q_net = q_net
        self.k = k
        self.maps = maps
        if maps is None:
            return
        if maps > MOST_GLIMPSES:
            if normed:
                raise ValueError(f"{maps} glimpses: beyond {MOST_GLIMPSES} the published attention cannot be built")
            self.h_net = NormedLinear(rank, maps)
            return
        plain = torch.empty(1, maps, 1, rank).normal_()
        if normed:
            self.h_mat_g = nn.Parameter(plain.norm())
            self.h_mat_v = nn.Parameter(plain)
        else:
            self.h_mat = nn.Parameter(plain)
        self.h_bias = nn.Parameter(torch.empty(1, maps, 1, 1).normal_())

    def forward(self, v: Tensor, q: Tensor, w: Tensor | None = None) -> dict[str, Tensor]:
        """``logits``: `pairs`, or `pooled` where there are weights."""
        return {"logits": self.pairs(v, q) if w is None else self.pooled(v, q, w)}

    def pairs(self, v: Tensor, q: Tensor) -> Tensor:
        """Maps ``[B, G, N, T]`` of ``v`` ``[B, N, dv]`` and ``q`` ``[B, T, dq]``; without maps ``[B, N, T, K]``."""
        return self.maps_of(self.v_net(v), self.q_net(q))

    def maps_of(self, regions: Tensor, words: Tensor) -> Tensor:
        """`pairs` of the ranks, ``[B, N, K]`` and ``[B, T, K]``."""
        if self.maps is None:
            products: Tensor = regions.unsqueeze(2) * words.unsqueeze(1)
            return products
        if self.maps > MOST_GLIMPSES:
            mapped: Tensor = self.h_net(regions.unsqueeze(2) * words.unsqueeze(1)).permute(0, 3, 1, 2)
            return mapped
        maps: Tensor = (regions.unsqueeze(1) * self.matrix) @ words.unsqueeze(1).mT + self.h_bias
        return maps

    @property
    def matrix(self) -> Tensor:
        """What the ranks of each map are multiplied by, ``[1, G, 1, K]``."""
        if hasattr(self, "h_mat"):
            return self.h_mat
        normed: Tensor = self.h_mat_v * (self.h_mat_g / self.h_mat_v.norm())
        return normed

    def pooled(self, v: Tensor, q: Tensor, weights: Tensor) -> Tensor:
        """The products of all ranks, summed over pairs under ``weights`` ``[B, N, T]`` as they come: ``[B, K / k]``."""
        return self.summed(self.v_net(v), self.q_net(q), weights)

    def summed(self, regions: Tensor, words: Tensor, weights: Tensor) -> Tensor:
        """`pooled` of the ranks."""
        summed: Tensor = (regions * (weights @ words)).sum(1)  # [B, K]
        return summed.view(len(summed), -1, self.k).sum(-1)


class BiAttention(nn.Module):
    """Weights over all pairs of a region and a word at once, a map for each glimpse.

    Args:
        logits: the bilinear maps.
        v_mask: whether regions of exact zeros are left out; the code takes no mask, and words have none at all.
        mask_with: what is written over the scores of those regions.
        logits_alone: whether it stops before the softmax, as for phrase grounding.
    """

    def __init__(self, logits: BCNet, *, v_mask: bool, mask_with: float, logits_alone: bool = False) -> None:
        super().__init__()
        self.logits = logits
        self.v_mask = v_mask
        self.mask_with = mask_with
        self.logits_alone = logits_alone

    def forward(self, v: Tensor, q: Tensor) -> dict[str, Tensor]:
        """``logits`` and, unless they are asked for alone, ``p``: ``[B, G, N, T]``, a distribution over all pairs."""
        logits = self.logits.pairs(v, q)
        if self.v_mask:
            nothing = (v.abs().sum(2) == 0)[:, None, :, None].expand(logits.shape)
            # behind the back of autograd, as published
            logits.data.masked_fill_(nothing.data, self.mask_with)
        if self.logits_alone:
            return {"logits": logits}
        return {"p": torch.softmax(logits.flatten(2), 2).view_as(logits), "logits": logits}


class BanModel(nn.Module):
    """Glimpses in a residual chain; the counting term, the encoder and the classifier are left out.

    Args:
        v_att: attention, once for all glimpses.
        b_net: how each glimpse pools the pairs.
        q_prj: what each glimpse adds to every word alike.
    """

    def __init__(self, v_att: BiAttention, b_net: list[BCNet], q_prj: list[FCNet]) -> None:
        super().__init__()
        self.v_att = v_att
        self.b_net = nn.ModuleList(b_net)
        self.q_prj = nn.ModuleList(q_prj)

    def forward(self, v: Tensor, q: Tensor) -> dict[str, Tensor]:
        """``att`` ``[B, G, N, T]``, ``q_emb`` ``[B, T, h]`` after the last glimpse, and ``q_sum`` ``[B, h]`` of it."""
        att, told = self.chain(v, q)
        return {"att": att, "q_emb": told[-1], "q_sum": told[-1].sum(1)}

    def chain(self, v: Tensor, q: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The maps ``[B, G, N, T]``, and the words ``[B, T, h]`` behind each glimpse."""
        att = self.v_att(v, q)["p"]
        told = []
        for glimpse, (pooling, projection) in enumerate(zip(self.b_net, self.q_prj, strict=True)):
            assert isinstance(pooling, BCNet)
            q = projection(pooling.pooled(v, q, att[:, glimpse]).unsqueeze(1)) + q
            told.append(q)
        return att, told


@register("published_ban")
class PublishedBan(CoAttention):
    """The authors' residual chain of glimpses on a batch.

    As published it takes regions of exact zeros for padding and any other for real, and all words for real. The
    weights are each map's marginals, the vectors the sides under them, the words as the glimpse has left them.

    Options: ``glimpses``.
    """

    source = "jnhwkim/ban-vqa, base_model.py, attention.py, bc.py; Kim et al. 2018, arXiv:1805.07932"
    origin = Origin(
        where="jnhwkim/ban-vqa, the authors of the paper",
        differs="one gain for a whole array of weights; takes regions of zeros for padding; no mask on words",
        ours="bilinear[factor=3]",
        source="ban/residual",
    )
    known_defects = (
        *CONTENTS_FOR_MASK,
        *WORDS_NOT_MASKED,
        *NO_WORD_MATTERS,
    )

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), glimpses: int = 2
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)

        def bilinear(k: int, maps: int | None) -> BCNet:
            rank = k * question_width
            nets = (FCNet(width, rank, "ReLU") for width in (image_width, question_width))
            return BCNet(*nets, rank=rank, k=k, maps=maps, normed=maps is not None)

        self.network = BanModel(
            BiAttention(bilinear(3, glimpses), v_mask=True, mask_with=float("-inf")),
            [bilinear(1, None) for _ in range(glimpses)],
            [FCNet(question_width, question_width, "") for _ in range(glimpses)],
        )

    def forward(self, batch: Batch) -> Attended:
        maps, told = self.network.chain(batch.image, batch.question)
        image_weights, question_weights = maps.sum(-1), maps.sum(-2)
        words = torch.stack(told, dim=1)  # [B, G, T, Q]
        question = (question_weights.unsqueeze(-2) @ words).squeeze(-2)
        return Attended(image_weights @ batch.image, question, image_weights, question_weights)


def fc_net(checkpoint: Checkpoint, prefix: str, activation: str) -> FCNet:
    """A map in the sizes of its weights."""
    place = 1 if f"{prefix}.main.1.weight_v" in checkpoint.state_dict else 0
    weight = f"{prefix}.main.{place}.weight_v"
    return FCNet(checkpoint.size(weight, 1), checkpoint.size(weight, 0), activation, place)


def bc_net(checkpoint: Checkpoint, prefix: str, *, k: int) -> BCNet:
    """Bilinear maps in the sizes of their weights."""
    activation = checkpoint.option("act", "ReLU")
    nets = [fc_net(checkpoint, f"{prefix}{name}", activation) for name in ("v_net", "q_net")]
    names = checkpoint.state_dict
    normed = f"{prefix}h_mat_v" in names
    maps = None
    if normed or f"{prefix}h_mat" in names:
        maps = checkpoint.size(f"{prefix}h_mat_v" if normed else f"{prefix}h_mat", 1)
    elif f"{prefix}h_net.weight_v" in names:
        maps = checkpoint.size(f"{prefix}h_net.weight_v", 0)
    return BCNet(nets[0], nets[1], rank=nets[0].outputs, k=k, maps=maps, normed=normed)


def bcnet_from_checkpoint(checkpoint: Checkpoint) -> BCNet:
    """The maps in the sizes of their weights; ``k`` is the configuration's, else 3."""
    return bc_net(checkpoint, "", k=checkpoint.option("k", 3))


def biattention_from_checkpoint(checkpoint: Checkpoint) -> BiAttention:
    """The attention; the configuration's ``v_mask``, ``mask_with``, ``mode`` (``forward`` or ``forward_all``) and,
    of the latter, ``logit``."""
    return BiAttention(
        bc_net(checkpoint, "logits.", k=3),
        v_mask=checkpoint.option("v_mask", True),
        mask_with=float(str(checkpoint.config.get("mask_with", "-inf"))),
        logits_alone=checkpoint.option("mode", "forward") == "forward_all" and checkpoint.option("logit", True),
    )


def residual_from_checkpoint(checkpoint: Checkpoint) -> BanModel:
    """The chain, a glimpse for each of its poolings."""
    glimpses = checkpoint.count(r"b_net\.(\d+)\.")
    return BanModel(
        BiAttention(
            bc_net(checkpoint, "v_att.logits.", k=checkpoint.option("k_att", 3)),
            v_mask=checkpoint.option("v_mask", True),
            mask_with=float("-inf"),
        ),
        [bc_net(checkpoint, f"b_net.{glimpse}.", k=checkpoint.option("k_update", 1)) for glimpse in range(glimpses)],
        [fc_net(checkpoint, f"q_prj.{glimpse}", "") for glimpse in range(glimpses)],
    )
