"""Ways to run a mechanism that keep its function: each a function from variant to variant."""

import torch

from variants.spec import Spec
from variants.transforms import capture, compilation, kernel, precision
from variants.transforms.transform import AXES, Transform

TRANSFORMS: dict[str, Transform] = {
    transform.name: transform
    for transform in (
        *kernel.TRANSFORMS,
        *precision.TRANSFORMS,
        *compilation.TRANSFORMS,
        *capture.TRANSFORMS,
    )
}
"""Every transform by name."""


def products_in(spec: Spec) -> torch.dtype:
    """The dtype of a variant's matrix products: float32, unless one of its transforms chooses another.

    Args:
        spec: whose transforms are known.
    """
    chosen = (TRANSFORMS[word].dtype for word in spec.transforms)
    return next((dtype for dtype in chosen if dtype is not None), torch.float32)


def compiles(spec: Spec) -> bool:
    """Whether one of a variant's transforms compiles it."""
    return any(TRANSFORMS[word].axis == "compilation" for word in spec.transforms)


def rounds_to_tf32(spec: Spec) -> bool:
    """Whether the factors of a variant's products are rounded to TF32, by a transform of its own.

    Args:
        spec: whose transforms are known.
    """
    return any(TRANSFORMS[word].rounds for word in spec.transforms)


__all__ = ["AXES", "TRANSFORMS", "Transform", "compiles", "products_in", "rounds_to_tf32"]
