"""Ways to run a mechanism that keep its function: each a function from variant to variant."""

from variants.transforms import kernel, precision
from variants.transforms.transform import AXES, Transform

TRANSFORMS: dict[str, Transform] = {
    transform.name: transform
    for transform in (
        *kernel.TRANSFORMS,
        *precision.TRANSFORMS,
    )
}

__all__ = ["AXES", "TRANSFORMS", "Transform"]
