"""From tensors to launches of the device programs."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from variants.kernels import programs
from variants.kernels.configurations import Configuration, configuration

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether programs run in Triton's interpreter, on the CPU: decided when Triton reads them."""


class Affinity(NamedTuple):
    """What an image's hidden map takes from the question."""

    queries: Tensor  # P [B, T, D]
    projected: Tensor  # Y [B, T, K]
    used_words: Tensor  # [B] int32: words up to the last valid one
    saturating: bool


class Scored(NamedTuple):
    """What the scored product needs, forwards and backwards: ``tanh(X W' + R) w``."""

    features: Tensor  # X [B, N, D], anything on padding
    valid: Tensor  # [B, N] bool
    weight: Tensor  # W [K, D]
    score: Tensor  # w [1, K]
    guide: Tensor | Affinity | None
    """R: one vector for each example ``[B, K]``, a matrix ``[B, N, K]``, ``C' Y``, or nothing."""


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """What sums are kept in: float32, or float64 where the interpreter is asked for it."""
    return torch.promote_types(dtype, torch.float32)


def used(valid: Tensor) -> Tensor:
    """Slots up to each row's last valid one, ``[B]`` int32: how far loops have to go."""
    positions = torch.arange(1, valid.shape[1] + 1, device=valid.device, dtype=torch.int32)
    return (valid * positions).amax(1).to(torch.int32)


def _entry(program: str, tensor: Tensor) -> Configuration:
    """What to launch with: blocks no taller than short rows need."""
    device = torch.cuda.get_device_name(tensor.device) if tensor.is_cuda else "interpreter"
    found = configuration(program, tensor.element_size(), device)
    return found._replace(rows=min(found.rows, max(16, triton.next_power_of_2(tensor.shape[1]))))


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _numerics(dtype: torch.dtype) -> dict[str, Any]:
    return {
        "ACC": tl.float64 if dtype == torch.float64 else tl.float32,
        "APPROXIMATE": not INTERPRETED and dtype.itemsize == 2,
        "WIDEN": INTERPRETED and dtype.itemsize == 2,
    }


def _word_blocks(words: int, entry: Configuration) -> dict[str, Any]:
    size = min(entry.words, max(16, triton.next_power_of_2(words)))
    return {"WORDS": size, "ONE_BLOCK_OF_WORDS": words <= size}


def _compiled(entry: Configuration) -> dict[str, int]:
    return {"num_warps": entry.warps, "num_stages": entry.stages}


def _guide(scored: Scored, entry: Configuration) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Any]]:
    """The three tensors of a guide (the features stand in for those that are not read), and what to compile for it."""
    features = scored.features
    nothing = {"WORDS": 16, "ONE_BLOCK_OF_WORDS": True, "SATURATING": False}
    match scored.guide:
        case None:
            return (features, features, features), {"GUIDE": programs.NOTHING.value, **nothing}
        case Affinity(queries, projected, used_words, saturating):
            blocks = _word_blocks(queries.shape[1], entry)
            return (projected, queries, used_words), {
                "GUIDE": programs.AFFINITY.value,
                "SATURATING": saturating,
                **blocks,
            }
        case guide:
            kind = programs.VECTOR if guide.dim() == 2 else programs.MATRIX
            return (guide, features, features), {"GUIDE": kind.value, **nothing}


def _words(scored: Scored) -> int:
    return scored.guide.queries.shape[1] if isinstance(scored.guide, Affinity) else 0


def scores(scored: Scored) -> Tensor:
    """``[B, N]`` in the accumulator's dtype, -inf on padding."""
    found, *_ = _scores(scored, pool=False)
    return found


def attend(scored: Scored) -> tuple[Tensor, Tensor, Tensor]:
    """Attention over the features: vectors ``[B, D]``, weights ``[B, N]``, and the vectors before rounding."""
    features = scored.features
    examples, count, width = features.shape
    found, maxima, sums, pooled = _scores(scored, pool=True)
    weights = features.new_empty(examples, count)
    vectors = features.new_empty(examples, width)
    wide = found.new_empty(examples, width)
    columns = min(512, triton.next_power_of_2(width))
    with _on(features):
        programs.combine[(examples, triton.cdiv(width, columns))](
            found,
            maxima,
            sums,
            pooled,
            weights,
            vectors,
            wide,
            count,
            maxima.shape[1],
            width,
            ACC=_numerics(features.dtype)["ACC"],
            COLUMNS=columns,
            ROWS=256,
        )
    return vectors, weights, wide


