"""Workloads as tensors."""

import torch

from suite.core.workloads import Workload
from variants import Batch, valid_from_lengths


def make_batch(
    workload: Workload, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", seed: int = 0
) -> Batch:
    """Standard normal features with the workload's lengths; padded slots hold ordinary numbers, not zeros.

    The same seed gives the same numbers in every dtype (rounded) and on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (workload.batch, workload.regions, workload.image_width)
    image = torch.randn(shape, generator=generator)
    question = torch.randn(workload.batch, workload.words, workload.question_width, generator=generator)
    return Batch(
        image.to(device, dtype),
        question.to(device, dtype),
        valid_from_lengths(torch.from_numpy(workload.lengths("image")), workload.regions).to(device),
        valid_from_lengths(torch.from_numpy(workload.lengths("question")), workload.words).to(device),
    )
