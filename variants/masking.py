"""All mask arithmetic: boolean, by ``where`` and never by a product, since 0 * NaN is NaN."""

from typing import NamedTuple

import torch
from torch import Tensor

from variants.eager import is_plain


def valid_from_lengths(lengths: Tensor, width: int) -> Tensor:
    """Validity of left-aligned rows.

    Args:
        lengths: ``[B]``, any integer dtype, each from 0 to ``width``.
        width: slots per row.

    Returns:
        ``[B, width]`` bool, True on the first ``lengths[b]`` slots of row ``b``.

    Raises:
        ValueError: ``lengths`` is not one-dimensional, not of integers, or reaches outside 0 to ``width``.
    """
    if lengths.dim() != 1 or lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ValueError(
            f"lengths has shape {list(lengths.shape)} and dtype {lengths.dtype}: expected [B] of integers; "
            "a boolean mask is already a validity"
        )
    if lengths.numel() and not (int(lengths.min()) >= 0 and int(lengths.max()) <= width):
        raise ValueError(
            f"lengths run from {int(lengths.min())} to {int(lengths.max())}, but width is {width}: "
            f"expected 0 to {width}; pad the features to the longest length"
        )
    return torch.arange(width, device=lengths.device) < lengths[:, None]  # [B, width]


def blank(features: Tensor, valid: Tensor) -> Tensor:
    """Features with exact zeros in padded slots, whatever was there, NaN and Inf included.

    The gradient of a padded slot is exactly zero. The features themselves come back where no slot is seen to be
    padded, so what is returned must not be written to.

    Args:
        features: ``[B, L, D]``.
        valid: ``[B, L]`` bool.
    """
    if _seen_full(valid):
        return features
    return features.masked_fill(~valid.unsqueeze(-1), 0)


def _seen_full(valid: Tensor) -> bool:
    """Whether no slot is padded, as far as that is cheap to see.

    On a CPU it is, and saves passes over what a mask would leave as it is. Elsewhere to look would be to wait.
    """
    plain = is_plain() and type(valid) is Tensor  # a subclass may hold no data, as fake tensors do
    return plain and valid.device.type == "cpu" and bool(valid.all())


def masked_softmax(scores: Tensor, valid: Tensor) -> Tensor:
    """Softmax over the last axis that gives padding exactly zero weight.

    A row without a valid slot returns zeros, not NaN, so that an empty question cannot poison a batch.

    Args:
        scores: ``[..., L]``, any float dtype.
        valid: bool, broadcastable to ``scores``; True keeps a slot.

    Returns:
        Weights like ``scores``, computed in float32 at least.
    """
    wide = torch.promote_types(scores.dtype, torch.float32)
    if _seen_full(valid):
        return torch.softmax(scores, dim=-1, dtype=wide).to(scores.dtype)
    # -inf only where the row has another entry: a row of -inf alone is NaN forwards and backwards
    floor = torch.where(valid.any(-1, keepdim=True), float("-inf"), 0.0)
    weights = torch.softmax(torch.where(valid, scores.to(wide), floor), dim=-1)
    return weights.masked_fill(~valid, 0).to(scores.dtype)


def joint_softmax(scores: Tensor, image_valid: Tensor, question_valid: Tensor) -> Tensor:
    """Softmax over all pairs of a valid region and a valid word; every other pair gets exactly zero weight.

    An example without a valid slot on one side has no pair, and zeros.

    Args:
        scores: ``[B, G, N, T]``.
        image_valid: ``[B, N]`` bool.
        question_valid: ``[B, T]`` bool.

    Returns:
        ``[B, G, N, T]``, computed in float32 at least.
    """
    pairs = (image_valid.unsqueeze(-1) & question_valid.unsqueeze(-2)).flatten(1)  # [B, N T]
    return masked_softmax(scores.flatten(2), pairs.unsqueeze(1)).view_as(scores)


def uniform(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """Equal weights over valid slots, ``[B, L]``; zeros for a row without any."""
    return masked_softmax(torch.zeros(valid.shape, dtype=dtype, device=valid.device), valid)


def masked_mean(features: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over valid slots, and the uniform weights that give it.

    Args:
        features: ``[B, L, D]``; padded slots may hold anything.
        valid: ``[B, L]`` bool.

    Returns:
        ``[B, D]`` means and ``[B, L]`` weights, both zero for a row without a valid slot.
    """
    weights = uniform(valid, features.dtype)  # [B, L]
    return pool(weights, blank(features, valid)), weights


def pool(weights: Tensor, features: Tensor) -> Tensor:
    """Weighted sum of each example's slots.

    Args:
        weights: ``[B, L]``.
        features: ``[B, L, D]``, blank on padding.

    Returns:
        ``[B, D]``.
    """
    return (weights.unsqueeze(-2) @ features).squeeze(-2)


class Compacted(NamedTuple):
    """Rows with their valid slots moved to the front in order, and how to move them back."""

    features: Tensor  # [B, L, D], blank after each row's last valid slot
    valid: Tensor  # [B, L] bool, left-aligned
    position: Tensor  # [B, L] int64, where each original slot now stands


def compact(features: Tensor, valid: Tensor) -> Compacted:
    """Move each row's valid slots to the front, so that hiding a slot equals removing it.

    Args:
        features: ``[B, L, D]``.
        valid: ``[B, L]`` bool, holes and left padding allowed.
    """
    order = torch.argsort(~valid, dim=-1, stable=True)  # [B, L]
    front = valid.gather(-1, order)
    moved = blank(features.gather(-2, order.unsqueeze(-1).expand_as(features)), front)
    return Compacted(moved, front, torch.argsort(order, dim=-1, stable=True))


def restore(features: Tensor, compacted: Compacted) -> Tensor:
    """Undo `compact` for features computed slot by slot.

    Args:
        features: ``[B, L, D]`` in compacted order.
    """
    return features.gather(-2, compacted.position.unsqueeze(-1).expand_as(features))
