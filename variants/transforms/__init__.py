"""Ways to run a mechanism that keep its function: each a function from variant to variant."""

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

__all__ = ["AXES", "TRANSFORMS", "Transform"]
