"""Clocks. On the CPU the host's wall time; on CUDA three quantities: what a caller waits, what the device needs, and
what the host needs to launch it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# the functions themselves: what is timed may put others in their place
from time import perf_counter, process_time
from typing import Protocol

import torch

from suite.bench.probes import accelerators
from suite.bench.probes.step import Step
from suite.bench.probes.telemetry import Telemetry
from suite.core import devices
from suite.core.records import Detail

_HELD_OVER = 1.5
_LEAST_HELD_S = 1e-4
_MOST_HELD_S = 0.2
_CYCLES_PER_S = 2.0e9
"""No GPU is much faster; a slower one is held longer."""
_TRIES = 3


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
    """What a caller waits (``latency``) and of it the host's part (``launch``); and between two events what the device
    needs, with warm and with cold L2 (``device``, ``device_cold``).

    The device is held busy until the host has enqueued the whole call, so that the events stand as near to each other
    as the device's own work, and not as the host's. A call that waits for the device itself cannot be held so; its
    ``device`` has the host's gaps in it, which is said.
    """

    flush: torch.Tensor
    telemetry: Telemetry = field(default_factory=Telemetry)
    _unheld: dict[str, int] = field(default_factory=dict)
    """How often a variant's call could not be held."""

    def wall(self, step: Step, turn: int) -> float:
        torch.cuda.synchronize()
        started = perf_counter()
        outputs = step(turn)
        torch.cuda.synchronize()
        took = perf_counter() - started
        del outputs
        return took

    def read(self, step: Step, turn: int) -> Reading:
        torch.cuda.synchronize()
        started = perf_counter()
        outputs = step(turn)
        launched = perf_counter() - started
        torch.cuda.synchronize()
        latency = perf_counter() - started
        del outputs
        step.clear()
        warm = self._on_the_device(step, turn, launched)
        step.clear()
        cold = self._on_the_device(step, turn, launched, cold=True)
        self.telemetry.look()
        return Reading(seconds={"latency": latency, "launch": launched, "device": warm, "device_cold": cold})

    def _on_the_device(self, step: Step, turn: int, launch_s: float, *, cold: bool = False) -> float:
        name = step.variant.name
        held_s = _HELD_OVER * launch_s + _LEAST_HELD_S
        for _ in range(1 if self._unheld.get(name) else _TRIES):
            torch.cuda.synchronize()
            if cold:
                self.flush.zero_()
            begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            torch.cuda._sleep(int(min(held_s, _MOST_HELD_S) * _CYCLES_PER_S))  # type: ignore[no-untyped-call]
            begin.record()
            outputs = step(turn)
            end.record()
            overtaken = begin.query()  # type: ignore[no-untyped-call]  # begun before the host was done
            end.synchronize()
            took_s = float(begin.elapsed_time(end)) / 1e3  # CUDA reports milliseconds
            del outputs
            if not overtaken:
                return took_s
            step.clear()
            held_s *= 4
        self._unheld[name] = self._unheld.get(name, 0) + 1
        return took_s

    def doubts(self) -> tuple[str, ...]:
        unheld = [f"the device time of {name} holds waits for the host: it could not be held" for name in self._unheld]
        return (*unheld, *self.telemetry.doubts())

    def details(self) -> Mapping[str, Detail]:
        return self.telemetry.details()


@dataclass(frozen=True, kw_only=True)
class EventClock:
    """As `CudaClock`, on a device that cannot be held: what lies between its events has the host's gaps in it."""

    kind: devices.Kind

    def wall(self, step: Step, turn: int) -> float:
        accelerators.synchronize(self.kind)
        started = perf_counter()
        outputs = step(turn)
        accelerators.synchronize(self.kind)
        took = perf_counter() - started
        del outputs
        return took

    def read(self, step: Step, turn: int) -> Reading:
        begin, end = accelerators.event(self.kind), accelerators.event(self.kind)
        accelerators.synchronize(self.kind)
        started = perf_counter()
        begin.record()
        outputs = step(turn)
        end.record()
        launched = perf_counter() - started
        accelerators.synchronize(self.kind)
        latency = perf_counter() - started
        del outputs
        on_the_device = float(begin.elapsed_time(end)) / 1e3  # milliseconds, as CUDA's
        return Reading(seconds={"latency": latency, "launch": launched, "device": on_the_device})

    def doubts(self) -> tuple[str, ...]:
        return ()

    def details(self) -> Mapping[str, Detail]:
        return {"device_held": False}


def clock_of(device: str) -> Clock:
    """The clock of a device label."""
    kind = devices.parse(device).kind
    if kind == "cpu":
        return HostClock()
    if kind != "cuda":
        return EventClock(kind=kind)
    size = torch.cuda.get_device_properties().L2_cache_size
    # twice the cache, and no less than the largest there is, so that nothing of it survives
    return CudaClock(flush=torch.empty(max(2 * size, 256 * 2**20), dtype=torch.int8, device="cuda"))
