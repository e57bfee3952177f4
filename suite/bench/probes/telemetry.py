"""What a GPU says of itself while it is timed: clocks, power, temperature, throttling, and who else is on it."""

import os
from dataclasses import dataclass, field

import torch

from suite.core.records import Detail

_EVERY = 16
"""One look costs about a millisecond of NVML calls; one in so many readings suffices to see a state that lasts."""


@dataclass(kw_only=True)
class Telemetry:
    """Looks at the current GPU through NVML; says so where there is no NVML."""

    sm_mhz: list[int] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)
    celsius: list[int] = field(default_factory=list)
    throttled: set[str] = field(default_factory=set)
    foreign: set[int] = field(default_factory=set)
    missing: str = ""
    _calls: int = 0
    _handle: object = None

    def look(self) -> None:
        """Take a look, every so many calls."""
        self._calls += 1
        if self.missing or self._calls % _EVERY != 1:
            return
        import pynvml  # only where there is a GPU

        try:
            if self._handle is None:
                pynvml.nvmlInit()
                uuid = f"GPU-{torch.cuda.get_device_properties().uuid}"
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            self.sm_mhz.append(pynvml.nvmlDeviceGetClockInfo(self._handle, pynvml.NVML_CLOCK_SM))
            self.watts.append(pynvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3)
            self.celsius.append(pynvml.nvmlDeviceGetTemperature(self._handle, pynvml.NVML_TEMPERATURE_GPU))
            reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
            for bit, text in (
                (pynvml.nvmlClocksThrottleReasonSwPowerCap, "its power cap"),
                (pynvml.nvmlClocksThrottleReasonHwSlowdown, "a hardware slowdown"),
                (pynvml.nvmlClocksThrottleReasonSwThermalSlowdown, "its temperature"),
                (pynvml.nvmlClocksThrottleReasonHwThermalSlowdown, "its temperature"),
                (pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown, "a power brake"),
            ):
                if reasons & bit:
                    self.throttled.add(text)
            processes = pynvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
            self.foreign |= {process.pid for process in processes} - {os.getpid()}
        except pynvml.NVMLError as error:
            self.missing = str(error)

    def doubts(self) -> tuple[str, ...]:
        """Reasons against what was timed while looking."""
        found = [f"the GPU was slowed by {text}" for text in sorted(self.throttled)]
        if self.foreign:
            found.append(f"{len(self.foreign)} other processes were on the GPU")
        return tuple(found)

    def details(self) -> dict[str, Detail]:
        """Medians and the like of what was seen."""
        if self.missing:
            return {"nvml": self.missing}
        if not self.sm_mhz:
            return {}
        middle = len(self.sm_mhz) // 2
        return {
            "sm_mhz": sorted(self.sm_mhz)[middle],
            "sm_mhz_lowest": min(self.sm_mhz),
            "watts": round(sorted(self.watts)[middle], 1),
            "celsius": max(self.celsius),
            "throttled_by": sorted(self.throttled),
            "foreign_processes": len(self.foreign),
        }
