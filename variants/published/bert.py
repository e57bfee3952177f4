"""Pieces of BERT that LXMERT, ViLBERT and BLIP-2 build their cross-attention from, under the names of their weights."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from variants.heads import joined, split
from variants.masking import masked_softmax
from variants.slots import EVERY, Slots

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "relu": nn.functional.relu,
    "swish": nn.functional.silu,
}
"""By the configuration's word; this gelu is the exact one, by the error function."""
NORM_EPS = 1e-12


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """What is read, and the weights: scaled dot products of heads, with a mask that is added to the scores.

    Args:
        query: ``[B, h, L, d]``.
        key: ``[B, h, M, d]``.
        value: ``[B, h, M, d]``.
        mask: broadcastable to ``[B, h, L, M]``, 0 on real slots and a large negative number on padding; a validity,
            True on real slots, gives padding exactly no weight, as none of the published codes has it.

    Returns:
        ``[B, h, L, d]`` and ``[B, h, L, M]``.
    """
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if mask is not None and mask.dtype == torch.bool:
        weights = masked_softmax(scores, mask)
        return weights @ value, weights
    weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    return weights @ value, weights


def additive(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask that LXMERT and ViLBERT add to scores, ``[B, 1, 1, L]``, from a validity ``[B, L]``."""
    return (1 - valid[:, None, None].to(dtype)) * -10000.0


def extended(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask that is added to scores, from 1 on real slots and 0 on padding.

    ``[B, 1, 1, L]`` of ``[B, L]``, or ``[B, 1, L, L]`` of ``[B, L, L]``.
    """
    spread = mask[:, None] if mask.dim() == 3 else mask[:, None, None]
    return (1 - spread.to(dtype)) * torch.finfo(dtype).min


class Reading(nn.Module):
    """Queries of one side on keys and values of another.

    Args:
        width: of the slots that read.
        other_width: of the slots that are read.
        hidden: of all heads together, a multiple of ``heads``.
        heads: how many.
    """

    def __init__(self, width: int, other_width: int, hidden: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or hidden % heads:
            raise ValueError(f"{heads} heads cannot share a width of {hidden}: it has to be a multiple")
        self.heads = heads
        self.query = nn.Linear(width, hidden)
        self.key = nn.Linear(other_width, hidden)
        self.value = nn.Linear(other_width, hidden)

    def forward(
        self, features: Tensor, other: Tensor, mask: Tensor | None, own: Slots = EVERY, others: Slots = EVERY
    ) -> tuple[Tensor, Tensor]:
        """What each slot reads, ``[B, L, hidden]``, and the weights ``[B, h, L, M]``.

        Args:
            features: ``[B, L, width]``, or the rows of ``own`` alone; so is what comes back.
            other: ``[B, M, other_width]``, or the rows of ``others`` alone.
            mask: as in `attend`.
            own: the slots that read; all of them, as published.
            others: the slots that are read, likewise.
        """
        query, key, value = (
            split(slots.spread(linear(read)), self.heads)
            for linear, read, slots in (
                (self.query, features, own),
                (self.key, other, others),
                (self.value, other, others),
            )
        )
        context, weights = attend(query, key, value, mask)
        return own.taken(joined(context)), weights


class Output(nn.Module):
    """A linear map, the sum with what came in, and a norm.

    Args:
        hidden: width of what is mapped.
        width: of what came in and of what goes out.
    """

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, width)
        self.LayerNorm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, found: Tensor, features: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dense(found) + features)
        return normed


class Attention(nn.Module):
    """`Reading` and `Output`; the published codes call the first of them by different names.

    Args:
        inner: that name.
        width: of the slots that read, of all heads together, and of what goes out.
        other_width: of the slots that are read.
        heads: how many.
    """

    def __init__(self, inner: str, width: int, other_width: int, heads: int) -> None:
        super().__init__()
        self.inner = inner
        self.add_module(inner, Reading(width, other_width, width, heads))
        self.output = Output(width, width)

    def forward(
        self, features: Tensor, other: Tensor, mask: Tensor | None, own: Slots = EVERY, others: Slots = EVERY
    ) -> tuple[Tensor, Tensor]:
        """The features with what they read, and the weights ``[B, h, L, M]``; arguments as `Reading.forward`."""
        context, weights = self.get_submodule(self.inner)(features, other, mask, own, others)
        return self.output(context, features), weights


class Intermediate(nn.Module):
    """The first half of a feed-forward layer; `Output` is the second.

    Args:
        width: of the features.
        hidden: between the halves.
        activation: a word of `ACTIVATIONS`.
    """

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is not known: expected one of {', '.join(ACTIVATIONS)}")
        self.dense = nn.Linear(width, hidden)
        self.activation = ACTIVATIONS[activation]

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(self.dense(features))
