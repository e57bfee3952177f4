"""What one variant may change under the feet of the next, in the process that they share: seen, said and undone.

Random generators are left out: dropout and initialisation draw from them, and nothing of ours depends on them.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

CLOCKS = ("time", "perf_counter", "monotonic", "process_time", "thread_time")
_TIME = (*CLOCKS, *(f"{name}_ns" for name in CLOCKS), "sleep")
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGVTALRM", "SIGPROF", "SIGCHLD", "SIGUSR1")
    if hasattr(signal, name)
)
_COMPILERS = ("_", "TORCHINDUCTOR_", "TRITON_")
_USUAL_RECURSION = 1000
_SMALL = 5e-324


@dataclass(frozen=True)
class Setting:
    """One thing that a process has once."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    spoken: bool = True
    """Whether its values say something to a person."""


def _on_backend(module: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return lambda: getattr(module, name), lambda value: setattr(module, name, value)


def _set_times(functions: tuple[Any, ...]) -> None:
    for name, function in zip(_TIME, functions, strict=True):
        setattr(time, name, function)


def _set_handlers(handlers: tuple[Any, ...]) -> None:
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _environment() -> dict[str, str]:
    """Without what the compiler sets for itself as it starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_COMPILERS)}


def _set_environment(variables: dict[str, str]) -> None:
    for name in _environment().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _flushes() -> bool:
    return _SMALL * 1.0 == 0.0  # the interpreter's own product, in this thread


QUICK = (
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    # a default device is a mode that every call goes through; without one there is none to set
    Setting("the default device", torch.get_default_device, lambda _: torch.set_default_device(None)),
    Setting("whether gradients are recorded", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting(
        "autocast",
        lambda: torch.is_autocast_enabled("cpu"),
        lambda value: torch.set_autocast_enabled("cpu", value),
    ),
    Setting("deterministic algorithms", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    Setting("the precision of products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Setting("oneDNN", *_on_backend(torch.backends.mkldnn, "enabled")),
    Setting("cuDNN", *_on_backend(torch.backends.cudnn, "enabled")),
    Setting("cuDNN's search for kernels", *_on_backend(torch.backends.cudnn, "benchmark")),
    Setting("flash attention", torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    Setting("plain attention", torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    Setting(
        "memory-efficient attention",
        torch.backends.cuda.mem_efficient_sdp_enabled,
        torch.backends.cuda.enable_mem_efficient_sdp,
    ),
    Setting("whether the smallest numbers count as zero", _flushes, torch.set_flush_denormal),
    Setting("the clocks", lambda: tuple(getattr(time, name) for name in _TIME), _set_times, spoken=False),
    Setting("what traces calls", lambda: (sys.gettrace(), sys.getprofile()), lambda both: _trace(*both), spoken=False),
)
"""Read after every sample; together some microseconds."""
SLOW = (
    Setting("the environment", _environment, _set_environment, spoken=False),
    Setting("the working directory", os.getcwd, os.chdir, spoken=False),
    Setting("what signals do", lambda: tuple(map(signal.getsignal, _SIGNALS)), _set_handlers, spoken=False),
    Setting(  # the compiler raises it, which harms nobody
        "the limit on recursion", lambda: min(sys.getrecursionlimit(), _USUAL_RECURSION), sys.setrecursionlimit
    ),
    Setting("the standard streams", lambda: (sys.stdout, sys.stderr), lambda both: _speak(*both), spoken=False),
)
"""Read before and after all calls of a variant."""


def _trace(tracing: Any, profiling: Any) -> None:
    sys.settrace(tracing)
    sys.setprofile(profiling)


def _speak(out: Any, errors: Any) -> None:
    sys.stdout, sys.stderr = out, errors


class Watch:
    """Remembers the settings of a moment, and puts them back."""

    def __init__(self) -> None:
        self._before = {setting: _read(setting) for setting in (*QUICK, *SLOW)}
        self._threads = set(threading.enumerate())

    def undo(self, *, quickly: bool = False) -> tuple[str, ...]:
        """Put back what has changed, and say what it was: phrases such as ``the number of threads (1 to 2)``.

        Args:
            quickly: whether only what is read after every sample is looked at.
        """
        changed = []
        for setting in QUICK if quickly else (*QUICK, *SLOW):
            before, now = self._before[setting], _read(setting)
            if now == before:
                continue
            changed.append(f"{setting.name} ({before} to {now})" if setting.spoken else setting.name)
            try:
                setting.write(before)
            except Exception:  # such as a working directory that was deleted
                changed[-1] += ", which cannot be undone"
        return tuple(changed)

    def threads(self) -> int:
        """How many threads of Python's were started since and still run; they cannot be ended."""
        return len([one for one in threading.enumerate() if one not in self._threads and one.is_alive()])


def _read(setting: Setting) -> Any:
    try:
        return setting.read()
    except Exception as error:  # a working directory that is gone has no name
        return type(error).__name__
