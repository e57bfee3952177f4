"""Co-attention without its maps in memory: forward and backward as operators that compile and capture.

Parallel co-attention by two identities: ``C (V W_v) = (C V) W_v``, so the image features are key and value at once;
and the pre-activation of ``H_v`` is ``V W_v + C' Y`` with ``Y = Q W_q``, which one accumulator holds. C is computed
again wherever it is needed, so that nothing has N * T elements, but for questions that fit one small block of words:
their C is formed once in each pass::

    P | Y = Q [W_b | W_q]                            [B, T, D], [B, T, K]
    s_v   = tanh(V W_v + tanh(V P') Y) w_hv          scored product, with its softmax and pooling
    Z     = tanh(P V') V                             [B, T, D]
    s_q   = tanh(Y + Z W_v) w_hq                     scored product, then softmax and pooling

Alternating co-attention is the scored product three times, with nothing or one vector for each example as its guide.

The operators take ``G`` attentions over one image at once, their questions and weights stacked: 1, or the 3 levels of
hierarchical co-attention. Every launch and every product that reads the image does so for all of them, forwards and
backwards, and the gradient of the image is formed from all of them in one pass.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from variants.alternating import Alternating, Guided
from variants.hierarchical import Hierarchical
from variants.interface import Attended, Batch
from variants.kernels import launch
from variants.kernels.launch import Affinity, Dropout, Exchange, Pulls, Scored
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
    share: float,
    seeds: Tensor | None,
) -> _Sides:
    affinity = Affinity(queries, projected, launch.used(question_valid), saturating)
    return _Sides(
        Scored(image.unsqueeze(0), image_valid, image_hidden, image_score, affinity, _dropout(share, seeds, 0)),
        affinity,
        Scored(
            keys.flatten(1, 2).unsqueeze(1),
            question_valid.view(1, -1),
            image_hidden,
            question_score,
            projected.flatten(1, 2).unsqueeze(1),
            _dropout(share, seeds, 1),
        ),
    )


def _dropout(share: float, seeds: Tensor | None, side: int) -> Dropout | None:
    return None if seeds is None else Dropout(share, seeds[side])


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
    dropout: float,
    seeds: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Both sides' vectors and weights, then what the backward pass needs.

    Args:
        image: ``[B, N, V]``.
        question: ``[G, B, T, Q]``.
        image_valid: ``[B, N]`` bool.
        question_valid: ``[B, T]`` bool.
        affinity: ``[G, Q, V]``, W_b.
        image_hidden: ``[G, K, V]``, W_v transposed.
        question_hidden: ``[G, K, Q]``, W_q transposed.
        image_score: ``[G, K]``.
        question_score: ``[G, K]``.
        saturating: whether the affinity has its tanh.
        dropout: share of H_v and H_q that is dropped.
        seeds: ``[2, G]`` int64, of the image and of the question; None where nothing is dropped.

    Returns:
        ``[G, B, V]``, ``[G, B, Q]``, ``[G, B, N]``, ``[G, B, T]``; P and Z ``[G, B, T, V]``, Y ``[G, B, T, K]``
        between them, and the image vectors in float32 at least.
    """
    image, image_valid, question_valid = image.contiguous(), image_valid.contiguous(), question_valid.contiguous()
    question = question.contiguous()
    padded = ~question_valid.unsqueeze(-1)
    # a product keeps rows apart: padding is blanked in its results, which are ours to write to
    queries = _each(question, affinity).masked_fill_(padded, 0)
    projected = _each(question, question_hidden.mT).masked_fill_(padded, 0)
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
        dropout,
        seeds,
    )
    image_vectors, image_weights, wide_vectors, formed = launch.attend(sides.image)
    used_regions = launch.used(image_valid)
    launch.sum_over_regions(sides.image, sides.affinity, used_regions, sides.image.features, formed=formed, into=keys)
    question_scores = launch.scores(sides.question).view(question.shape[:3])
    question_vectors, question_weights = launch.attend_rows(question_scores, question)
    return image_vectors, question_vectors, image_weights, question_weights, queries, projected, keys, wide_vectors


