"""What the probes ask of a device beside its arithmetic: to be done, when, and with how much memory.

CUDA and what looks like it (ROCm) have everything. XPU has events and memory; MPS has events, and tells what is
allocated but no peak of it. Neither can be held until the host has enqueued a call, so that what lies between two of
their events has the host's gaps in it. Both are written to their documentation and tried over a double alone.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from suite.core.devices import Kind

if TYPE_CHECKING:
    from torch.profiler import ProfilerActivity


def synchronize(kind: Kind) -> None:
    """Wait until a device has done all that it was asked."""
    if kind == "cuda":
        torch.cuda.synchronize()
    elif kind != "cpu":
        torch.accelerator.synchronize()


def event(kind: Kind) -> Any:
    """A place in the stream of a device, with its time."""
    if kind == "mps":
        return torch.mps.event.Event(enable_timing=True)
    if kind == "xpu":
        return torch.xpu.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves both so
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def activities(kind: Kind) -> "list[ProfilerActivity]":
    """What the profiler can look at while a device works."""
    from torch.profiler import ProfilerActivity  # here alone: what only asks for memory starts without it

    seen = [ProfilerActivity.CPU]
    if kind == "cuda":
        seen.append(ProfilerActivity.CUDA)
    elif kind == "xpu":
        seen.append(ProfilerActivity.XPU)
    return seen


def peak(kind: Kind, call: Callable[[], object]) -> tuple[int, int] | None:
    """Bytes of a call's peak above its start, and bytes that the allocator holds after it; None where nobody tells."""
    if kind not in ("cuda", "xpu"):
        return None
    device: Any = torch.cuda if kind == "cuda" else torch.xpu
    device.synchronize()
    device.empty_cache()  # what earlier calls have left is no part of what this one makes the allocator hold
    device.reset_peak_memory_stats()
    before = device.memory_allocated()
    outputs = call()
    device.synchronize()
    found = device.max_memory_allocated() - before, device.memory_reserved()
    del outputs
    return found


def free_b(kind: Kind) -> float | None:
    """Bytes of a device's own memory that are free; None where it has none of its own, or nobody tells."""
    if kind == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    if kind == "xpu":
        return float(torch.xpu.mem_get_info()[0])
    if kind == "mps":
        return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def total_b(kind: Kind) -> int | None:
    """Bytes of a device's own memory; None where it has none of its own."""
    if kind == "cuda":
        return int(torch.cuda.get_device_properties().total_memory)
    if kind == "xpu":
        return int(torch.xpu.get_device_properties().total_memory)
    return int(torch.mps.recommended_max_memory()) if kind == "mps" else None


def without_float64(kind: Kind) -> bool:
    """Whether what needs float64 has to be computed elsewhere."""
    return kind == "mps"