def _scores(scored: Scored, *, pool: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    features, weight = scored.features, scored.weight
    examples, count, width = features.shape
    entry = _entry("scored", features)
    tiles = triton.cdiv(count, entry.rows)
    wide = accumulator(features.dtype)
    found = features.new_empty(examples, count, dtype=wide)
    # stand-ins where there is nothing to pool
    maxima, sums = (features.new_empty(examples if pool else 0, tiles, dtype=wide) for _ in range(2))
    pooled = features.new_empty(examples if pool else 0, tiles, width, dtype=wide)
    (guide, queries, used_words), compiled_for = _guide(scored, entry)
    with _on(features):
        programs.scored[(tiles, examples)](
            features,
            scored.valid.view(torch.uint8),
            weight,
            guide,
            queries,
            used_words,
            scored.score,
            found,
            maxima,
            sums,
            pooled,
            count,
            _words(scored),
            width,
            len(weight),
            POOL=pool,
            ROWS=entry.rows,
            HIDDEN=entry.outer,
            INNER=entry.inner,
            **compiled_for,
            **_numerics(features.dtype),
            **_compiled(entry),
        )
    return found, maxima, sums, pooled


class Pulls(NamedTuple):
    """What the rest of a network asks of an attention over features."""

    vectors: Tensor  # gradient of the vectors [B, D]
    weights: Tensor  # gradient of the weights [B, N]


def score_gradients(scored: Scored, slope: Tensor) -> tuple[Tensor, Tensor]:
    """From the gradient of the scores, that before the tanh ``[B, N, K]`` and of the score vector ``[1, K]``."""
    return _score_gradients(scored, slope, None, slope, slope, slope)


def attend_gradients(scored: Scored, weights: Tensor, wide_vectors: Tensor, pulls: Pulls) -> tuple[Tensor, Tensor]:
    """From what `attend` found and its gradient, that before the tanh ``[B, N, K]`` and of the score vector."""
    # the mean of the attention's gradient under the attention, from the outputs alone
    delta = (wide_vectors * pulls.vectors).sum(1) + (weights.to(wide_vectors.dtype) * pulls.weights).sum(1)
    return _score_gradients(scored, pulls.weights, delta, weights, pulls.vectors, delta)


def _score_gradients(
    scored: Scored, weights_slope: Tensor, pooled: Tensor | None, weights: Tensor, vectors: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor]:
    features, weight = scored.features, scored.weight
    examples, count, width = features.shape
    entry = _entry("scored_backward", features)
    tiles = triton.cdiv(count, entry.rows)
    mixed_slope = features.new_empty(examples, count, len(weight))
    score_slope = features.new_empty(examples * tiles, len(weight), dtype=accumulator(features.dtype))
    (guide, queries, used_words), compiled_for = _guide(scored, entry)
    with _on(features):
        programs.scored_backward[(tiles, examples)](
            features,
            scored.valid.view(torch.uint8),
            weight,
            guide,
            queries,
            used_words,
            scored.score,
            weights,
            vectors,
            weights_slope,
            delta,
            mixed_slope,
            score_slope,
            count,
            _words(scored),
            width,
            len(weight),
            POOL=pooled is not None,
            ROWS=entry.rows,
            HIDDEN=entry.outer,
            INNER=entry.inner,
            **compiled_for,
            **_numerics(features.dtype),
            **_compiled(entry),
        )
    return mixed_slope, score_slope.sum(0, keepdim=True).to(scored.score.dtype)


class Exchange(NamedTuple):
    """The gradients that reach the affinity: through Z, and through H_v."""

    keys_slope: Tensor  # of Z [B, T, D]
    mixed_slope: Tensor  # before the tanh of H_v [B, N, K]


def sum_over_regions(
    scored: Scored,
    affinity: Affinity,
    used_regions: Tensor,
    summands: Tensor,
    *,
    exchange: Exchange | None = None,
    into: Tensor | None = None,
) -> Tensor:
    """``C X``; given an exchange, the same with the gradient before the affinity's tanh in place of C.

    Args:
        scored: whose features are the image.
        affinity: C.
        used_regions: ``[B]`` int32, regions up to the last valid one.
        summands: X ``[B, N, X]``, anything on padding.
        exchange: what reaches the affinity from above.
        into: ``[B, T, X]`` to write to.

    Returns:
        ``[B, T, X]``.
    """
    image = scored.features
    examples, count, width = image.shape
    words, summand_width = affinity.queries.shape[1], summands.shape[2]
    entry = _entry("sum_over_regions", image)
    blocks = _word_blocks(words, entry)
    outer = min(entry.outer, max(16, triton.next_power_of_2(summand_width)))
    sums = image.new_empty(examples, words, summand_width) if into is None else into
    with _on(image):
        programs.sum_over_regions[(triton.cdiv(words, blocks["WORDS"]), examples, triton.cdiv(summand_width, outer))](
            image,
            scored.valid.view(torch.uint8),
            affinity.queries,
            affinity.projected,
            exchange.keys_slope if exchange else affinity.queries,
            exchange.mixed_slope if exchange else image,
            summands,
            sums,
            count,
            used_regions,
            words,
            width,
            len(scored.weight),
            summand_width,
            SLOPE=exchange is not None,
            ROWS=entry.rows,
            WORDS=blocks["WORDS"],
            INNER=entry.inner,
            OUTER=outer,
            SATURATING=affinity.saturating,
            **_numerics(image.dtype),
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
    into: Tensor,
) -> None:
    """Gradient of the features, zero on padding.

    Args:
        scored: the product that they went into.
        mixed_slope: gradient before its tanh, ``[B, N, K]``.
        weights: the attention ``[B, N]``.
        vectors: gradient of the pooled vectors, ``[B, D]``.
        keys_slope: where the guide is an affinity, the gradient of Z ``[B, T, D]``.
        into: ``[B, N, D]`` to write to.
    """
    features = scored.features
    examples, count, width = features.shape
    entry = _entry("image_gradient", features)
    if isinstance(scored.guide, Affinity) and keys_slope is not None:
        queries, projected, used_words, saturating = scored.guide
        blocks = _word_blocks(queries.shape[1], entry)
    else:
        queries = projected = keys_slope = used_words = features
        saturating, blocks = False, {"WORDS": 16, "ONE_BLOCK_OF_WORDS": True}
    with _on(features):
        programs.image_gradient[(triton.cdiv(count, entry.rows), examples)](
            features,
            scored.valid.view(torch.uint8),
            queries,
            projected,
            keys_slope,
            mixed_slope,
            scored.weight,
            weights,
            vectors,
            into,
            used_words,
            count,
            _words(scored),
            width,
            len(scored.weight),
            AFFINE=isinstance(scored.guide, Affinity),
            ROWS=entry.rows,
            OUTER=entry.outer,
            INNER=entry.inner,
            SATURATING=saturating,
            **blocks,
            **_numerics(features.dtype),
            **_compiled(entry),
        )


def attend_rows(scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax and pooling of short rows: vectors ``[B, D]`` and weights ``[B, T]``.

    Args:
        scores: ``[B, T]`` in the accumulator's dtype, -inf on padding.
        features: ``[B, T, D]``, blank on padding.
    """
    examples, count, width = features.shape
    weights = features.new_empty(examples, count)
    vectors = features.new_empty(examples, width)
    columns = min(128, triton.next_power_of_2(width))
    with _on(features):
        programs.attend_rows[(examples, triton.cdiv(width, columns))](
            scores,
            features,
            weights,
            vectors,
            count,
            width,
            ACC=_numerics(features.dtype)["ACC"],
            COLUMNS=columns,
            ROWS=min(64, max(16, triton.next_power_of_2(count))),
        )
    return vectors, weights
