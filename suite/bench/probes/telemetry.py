"""What a GPU says of itself while it is timed: clocks, power, temperature, throttling, and who else is on it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from suite.core.records import Detail

T = TypeVar("T")
_EVERY = 16
"""One look costs about a millisecond of NVML calls; one in so many readings suffices to see a state that lasts."""


@dataclass(kw_only=True)
class Telemetry:
    """Looks at the current GPU through NVML, field by field: a slice of a GPU or a virtual one lacks some of them."""

    sm_mhz: list[int] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)
    celsius: list[int] = field(default_factory=list)
    throttled: set[str] = field(default_factory=set)
    foreign: set[int] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)
    """Why a field cannot be had, by field; ``nvml`` where none can."""
    _calls: int = 0
    _handle: object = None

    def look(self) -> None:
        """Take a look, every so many calls."""
        self._calls += 1
        if "nvml" in self.missing or self._calls % _EVERY != 1:
            return
        try:
            import pynvml  # only where there is a GPU

            if self._handle is None:
                pynvml.nvmlInit()
                self._handle = _handle(pynvml)
        except Exception as error:  # NVML's own errors, no such module, or one of another age
            self.missing["nvml"] = str(error) or type(error).__name__
            return
        handle = self._handle
        self._ask("sm_mhz", lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM), self.sm_mhz.append)
        self._ask("watts", lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3, self.watts.append)
        self._ask(
            "celsius", lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU), self.celsius.append
        )
        self._ask("throttled_by", lambda: _throttled(pynvml, handle), self.throttled.update)
        self._ask("foreign_processes", lambda: _foreign(pynvml, handle), self.foreign.update)

    def _ask(self, name: str, ask: Callable[[], T], keep: Callable[[T], object]) -> None:
        if name in self.missing:
            return
        try:
            keep(ask())
        except Exception as error:  # NVML's own errors, and a library too old to know the question
            self.missing[name] = str(error) or type(error).__name__

    def doubts(self) -> tuple[str, ...]:
        """Reasons against what was timed while looking."""
        found = [f"the GPU was slowed by {text}" for text in sorted(self.throttled)]
        if self.foreign:
            found.append(f"{len(self.foreign)} other processes were on the GPU")
        return tuple(found)

    def details(self) -> dict[str, Detail]:
        """Medians and the like of what was seen, and why the rest was not."""
        found: dict[str, Detail] = {f"no_{name}": why for name, why in self.missing.items()}
        if "nvml" in self.missing or not self._calls:
            return found
        if self.sm_mhz:
            found |= {"sm_mhz": sorted(self.sm_mhz)[len(self.sm_mhz) // 2], "sm_mhz_lowest": min(self.sm_mhz)}
        if self.watts:
            found["watts"] = round(sorted(self.watts)[len(self.watts) // 2], 1)
        if self.celsius:
            found["celsius"] = max(self.celsius)
        if "throttled_by" not in self.missing:
            found["throttled_by"] = sorted(self.throttled)
        if "foreign_processes" not in self.missing:
            found["foreign_processes"] = len(self.foreign)
        return found


def _handle(pynvml: Any) -> object:
    """Of the GPU that torch uses, or of its slice of one."""
    uuid = torch.cuda.get_device_properties().uuid
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError:
        return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _throttled(pynvml: Any, handle: object) -> set[str]:
    reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return {
        text
        for bit, text in (
            (pynvml.nvmlClocksThrottleReasonSwPowerCap, "its power cap"),
            (pynvml.nvmlClocksThrottleReasonHwSlowdown, "a hardware slowdown"),
            (pynvml.nvmlClocksThrottleReasonSwThermalSlowdown, "its temperature"),
            (pynvml.nvmlClocksThrottleReasonHwThermalSlowdown, "its temperature"),
            (pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown, "a power brake"),
        )
        if reasons & bit
    }


def _foreign(pynvml: Any, handle: object) -> set[int]:
    """Processes on the GPU that are not of this program: neither this one, nor its starters, nor what they started.

    Raises:
        LookupError: the numbers are not those of this system, as in a container.
    """
    import psutil  # here alone, since all else is to be had without it

    there = {process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    if there and os.getpid() not in there:
        raise LookupError("its processes are numbered otherwise here, as in a container")
    own = {os.getpid()}
    for starter in psutil.Process().parents():
        if starter.pid > 1:
            own.add(starter.pid)
            # what a shell or a service started beside us is not ours
            if any(part.endswith(("run_all.py", "coattention")) for part in starter.cmdline()):
                own |= {child.pid for child in starter.children(recursive=True)}
    return there - own
