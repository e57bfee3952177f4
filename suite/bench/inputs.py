"""Workloads as tensors."""

import math
from functools import lru_cache

import torch
from torch import Tensor

from suite.core.workloads import Workload
from variants import Batch, valid_from_lengths

_MOST_KEPT = 2**26
"""Numbers of a batch that are kept for another type to ask for; more are drawn again."""


def make_batch(
    workload: Workload, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", seed: int = 0
) -> Batch:
    """Standard normal features with the workload's lengths; padded slots hold ordinary numbers, not zeros.

    The same seed gives the same numbers in every dtype (rounded) and on every device.
    """
    image_shape = (workload.batch, workload.regions, workload.image_width)
    question_shape = (workload.batch, workload.words, workload.question_width)
    kept = math.prod(image_shape) + math.prod(question_shape) <= _MOST_KEPT
    image, question = (_drawn if kept else _drawn.__wrapped__)(seed, image_shape, question_shape)
    return Batch(
        image.to(device, dtype, copy=True),
        question.to(device, dtype, copy=True),
        valid_from_lengths(torch.from_numpy(workload.lengths("image")), workload.regions).to(device),
        valid_from_lengths(torch.from_numpy(workload.lengths("question")), workload.words).to(device),
    )


@lru_cache(maxsize=3)
def _drawn(seed: int, image: tuple[int, ...], question: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Features of both sides, kept for the other types that ask for them: drawing takes longer than all else of it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(image, generator=generator), torch.randn(question, generator=generator)
