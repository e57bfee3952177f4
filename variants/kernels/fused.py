"""Co-attention without its maps in memory: forward and backward as operators that compile and capture.

Parallel co-attention by two identities: ``C (V W_v) = (C V) W_v``, so the image features are key and value at once;
and the pre-activation of ``H_v`` is ``V W_v + C' Y`` with ``Y = Q W_q``, which one accumulator holds. C is computed
again wherever it is needed, so that nothing has N * T elements::

    P | Y = Q [W_b | W_q]                            [B, T, D], [B, T, K]
    s_v   = tanh(V W_v + tanh(V P') Y) w_hv          scored product, with its softmax and pooling
    Z     = tanh(P V') V                             [B, T, D]
    s_q   = tanh(Y + Z W_v) w_hq                     scored product, then softmax and pooling

Alternating co-attention is the scored product three times, with nothing or one vector for each example as its guide.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from variants.alternating import Alternating, Guided
from variants.hierarchical import Hierarchical
from variants.interface import Attended, Batch
from variants.kernels import launch
from variants.kernels.launch import Affinity, Exchange, Pulls, Scored
from variants.masking import blank, compact
from variants.parallel import Parallel


class _Sides(NamedTuple):
    """The two scored products of parallel co-attention."""

    image: Scored
    affinity: Affinity
    question: Scored  # all words of all examples as the rows of one


def _sides(
    image: Tensor,
    image_valid: Tensor,
    question_valid: Tensor,
    image_hidden: Tensor,
    image_score: Tensor,
    question_score: Tensor,
    queries: Tensor,
    projected: Tensor,
    keys: Tensor,
    saturating: bool,
) -> _Sides:
    affinity = Affinity(queries, projected, launch.used(question_valid), saturating)
    return _Sides(
        Scored(image, image_valid, image_hidden, image_score, affinity),
        affinity,
        Scored(
            keys.view(1, -1, keys.shape[2]),
            question_valid.view(1, -1),
            image_hidden,
            question_score,
            projected.view(1, -1, projected.shape[2]),
        ),
    )


@torch.library.custom_op("coattention::fused_parallel", mutates_args=())
def fused_parallel(
    image: Tensor,
    question: Tensor,
    image_valid: Tensor,
    question_valid: Tensor,
    affinity: Tensor,
    image_hidden: Tensor,
    question_hidden: Tensor,
    image_score: Tensor,
    question_score: Tensor,
    saturating: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Both sides' vectors and weights, then what the backward pass needs.

    Args:
        image: ``[B, N, V]``.
        question: ``[B, T, Q]``.
        image_valid: ``[B, N]`` bool.
        question_valid: ``[B, T]`` bool.
        affinity: ``[Q, V]``, W_b.
        image_hidden: ``[K, V]``, W_v transposed.
        question_hidden: ``[K, Q]``, W_q transposed.
        image_score: ``[1, K]``.
        question_score: ``[1, K]``.
        saturating: whether the affinity has its tanh.

    Returns:
        ``[B, V]``, ``[B, Q]``, ``[B, N]``, ``[B, T]``; P and Z ``[B, T, V]``, Y ``[B, T, K]`` between them, and the
        image vectors in float32 at least.
    """
    image, image_valid, question_valid = image.contiguous(), image_valid.contiguous(), question_valid.contiguous()
    clean = blank(question, question_valid)
    queries = clean @ affinity
    projected = clean @ question_hidden.T
    keys = torch.empty_like(queries)
    sides = _sides(
        image,
        image_valid,
        question_valid,
        image_hidden,
        image_score,
        question_score,
        queries,
        projected,
        keys,
        saturating,
    )
    image_vectors, image_weights, wide_vectors = launch.attend(sides.image)
    launch.sum_over_regions(sides.image, sides.affinity, launch.used(image_valid), image, into=keys)
    question_scores = launch.scores(sides.question).view(question_valid.shape)
    question_vectors, question_weights = launch.attend_rows(question_scores, clean)
    return image_vectors, question_vectors, image_weights, question_weights, queries, projected, keys, wide_vectors


