"""A double of NVML. ``NVML_DOUBLE``: ``ok``, ``missing``, ``few`` (fields that a MIG slice or a virtual GPU lacks),
``foreign`` (another's process), ``throttled``, ``denied``, ``container`` (own processes under other numbers)."""

import os
from typing import Any

HOW = os.environ.get("NVML_DOUBLE", "ok")
NVML_CLOCK_SM = 1
NVML_TEMPERATURE_GPU = 0
nvmlClocksThrottleReasonSwPowerCap = 4  # NVML's own names, as all that follow
nvmlClocksThrottleReasonHwSlowdown = 8
nvmlClocksThrottleReasonSwThermalSlowdown = 32
nvmlClocksThrottleReasonHwThermalSlowdown = 64
nvmlClocksThrottleReasonHwPowerBrakeSlowdown = 128


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_NoPermission(NVMLError):
    pass


class _Process:
    def __init__(self, pid: int) -> None:
        self.pid = pid


def _asked(field: str) -> None:
    if HOW == "few" and field in ("clock", "power", "reasons"):
        raise NVMLError_NotSupported("Not Supported")
    if HOW == "denied" and field in ("processes", "reasons"):
        raise NVMLError_NoPermission("Insufficient Permissions")


def nvmlInit() -> None:
    if HOW == "missing":
        raise NVMLError("NVML Shared Library Not Found")


def nvmlSystemGetDriverVersion() -> str:
    return "580.00"


def nvmlDeviceGetHandleByUUID(uuid: str) -> int:
    if not uuid.startswith(("GPU-", "MIG-")):
        raise NVMLError("Invalid Argument")
    return 1


def nvmlDeviceGetClockInfo(handle: int, kind: int) -> int:
    _asked("clock")
    return 1980


def nvmlDeviceGetPowerUsage(handle: int) -> int:
    _asked("power")
    return 350_000


def nvmlDeviceGetTemperature(handle: int, kind: int) -> int:
    return 45


def nvmlDeviceGetCurrentClocksThrottleReasons(handle: int) -> int:
    _asked("reasons")
    return 4 if HOW == "throttled" else 0


def nvmlDeviceGetComputeRunningProcesses(handle: int) -> list[Any]:
    _asked("processes")
    if HOW == "container":  # the host's numbers, which mean nothing in here
        return [_Process(4_100_001), _Process(4_100_002)]
    # the program that asks, and the one that started it, both hold a context
    return [_Process(os.getpid()), _Process(os.getppid()), *([_Process(1)] if HOW == "foreign" else [])]
