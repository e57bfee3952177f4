"""What a chunk of work may take so that it stays in a core's cache."""

import functools
from dataclasses import dataclass
from pathlib import Path

import torch

from variants.interface import Batch

_LEVEL_2 = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
_UNITS = {"K": 1 << 10, "M": 1 << 20}


@functools.cache
def core_cache_bytes() -> int:
    """Size of the level 2 cache of one core; 1 MiB where the system does not tell."""
    try:
        text = _LEVEL_2.read_text().strip()
    except OSError:
        return 1 << 20
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1:] in _UNITS else int(text)


@functools.cache
def prefers_onednn() -> bool:
    """Whether oneDNN's float32 GEMM beats MKL's here: MKL has slower paths for processors that are not Intel's."""
    try:
        return "GenuineIntel" not in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@dataclass(frozen=True)
class Examples:
    """How many examples to take at a time, from a batch's shapes."""

    budget_bytes: int

    def __call__(self, batch: Batch) -> int:
        """As many as fit with about four maps each, each as wide as its features."""
        image, question = batch.image[:1], batch.question[:1]
        each = 4 * (image.numel() + question.numel()) * image.element_size()
        each += 2 * image.shape[1] * question.shape[1] * image.element_size()
        return max(1, min(self.budget_bytes // max(each, 1), len(batch.image)))


def examples_for(device: torch.device) -> Examples:
    """A rule for the level 2 cache of a core of this machine, or of the whole GPU."""
    if device.type == "cuda":
        return Examples(torch.cuda.get_device_properties(device).L2_cache_size)
    return Examples(core_cache_bytes())