@fused_parallel.register_fake
def _(
    image: Tensor,
    question: Tensor,
    image_valid: Tensor,
    question_valid: Tensor,
    affinity: Tensor,
    image_hidden: Tensor,
    question_hidden: Tensor,
    image_score: Tensor,
    question_score: Tensor,
    saturating: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    examples, regions, width = image.shape
    words = question.shape[1]
    return (
        image.new_empty(examples, width),
        question.new_empty(examples, question.shape[2]),
        image.new_empty(examples, regions),
        question.new_empty(examples, words),
        question.new_empty(examples, words, width),
        question.new_empty(examples, words, image_hidden.shape[0]),
        question.new_empty(examples, words, width),
        image.new_empty(examples, width, dtype=launch.accumulator(image.dtype)),
    )


@torch.library.custom_op("coattention::fused_parallel_backward", mutates_args=())
def fused_parallel_backward(
    image_vectors_pull: Tensor,
    question_vectors_pull: Tensor,
    image_weights_pull: Tensor,
    question_weights_pull: Tensor,
    image: Tensor,
    question: Tensor,
    image_valid: Tensor,
    question_valid: Tensor,
    affinity: Tensor,
    image_hidden: Tensor,
    question_hidden: Tensor,
    image_score: Tensor,
    question_score: Tensor,
    image_weights: Tensor,
    question_weights: Tensor,
    queries: Tensor,
    projected: Tensor,
    keys: Tensor,
    wide_vectors: Tensor,
    saturating: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of image, question and the weights, in the order of `fused_parallel`."""
    image, image_valid, question_valid = image.contiguous(), image_valid.contiguous(), question_valid.contiguous()
    sides = _sides(
        image,
        image_valid,
        question_valid,
        image_hidden,
        image_score,
        question_score,
        queries,
        projected,
        keys,
        saturating,
    )
    wide = wide_vectors.dtype
    clean = blank(question, question_valid)  # [B, T, Q]

    # the words' scores, and through Z
    attention = question_weights.to(wide)
    slope = (clean @ question_vectors_pull.unsqueeze(2)).squeeze(2).to(wide) + question_weights_pull.to(wide)
    slope = attention * (slope - (attention * slope).sum(1, keepdim=True))  # [B, T]
    words_slope, question_score_slope = launch.score_gradients(sides.question, slope.view(1, -1))
    words_slope = words_slope.view(projected.shape)  # [B, T, K]
    keys_slope = words_slope @ image_hidden  # [B, T, V]

    # the regions' scores, and through C
    pulls = Pulls(image_vectors_pull.contiguous(), image_weights_pull.contiguous())
    mixed_slope, image_score_slope = launch.attend_gradients(sides.image, image_weights, wide_vectors, pulls)
    used_regions = launch.used(image_valid)
    projected_slope = words_slope + launch.sum_over_regions(sides.image, sides.affinity, used_regions, mixed_slope)
    queries_slope = launch.sum_over_regions(
        sides.image, sides.affinity, used_regions, image, exchange=Exchange(keys_slope, mixed_slope)
    )

    # a product would carry NaN over from padding; the gradient takes the place of the clean copy afterwards
    image_slope = blank(image, image_valid)
    image_hidden_slope = _outer(mixed_slope, image_slope) + _outer(words_slope, keys)
    launch.features_gradient(
        sides.image, mixed_slope, image_weights, pulls.vectors, keys_slope=keys_slope, into=image_slope
    )
    question_slope = queries_slope @ affinity.T + projected_slope @ question_hidden
    question_slope += question_weights.unsqueeze(2) * question_vectors_pull.unsqueeze(1)
    return (
        image_slope,
        question_slope,
        _outer(clean, queries_slope),
        image_hidden_slope,
        _outer(projected_slope, clean),
        image_score_slope,
        question_score_slope,
    )


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """The sum over all slots of all examples of their outer products, ``[I, J]`` from ``[B, L, I]``, ``[B, L, J]``."""
    return left.flatten(0, 1).T @ right.flatten(0, 1)


@fused_parallel_backward.register_fake
def _(
    image_vectors_pull: Tensor,
    question_vectors_pull: Tensor,
    image_weights_pull: Tensor,
    question_weights_pull: Tensor,
    image: Tensor,
    question: Tensor,
    image_valid: Tensor,
    question_valid: Tensor,
    affinity: Tensor,
    image_hidden: Tensor,
    question_hidden: Tensor,
    image_score: Tensor,
    question_score: Tensor,
    image_weights: Tensor,
    question_weights: Tensor,
    queries: Tensor,
    projected: Tensor,
    keys: Tensor,
    wide_vectors: Tensor,
    saturating: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        image.new_empty(image.shape),
        question.new_empty(question.shape),
        affinity.new_empty(affinity.shape),
        image_hidden.new_empty(image_hidden.shape),
        question_hidden.new_empty(question_hidden.shape),
        image_score.new_empty(image_score.shape),
        question_score.new_empty(question_score.shape),
    )


def _keep_parallel(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.saturating = inputs
    ctx.save_for_backward(*tensors, *output[2:])


def _differentiate_parallel(ctx: Any, *pulls: Tensor) -> tuple[Tensor | None, ...]:
    image, question, *weights = fused_parallel_backward(*pulls[:4], *ctx.saved_tensors, ctx.saturating)
    return (image, question, None, None, *weights, None)


fused_parallel.register_autograd(_differentiate_parallel, setup_context=_keep_parallel)


@torch.library.custom_op("coattention::fused_guided", mutates_args=())
def fused_guided(
    features: Tensor, valid: Tensor, hidden: Tensor, guide: Tensor | None, score: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One attention operation ``x^ = A(X; g)``.

    Args:
        features: ``[B, L, D]``.
        valid: ``[B, L]`` bool.
        hidden: ``[K, D]``, W_x transposed.
        guide: ``[B, K]``, the guide times its weights; or None.
        score: ``[1, K]``.

    Returns:
        Vectors ``[B, D]``, weights ``[B, L]``, and the vectors in float32 at least.
    """
    return launch.attend(_guided(features, valid, hidden, guide, score))


def _guided(features: Tensor, valid: Tensor, hidden: Tensor, guide: Tensor | None, score: Tensor) -> Scored:
    contiguous = None if guide is None else guide.contiguous()
    return Scored(features.contiguous(), valid.contiguous(), hidden, score, contiguous)


@fused_guided.register_fake
def _(
    features: Tensor, valid: Tensor, hidden: Tensor, guide: Tensor | None, score: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    examples, count, width = features.shape
    return (
        features.new_empty(examples, width),
        features.new_empty(examples, count),
        features.new_empty(examples, width, dtype=launch.accumulator(features.dtype)),
    )


@torch.library.custom_op("coattention::fused_guided_backward", mutates_args=())
def fused_guided_backward(
    vectors_pull: Tensor,
    weights_pull: Tensor,
    features: Tensor,
    valid: Tensor,
    hidden: Tensor,
    guide: Tensor | None,
    score: Tensor,
    weights: Tensor,
    wide_vectors: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of features, hidden weights, guide (zero where there is none) and score."""
    scored = _guided(features, valid, hidden, guide, score)
    pulls = Pulls(vectors_pull.contiguous(), weights_pull.contiguous())
    mixed_slope, score_slope = launch.attend_gradients(scored, weights, wide_vectors, pulls)
    features_slope = blank(scored.features, scored.valid)
    hidden_slope = _outer(mixed_slope, features_slope)
    launch.features_gradient(scored, mixed_slope, weights, pulls.vectors, keys_slope=None, into=features_slope)
    return features_slope, hidden_slope, mixed_slope.sum(1), score_slope


@fused_guided_backward.register_fake
def _(
    vectors_pull: Tensor,
    weights_pull: Tensor,
    features: Tensor,
    valid: Tensor,
    hidden: Tensor,
    guide: Tensor | None,
    score: Tensor,
    weights: Tensor,
    wide_vectors: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        features.new_empty(features.shape),
        hidden.new_empty(hidden.shape),
        features.new_empty(features.shape[0], hidden.shape[0]),
        score.new_empty(score.shape),
    )


def _keep_guided(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.guided = inputs[3] is not None
    ctx.save_for_backward(*(tensor for tensor in inputs if tensor is not None), *output[1:])


def _differentiate_guided(ctx: Any, *pulls: Tensor) -> tuple[Tensor | None, ...]:
    features, valid, hidden, *rest = ctx.saved_tensors
    guide = rest.pop(0) if ctx.guided else None
    found = fused_guided_backward(pulls[0], pulls[1], features, valid, hidden, guide, *rest)
    return (found[0], None, found[1], found[2] if ctx.guided else None, found[3])


fused_guided.register_autograd(_differentiate_guided, setup_context=_keep_guided)


def _narrowed(*tensors: Tensor) -> list[Tensor]:
    """As autocast would have a matrix product's operands."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return list(tensors)
    narrow = torch.get_autocast_dtype(kind)
    return [tensor.to(narrow) if tensor.is_floating_point() else tensor for tensor in tensors]


def _attended(batch: Batch, *found: Tensor) -> Attended:
    # under autocast the mechanism pools in the dtype that it was given
    return Attended(*(field.to(batch.image.dtype).unsqueeze(1) for field in found))


def parallel(module: Parallel, batch: Batch) -> Attended:
    """What the module computes; it has no biases and all of its parts."""
    tensors = _narrowed(
        *batch,
        module.affinity.weight,
        module.image_hidden.weight,
        module.question_hidden.weight,
        module.image_score.weight,
        module.question_score.weight,
    )
    return _attended(batch, *fused_parallel(*tensors, module.saturating)[:4])


def alternating(module: Alternating, batch: Batch) -> Attended:
    """What the module computes; it has no biases and all of its parts."""

    def step(step: Guided, features: Tensor, valid: Tensor, guide: Tensor | None) -> tuple[Tensor, Tensor]:
        features, hidden, score = _narrowed(features, step.hidden.weight, step.score.weight)
        added = step.guide(guide) if step.guide is not None and guide is not None else None
        vectors, weights, _ = fused_guided(features, valid, hidden, added, score)
        return vectors, weights

    summary, _ = step(module.summary, batch.question, batch.question_valid, None)
    image, image_weights = step(module.image_step, batch.image, batch.image_valid, summary)
    question, question_weights = step(module.question_step, batch.question, batch.question_valid, image)
    return _attended(batch, image, question, image_weights, question_weights)


def hierarchical(module: Hierarchical, batch: Batch) -> Attended:
    """What the module computes; its encoder of the question as it is, its three levels fused."""
    words, valid, position = compact(batch.question, batch.question_valid)
    phrases = blank(module.phrases(words), valid)
    question = blank(module.recurrence(phrases), valid)
    levels = [
        _level(level)(Batch(batch.image, features.to(words.dtype), batch.image_valid, valid))
        for level, features in zip(module.attentions(), (words, phrases, question), strict=True)
    ]
    image_vectors, question_vectors, image_weights, question_weights = (
        torch.cat(glimpses, dim=1) for glimpses in zip(*levels, strict=True)
    )
    position = position.unsqueeze(1).expand_as(question_weights)
    return Attended(image_vectors, question_vectors, image_weights, question_weights.gather(-1, position))


def _level(level: torch.nn.Module) -> Callable[[Batch], Attended]:
    match level:
        case Parallel():
            return lambda batch: parallel(level, batch)
        case Alternating():
            return lambda batch: alternating(level, batch)
        case _:
            raise AssertionError(f"no fused form of {type(level).__name__}")
