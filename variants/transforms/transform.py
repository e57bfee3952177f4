"""What a transform is."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from variants.spec import Spec
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
    dtype: torch.dtype | None = None
    """Of the matrix products, where the transform chooses it."""
    rounds: bool = False
    """Whether it rounds the factors of products in float32 to TF32."""


def renamed(variant: Variant, transform: str) -> Spec:
    """The variant's name with a transform added."""
    return replace(variant.spec, transforms=(*variant.spec.transforms, transform))
