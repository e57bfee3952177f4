"""A variant: a mechanism with weights, and one way to run it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from variants.interface import Attended, Batch, CoAttention
from variants.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A value; a transform makes another variant of it and leaves this one alone."""

    spec: Spec
    module: CoAttention
    """The mechanism, its parameters in ``dtype``."""
    dtype: torch.dtype
    """Dtype of the parameters and of the features that ``call`` takes."""
    run: Callable[[Batch], Attended]
    """How the module is run: eager, compiled, captured, or by a kernel. It trusts its batch."""
    notes: tuple[str, ...] = ()
    """What was chosen on the way, such as the kernel that ``fast`` picked."""

    @property
    def name(self) -> str:
        return str(self.spec)

    @property
    def device(self) -> torch.device:
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            return tensor.device
        return torch.device("cpu")

    def call(self, batch: Batch) -> Attended:
        """Attend, differentiably: the very callable that is timed and audited.

        Raises:
            ValueError: the batch has another shape, dtype or device than the variant takes; the message names which.
        """
        check_batch(batch, image_width=self.module.image_width, question_width=self.module.question_width)
        return self.run(batch)


def check_batch(batch: Batch, *, image_width: int, question_width: int) -> None:
    """Refuse a batch whose shapes, dtypes or devices do not fit together.

    Raises:
        ValueError: naming the field, what it is, and what was expected.
    """
    for side, slots, width in (("image", "regions", image_width), ("question", "words", question_width)):
        features: Tensor = getattr(batch, side)
        valid: Tensor = getattr(batch, f"{side}_valid")
        if features.dim() != 3 or features.shape[-1] != width:
            raise ValueError(f"{side} has shape {list(features.shape)}: expected [examples, {slots}, {width}]")
        if not features.is_floating_point():
            raise ValueError(f"{side} has dtype {features.dtype}: expected a floating-point dtype")
        if valid.dtype != torch.bool:
            raise ValueError(
                f"{side}_valid has dtype {valid.dtype}: expected torch.bool, True where a slot is real; "
                f"from lengths use valid_from_lengths, from 0/1 use .bool(), from an additive mask use mask == 0"
            )
        if valid.shape != features.shape[:2]:
            raise ValueError(
                f"{side}_valid has shape {list(valid.shape)}, but {side} has {features.shape[0]} examples of "
                f"{features.shape[1]} {slots}: expected {list(features.shape[:2])}"
            )
        if valid.device != features.device:
            raise ValueError(f"{side}_valid is on {valid.device}, but {side} is on {features.device}")
    if batch.image.shape[0] != batch.question.shape[0]:
        raise ValueError(f"question has {batch.question.shape[0]} examples, but image has {batch.image.shape[0]}")
    if batch.image.dtype != batch.question.dtype:
        raise ValueError(f"question has dtype {batch.question.dtype}, but image has {batch.image.dtype}")
    if batch.image.device != batch.question.device:
        raise ValueError(f"question is on {batch.question.device}, but image is on {batch.image.device}")
