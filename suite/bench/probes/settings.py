"""What one variant may change under the feet of the next, in the process that they share: seen, said and undone.

Random generators are left out: dropout and initialisation draw from them, and nothing of ours depends on them.
"""

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import overrides
from torch._C import _len_torch_dispatch_stack, _len_torch_function_stack
from torch.nn.modules import module as modules
from torch.utils import _python_dispatch as dispatch

from suite.bench.probes import functions

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
_BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
_HOOKS = tuple(
    hooks for name, hooks in vars(modules).items() if name.startswith("_global_") and isinstance(hooks, dict)
)
"""Of every module there is: by torch's number of the hook, the hook."""


def _values(before: Any, now: Any) -> str:
    return f" ({before} to {now})"


def _unsaid(before: Any, now: Any) -> str:
    """Of what has no values that say something to a person."""
    return ""


@dataclass(frozen=True)
class Setting:
    """One thing that a process has once."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    said: Callable[[Any, Any], str] = _values
    """What a person is told of the values before and now."""


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


def _errors() -> list[Any]:
    """The filters that make errors of warnings; others harm nobody, and libraries add some as they are loaded."""
    return [entry for entry in warnings.filters if entry[0] == "error"]


def _set_errors(before: list[Any]) -> None:
    missing = [entry for entry in before if entry not in warnings.filters]
    kept = [entry for entry in warnings.filters if entry[0] != "error" or entry in before]
    warnings.filters[:] = [*missing, *kept]  # type: ignore[index]  # a list, of which more is not promised
    warnings.simplefilter("default", append=True)  # as it is without a filter; tells the module that they have changed


def _modes() -> tuple[int, int]:
    """How many modes every call of torch goes through."""
    return _len_torch_function_stack(), _len_torch_dispatch_stack()


def _leave_modes(before: tuple[int, int]) -> None:
    while _len_torch_function_stack() > before[0]:
        overrides._pop_mode()  # type: ignore[no-untyped-call]
    while _len_torch_dispatch_stack() > before[1]:
        dispatch._pop_mode()


def _hooks() -> tuple[dict[Any, Any], ...]:
    return tuple(dict(hooks) for hooks in _HOOKS)


def _set_hooks(before: tuple[dict[Any, Any], ...]) -> None:
    for hooks, were in zip(_HOOKS, before, strict=True):
        hooks.clear()
        hooks.update(were)


def _cpus() -> frozenset[int]:
    """The CPUs that it may use, where a system tells; not where OpenMP itself binds threads to some as it starts."""
    told = hasattr(os, "sched_getaffinity") and not any(name in os.environ for name in _BINDING)
    return frozenset(os.sched_getaffinity(0)) if told else frozenset()


def _flushes() -> bool:
    return _SMALL * 1.0 == 0.0  # the interpreter's own product, in this thread


QUICK = (
    # the first, since whatever else is looked at is looked at with them
    Setting(
        "Python's own functions",
        functions.pythons_own,
        lambda _: functions.put_back_pythons_own(),
        said=lambda _, now: f" ({', '.join(now[:3])})",
    ),
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
    Setting("the clocks", lambda: tuple(getattr(time, name) for name in _TIME), _set_times, said=_unsaid),
    Setting("what traces calls", lambda: (sys.gettrace(), sys.getprofile()), lambda both: _trace(*both), said=_unsaid),
)
"""Read after every sample; together some microseconds."""
SLOW = (
    Setting("the environment", _environment, _set_environment, said=_unsaid),
    Setting("the working directory", os.getcwd, os.chdir, said=_unsaid),
    Setting("what signals do", lambda: tuple(map(signal.getsignal, _SIGNALS)), _set_handlers, said=_unsaid),
    Setting(  # the compiler raises it, which harms nobody
        "the limit on recursion", lambda: min(sys.getrecursionlimit(), _USUAL_RECURSION), sys.setrecursionlimit
    ),
    Setting("which warnings are errors", _errors, _set_errors, said=_unsaid),
    Setting("the modes that every call of torch goes through", _modes, _leave_modes, said=_unsaid),
    Setting("the hooks of every module", _hooks, _set_hooks, said=_unsaid),
    Setting("the CPUs that it may use", _cpus, lambda cpus: os.sched_setaffinity(0, cpus), said=_unsaid),
    Setting("the standard streams", lambda: (sys.stdout, sys.stderr), lambda both: _speak(*both), said=_unsaid),
)
"""Read before and after all calls of a variant."""
OF_STRANGERS = (
    Setting("functions that others call", functions.Functions, lambda them: them.put_back(), said=functions.said),
)
"""Read as `SLOW` is where code that is not ours is at work; it takes some milliseconds, and ours replaces nothing."""


def _trace(tracing: Any, profiling: Any) -> None:
    sys.settrace(tracing)
    sys.setprofile(profiling)


def _speak(out: Any, errors: Any) -> None:
    sys.stdout, sys.stderr = out, errors


class Watch:
    """Remembers the settings of a moment, and puts them back."""

    def __init__(self, *, strangers: bool = True) -> None:
        """Remember.

        Args:
            strangers: whether code that is not ours is at work.
        """
        self._all = (*QUICK, *SLOW, *(OF_STRANGERS if strangers else ()))
        self._before = {setting: _read(setting) for setting in self._all}
        self._threads = set(threading.enumerate())

    def undo(self, *, quickly: bool = False) -> tuple[str, ...]:
        """Put back what has changed, and say what it was: phrases such as ``the number of threads (1 to 2)``.

        Args:
            quickly: whether only what is read after every sample is looked at.
        """
        changed = []
        for setting in QUICK if quickly else self._all:
            before, now = self._before[setting], _read(setting)
            if now == before:
                continue
            changed.append(setting.name + setting.said(before, now))
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
