"""mahmoodlab/MCAT, survival from a slide and genes, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.heads import joined, split
from variants.interface import Attended, Batch, CoAttention
from variants.masking import blank, masked_softmax, pool, uniform
from variants.origin import Origin
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import NO_MASKS
from variants.registry import register
from variants.slots import valid_rows


class MultiheadAttention(nn.Module):
    """torch's own attention with the sequence first, which gives the scores for a map.

    Args:
        width: of both sides.
        heads: how many.
        need_raw: whether the map that comes back is the scores before the softmax, as published, or the weights.
    """

    corrected = False
    """Whether padding is masked without NaN where nothing else is there; scores then come back unfilled."""

    def __init__(self, width: int, heads: int, *, need_raw: bool) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"{heads} heads cannot share a width of {width}: it has to be a multiple")
        self.heads = heads
        self.need_raw = need_raw
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * width, width)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def read(self, query: Tensor, key: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What ``query`` ``[T, B, d]`` reads from ``key`` ``[N, B, d]``, and the map.

        The map is ``[B, h, T, N]`` of scores, or ``[B, T, N]`` of weights, averaged over heads. ``padding`` ``[B, N]``
        is True on padding.
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, keys, values = (
            split(nn.functional.linear(features, weight, bias).transpose(0, 1), self.heads)
            for features, weight, bias in zip((query, key, key), weights, biases, strict=True)
        )  # [B, h, L, d/h]
        scores = query * query.shape[-1] ** -0.5 @ keys.mT
        if padding is not None and not self.corrected:
            scores = scores.masked_fill(padding[:, None, None], float("-inf"))
        attention = self.looks(scores, padding)
        found = joined(attention @ values).transpose(0, 1)  # [T, B, d]
        return self.out_proj(found), scores if self.need_raw else attention.mean(1)

    def looks(self, scores: Tensor, padding: Tensor | None) -> Tensor:
        """The weights of ``read``'s scores."""
        if self.corrected and padding is not None:
            return masked_softmax(scores, ~padding[:, None, None])
        return torch.softmax(scores, dim=-1)

    def read_many(self, query: Tensor, key: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """What a few queries read from many keys with their padding masked, by association: no key is projected.

        Args:
            query: ``[B, T, d]``.
            key: ``[B, N, d]``.
            valid: ``[B, N]`` bool.

        Returns:
            ``[B, T, d]``, and the weights ``[B, T, N]``, averaged over heads.
        """
        weights = [weight.view(self.heads, -1, query.shape[-1]) for weight in self.in_proj_weight.chunk(3)]  # [h, e, d]
        biases = [bias.view(self.heads, 1, -1) for bias in self.in_proj_bias.chunk(3)]  # [h, 1, e]
        asked = (query.unsqueeze(1) @ weights[0].mT + biases[0]) * weights[0].shape[1] ** -0.5  # [B, h, T, e]
        keys = key.unsqueeze(1)  # their bias shifts all scores of a query alike
        looks = masked_softmax(asked @ weights[1] @ keys.mT, valid[:, None, None])  # [B, h, T, N]
        found = looks @ keys @ weights[2].mT + biases[2] * looks.sum(-1, keepdim=True)  # [B, h, T, e]
        return self.out_proj(joined(found)), looks.mean(1)


class CoAttn(MultiheadAttention):
    """`MultiheadAttention` by itself."""

    def forward(self, query: Tensor, key: Tensor, key_padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """``attn_output`` ``[T, B, d]`` and ``raw_logits`` or ``attn_weights``; arguments as `read`."""
        found, shown = self.read(query, key, key_padding_mask)
        return {"attn_output": found, "raw_logits" if self.need_raw else "attn_weights": shown}


class Attn_Net_Gated(nn.Module):  # the published name
    """A score for each row: a hidden layer under a gate.

    Args:
        width: of a row.
        hidden: of the layer and of its gate.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.attention_a = nn.Sequential(nn.Linear(width, hidden), nn.Tanh())
        self.attention_b = nn.Sequential(nn.Linear(width, hidden), nn.Sigmoid())
        self.attention_c = nn.Linear(hidden, 1)

    def forward(self, rows: Tensor) -> Tensor:
        """``[..., 1]`` of ``[..., width]``."""
        scores: Tensor = self.attention_c(self.attention_a(rows) * self.attention_b(rows))
        return scores


class Pool(nn.Module):
    """A bag in one vector: its rows under a softmax of their gated scores.

    Args:
        width: of a row.
        hidden: of the scores.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.path_attention_head = Attn_Net_Gated(width, hidden)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``A`` ``[n, 1]``, the scores, and ``pooled`` ``[1, width]`` of one bag ``[n, 1, width]``."""
        rows = x.squeeze(1)
        scores = self.path_attention_head(rows)
        return {"A": scores, "pooled": torch.softmax(scores.T, dim=1) @ rows}


class EncoderLayer(nn.Module):
    """torch's layer of a transformer in its default form, sequence first, under its names.

    Args:
        width: of the rows.
        heads: how many.
        ff: width of the feed-forward layer.
    """

    def __init__(self, width: int, heads: int, ff: int) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(width, heads, need_raw=False)
        self.linear1 = nn.Linear(width, ff)
        self.linear2 = nn.Linear(ff, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, rows: Tensor, padding: Tensor | None) -> Tensor:
        """``[T, B, d]`` to the same; ``padding`` as `MultiheadAttention.read`."""
        rows = self.norm1(rows + self.self_attn.read(rows, rows, padding)[0])
        normed: Tensor = self.norm2(rows + self.linear2(torch.relu(self.linear1(rows))))
        return normed


class Encoder(nn.Module):
    """Layers under the name that torch gives them."""

    def __init__(self, width: int, heads: int, ff: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, heads, ff) for _ in range(layers))

    def forward(self, rows: Tensor, padding: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            rows = layer(rows, padding)
        return rows


class Slide(nn.Module):
    """Groups of genes read the patches of a slide; two transformers and gated poolings; no mask, as published.

    Args:
        patch_width: of a patch's features.
        width: d, of everything inside.
        ff: width of the transformers' feed-forward layers.
        heads: of the transformers.
        layers: of each transformer.
        corrected: whether padding is masked where it is given.
    """

    def __init__(
        self, patch_width: int, width: int, *, ff: int, heads: int, layers: int, corrected: bool = False
    ) -> None:
        super().__init__()
        self.wsi_net = nn.Sequential(nn.Linear(patch_width, width), nn.ReLU())
        self.coattn = MultiheadAttention(width, 1, need_raw=True)
        self.path_transformer = Encoder(width, heads, ff, layers)
        self.path_attention_head = Attn_Net_Gated(width, width)
        self.omic_transformer = Encoder(width, heads, ff, layers)
        self.omic_attention_head = Attn_Net_Gated(width, width)
        for module in self.modules():
            if isinstance(module, MultiheadAttention):
                module.corrected = corrected

    def pooled(self, side: str, rows: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """A branch's vector ``[B, d]``, its scores and its weights ``[B, T]``, of rows ``[T, B, d]``.

        Args:
            side: ``path`` or ``omic``.
            rows: what the genes read, or the genes themselves.
            padding: ``[B, T]``, True on padding; the published code has none.
        """
        rows = self.get_submodule(f"{side}_transformer")(rows, padding).transpose(0, 1)  # [B, T, d]
        scores = self.get_submodule(f"{side}_attention_head")(rows).squeeze(-1)  # [B, T]
        weights = torch.softmax(scores, dim=1) if padding is None else masked_softmax(scores, ~padding)
        return pool(weights, rows), scores, weights


class MCAT(Slide):
    """Groups of genes read the patches of one slide; the genes themselves never do. One slide at a time.

    Args:
        patch_width: of a patch's features.
        gene_sizes: of each group.
        width: d, of everything inside.
        gene_hidden: between the two layers of a group.
        ff: width of the transformers' feed-forward layers.
        heads: of the transformers.
        layers: of each transformer.
        classes: intervals of time.
    """

    def __init__(
        self,
        *,
        patch_width: int,
        gene_sizes: list[int],
        width: int,
        gene_hidden: int,
        ff: int,
        heads: int,
        layers: int,
        classes: int,
    ) -> None:
        super().__init__(patch_width, width, ff=ff, heads=heads, layers=layers)
        self.sig_networks = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(nn.Linear(size, gene_hidden), nn.ELU()),
                nn.Sequential(nn.Linear(gene_hidden, width), nn.ELU()),
            )
            for size in gene_sizes
        )
        self.path_rho = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.omic_rho = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.mm = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.classifier = nn.Linear(width, classes)

    def forward(self, x_path: Tensor, **x_omic: Tensor) -> dict[str, Tensor]:
        """``hazards`` and ``S`` ``[1, classes]``, and what they came from; its maps are scores, not weights.

        Args:
            x_path: the patches of one slide ``[N, patch_width]``.
            x_omic: ``x_omic1`` to ``x_omic6``, each group's expressions.

        Raises:
            ValueError: the groups are others.
        """
        names = [f"x_omic{number}" for number in range(1, len(self.sig_networks) + 1)]
        if sorted(names) != sorted(x_omic):
            raise ValueError(f"the groups of genes are {', '.join(x_omic)}: expected {', '.join(names)}")
        patches = self.wsi_net(x_path).unsqueeze(1)  # [N, 1, d]
        groups = [network(x_omic[name]) for network, name in zip(self.sig_networks, names, strict=True)]
        genes = torch.stack(groups).unsqueeze(1)  # [6, 1, d]
        found, scores = self.coattn.read(genes, patches)
        outputs = {"h_path_coattn": found, "A_coattn": scores}
        summaries = []
        for side, rows in (("path", found), ("omic", genes)):
            vector, outputs[f"A_{side}"], _ = self.pooled(side, rows)
            outputs[f"{side}_pooled"] = vector
            summaries.append(self.get_submodule(f"{side}_rho")(vector))
        hazards = torch.sigmoid(self.classifier(self.mm(torch.cat(summaries, dim=1))))
        return {"hazards": hazards, "S": torch.cumprod(1 - hazards, dim=1), **outputs}


@register("published_mcat")
class PublishedMcat(CoAttention):
    """The authors' co-attention between patches and encoded groups of genes, on a batch, up to both pooled vectors.

    As published nothing is masked; a batch stands for slides one at a time, each with its padding for patches. The
    patches' weights are the co-attention's under those of the pooling; the package itself shows scores for both.

    Options: ``layers``, ``heads`` and ``ff`` (the width unless given) of its two transformers; ``corrected`` has masks,
    with the same weights.
    """

    source = "mahmoodlab/MCAT, models/model_coattn.py; Chen et al. 2021, section 3"
    origin = Origin(
        where="mahmoodlab/MCAT, the authors of the paper",
        differs="its maps are scores before the softmax; the genes' own branch never reads the patches; no mask",
        ours="published_mcat[corrected=true]",
        nearest="bags",
    )
    known_defects = NO_MASKS

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        layers: int = 2,
        heads: int = 8,
        ff: int | None = None,
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.network = Slide(
            image_width, question_width, ff=ff or question_width, heads=heads, layers=layers, corrected=corrected
        )
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def guided_weights(self) -> tuple[str, ...]:
        return ("image_weights",)  # the genes' own branch never reads the patches

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = batch
        if self.corrected:
            padding = ~question_valid
            question = blank(question, question_valid)
            rows, slots = valid_rows(image, image_valid)
            patches = slots.spread(self.network.wsi_net(rows))
            read, looks = self.network.coattn.read_many(question, patches, image_valid)
            found, genes = read.transpose(0, 1), question.transpose(0, 1)
        else:
            padding = None
            patches, genes = self.network.wsi_net(image).transpose(0, 1), question.transpose(0, 1)
            found, scores = self.network.coattn.read(genes, patches)
            looks = self.network.coattn.looks(scores, None).mean(1)  # [B, T, N]
        image_vector, _, by_genes = self.network.pooled("path", found, padding)
        question_vector, _, question_weights = self.network.pooled("omic", genes, padding)
        image_weights = pool(by_genes, looks)
        if self.corrected:
            # without genes all patches weigh the same; without patches what is pooled is biases alone
            some = question_valid.any(-1, keepdim=True), image_valid.any(-1, keepdim=True)
            image_weights = torch.where(some[0], image_weights, uniform(image_valid, image.dtype))
            image_vector = torch.where(some[1], image_vector, 0.0)
        return Attended(
            image_vector.unsqueeze(1),
            question_vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )


def coattn_from_checkpoint(checkpoint: Checkpoint) -> CoAttn:
    """The attention in the sizes of its weights; the configuration's ``num_heads`` (1) and ``need_raw`` (yes)."""
    return CoAttn(
        checkpoint.size("in_proj_weight", 1, config="embed_dim"),
        checkpoint.option("num_heads", 1),
        need_raw=checkpoint.option("need_raw", True),
    )


def pool_from_checkpoint(checkpoint: Checkpoint) -> Pool:
    """The pooling in the sizes of its weights."""
    weight = "path_attention_head.attention_a.0.weight"
    return Pool(checkpoint.size(weight, 1, config="L"), checkpoint.size(weight, 0, config="D"))


def net_from_checkpoint(checkpoint: Checkpoint) -> MCAT:
    """The network in the sizes of its weights; heads of its transformers are the configuration's ``nhead``, else 8."""
    groups = checkpoint.count(r"sig_networks\.(\d+)\.")
    return MCAT(
        patch_width=checkpoint.size("wsi_net.0.weight", 1, config="in_dim"),
        gene_sizes=[checkpoint.size(f"sig_networks.{group}.0.0.weight", 1) for group in range(groups)],
        width=checkpoint.size("wsi_net.0.weight", 0, config="d"),
        gene_hidden=checkpoint.size("sig_networks.0.0.0.weight", 0, config="omic_hidden"),
        ff=checkpoint.size("path_transformer.layers.0.linear1.weight", 0, config="ff"),
        heads=checkpoint.option("nhead", 8),
        layers=checkpoint.count(r"path_transformer\.layers\.(\d+)\."),
        classes=checkpoint.size("classifier.weight", 0, config="n_classes"),
    )


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedMcat` has to be built with for a network's weights; its encoder of genes is left out."""
    return Adapted(
        options={
            "layers": checkpoint.count(r"path_transformer\.layers\.(\d+)\."),
            "heads": checkpoint.option("nhead", 8),
            "ff": checkpoint.size("path_transformer.layers.0.linear1.weight", 0),
        },
        image_width=checkpoint.size("wsi_net.0.weight", 1),
        question_width=checkpoint.size("wsi_net.0.weight", 0),
        left_out=("sig_networks.", "path_rho.", "omic_rho.", "mm.", "classifier."),
    )
