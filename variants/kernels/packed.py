"""Parallel co-attention on the CPU, one example at a time over its valid slots alone, so that its maps stay in cache.

With ``P | Y = Q [W_b | W_q]`` for the valid words of a few examples at once, an example needs::

    C   = tanh(P V')             [t, n]
    H_v = tanh(V W_v + C' Y)     [n, K]    its scores, softmax and pooling follow at once
    Z   = C V                    [t, V]    since C (V W_v) = (C V) W_v, the image features are key and value

and the words of these examples finish together with ``H_q = tanh(Y + Z W_v)``. Only Z, of the size of the question,
is kept for the backward pass, which computes the rest again. Regions go through in blocks of as many rows as the cache
holds, so no map grows with N.
"""

from collections.abc import Iterator
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from variants.interface import Attended, Batch
from variants.kernels.cache import core_cache_bytes, prefers_onednn
from variants.masking import blank, masked_softmax, pool
from variants.parallel import Parallel

# enough rows for a matrix product to run at its full speed
_WORDS_AT_ONCE = 128
# oneDNN pads the contracted axis to whole tiles; so do we, or it copies the operands first
_TILE = 32


class _Weights(NamedTuple):
    """As `torch.nn.Linear` keeps them."""

    affinity: Tensor  # [Q, V], W_b
    image_hidden: Tensor  # [K, V], W_v transposed
    question_hidden: Tensor  # [K, Q], W_q transposed
    image_score: Tensor  # [1, K]
    question_score: Tensor  # [1, K]


class _Words(NamedTuple):
    """The valid words of a few examples in one matrix."""

    features: Tensor  # [W, Q]
    example: Tensor  # [W], whose each word is
    bounds: list[int]  # example b has words bounds[b] to bounds[b + 1]


def _pack(question: Tensor, valid: Tensor) -> _Words:
    slots = valid.flatten().nonzero().squeeze(1)  # [W]
    return _Words(
        question.flatten(0, 1).index_select(0, slots),
        slots // valid.shape[1],
        list(accumulate(valid.sum(1).tolist(), initial=0)),
    )


