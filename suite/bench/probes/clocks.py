"""Clocks: host wall time on the CPU; on CUDA events, with warm and with cold L2, and the host's time to launch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# the functions themselves: what is timed may put others in their place
from time import perf_counter, process_time
from typing import Protocol

import torch

from suite.bench.probes.step import Step
from suite.bench.probes.telemetry import Telemetry
from suite.core import devices
from suite.core.records import Detail


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One timed call."""

    seconds: Mapping[str, float]
    """By quantity."""
    cpu_s: float | None = None
    """CPU time of the process, where the work is on the CPU."""


class Clock(Protocol):
    """Times calls on one device."""

    def wall(self, step: Step, turn: int) -> float:
        """Host seconds until a call is done on the device, compilation and all."""

    def read(self, step: Step, turn: int) -> Reading:
        """Time one warm call."""

    def doubts(self) -> tuple[str, ...]:
        """Reasons against all readings so far."""

    def details(self) -> Mapping[str, Detail]:
        """The device's state behind them."""


class HostClock:
    """``perf_counter`` around the call; the outputs are freed after the clock has stopped."""

    def wall(self, step: Step, turn: int) -> float:
        started = perf_counter()
        outputs = step(turn)
        took = perf_counter() - started
        del outputs
        return took

    def read(self, step: Step, turn: int) -> Reading:
        cpu = process_time()
        started = perf_counter()
        outputs = step(turn)
        took = perf_counter() - started
        cpu = process_time() - cpu
        del outputs
        return Reading(seconds={"latency": took}, cpu_s=cpu)

    def doubts(self) -> tuple[str, ...]:
        return ()

    def details(self) -> Mapping[str, Detail]:
        return {}


@dataclass(kw_only=True)
class CudaClock:
    """CUDA events; every reading takes a warm call, a call after the L2 was flushed, and the host's launch time."""

    flush: torch.Tensor
    telemetry: Telemetry = field(default_factory=Telemetry)

    def wall(self, step: Step, turn: int) -> float:
        torch.cuda.synchronize()
        started = perf_counter()
        outputs = step(turn)
        torch.cuda.synchronize()
        took = perf_counter() - started
        del outputs
        return took

    def read(self, step: Step, turn: int) -> Reading:
        warm, launch = self._between_events(step, turn)
        step.clear()
        self.flush.zero_()
        cold, _ = self._between_events(step, turn)
        self.telemetry.look()
        return Reading(seconds={"latency": warm, "latency_cold": cold, "launch": launch})

    def _between_events(self, step: Step, turn: int) -> tuple[float, float]:
        torch.cuda.synchronize()
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        started = perf_counter()
        outputs = step(turn)
        launched = perf_counter() - started
        end.record()
        end.synchronize()
        del outputs
        return begin.elapsed_time(end) / 1e3, launched  # CUDA reports milliseconds

    def doubts(self) -> tuple[str, ...]:
        return self.telemetry.doubts()

    def details(self) -> Mapping[str, Detail]:
        return self.telemetry.details()


def clock_of(device: str) -> Clock:
    """The clock of a device label."""
    if devices.parse(device).kind == "cpu":
        return HostClock()
    size = torch.cuda.get_device_properties().L2_cache_size
    # twice the cache, and no less than the largest there is, so that nothing of it survives
    return CudaClock(flush=torch.empty(max(2 * size, 256 * 2**20), dtype=torch.int8, device="cuda"))
