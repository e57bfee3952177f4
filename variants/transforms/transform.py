"""What a transform is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from variants.variant import Variant

Axis = Literal["kernel", "precision", "compilation", "capture"]
AXES: tuple[Axis, ...] = ("kernel", "precision", "compilation", "capture")
"""The order in which transforms apply; a variant has at most one per axis."""


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A named function from variant to variant."""

    name: str
    axis: Axis
    summary: str
    apply: Callable[[Variant], Variant]
    """Raises `Skip` with the reason where the variant cannot be had here."""
