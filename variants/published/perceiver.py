"""lucidrains/perceiver-pytorch and flamingo-pytorch: learned queries that read a set, as they behave."""

import torch
from torch import Tensor, nn

from variants.published.bert import joined, split
from variants.published.checkpoint import Checkpoint


def _read(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """``[B, Q, h d]``; ``mask`` ``[B, L]`` bool is True on real slots and fills with the lowest number there is."""
    scores = split(query, heads) @ split(key, heads).mT
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], -torch.finfo(scores.dtype).max)
    return joined(torch.softmax(scores, dim=-1) @ split(value, heads))


class PerceiverAttention(nn.Module):
    """Latents read tokens and latents; flamingo-pytorch's form, without a mask and without biases.

    Args:
        width: of both.
        head_width: of a head.
        heads: how many.
    """

    def __init__(self, width: int, head_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = head_width**-0.5
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, width, bias=False)

    def forward(self, media: Tensor, latents: Tensor) -> Tensor:
        """What ``[B, K, d]`` latents read from ``[B, N, d]`` tokens and themselves."""
        media, latents = self.norm_media(media), self.norm_latents(latents)
        key, value = self.to_kv(torch.cat([media, latents], dim=1)).chunk(2, dim=-1)
        read: Tensor = self.to_out(_read(self.to_q(latents) * self.scale, key, value, self.heads))
        return read


class PerceiverResampler(nn.Module):
    """Any number of media of any number of tokens in a fixed number of latents each. No mask exists.

    Args:
        width: of tokens and latents.
        head_width: of a head.
        heads: how many.
        latents: how many for each medium.
        media: how many media have a learned position.
        hidden: width of the feed-forward layers.
        layers: how many.
    """

    def __init__(
        self, *, width: int, head_width: int, heads: int, latents: int, media: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, width))
        self.media_pos_emb = nn.Parameter(torch.randn(media, 1, width))
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(width, head_width, heads),
                    nn.Sequential(
                        nn.LayerNorm(width),
                        nn.Linear(width, hidden, bias=False),
                        nn.GELU(),
                        nn.Linear(hidden, width, bias=False),
                    ),
                ]
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """``latents`` ``[B, M, K, d]`` of ``x`` ``[B, M, N, d]``, or ``[B, N, d]`` for one medium."""
        if x.dim() == 3:
            x = x.unsqueeze(1)
        examples, media = x.shape[:2]
        tokens = (x + self.media_pos_emb[:media]).flatten(0, 1)  # [B M, N, d]
        latents = self.latents.expand(examples * media, -1, -1)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            attention, feed_forward = layer
            latents = attention(tokens, latents) + latents
            latents = feed_forward(latents) + latents
        return {"latents": self.norm(latents).unflatten(0, (examples, media))}


