"""lucidrains/perceiver-pytorch and flamingo-pytorch: learned queries that read a set, as they behave."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from variants.heads import joined, split
from variants.interface import Attended, Batch, CoAttention, blanked, one_width
from variants.masking import blank, masked_softmax, pool
from variants.origin import Origin
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import EITHER, NO_MASKS, known
from variants.registry import register
from variants.scored import scored_pool


def _weights(query: Tensor, key: Tensor, heads: int, mask: Tensor | None = None, *, corrected: bool = False) -> Tensor:
    """``[B, h, Q, L]``; ``mask`` ``[B, L]`` bool is True on real slots and fills with the lowest number there is."""
    scores = split(query, heads) @ split(key, heads).mT
    if mask is not None and corrected:
        return masked_softmax(scores, mask[:, None, None])
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], -torch.finfo(scores.dtype).max)
    return torch.softmax(scores, dim=-1)


def _read(weights: Tensor, value: Tensor) -> Tensor:
    """``[B, Q, h d]`` of weights ``[B, h, Q, L]`` and values ``[B, L, h d]``."""
    return joined(weights @ split(value, weights.shape[1]))


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

    def forward(self, media: Tensor, latents: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What ``[B, K, d]`` latents read from ``[B, N, d]`` tokens and themselves, and how, ``[B, h, K, N + K]``.

        The published code has no ``valid``, ``[B, N]``.
        """
        media, latents = self.norm_media(media), self.norm_latents(latents)
        key, value = self.to_kv(torch.cat([media, latents], dim=1)).chunk(2, dim=-1)
        mask = None if valid is None else torch.cat([valid, valid.new_ones(latents.shape[:2])], dim=1)
        weights = _weights(self.to_q(latents) * self.scale, key, self.heads, mask, corrected=True)
        return self.to_out(_read(weights, value)), weights


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
        latents, _ = self.resampled((x + self.media_pos_emb[:media]).flatten(0, 1))
        return {"latents": latents.view(examples, media, *latents.shape[1:])}

    def resampled(self, tokens: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``[B, K, d]`` of ``[B, N, d]``, and how the latents read at last; ``valid`` as in `PerceiverAttention`."""
        latents = self.latents.repeat(len(tokens), 1, 1)
        weights = latents.new_zeros(0)
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            attention, feed_forward = layer
            found, weights = attention(tokens, latents, valid)
            latents = found + latents
            latents = feed_forward(latents) + latents
        return self.norm(latents), weights


@register("published_flamingo")
class PublishedFlamingo(CoAttention):
    """The resampler on a batch: both sides are the tokens of one medium, and each latent is a glimpse of both.

    A glimpse's weights over a side are that side's part of the latent's last map, the mean of its heads.

    Options, by the package's names: ``depth``, ``dim_head``, ``heads``, ``num_latents``, ``num_media_embeds`` and
    ``ff_mult``; ``corrected`` has masks, with the same weights.
    """

    source = "lucidrains/flamingo-pytorch, PerceiverResampler; Alayrac et al. 2022, arXiv:2204.14198, section 3.1"
    origin = Origin(
        where="lucidrains/flamingo-pytorch",
        differs="the latents read themselves beside the tokens; no mask",
        ours="published_flamingo[corrected=true]",
        nearest="queries",
    )
    known_defects = NO_MASKS

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        depth: int = 2,
        dim_head: int = 64,
        heads: int = 8,
        num_latents: int = 8,
        num_media_embeds: int = 4,
        ff_mult: int = 4,
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = one_width("published_flamingo", image_width=image_width, question_width=question_width)
        self.network = PerceiverResampler(
            width=width,
            head_width=dim_head,
            heads=heads,
            latents=num_latents,
            media=num_media_embeds,
            hidden=ff_mult * width,
            layers=depth,
        )
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def gain(self, parameter: str) -> float:
        # norms bound the scores, and the weights are means of maps, which would otherwise all be nearly even
        return 40.0 if parameter.endswith("to_q.weight") else 1.0

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = blanked(batch) if self.corrected else batch
        tokens = torch.cat([image, question], dim=1) + self.network.media_pos_emb[0]
        valid = torch.cat([image_valid, question_valid], dim=1) if self.corrected else None
        latents, looks = self.network.resampled(tokens, valid)
        vectors, weights = [], []
        regions, words = image.shape[1], question.shape[1]
        parts = torch.split(looks.mean(1)[..., : regions + words], [regions, words], dim=-1)
        for part, real in zip(parts, (image_valid, question_valid), strict=True):
            shares = part / part.sum(-1, keepdim=True)  # [B, K, L]
            some = real.any(-1)[:, None, None] if self.corrected else None
            vectors.append(latents if some is None else torch.where(some, latents, 0.0))
            weights.append(shares if some is None else torch.where(some, shares, 0.0))
        return Attended(*vectors, *weights)


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

    corrected = False
    """Whether an empty context gives zeros instead of the mean of its padding."""

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return self.read(queries, context, mask)[0]

    def read(self, queries: Tensor, context: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """What ``[B, Q, D]`` reads, and its weights ``[B, h, Q, L]``; ``mask`` ``[B, L]`` bool, True on real slots."""
        key, value = self.to_kv(context).chunk(2, dim=-1)
        weights = _weights(self.to_q(queries) * self.scale, key, self.heads, mask, corrected=self.corrected)
        return self.to_out(_read(weights, value)), weights


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
        latents, _ = self.encoded(data, mask)
        if queries is None:
            return {"out": latents}
        return {"out": self.decoded(queries, latents)}

    def encoded(self, data: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The latents ``[B, K, d]`` behind the last layer, and how they read the data, ``[B, h, K, N]``."""
        latents = self.latents.repeat(len(data), 1, 1)
        attend, feed_forward = self.cross_attend_blocks
        assert isinstance(attend, PreNorm)
        assert isinstance(attend.fn, Attention)
        assert attend.norm_context is not None
        found, weights = attend.fn.read(attend.norm(latents), attend.norm_context(data), mask)
        latents = found + latents
        latents = feed_forward(latents) + latents
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            own, feed_forward = layer
            latents = own(latents) + latents
            latents = feed_forward(latents) + latents
        return latents, weights

    def decoded(self, queries: Tensor, latents: Tensor) -> Tensor:
        """What queries ``[B, Q, q]`` or ``[Q, q]`` read in the latents."""
        if self.decoder_cross_attn is None:
            raise ValueError("queries are given, but the weights have no decoder_cross_attn to read with")
        if queries.dim() == 2:
            queries = queries.expand(len(latents), -1, -1)
        found: Tensor = self.decoder_cross_attn(queries, latents)  # not added to the queries
        if self.decoder_ff is not None:
            found = found + self.decoder_ff(found)
        return found if self.to_logits is None else self.to_logits(found)


@register("published_perceiver")
class PublishedPerceiver(CoAttention):
    """The perceiver on a batch: latents read the image and themselves, and the question's words read the latents.

    A score of ours pools what the words have read; the image's weights are the latents' maps, averaged over heads and
    latents, which no word moves.

    Options, by the package's names: ``depth``, ``num_latents``, ``latent_dim`` (the image's width unless given),
    ``cross_heads``, ``latent_heads``, ``cross_dim_head``, ``latent_dim_head`` and ``decoder_ff``; ``corrected`` has its
    masks right, with the same weights.
    """

    source = "lucidrains/perceiver-pytorch, perceiver_io.py, PerceiverIO; Jaegle et al. 2022, arXiv:2107.14795"
    origin = Origin(
        where="lucidrains/perceiver-pytorch",
        differs="what is read is not added to the queries; an empty side is read evenly",
        ours="published_perceiver[corrected=true]",
        nearest="queries",
    )
    known_defects = (
        *known("NaN in a pad survives its weight of zero", {"P1n": EITHER}),
        *known(
            "its fill is finite, so that an empty image is read as the plain mean of its padding",
            {"P9": (("side emptied", "image"),), "P9r": (("side emptied", "image"),)},
        ),
    )

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        depth: int = 2,
        num_latents: int = 16,
        latent_dim: int | None = None,
        cross_heads: int = 1,
        latent_heads: int = 8,
        cross_dim_head: int = 64,
        latent_dim_head: int = 64,
        decoder_ff: bool = False,
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = latent_dim or image_width

        def fed(size: int) -> PreNorm:
            return PreNorm(size, FeedForward(size, 4 * size))

        def reading(size: int, context: int) -> PreNorm:
            return PreNorm(size, Attention(size, context, cross_heads, cross_dim_head), context)

        self.network = PerceiverIO(
            torch.zeros(num_latents, width),
            (reading(width, image_width), fed(width)),
            [
                (PreNorm(width, Attention(width, width, latent_heads, latent_dim_head)), fed(width))
                for _ in range(depth)
            ],
            reading(question_width, width),
            fed(question_width) if decoder_ff else None,
            None,
        )
        self.score = nn.Linear(question_width, 1, bias=False)
        self.corrected = corrected
        for module in self.network.modules():
            if isinstance(module, Attention):
                module.corrected = corrected
        if corrected:
            self.known_defects = ()

    def guided_weights(self) -> tuple[str, ...]:
        return ("question_weights",)

    def gain(self, parameter: str) -> float:
        # norms bound the scores, and the weights are means of maps, which would otherwise all be nearly even
        return 8.0 if parameter.endswith("to_q.weight") else 1.0

    def forward(self, batch: Batch) -> Attended:
        image, question, image_valid, question_valid = blanked(batch) if self.corrected else batch
        latents, looks = self.network.encoded(image, image_valid)
        read = self.network.decoded(question, latents)
        image_weights = looks.mean((1, 2))  # [B, N]
        vector, weights = scored_pool(self.score, blank(read, question_valid), question_valid)
        return Attended(
            pool(image_weights, blank(image, image_valid)).unsqueeze(1),
            vector.unsqueeze(1),
            image_weights.unsqueeze(1),
            weights.unsqueeze(1),
        )


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


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedPerceiver` has to be built with for the weights of a perceiver that has a decoder."""
    cross_heads, latent_heads = checkpoint.option("cross_heads", 1), checkpoint.option("latent_heads", 8)
    depth = checkpoint.count(r"layers\.(\d+)\.")
    head_width = checkpoint.size("cross_attend_blocks.0.fn.to_q.weight", 0, times=cross_heads)
    own = checkpoint.size("layers.0.0.fn.to_q.weight", 0, times=latent_heads) if depth else 64
    return Adapted(
        options={
            "depth": depth,
            "num_latents": checkpoint.size("latents", 0),
            "latent_dim": checkpoint.size("latents", 1),
            "cross_heads": cross_heads,
            "latent_heads": latent_heads,
            "cross_dim_head": head_width,
            "latent_dim_head": own,
            "decoder_ff": "decoder_ff.fn.net.2.weight" in checkpoint.state_dict,
        },
        image_width=checkpoint.size("cross_attend_blocks.0.fn.to_kv.weight", 1),
        question_width=checkpoint.size("decoder_cross_attn.fn.to_q.weight", 1),
        left_out=("to_logits.",),
    )


def adapted_resampler(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedFlamingo` has to be built with for these weights."""
    head_width = checkpoint.option("dim_head", 64)
    width = checkpoint.size("latents", 1)
    return Adapted(
        options={
            "depth": checkpoint.count(r"layers\.(\d+)\."),
            "dim_head": head_width,
            "heads": checkpoint.size("layers.0.0.to_q.weight", 0, times=head_width),
            "num_latents": checkpoint.size("latents", 0),
            "num_media_embeds": checkpoint.size("media_pos_emb", 0),
            "ff_mult": checkpoint.size("layers.0.1.1.weight", 0, times=width),
        },
        image_width=width,
        question_width=width,
    )