def _regions(image: Tensor, valid: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The valid regions ``[n, V]`` of each example that has any; a view where all are."""
    for example, count in enumerate(valid.sum(1).tolist()):
        if count == image.shape[1]:
            yield example, image[example]
        elif count:
            yield example, image[example][valid[example]]


def _groups(batch: Batch) -> Iterator[slice]:
    """A few examples at a time, so that what there is per word stays small too."""
    size = max(1, _WORDS_AT_ONCE // max(1, batch.question.shape[1]))
    return (slice(start, start + size) for start in range(0, len(batch.image), size))


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def block_rows(hidden: int, image_width: int, words: int, itemsize: int) -> int:
    """Regions that go through at once: their features and map take half of a core's cache, the weights the rest."""
    return max(32, core_cache_bytes() // (2 * (image_width + hidden + words) * itemsize) // 16 * 16)


class _Maps:
    """C and H_v for one block of regions; holds scratch memory between blocks."""

    def __init__(self, weights: _Weights, saturating: bool, words: int) -> None:
        self.weight = weights.image_hidden
        self.saturating = saturating
        hidden, width = self.weight.shape
        self.rows = block_rows(hidden, width, words, self.weight.element_size())
        self.fused = _onednn_fuses_tanh(self.weight.dtype)
        if self.fused:
            padded = width + -(-words // _TILE) * _TILE
            self.left = self.weight.new_zeros(0, padded)
            self.right = self.weight.new_zeros(hidden, padded)  # [K, V + t]
            self.right[:, :width] = self.weight

    def affinity(self, queries: Tensor, block: Tensor) -> Tensor:
        """C ``[t, n]`` from P ``[t, V]`` and regions ``[n, V]``."""
        product = queries @ block.T
        return product.tanh_() if self.saturating else product

    def mixed(self, block: Tensor, affinity: Tensor, projected: Tensor) -> Tensor:
        """H_v ``[n, K]`` from regions ``[n, V]``, C ``[t, n]`` and Y ``[t, K]``."""
        if not self.fused:
            product = torch.mm(block, self.weight.T)
            if len(projected):
                product.addmm_(affinity.T, projected)
            return product.tanh_()
        # one product over V | t, with tanh on its way out of the accumulator
        width, end = self.weight.shape[1], self.weight.shape[1] + len(projected)
        if len(self.left) != len(block):
            self.left = block.new_zeros(len(block), self.right.shape[1])
        left, right = self.left, self.right
        left[:, :width] = block
        left[:, width:end] = affinity.T
        left[:, end:] = 0  # of an earlier example, NaN perhaps
        right[:, width:end] = projected.T
        right[:, end:] = 0
        mixed: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, None, "tanh", [], "")
        return mixed


def _onednn_fuses_tanh(dtype: torch.dtype) -> bool:
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available) and dtype == torch.float32 and prefers_onednn()


def _forward(batch: Batch, weights: _Weights, maps: _Maps, into: Attended) -> Tensor:
    """Fill the outputs (without glimpses) of a few examples.

    Returns:
        Z ``[W, V]``.
    """
    words = _pack(batch.question, batch.question_valid)
    queries = words.features @ weights.affinity  # P [W, V]
    projected = words.features @ weights.question_hidden.T  # Y [W, K]
    summed = torch.zeros_like(queries, dtype=_wide(queries))  # Z [W, V]
    for example, regions in _regions(batch.image, batch.image_valid):
        part = slice(words.bounds[example], words.bounds[example + 1])
        scores = []
        for start in range(0, len(regions), maps.rows):
            block = regions[start : start + maps.rows]
            affinity = maps.affinity(queries[part], block)
            scores.append(weights.image_score @ maps.mixed(block, affinity, projected[part]).T)
            summed[part] += affinity @ block
        chosen = torch.softmax(torch.cat(scores, 1), 1, dtype=summed.dtype).to(regions.dtype)  # [1, n]
        into.image[example] = (chosen @ regions)[0]
        into.image_weights[example].masked_scatter_(batch.image_valid[example], chosen)
    keys = summed.to(queries.dtype)
    mixed = torch.addmm(projected, keys, weights.image_hidden.T).tanh_()  # H_q
    question_scores = torch.zeros_like(into.question_weights)
    question_scores.masked_scatter_(batch.question_valid, mixed @ weights.question_score.T)
    into.question_weights.copy_(masked_softmax(question_scores, batch.question_valid))
    into.question.copy_(pool(into.question_weights, blank(batch.question, batch.question_valid)))
    return keys


def _backward(
    batch: Batch,
    weights: _Weights,
    maps: _Maps,
    found: Attended,
    keys: Tensor,
    gradient: Attended,
    batch_into: tuple[Tensor, Tensor],
    weights_into: _Weights,
) -> None:
    """Add to the gradients of a few examples and of the weights.

    Args:
        batch: the examples.
        weights: of the mechanism.
        maps: of these weights.
        found: what was returned for these examples; of it the weights are used.
        keys: Z, ``[W, V]``.
        gradient: of what was returned.
        batch_into: image ``[b, N, V]`` and question ``[b, T, Q]``, zeros.
        weights_into: in float32 at least.
    """
    wide = weights_into.affinity.dtype
    words = _pack(batch.question, batch.question_valid)
    queries = words.features @ weights.affinity
    projected = words.features @ weights.question_hidden.T

    # the words' side, these examples together
    attention = found.question_weights[batch.question_valid].to(wide)  # [W]
    pulled = gradient.question.index_select(0, words.example)  # [W, Q]
    slope = gradient.question_weights[batch.question_valid].to(wide) + (words.features * pulled).sum(1, dtype=wide)
    mean = slope.new_zeros(len(batch.image)).index_add_(0, words.example, attention * slope)
    score_slope = (attention * (slope - mean[words.example])).to(queries.dtype).unsqueeze(1)  # [W, 1]
    mixed = torch.addmm(projected, keys, weights.image_hidden.T).tanh_()
    weights_into.question_score.add_(score_slope.T @ mixed)
    mixed_slope = torch.ops.aten.tanh_backward(score_slope * weights.question_score, mixed)  # [W, K]
    keys_slope = mixed_slope @ weights.image_hidden  # [W, V]
    weights_into.image_hidden.add_(mixed_slope.T @ keys)
    projected_slope = mixed_slope.to(wide, copy=True)
    queries_slope = torch.zeros_like(queries, dtype=wide)

    # the regions' side, one block of one example at a time
    for example, regions in _regions(batch.image, batch.image_valid):
        part = slice(words.bounds[example], words.bounds[example + 1])
        valid = batch.image_valid[example]
        attention = found.image_weights[example][valid].to(wide)  # [n]
        pulled = gradient.image[example : example + 1]  # [1, V]
        slope = gradient.image_weights[example][valid].to(wide) + (pulled @ regions.T)[0]
        score_slope = (attention * (slope - attention @ slope)).to(regions.dtype).unsqueeze(0)  # [1, n]
        attention = attention.to(regions.dtype).unsqueeze(0)  # [1, n]
        right = torch.cat((queries[part], keys_slope[part], pulled))  # [2t + 1, V]
        slopes = []
        for start in range(0, len(regions), maps.rows):
            inside = slice(start, start + maps.rows)
            block = regions[inside]
            affinity = maps.affinity(queries[part], block)
            mixed = maps.mixed(block, affinity, projected[part])
            weights_into.image_score.add_(score_slope[:, inside] @ mixed)
            mixed_slope = score_slope[:, inside].T * weights.image_score  # [n, K]
            torch.ops.aten.tanh_backward.grad_input(mixed_slope, mixed, grad_input=mixed_slope)
            if mixed_slope.dtype == wide:
                weights_into.image_hidden.addmm_(mixed_slope.T, block)
            else:
                weights_into.image_hidden.add_(mixed_slope.T @ block)
            projected_slope[part] += affinity @ mixed_slope
            affinity_slope = torch.addmm(projected[part] @ mixed_slope.T, keys_slope[part], block.T)  # [t, n]
            if maps.saturating:
                torch.ops.aten.tanh_backward.grad_input(affinity_slope, affinity, grad_input=affinity_slope)
            queries_slope[part] += affinity_slope @ block
            left = torch.cat((affinity_slope, affinity, attention[:, inside]))  # [2t + 1, n]
            slopes.append((mixed_slope @ weights.image_hidden).addmm_(left.T, right))
        batch_into[0][example].masked_scatter_(valid.unsqueeze(1), torch.cat(slopes))

    queries_slope, projected_slope = queries_slope.to(queries.dtype), projected_slope.to(queries.dtype)
    features_slope = found.question_weights[batch.question_valid].unsqueeze(1)
    features_slope = features_slope * gradient.question.index_select(0, words.example)  # [W, Q]
    features_slope.addmm_(queries_slope, weights.affinity.T).addmm_(projected_slope, weights.question_hidden)
    batch_into[1].masked_scatter_(batch.question_valid.unsqueeze(2), features_slope)
    weights_into.affinity.add_(words.features.T @ queries_slope)
    weights_into.question_hidden.add_(projected_slope.T @ words.features)


@torch.library.custom_op("coattention::packed_parallel", mutates_args=(), device_types="cpu")
def packed_parallel(
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
    differentiable: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Both sides' vectors and weights, then Z for the backward pass.

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
        differentiable: whether a backward pass may follow.

    Returns:
        ``[B, V]``, ``[B, Q]``, ``[B, N]``, ``[B, T]``; and ``[B, T, V]``, or no element where not differentiable.
    """
    batch = Batch(image, question, image_valid, question_valid)
    weights = _Weights(affinity, image_hidden, question_hidden, image_score, question_score)
    maps = _Maps(weights, saturating, int(question_valid.sum(1).max()))
    outputs = Attended(
        image.new_zeros(len(image), image.shape[2]),
        question.new_zeros(len(image), question.shape[2]),
        image.new_zeros(image_valid.shape),
        question.new_zeros(question_valid.shape),
    )
    kept = question.new_zeros((*question_valid.shape, image.shape[2]) if differentiable else 0)
    for group in _groups(batch):
        keys = _forward(
            Batch(*(tensor[group] for tensor in batch)), weights, maps, Attended(*(field[group] for field in outputs))
        )
        if differentiable:
            kept[group].masked_scatter_(question_valid[group].unsqueeze(2), keys)
    return (*outputs, kept)


@packed_parallel.register_fake
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
    differentiable: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        image.new_empty(image.shape[0], image.shape[2]),
        question.new_empty(question.shape[0], question.shape[2]),
        image.new_empty(image_valid.shape),
        question.new_empty(question_valid.shape),
        question.new_empty((*question_valid.shape, image.shape[2]) if differentiable else 0),
    )


@torch.library.custom_op("coattention::packed_parallel_backward", mutates_args=(), device_types="cpu")
def packed_parallel_backward(
    image_gradient: Tensor,
    question_gradient: Tensor,
    image_weights_gradient: Tensor,
    question_weights_gradient: Tensor,
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
    kept: Tensor,
    saturating: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of image, question and the weights, in the order of `packed_parallel`."""
    batch = Batch(image, question, image_valid, question_valid)
    weights = _Weights(affinity, image_hidden, question_hidden, image_score, question_score)
    maps = _Maps(weights, saturating, int(question_valid.sum(1).max()))
    found = Attended(image_gradient, question_gradient, image_weights, question_weights)
    gradient = Attended(image_gradient, question_gradient, image_weights_gradient, question_weights_gradient)
    into = (image.new_zeros(image.shape), question.new_zeros(question.shape))
    # a sum over many examples in 16 bits would lose what a sum inside one product keeps
    totals = _Weights(*(weight.new_zeros(weight.shape, dtype=_wide(weight)) for weight in weights))
    for group in _groups(batch):
        _backward(
            Batch(*(tensor[group] for tensor in batch)),
            weights,
            maps,
            Attended(*(field[group] for field in found)),
            kept[group][question_valid[group]],
            Attended(*(field[group] for field in gradient)),
            (into[0][group], into[1][group]),
            totals,
        )
    narrowed = _Weights(*(total.to(weight.dtype) for total, weight in zip(totals, weights, strict=True)))
    return (*into, *narrowed)


@packed_parallel_backward.register_fake
def _(
    image_gradient: Tensor,
    question_gradient: Tensor,
    image_weights_gradient: Tensor,
    question_weights_gradient: Tensor,
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
    kept: Tensor,
    saturating: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    weights = _Weights(affinity, image_hidden, question_hidden, image_score, question_score)
    made = _Weights(*(weight.new_empty(weight.shape) for weight in weights))
    return (image.new_empty(image.shape), question.new_empty(question.shape), *made)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.saturating, _ = inputs
    ctx.save_for_backward(*tensors, *output[2:])


def _differentiate(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
    image, question, *weights = packed_parallel_backward(*gradients[:4], *ctx.saved_tensors, ctx.saturating)
    return (image, question, None, None, *weights, None, None)


packed_parallel.register_autograd(_differentiate, setup_context=_keep)


def attend(module: Parallel, batch: Batch) -> Attended:
    """What the module computes, by the packed form.

    Args:
        module: without biases and with all of its parts; its weights are read at each call.
        batch: on the CPU.
    """
    tensors = [
        *batch,
        module.affinity.weight,
        module.image_hidden.weight,
        module.question_hidden.weight,
        module.image_score.weight,
        module.question_score.weight,
    ]
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if torch.is_autocast_enabled("cpu"):
        narrow = torch.get_autocast_dtype("cpu")
        tensors = [tensor.to(narrow) if tensor.is_floating_point() else tensor for tensor in tensors]
    *found, _ = packed_parallel(*tensors, module.saturating, differentiable)
    # under autocast the mechanism pools in the dtype that it was given
    return Attended(*(field.to(batch.image.dtype).unsqueeze(1) for field in found))