class Attention(nn.Module):
    """Queries on a context; perceiver-pytorch's form.

    Args:
        query_width: of what reads.
        context_width: of what is read.
        heads: how many.
        head_width: of a head.
    """

    def __init__(self, query_width: int, context_width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = head_width**-0.5
        self.to_q = nn.Linear(query_width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(context_width, 2 * heads * head_width, bias=False)
        self.to_out = nn.Linear(heads * head_width, query_width)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        key, value = self.to_kv(context).chunk(2, dim=-1)
        read: Tensor = self.to_out(_read(self.to_q(queries) * self.scale, key, value, self.heads, mask))
        return read


class FeedForward(nn.Module):
    """Two linear maps with a gate between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, 2 * hidden), nn.Identity(), nn.Linear(hidden, width))

    def forward(self, features: Tensor) -> Tensor:
        first, gate = self.net[0](features).chunk(2, dim=-1)
        mapped: Tensor = self.net[2](first * nn.functional.gelu(gate))
        return mapped


class PreNorm(nn.Module):
    """A function behind a norm of its input, and of its context where it has one.

    Args:
        width: of the input.
        fn: the function.
        context_width: of the context.
    """

    def __init__(self, width: int, fn: nn.Module, context_width: int | None = None) -> None:
        super().__init__()
        self.fn = fn
        self.norm = nn.LayerNorm(width)
        self.norm_context = None if context_width is None else nn.LayerNorm(context_width)

    def forward(self, features: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Attention of itself where there is no context, and a feed-forward layer where ``fn`` is one."""
        features = self.norm(features)
        if isinstance(self.fn, FeedForward):
            return self.fn.forward(features)
        if context is None:
            context = features
        elif self.norm_context is not None:
            context = self.norm_context(context)
        read: Tensor = self.fn(features, context, mask)
        return read


class PerceiverIO(nn.Module):
    """Latents read a set, themselves, and are read by queries.

    Args:
        latents: ``[K, d]``, what they start from.
        cross: the latents on the set, and the feed-forward layer behind.
        layers: pairs of self-attention and a feed-forward layer.
        decoder: the queries on the latents; None where no weights for it are there.
        decoder_ff: the feed-forward layer behind, if there is one.
        to_logits: the last map, if there is one.
    """

    def __init__(
        self,
        latents: Tensor,
        cross: tuple[PreNorm, PreNorm],
        layers: list[tuple[PreNorm, PreNorm]],
        decoder: PreNorm | None,
        decoder_ff: PreNorm | None,
        to_logits: nn.Linear | None,
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(latents)
        self.cross_attend_blocks = nn.ModuleList(cross)
        self.layers = nn.ModuleList(nn.ModuleList(layer) for layer in layers)
        self.decoder_cross_attn = decoder
        self.decoder_ff = decoder_ff
        self.to_logits = to_logits

    def forward(self, data: Tensor, mask: Tensor | None = None, queries: Tensor | None = None) -> dict[str, Tensor]:
        """``out``: ``[B, Q, ...]`` for queries, the latents ``[B, K, d]`` without any.

        Args:
            data: ``[B, N, e]``.
            mask: ``[B, N]`` bool, True on real slots.
            queries: ``[B, Q, q]``, or ``[Q, q]`` for all examples.

        Raises:
            ValueError: there are queries, and no weights to read with.
        """
        latents = self.latents.expand(len(data), -1, -1)
        attend, feed_forward = self.cross_attend_blocks
        latents = attend(latents, data, mask) + latents
        latents = feed_forward(latents) + latents
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            own, feed_forward = layer
            latents = own(latents) + latents
            latents = feed_forward(latents) + latents
        if queries is None:
            return {"out": latents}
        if self.decoder_cross_attn is None:
            raise ValueError("queries are given, but the weights have no decoder_cross_attn to read with")
        if queries.dim() == 2:
            queries = queries.expand(len(data), -1, -1)
        found = self.decoder_cross_attn(queries, latents)  # not added to the queries
        if self.decoder_ff is not None:
            found = found + self.decoder_ff(found)
        return {"out": found if self.to_logits is None else self.to_logits(found)}


def resampler_from_checkpoint(checkpoint: Checkpoint) -> PerceiverResampler:
    """The resampler in the sizes of its weights; ``dim_head`` is the configuration's, else 64."""
    head_width = checkpoint.option("dim_head", 64)
    return PerceiverResampler(
        width=checkpoint.size("latents", 1, config="dim"),
        head_width=head_width,
        heads=checkpoint.size("layers.0.0.to_q.weight", 0, times=head_width),
        latents=checkpoint.size("latents", 0, config="num_latents"),
        media=checkpoint.size("media_pos_emb", 0, config="num_media_embeds"),
        hidden=checkpoint.size("layers.0.1.1.weight", 0),
        layers=checkpoint.count(r"layers\.(\d+)\."),
    )


def io_from_checkpoint(checkpoint: Checkpoint) -> PerceiverIO:
    """The perceiver in the sizes of its weights; ``cross_heads`` (1), ``latent_heads`` (8), ``weight_tie_layers`` (no)
    and ``depth`` of such layers are the configuration's."""

    def attention(prefix: str, heads: int, *, context: bool) -> PreNorm:
        width = checkpoint.size(f"{prefix}.fn.to_q.weight", 1)
        other = checkpoint.size(f"{prefix}.fn.to_kv.weight", 1)
        head_width = checkpoint.size(f"{prefix}.fn.to_q.weight", 0, times=heads)
        return PreNorm(width, Attention(width, other, heads, head_width), other if context else None)

    def feed_forward(prefix: str) -> PreNorm:
        width, hidden = (checkpoint.size(f"{prefix}.fn.net.2.weight", axis) for axis in (0, 1))
        return PreNorm(width, FeedForward(width, hidden))

    cross_heads, latent_heads = checkpoint.option("cross_heads", 1), checkpoint.option("latent_heads", 8)
    names = checkpoint.state_dict
    decoder = "decoder_cross_attn.fn.to_q.weight" in names
    logits = "to_logits.weight" in names
    stated = checkpoint.count(r"layers\.(\d+)\.")
    layers = [
        (attention(f"layers.{number}.0", latent_heads, context=False), feed_forward(f"layers.{number}.1"))
        for number in range(stated)
    ]
    if checkpoint.option("weight_tie_layers", False) and layers:
        layers = layers[:1] * checkpoint.option("depth", stated)  # one set of weights under the name of each layer
        tied = {name: weight for name, weight in names.items() if name.startswith("layers.0.")}
        checkpoint.state_dict = dict(names) | {
            name.replace("layers.0.", f"layers.{number}.", 1): weight
            for number in range(len(layers))
            for name, weight in tied.items()
        }
    return PerceiverIO(
        torch.empty_like(checkpoint.weight("latents")),
        (attention("cross_attend_blocks.0", cross_heads, context=True), feed_forward("cross_attend_blocks.1")),
        layers,
        attention("decoder_cross_attn", cross_heads, context=True) if decoder else None,
        feed_forward("decoder_ff") if "decoder_ff.fn.net.2.weight" in names else None,
        nn.Linear(checkpoint.size("to_logits.weight", 1), checkpoint.size("to_logits.weight", 0)) if logits else None,
    )
