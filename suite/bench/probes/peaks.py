"""What the device can do: its fastest matrix product per dtype, and its fastest copy, for the roofline."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch

from suite.bench.probes import accelerators
from suite.bench.probes.step import running_on
from suite.bench.tasks import About
from suite.core.devices import Kind
from suite.core.records import Detail, Measurement
from variants.transforms.precision import rounding_to_tf32

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_CPU_SIDES = (256, 1024)
_CUDA_SIDES = (2048, 8192)
_CPU_COPY_B = 2**27
_CUDA_COPY_B = 2**30


def measure(device: str, *, task: str, budget_s: float) -> Iterator[Measurement]:
    """Time square products in each dtype, and a copy.

    Args:
        device: a label.
        task: that the records belong to.
        budget_s: wall time for each of them, in seconds.

    Yields:
        ``gemm_time`` per dtype (details ``flops``, ``dtype``, ``side``), of which ``tf32`` is float32 with rounded
        factors, and ``copy_time`` (details ``bytes``, read and written), each the fastest of its repeats: a peak is
        what nothing disturbed.
    """
    about = About(task=task, variant="", workload="", phase="", device=device)
    with running_on(device) as parsed:
        kind, on_cuda = parsed.kind, parsed.kind == "cuda"
        small, large = _CUDA_SIDES if kind != "cpu" else _CPU_SIDES
        rates: list[tuple[torch.dtype, str, Callable[[], AbstractContextManager[None]]]]
        rates = [(dtype, str(dtype).removeprefix("torch."), nullcontext) for dtype in DTYPES]
        if on_cuda and torch.version.hip is None and torch.cuda.get_device_capability()[0] >= 8:
            rates.append((torch.float32, "tf32", rounding_to_tf32))
        for dtype, called, rounding in rates:
            with rounding():
                side = small
                best = _best(_product(side, dtype, parsed.kind), kind, budget_s=budget_s / 4)
                # a machine without arithmetic in this dtype would take seconds for the large one
                if best * (large / small) ** 3 < budget_s / 2:
                    side = large
                    best = _best(_product(side, dtype, parsed.kind), kind, budget_s=budget_s)
            details: dict[str, Detail] = {"flops": 2 * side**3, "dtype": called, "side": side}
            yield Measurement(quantity="gemm_time", unit="s", value=best, details=details, **about)
        source = torch.ones(_CUDA_COPY_B if kind != "cpu" else _CPU_COPY_B, dtype=torch.int8, device=parsed.kind)
        target = torch.empty_like(source)
        best = _best(lambda: target.copy_(source), kind, budget_s=budget_s)
        details = {"bytes": 2 * source.numel()}
        if (memory := accelerators.total_b(kind)) is not None:
            details["memory_B"] = memory
        yield Measurement(quantity="copy_time", unit="s", value=best, details=details, **about)


def _product(side: int, dtype: torch.dtype, kind: str) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, side, generator=generator).to(kind, dtype) for _ in range(2))
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)


def _best(call: Callable[[], object], kind: Kind, *, budget_s: float) -> float:
    call()
    best, spent = float("inf"), 0.0
    while spent < budget_s:
        if kind != "cpu":
            begin, end = accelerators.event(kind), accelerators.event(kind)
            accelerators.synchronize(kind)
            begin.record()
            call()
            end.record()
            end.synchronize()
            took = begin.elapsed_time(end) / 1e3  # CUDA reports milliseconds
        else:
            started = time.perf_counter()
            call()
            took = time.perf_counter() - started
        best, spent = min(best, took), spent + took
    return best
