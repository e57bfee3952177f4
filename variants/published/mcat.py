"""mahmoodlab/MCAT, survival from a slide and genes, as it behaves."""

import torch
from torch import Tensor, nn

from variants.published.bert import joined, split
from variants.published.checkpoint import Checkpoint

GENE_GROUPS = 6


class MultiheadAttention(nn.Module):
    """torch's own attention with the sequence first, which gives the scores for a map.

    Args:
        width: of both sides.
        heads: how many.
        need_raw: whether the map that comes back is the scores before the softmax, as published, or the weights.
    """

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
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, None], float("-inf"))
        attention = torch.softmax(scores, dim=-1)
        found = joined(attention @ values).transpose(0, 1)  # [T, B, d]
        return self.out_proj(found), scores if self.need_raw else attention.mean(1)


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


class MCAT(nn.Module):
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
        super().__init__()
        self.wsi_net = nn.Sequential(nn.Linear(patch_width, width), nn.ReLU())
        self.sig_networks = nn.ModuleList(
            nn.Sequential(
                nn.Sequential(nn.Linear(size, gene_hidden), nn.ELU()),
                nn.Sequential(nn.Linear(gene_hidden, width), nn.ELU()),
            )
            for size in gene_sizes
        )
        self.coattn = MultiheadAttention(width, 1, need_raw=True)

        def transformer() -> nn.TransformerEncoder:
            layer = nn.TransformerEncoderLayer(width, heads, dim_feedforward=ff, dropout=0.0)
            return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

        self.path_transformer = transformer()
        self.path_attention_head = Attn_Net_Gated(width, width)
        self.path_rho = nn.Sequential(nn.Linear(width, width), nn.ReLU())
        self.omic_transformer = transformer()
        self.omic_attention_head = Attn_Net_Gated(width, width)
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
            rows = self.get_submodule(f"{side}_transformer")(rows).squeeze(1)  # [6, d]
            weights = self.get_submodule(f"{side}_attention_head")(rows).T  # [1, 6]
            pooled = torch.softmax(weights, dim=1) @ rows
            outputs |= {f"A_{side}": weights, f"{side}_pooled": pooled}
            summaries.append(self.get_submodule(f"{side}_rho")(pooled))
        hazards = torch.sigmoid(self.classifier(self.mm(torch.cat(summaries, dim=1))))
        return {"hazards": hazards, "S": torch.cumprod(1 - hazards, dim=1), **outputs}


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