def _each(rows: Tensor, weight: Tensor) -> Tensor:
    """Each level's rows times its weight: ``[G, B, T, J]`` from ``[G, B, T, I]`` and ``[G, I, J]``."""
    return torch.bmm(rows.flatten(1, 2), weight).view(*rows.shape[:3], -1)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """Each level's sum of outer products over all slots, ``[G, I, J]`` from ``[G, B, L, I]`` and ``[G, B, L, J]``."""
    return torch.bmm(left.flatten(1, 2).mT, right.flatten(1, 2))


@fused_parallel.register_fake
def _(
    image: Tensor,
    question: Tensor,
    image_valid: Tensor,
    question_valid: Tensor,
    affinity: Tensor,
    image_hidden: Tensor,
    *_others: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    examples, regions, width = image.shape
    levels, _, words, question_width = question.shape
    return (
        image.new_empty(levels, examples, width),
        question.new_empty(levels, examples, question_width),
        image.new_empty(levels, examples, regions),
        question.new_empty(levels, examples, words),
        question.new_empty(levels, examples, words, width),
        question.new_empty(levels, examples, words, image_hidden.shape[1]),
        question.new_empty(levels, examples, words, width),
        image.new_empty(levels, examples, width, dtype=launch.accumulator(image.dtype)),
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
    dropout: float,
    seeds: Tensor | None,
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
        dropout,
        seeds,
    )
    wide = wide_vectors.dtype
    clean = blank(question, question_valid)  # [G, B, T, Q]

    # the words' scores, and through Z
    attention = question_weights.to(wide)
    slope = (clean @ question_vectors_pull.unsqueeze(-1)).squeeze(-1).to(wide) + question_weights_pull.to(wide)
    slope = attention * (slope - (attention * slope).sum(-1, keepdim=True))  # [G, B, T]
    words_slope, question_score_slope = launch.score_gradients(sides.question, slope.contiguous())
    words_slope = words_slope.view(projected.shape)  # [G, B, T, K]
    keys_slope = _each(words_slope, image_hidden)  # [G, B, T, V]
    image_hidden_slope = _outer(words_slope, keys)

    # the regions' scores, and through C
    pulls = Pulls(image_vectors_pull.contiguous(), image_weights_pull.contiguous())
    mixed_slope, image_score_slope, formed = launch.attend_gradients(sides.image, image_weights, wide_vectors, pulls)
    used_regions = launch.used(image_valid)
    projected_slope = launch.sum_over_regions(sides.image, sides.affinity, used_regions, mixed_slope, formed=formed)
    projected_slope += words_slope
    del words_slope  # what is not needed any more is a part of the peak

    # a product would carry NaN over from padding; the gradient takes the place of the clean copy afterwards
    image_slope = _blank_copy(image, image_valid)
    image_hidden_slope += _weight_gradient(mixed_slope, image_slope.unsqueeze(0))
    formed_slope = launch.features_gradient(
        sides.image, mixed_slope, image_weights, pulls.vectors, keys_slope=keys_slope, formed=formed, into=image_slope
    )
    queries_slope = launch.sum_over_regions(
        sides.image,
        sides.affinity,
        used_regions,
        sides.image.features,
        formed=formed_slope,
        exchange=Exchange(keys_slope, mixed_slope),
    )
    del mixed_slope, keys_slope
    question_slope = _each(queries_slope, affinity.mT)
    question_slope += _each(projected_slope, question_hidden)
    question_slope += question_weights.unsqueeze(-1) * question_vectors_pull.unsqueeze(-2)
    return (
        image_slope,
        question_slope,
        _outer(clean, queries_slope),
        image_hidden_slope,
        _outer(projected_slope, clean),
        image_score_slope,
        question_score_slope,
    )


def _blank_copy(features: Tensor, valid: Tensor) -> Tensor:
    """As `blank`, but never the features themselves: the copy is written to."""
    return features.masked_fill(~valid.unsqueeze(-1), 0)


def _weight_gradient(mixed_slope: Tensor, features: Tensor) -> Tensor:
    """``[G, K, D]`` from ``[S, B, N, G / S, K]`` and ``[S, B, N, D]``, all levels of shared features in one product."""
    hidden = mixed_slope.shape[4]
    return _outer(mixed_slope.flatten(3), features).view(-1, hidden, features.shape[3])


@fused_parallel_backward.register_fake
def _(*given: Any) -> tuple[Tensor, ...]:
    image, question, _, _, *weights = given[4:13]
    return tuple(tensor.new_empty(tensor.shape) for tensor in (image, question, *weights))


def _keep_parallel(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.saturating, ctx.dropout, seeds = inputs
    ctx.save_for_backward(*tensors, *output[2:], seeds)


def _differentiate_parallel(ctx: Any, *pulls: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, seeds = ctx.saved_tensors
    image, question, *weights = fused_parallel_backward(*pulls[:4], *tensors, ctx.saturating, ctx.dropout, seeds)
    return (image, question, None, None, *weights, None, None, None)


fused_parallel.register_autograd(_differentiate_parallel, setup_context=_keep_parallel)


@torch.library.custom_op("coattention::fused_guided", mutates_args=())
def fused_guided(
    features: Tensor,
    valid: Tensor,
    hidden: Tensor,
    guide: Tensor | None,
    score: Tensor,
    dropout: float,
    seeds: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One attention operation ``x^ = A(X; g)`` for each level.

    Args:
        features: ``[S, B, L, D]``, where S is 1 if all levels look at the same, else G.
        valid: ``[B, L]`` bool.
        hidden: ``[G, K, D]``, W_x transposed.
        guide: ``[G, B, K]``, the guide times its weights; or None.
        score: ``[G, K]``.
        dropout: share of H that is dropped.
        seeds: ``[G]`` int64; None where nothing is dropped.

    Returns:
        Vectors ``[G, B, D]``, weights ``[G, B, L]``, and the vectors in float32 at least.
    """
    vectors, weights, wide_vectors, _ = launch.attend(_guided(features, valid, hidden, guide, score, dropout, seeds))
    return vectors, weights, wide_vectors


def _guided(
    features: Tensor,
    valid: Tensor,
    hidden: Tensor,
    guide: Tensor | None,
    score: Tensor,
    dropout: float,
    seeds: Tensor | None,
) -> Scored:
    return Scored(
        features.contiguous(),
        valid.contiguous(),
        hidden,
        score,
        None if guide is None else guide.contiguous(),
        None if seeds is None else Dropout(dropout, seeds),
    )


@fused_guided.register_fake
def _(features: Tensor, valid: Tensor, hidden: Tensor, *_others: object) -> tuple[Tensor, Tensor, Tensor]:
    levels = len(hidden)
    _, examples, count, width = features.shape
    return (
        features.new_empty(levels, examples, width),
        features.new_empty(levels, examples, count),
        features.new_empty(levels, examples, width, dtype=launch.accumulator(features.dtype)),
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
    dropout: float,
    seeds: Tensor | None,
    weights: Tensor,
    wide_vectors: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of features, hidden weights, guide (of no use where there is none) and score."""
    scored = _guided(features, valid, hidden, guide, score, dropout, seeds)
    pulls = Pulls(vectors_pull.contiguous(), weights_pull.contiguous())
    mixed_slope, score_slope, _ = launch.attend_gradients(scored, weights, wide_vectors, pulls)
    features_slope = _blank_copy(scored.features, scored.valid)
    hidden_slope = _weight_gradient(mixed_slope, features_slope)
    launch.features_gradient(
        scored, mixed_slope, weights, pulls.vectors, keys_slope=None, formed=None, into=features_slope
    )
    guide_slope = mixed_slope.sum(2).transpose(1, 2).flatten(0, 1)  # [G, B, K]
    return features_slope, hidden_slope, guide_slope.contiguous(), score_slope


@fused_guided_backward.register_fake
def _(
    vectors_pull: Tensor, weights_pull: Tensor, features: Tensor, valid: Tensor, hidden: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    score = others[1]
    return (
        features.new_empty(features.shape),
        hidden.new_empty(hidden.shape),
        features.new_empty(len(hidden), features.shape[1], hidden.shape[1]),
        score.new_empty(score.shape),
    )


def _keep_guided(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.dropout, seeds = inputs
    ctx.save_for_backward(*tensors, seeds, *output[1:])


def _differentiate_guided(ctx: Any, *pulls: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, seeds, weights, wide_vectors = ctx.saved_tensors
    found = fused_guided_backward(*pulls[:2], *tensors, ctx.dropout, seeds, weights, wide_vectors)
    features, hidden, guide, score = found
    return (features, None, hidden, None if tensors[3] is None else guide, score, None, None)


fused_guided.register_autograd(_differentiate_guided, setup_context=_keep_guided)


def _narrowed(*tensors: Tensor) -> list[Tensor]:
    """As autocast would have a matrix product's operands."""
    kind = tensors[0].device.type
    if not torch.is_autocast_enabled(kind):
        return list(tensors)
    narrow = torch.get_autocast_dtype(kind)
    return [tensor.to(narrow) if tensor.is_floating_point() else tensor for tensor in tensors]


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor of all levels; of one level without a copy."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tuple(tensors))


def _seeds(dropout: torch.nn.Dropout, device: torch.device, *shape: int) -> Tensor | None:
    """Fresh seeds from torch's generator, which ``torch.manual_seed`` governs; None where nothing is dropped."""
    if not dropout.training or dropout.p == 0:
        return None
    return torch.randint(2**63 - 1, shape, device=device)


def _attended(batch: Batch, *found: Tensor) -> Attended:
    # under autocast the mechanism pools in the dtype that it was given
    return Attended(*(field.to(batch.image.dtype).transpose(0, 1).contiguous() for field in found))


def parallel(module: Parallel, batch: Batch) -> Attended:
    """What the module computes; it has no biases and all of its parts."""
    return _parallel((module,), batch, (batch.question,))


def _parallel(levels: Sequence[Parallel], batch: Batch, questions: Sequence[Tensor]) -> Attended:
    tensors = _narrowed(
        batch.image,
        _stacked(questions),
        batch.image_valid,
        batch.question_valid,
        _stacked([level.affinity.weight for level in levels]),
        _stacked([level.image_hidden.weight for level in levels]),
        _stacked([level.question_hidden.weight for level in levels]),
        torch.cat([level.image_score.weight for level in levels]),
        torch.cat([level.question_score.weight for level in levels]),
    )
    first = levels[0]
    seeds = _seeds(first.dropout, batch.image.device, 2, len(levels))
    found = fused_parallel(*tensors, first.saturating, first.dropout.p, seeds)
    return _attended(batch, *found[:4])


def alternating(module: Alternating, batch: Batch) -> Attended:
    """What the module computes; it has no biases and all of its parts."""
    return _alternating((module,), batch, (batch.question,))


def _alternating(levels: Sequence[Alternating], batch: Batch, questions: Sequence[Tensor]) -> Attended:
    question = _stacked(questions)  # [G, B, T, Q]
    image = batch.image.unsqueeze(0)  # [1, B, N, V]
    dropout = levels[0].dropout

    def step(steps: Sequence[Guided], features: Tensor, valid: Tensor, guide: Tensor | None) -> tuple[Tensor, Tensor]:
        hidden = _stacked([step.hidden.weight for step in steps])
        features, hidden, score = _narrowed(features, hidden, torch.cat([step.score.weight for step in steps]))
        ways = [step.guide.weight for step in steps if step.guide is not None]
        added = None if guide is None else torch.bmm(guide, _stacked(ways).mT)  # [G, B, K]
        seeds = _seeds(dropout, valid.device, len(steps))
        vectors, weights, _ = fused_guided(features, valid, hidden, added, score, dropout.p, seeds)
        return vectors, weights

    summary, _ = step([level.summary for level in levels], question, batch.question_valid, None)
    vectors, weights = step([level.image_step for level in levels], image, batch.image_valid, summary)
    found, found_weights = step([level.question_step for level in levels], question, batch.question_valid, vectors)
    return _attended(batch, vectors, found, weights, found_weights)


def hierarchical(module: Hierarchical, batch: Batch) -> Attended:
    """What the module computes; its encoder of the question as it is, its three levels fused into one."""
    words, valid, position = compact(batch.question, batch.question_valid)
    phrases = blank(module.phrases(words), valid)
    question = blank(module.recurrence(phrases), valid)
    levels, compacted = module.attentions(), batch._replace(question_valid=valid)
    questions = [features.to(words.dtype) for features in (words, phrases, question)]
    if isinstance(levels[0], Parallel):
        attended = _parallel([level for level in levels if isinstance(level, Parallel)], compacted, questions)
    else:
        attended = _alternating([level for level in levels if isinstance(level, Alternating)], compacted, questions)
    position = position.unsqueeze(1).expand_as(attended.question_weights)
    return attended._replace(question_weights=attended.question_weights.gather(-1, position))
