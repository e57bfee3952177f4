"""How long the compiler takes here, whatever it compiles: the plan of a budget stands on it."""

import time
from collections.abc import Iterator

import torch

from suite.bench.probes.step import About, running_on
from suite.core.records import Measurement


def measure(device: str, *, task: str) -> Iterator[Measurement]:
    """Compile one small function in a process that has compiled nothing before.

    Yields:
        ``compiler_time``, in seconds: Dynamo, Inductor and the compiler behind it, loading them included.
    """
    about = About(task=task, variant="", workload="", phase="", device=device)
    with running_on(device) as parsed:
        numbers = torch.randn(64, 64, device=parsed.kind)
        started = time.perf_counter()
        torch.compile(_small)(numbers)
        if parsed.kind == "cuda":
            torch.cuda.synchronize()
        took_s = time.perf_counter() - started
    yield Measurement(quantity="compiler_time", unit="s", value=took_s, **about)


def _small(numbers: torch.Tensor) -> torch.Tensor:
    return (numbers @ numbers).tanh().sum(0)
