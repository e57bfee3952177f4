"""From tensors to launches of the device programs.

``G`` attentions (levels) go through one launch. Where all look at the same features, as the levels of ``hierarchical``
look at the image, these are given once (``S`` is 1); else each has its own (``S`` is ``G``).
"""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from variants.kernels import programs
from variants.kernels.configurations import FORMED, WIDEST, Configuration, configuration, safe
from variants.kernels.shortlist import IN_REGISTERS, architecture, block

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether programs run in Triton's interpreter, on the CPU: decided when Triton reads them."""


class Affinity(NamedTuple):
    """What an image's hidden map takes from the question."""

    queries: Tensor  # P [G, B, T, D]
    projected: Tensor  # Y [G, B, T, K]
    used_words: Tensor  # [B] int32: words up to the last valid one
    saturating: bool


class Dropout(NamedTuple):
    """What is dropped from a hidden map: drawn from a seed wherever it is needed, and kept nowhere."""

    share: float
    seeds: Tensor  # [G] int64


class Scored(NamedTuple):
    """What the scored product needs, forwards and backwards: ``tanh(X W' + R) w``."""

    features: Tensor  # X [S, B, N, D], anything on padding
    valid: Tensor  # [B, N] bool
    weight: Tensor  # W [G, K, D]
    score: Tensor  # w [G, K]
    guide: Tensor | Affinity | None
    """R: one vector for each example ``[G, B, K]``, a matrix ``[G, B, N, K]``, ``C' Y``, or nothing."""
    dropout: Dropout | None = None

    @property
    def levels(self) -> int:
        """How many levels share the features."""
        return len(self.weight) // len(self.features)

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """B, N, T (0 without an affinity), D, K."""
        words = self.guide.queries.shape[2] if isinstance(self.guide, Affinity) else 0
        _, examples, count, width = self.features.shape
        return examples, count, words, width, self.weight.shape[1]


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """What sums are kept in: float32, or float64 where the interpreter is asked for it."""
    return torch.promote_types(dtype, torch.float32)


def used(valid: Tensor) -> Tensor:
    """Slots up to each row's last valid one, ``[B]`` int32: how far loops have to go."""
    positions = torch.arange(1, valid.shape[1] + 1, device=valid.device, dtype=torch.int32)
    return (valid * positions).amax(1).to(torch.int32)


@lru_cache(maxsize=64)
def _device(index: int) -> tuple[str, str]:
    """A device's name and the family of its capability; asked for at each launch, and always the same."""
    return torch.cuda.get_device_name(index), architecture(*torch.cuda.get_device_capability(index))


def _entry(program: str, scored: Scored) -> Configuration:
    """What to launch with: blocks no taller than short rows need, and a tile that stands only where it can."""
    features = scored.features
    device, family = _device(features.device.index or 0) if features.is_cuda else ("interpreter", "")
    found = configuration(program, features.element_size(), device, family)
    count = scored.sizes[1]
    if found.standing and not _stands(program, scored, found):
        found = safe(program, features.element_size())
    if found.standing and program in IN_REGISTERS:
        # products of one shape, so that the tile has one layout for words and for weights
        found = found._replace(words=found.outer)
    return found._replace(rows=min(found.rows, block(count)))


