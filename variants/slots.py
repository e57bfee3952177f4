"""Work on the valid slots of a side alone, where a slot needs no other: projections, norms, feed-forward layers."""

from typing import NamedTuple

import torch
from torch import Tensor

from variants.eager import is_plain
from variants.masking import blank

_MOST_VALID = 0.9
"""Share of valid slots above which what is saved does not pay for the copies."""


class Slots(NamedTuple):
    """The slots of a side that are computed on: the valid ones as rows of one matrix, or all as they are."""

    places: Tensor | None = None
    """``[R]`` int64, where each valid slot stands among the ``B L`` of the side; None for all slots."""
    examples: int = 0
    length: int = 0

    def taken(self, features: Tensor) -> Tensor:
        """``[R, D]`` of ``[B, L, D]``; all slots as they are."""
        return features if self.places is None else features.flatten(0, 1).index_select(0, self.places)

    def spread(self, rows: Tensor) -> Tensor:
        """``[B, L, D]`` of ``[R, D]``, zeros in the slots between; all slots as they are."""
        if self.places is None:
            return rows
        whole = rows.new_zeros(self.examples * self.length, rows.shape[-1]).index_copy_(0, self.places, rows)
        return whole.view(self.examples, self.length, rows.shape[-1])


EVERY = Slots()


def slots_of(valid: Tensor) -> Slots:
    """The valid slots ``[B, L]`` where it is cheap to see which they are, and leaving out the others pays; else all.

    Elsewhere than on a CPU to look would be to wait, and a graph knows no number of rows beforehand. What counts
    operations gets those of the shape, whatever the lengths.
    """
    if not (is_plain() and type(valid) is Tensor and valid.device.type == "cpu"):
        return EVERY
    if torch._C._len_torch_dispatch_stack():
        return EVERY
    places = valid.flatten().nonzero().squeeze(1)
    if len(places) > _MOST_VALID * valid.numel():
        return EVERY
    return Slots(places, *valid.shape)


def valid_rows(features: Tensor, valid: Tensor) -> tuple[Tensor, Slots]:
    """The rows of a side's valid slots, and where they stand; all slots, blank on padding, where `slots_of` gives all.

    Args:
        features: ``[B, L, D]``; padded slots may hold anything.
        valid: ``[B, L]`` bool.
    """
    slots = slots_of(valid)
    return (blank(features, valid) if slots.places is None else slots.taken(features)), slots