def _stands(program: str, scored: Scored, entry: Configuration) -> bool:
    """Whether a tile of these features can stand in a program."""
    _, count, words, width, _ = scored.sizes
    return (
        program in IN_REGISTERS
        and width <= WIDEST
        # without words, Triton puts the tile into shared memory, where it does not fit beside the weights
        and isinstance(scored.guide, Affinity)
        # more words would be a loop in the loop, whose weights then come when they are needed and not before
        and words <= entry.outer
        # fewer rows go to older instructions, which need the registers for the right operand
        and block(count) >= min(entry.rows, 64)
        # drawing takes registers of its own
        and scored.dropout is None
    )


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _accumulated(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


def _widened(dtype: torch.dtype) -> bool:
    return INTERPRETED and dtype.itemsize == 2


def _room(scored: Scored, entry: Configuration) -> Tensor | None:
    """For the affinity ``[G, B, N, words]``, written for those that follow where a small block holds all words."""
    examples, count, words, *_ = scored.sizes
    size = entry.words if entry.standing else min(entry.words, block(words))
    if not (isinstance(scored.guide, Affinity) and words <= size <= FORMED):
        return None
    return scored.features.new_empty(len(scored.weight), examples, count, size)


def _form(
    scored: Scored,
    entry: Configuration,
    *,
    pool: bool = False,
    slope: bool = False,
    tile: int = 0,
    formed: Tensor | None = None,
) -> programs.Form:
    dtype = scored.features.dtype
    kind, saturating = "nothing", False
    match scored.guide:
        case Affinity(_, _, _, saturating):
            kind = "affinity"
        case Tensor() as guide:
            kind = "vector" if guide.dim() == 3 else "matrix"
    words = entry.words if tile else min(entry.words, block(max(scored.sizes[2], 1)))
    if formed is not None:
        words = formed.shape[3]
    return programs.Form(
        acc=_accumulated(dtype),
        widen=_widened(dtype),
        approximate=not INTERPRETED and dtype.itemsize == 2,
        levels=scored.levels,
        guide=kind,
        pool=pool,
        slope=slope,
        formed=formed is not None,
        saturating=saturating,
        dropout=scored.dropout.share if scored.dropout else 0.0,
        rows=entry.rows,
        outer=entry.outer,
        inner=entry.inner,
        words=words,
        one_block=scored.sizes[2] <= words,
        standing=tile > 0,
        whole=block(tile),
    )


def _operands(scored: Scored) -> tuple[Tensor | None, ...]:
    """Features, validity, weight, guide, P, used words, score and seeds, in the order of the programs."""
    guide, queries, used_words = scored.guide, None, None
    if isinstance(guide, Affinity):
        queries, guide, used_words, _ = guide
    seeds = scored.dropout.seeds if scored.dropout else None
    valid = scored.valid.view(torch.uint8)
    return scored.features, valid, scored.weight, guide, queries, used_words, scored.score, seeds


def _compiled(entry: Configuration) -> dict[str, int]:
    return {"num_warps": entry.warps, "num_stages": entry.stages}


def _grid(places: int, scored: Scored, entry: Configuration) -> tuple[int]:
    examples, count, *_ = scored.sizes
    return (places * examples * triton.cdiv(count, entry.rows),)


def scores(scored: Scored) -> Tensor:
    """``[G, B, N]`` in the accumulator's dtype, -inf on padding."""
    found, _ = _scores(scored, None)
    return found


def attend(scored: Scored) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Attention over the features: vectors ``[G, B, D]``, weights ``[G, B, N]``, and the vectors before rounding.

    Last comes C' ``[G, B, N, words]``, zero on padding and beyond the words, where a small block holds all of them.
    """
    features, levels = scored.features, len(scored.weight)
    examples, count, _, width, _ = scored.sizes
    tiles = triton.cdiv(count, _entry("scored", scored).rows)
    summed = accumulator(features.dtype)
    maxima, sums = (features.new_empty(levels, examples, tiles, dtype=summed) for _ in range(2))
    pooled = features.new_empty(levels, examples, tiles, width, dtype=summed)
    found, formed = _scores(scored, _Parts(maxima, sums, pooled))
    weights = features.new_empty(found.shape)
    vectors = features.new_empty(levels, examples, width)
    wide = found.new_empty(vectors.shape)
    columns = min(512, triton.next_power_of_2(width))
    with _on(features):
        programs.combine[(levels * examples, triton.cdiv(width, columns))](
            found,
            maxima,
            sums,
            pooled,
            weights,
            vectors,
            wide,
            count,
            tiles,
            width,
            ACC=_accumulated(features.dtype),
            WIDEN=_widened(features.dtype),
            COLUMNS=columns,
            ROWS=256,
        )
    return vectors, weights, wide, formed


class _Parts(NamedTuple):
    """What the tiles of the scored product leave for softmax and pooling, in the accumulator's dtype."""

    maxima: Tensor  # [G, B, tiles]
    sums: Tensor  # [G, B, tiles]
    pooled: Tensor  # [G, B, tiles, D]


def _scores(scored: Scored, parts: _Parts | None) -> tuple[Tensor, Tensor | None]:
    features = scored.features
    examples, count, *_ = scored.sizes
    entry = _entry("scored", scored)
    found = features.new_empty(len(scored.weight), examples, count, dtype=accumulator(features.dtype))
    formed, tile = _room(scored, entry), entry.standing * features.shape[3]
    with _on(features):
        programs.scored[_grid(len(scored.weight), scored, entry)](
            *_operands(scored),
            formed,
            found,
            *(parts or (None, None, None)),
            *scored.sizes,
            form=_form(scored, entry, pool=parts is not None, tile=tile, formed=formed),
            **_compiled(entry),
        )
    return found, formed


class Pulls(NamedTuple):
    """What the rest of a network asks of an attention over features."""

    vectors: Tensor  # gradient of the vectors [G, B, D]
    weights: Tensor  # gradient of the weights [G, B, N]


def score_gradients(scored: Scored, slope: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of the scores ``[G, B, N]``: that before the tanh, and of the score vectors ``[G, K]``.

    The former is ``[S, B, N, G / S, K]``, so that levels which share their features meet in one product with them.
    """
    mixed_slope, score_slope, _ = _score_gradients(scored, slope, None, None, None)
    return mixed_slope, score_slope


def attend_gradients(
    scored: Scored, weights: Tensor, wide_vectors: Tensor, pulls: Pulls
) -> tuple[Tensor, Tensor, Tensor | None]:
    """From what `attend` found and its gradient, the same, and C' as `attend` gives it."""
    # the mean of the attention's gradient under the attention, from the outputs alone
    delta = (wide_vectors * pulls.vectors).sum(-1) + (weights.to(wide_vectors.dtype) * pulls.weights).sum(-1)
    return _score_gradients(scored, pulls.weights, weights, pulls.vectors, delta)


def _score_gradients(
    scored: Scored, weights_slope: Tensor, weights: Tensor | None, vectors: Tensor | None, delta: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    features = scored.features
    examples, count, _, _, hidden = scored.sizes
    entry = _entry("scored_backward", scored)
    if scored.dropout:  # drawing takes registers of its own
        entry = entry._replace(outer=max(16, entry.outer // 2))
    formed, tile = _room(scored, entry), entry.standing * features.shape[3]
    tiles = triton.cdiv(count, entry.rows)
    mixed_slope = features.new_empty(len(features), examples, count, scored.levels, hidden)
    score_slope = features.new_empty(len(scored.weight), examples * tiles, hidden, dtype=accumulator(features.dtype))
    with _on(features):
        programs.scored_backward[_grid(len(scored.weight), scored, entry)](
            *_operands(scored),
            weights,
            vectors,
            weights_slope,
            delta,
            formed,
            mixed_slope,
            score_slope,
            *scored.sizes,
            form=_form(scored, entry, pool=delta is not None, tile=tile, formed=formed),
            **_compiled(entry),
        )
    return mixed_slope, score_slope.sum(1).to(scored.score.dtype), formed


class Exchange(NamedTuple):
    """The gradients that reach the affinity: through Z, and through H_v."""

    keys_slope: Tensor  # of Z [G, B, T, D]
    mixed_slope: Tensor  # before the tanh of H_v [1, B, N, G, K]


def sum_over_regions(
    scored: Scored,
    affinity: Affinity,
    used_regions: Tensor,
    summands: Tensor,
    *,
    formed: Tensor | None,
    exchange: Exchange | None = None,
    into: Tensor | None = None,
) -> Tensor:
    """``C X``; given an exchange, the same with the gradient before the affinity's tanh in place of C.

    Args:
        scored: whose features are the image, and the same for all levels.
        affinity: C.
        used_regions: ``[B]`` int32, regions up to the last valid one.
        summands: X, the image ``[1, B, N, D]`` or ``[1, B, N, G, X]``, anything on padding.
        formed: C' or that gradient ``[G, B, N, words]``; None where it has to be formed once more, of what follows.
        exchange: what reaches the affinity from above.
        into: ``[G, B, T, X]`` to write to.

    Returns:
        ``[G, B, T, X]``.
    """
    image = scored.features
    examples, _, words, _, _ = scored.sizes
    width = summands.shape[-1]
    entry = _entry("sum_over_regions", scored)
    entry = entry._replace(outer=min(entry.outer, block(width)), words=min(entry.words, block(words)))
    form = _form(scored, entry, slope=exchange is not None and formed is None, formed=formed)
    sums = image.new_empty(scored.levels, examples, words, width) if into is None else into
    blocks = triton.cdiv(words, form.words) * triton.cdiv(width, entry.outer)
    with _on(image):
        programs.sum_over_regions[(blocks * scored.levels * examples,)](
            image,
            scored.valid.view(torch.uint8),
            formed,
            affinity.queries,
            affinity.projected,
            exchange.keys_slope if exchange else None,
            exchange.mixed_slope if exchange else None,
            summands,
            sums,
            used_regions,
            *scored.sizes,
            width,
            summands.stride(2),
            width if summands.dim() == 5 else 0,
            form=form,
            **_compiled(entry),
        )
    return sums


def features_gradient(
    scored: Scored,
    mixed_slope: Tensor,
    weights: Tensor,
    vectors: Tensor,
    *,
    keys_slope: Tensor | None,
    formed: Tensor | None,
    into: Tensor,
) -> Tensor | None:
    """Gradient of the features from all levels in one pass, zero on padding.

    Args:
        scored: the product that they went into.
        mixed_slope: gradient before its tanh, ``[S, B, N, G / S, K]``.
        weights: the attention ``[G, B, N]``.
        vectors: gradient of the pooled vectors, ``[G, B, D]``.
        keys_slope: where the guide is an affinity, the gradient of Z ``[G, B, T, D]``.
        formed: C' ``[G, B, N, words]``; None where it has to be formed once more.
        into: ``[S, B, N, D]`` to write to.

    Returns:
        The gradient before the tanh of C', of its shape, where it was written: given C' and blocks of as many words.
    """
    features, valid, weight, projected, queries, used_words, _, _ = _operands(scored)
    entry = _entry("features_gradient", scored)
    if formed is not None and entry.words < formed.shape[3]:
        formed = None  # such blocks are chosen for want of registers
    formed_slope = None if formed is None else torch.empty_like(formed)
    with _on(scored.features):
        programs.features_gradient[_grid(len(scored.features), scored, entry)](
            features,
            valid,
            queries,
            projected,
            keys_slope,
            mixed_slope,
            weight,
            weights,
            vectors,
            formed,
            formed_slope,
            into,
            used_words,
            *scored.sizes,
            form=_form(scored, entry, formed=formed),
            **_compiled(entry),
        )
    return formed_slope


def attend_rows(scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax and pooling of short rows: vectors ``[G, B, D]`` and weights ``[G, B, T]``.

    Args:
        scores: ``[G, B, T]`` in the accumulator's dtype, -inf on padding.
        features: ``[G, B, T, D]``, anything on padding.
    """
    levels, examples, count, width = features.shape
    weights = features.new_empty(levels, examples, count)
    vectors = features.new_empty(levels, examples, width)
    columns = min(128, triton.next_power_of_2(width))
    with _on(features):
        programs.attend_rows[(levels * examples, triton.cdiv(width, columns))](
            scores,
            features,
            weights,
            vectors,
            count,
            width,
            ACC=_accumulated(features.dtype),
            WIDEN=_widened(features.dtype),
            COLUMNS=columns,
            ROWS=min(64, block(count)),
        )
    return vectors, weights
