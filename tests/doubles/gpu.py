"""A double of `torch.cuda` over tensors of the CPU, so that what only a GPU runs can be run anywhere.

It is true to three things. *Order*: work goes to a stream, whose clock is its own; the host runs ahead of it until it
waits. *Refusals*: while a stream is captured, what would wait for the device raises, and leaves the capture broken.
*Statistics*: allocated, reserved and peak bytes come from the storages that are alive. It is not true to numbers of the
device's arithmetic, nor to its speed: an operation costs what `OPERATION_S` says.

``GPU_DOUBLE`` chooses the device: ``h100``, ``a10``, ``laptop``, ``mig`` (a slice of an H100), ``two`` of an H100,
``rocm``, ``mps`` or ``xpu``. The last two have events and memory, as far as torch offers any there. ``NVML_DOUBLE``
chooses what `pynvml` beside this file answers.
"""

import contextlib
import functools
import gc
import math
import os
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

OPERATION_S = 4e-6
"""Of the device's time, for each operation that is not a view."""
FLOPS_PER_S = 6e14
MOST_FLOPS = 1e10
MOST_ELEMENTS = 2**23
"""Of what is filled, copied or cast: more would take a CPU long, and nobody looks at the numbers."""
CYCLES_PER_S = 1.98e9
GIB = 2**30
KINDS = ("cuda", "mps", "xpu")
OWN = ("coattention",)
"""Namespaces of custom operators, whose kernels run as those of a CPU do."""
DEVICES = {
    "h100": ("NVIDIA H100 80GB HBM3", (9, 0), 132, 79.2, 50),
    "a10": ("NVIDIA A10", (8, 6), 72, 22.1, 6),
    "laptop": ("NVIDIA GeForce RTX 4060 Laptop GPU", (8, 9), 24, 7.75, 32),
    "two": ("NVIDIA H100 80GB HBM3", (9, 0), 132, 79.2, 50),
    "rocm": ("AMD Instinct MI300X", (9, 4), 304, 191.5, 4),
    "mps": ("Apple M3", (0, 0), 10, 16.0, 4),
    "xpu": ("Intel Arc A770", (0, 0), 32, 15.9, 16),
    "mig": ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", (9, 0), 16, 9.75, 6),
}


class Stream:
    """Work in order; ``until`` is when the device will have done all of it."""

    def __init__(self, device: object = None, priority: int = 0) -> None:
        self.until = 0.0

    def add(self, seconds: float) -> None:
        self.until = max(self.until, time.perf_counter()) + seconds

    def reached(self) -> float:
        return max(self.until, time.perf_counter())

    def wait_stream(self, other: "Stream") -> None:
        self.until = max(self.until, other.until)

    def wait_event(self, event: "Event") -> None:
        self.until = max(self.until, event.at or 0.0)

    def synchronize(self) -> None:
        _refuse("waiting for a stream")
        time.sleep(max(0.0, self.until - time.perf_counter()))

    def query(self) -> bool:
        return self.until <= time.perf_counter()

    def record_event(self, event: "Event | None" = None) -> "Event":
        event = event or Event()
        event.record(self)
        return event


class Event:
    """A place in a stream, and the device's time there."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False) -> None:
        self.at: float | None = None
        self.timing = enable_timing

    def record(self, stream: Stream | None = None) -> None:
        self.at = (stream or _state.stream).reached()

    def synchronize(self) -> None:
        _refuse("waiting for an event")
        if self.at is None:
            raise RuntimeError("the event was never recorded")
        time.sleep(max(0.0, self.at - time.perf_counter()))

    def query(self) -> bool:
        return self.at is None or self.at <= time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        (stream or _state.stream).wait_event(self)

    def elapsed_time(self, other: "Event") -> float:
        if not (self.timing and other.timing):
            raise ValueError("both events need enable_timing=True")
        if self.at is None or other.at is None:
            raise ValueError("both events need to have been recorded")
        if not other.query():
            raise RuntimeError("CUDA error: device not ready")
        return 1e3 * (other.at - self.at)


class _State:
    def __init__(self) -> None:
        self.default = Stream()
        self.stream = self.default
        self.capturing: CUDAGraph | None = None
        self.within = False
        """Whether a custom operator is at work, in which no mode of this double sees what is asked for."""
        self.pools: list[CUDAGraph] = []
        self.alive: dict[int, int] = {}
        self.allocated = self.peak = self.reserved = 0

    def keep(self, tensor: torch.Tensor) -> None:
        """Count a storage for as long as it lives."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.alive or not size:
            return
        self.alive[key] = size
        self.allocated += size
        self.peak = max(self.peak, self.allocated)
        self.reserved = max(self.reserved, -(-self.allocated // 2**21) * 2**21)
        weakref.finalize(storage, self.free, key)

    def free(self, key: int) -> None:
        self.allocated -= self.alive.pop(key, 0)


_state = _State()
_SYNCHRONISING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "_unique2", "is_nonzero")
"""Operations whose result the host has to see."""


def _product_flops(name: str, args: Any) -> float:
    """Of a plain matrix product; 0 for what is none."""
    if name not in ("mm", "bmm"):
        return 0.0
    return 2.0 * args[0].numel() * args[1].shape[-1]


def _bulk(name: str, args: Any, kwargs: Any) -> Any:
    """What stands for a very large tensor that is filled, copied or cast, without the work; None for anything else."""
    if name in ("ones", "randn") and math.prod(args[0]) > MOST_ELEMENTS:
        return torch.empty(args[0], dtype=kwargs.get("dtype"))  # whose pages nobody touches
    if name in ("zero_", "fill_", "copy_", "normal_", "_to_copy") and args[0].numel() > MOST_ELEMENTS:
        return args[0].new_empty(args[0].shape, dtype=kwargs.get("dtype")) if name == "_to_copy" else args[0]
    return None


def _refuse(what: str) -> None:
    if _state.capturing is not None:
        _state.capturing.broken = True
        raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({what})")


class _Device(TorchDispatchMode):
    """Every operation goes to the current stream, and into the graph that is being captured."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else torch loads its compiler, for seconds, to leave this mode out of what is compiled

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if name in _SYNCHRONISING:
            _refuse(name)
            _state.stream.synchronize()
        flops = _product_flops(name, args)
        if flops > MOST_FLOPS:  # it would take a CPU seconds, and nobody looks at the numbers
            result = args[0].new_empty(*args[0].shape[:-1], args[1].shape[-1])
        elif (result := _bulk(name, args, kwargs or {})) is None:
            _state.within = func.namespace in OWN
            try:
                result = func(*args, **(kwargs or {}))
            finally:
                _state.within = False
        if not func.is_view:
            _state.stream.add(OPERATION_S + flops / FLOPS_PER_S)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                _state.keep(tensor)
        if _state.capturing is not None:
            _state.capturing.steps.append((func, args, kwargs or {}, result))
        return result


class _Factories(TorchFunctionMode):
    """Whoever asks for CUDA gets the CPU."""

    def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "device" in kwargs:
            kwargs["device"] = _on_the_cpu(kwargs["device"])
        name = getattr(func, "__name__", "")
        if name == "cuda":
            return args[0]
        if name in ("to", "type", "new_empty", "new_zeros", "new_ones", "new_full", "new_tensor"):
            args = (args[0], *map(_on_the_cpu, args[1:]))
        return func(*args, **kwargs)


def _on_the_cpu(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type in KINDS:
        return torch.device("cpu")
    if isinstance(value, str) and value.partition(":")[0] in KINDS:
        return "cpu"
    return value


class CUDAGraph:
    """The operations of a capture, done again on each replay into the memory that they wrote first."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.steps: list[tuple[Any, Any, Any, Any]] = []
        self.broken = False
        self._pool: object = (0, id(self))

    def pool(self) -> object:
        return self._pool

    def reset(self) -> None:
        self.steps.clear()
        if self in _state.pools:
            _state.pools.remove(self)

    def replay(self) -> None:
        if self.broken or not self.steps:
            raise RuntimeError("CUDA error: the graph holds no capture")
        with torch.no_grad():
            for func, args, kwargs, result in self.steps:
                inputs = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if _is_tensor(t)}
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if _is_tensor(old) and old is not new and old.untyped_storage().data_ptr() not in inputs:
                        old.detach().copy_(new)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


class graph:  # torch's own name
    """A capture."""

    def __init__(
        self, cuda_graph: CUDAGraph, pool: object = None, stream: object = None, capture_error_mode: str = "global"
    ) -> None:
        self._graph = cuda_graph
        if pool is not None:
            cuda_graph._pool = pool

    def __enter__(self) -> None:
        gc.collect()
        torch.cuda.synchronize()
        _state.capturing = self._graph

    def __exit__(self, *raised: object) -> None:
        _state.capturing = None
        if self._graph.broken:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        _state.pools.append(self._graph)


@contextlib.contextmanager
def _stream(chosen: Stream | None) -> Iterator[None]:
    before = _state.stream
    _state.stream = chosen or before
    try:
        yield
    finally:
        _state.stream = before


def _synchronize(device: object = None) -> None:
    _refuse("waiting for the device")
    time.sleep(max(0.0, _state.stream.until - time.perf_counter(), _state.default.until - time.perf_counter()))


def _snapshot(*_: object, **__: object) -> list[dict[str, object]]:
    return [
        {"total_size": _state.reserved, "segment_pool_id": (0, 0)},
        *({"total_size": 2**21, "segment_pool_id": captured.pool()} for captured in _state.pools),
    ]


def _properties(kind: str) -> SimpleNamespace:
    name, (major, minor), processors, gib, l2 = DEVICES[kind]
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    return SimpleNamespace(
        name=name, major=major, minor=minor, total_memory=int(gib * GIB), multi_processor_count=processors,
        L2_cache_size=l2 * 2**20, uuid=uuid, max_threads_per_multi_processor=2048, regs_per_multiprocessor=65536,
        warp_size=32, shared_memory_per_block_optin=232448 if major == 9 else 101376, is_integrated=0, gcnArchName="",
    )  # fmt: skip


def _any_backend(*_: object, **__: object) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _compiled(model: Callable[..., Any] | None = None, **options: Any) -> Any:
    """The same function, with the counters and the region that a compilation leaves: no compiler is needed here."""
    if model is None:
        return functools.partial(_compiled, **options)
    from torch._dynamo.utils import counters

    seen: set[object] = set()

    @functools.wraps(model)
    def run(*args: Any) -> Any:
        key = (tuple((t.shape, t.dtype) for t in tree_leaves(args) if _is_tensor(t)), torch.is_grad_enabled())
        if key not in seen:
            seen.add(key)
            counters["stats"]["unique_graphs"] += 1
            counters["inductor"]["fxgraph_cache_miss"] += 1
        with torch.profiler.record_function("Torch-Compiled Region: 0/0"):
            return model(*args)

    return run


def _profile_on_the_cpu() -> None:
    import torch.profiler as profiler

    their_profile = profiler.profile.__init__

    def profile(self: Any, *, activities: object = None, **options: Any) -> None:
        their_profile(self, activities=[profiler.ProfilerActivity.CPU], **options)

    profiler.profile.__init__ = profile  # type: ignore[method-assign]


def _install_other(family: str, properties: SimpleNamespace, reset_peak: Callable[..., None]) -> None:
    """What torch offers of MPS or XPU, and nothing of CUDA's."""
    torch.accelerator.current_accelerator = lambda check_available=False: torch.device(family)  # type: ignore[assignment]
    torch.accelerator.is_available = lambda: True
    torch.accelerator.synchronize = _synchronize
    if family == "mps":
        torch.mps.event.Event = Event  # type: ignore[misc,assignment]
        offered: dict[str, object] = {
            "synchronize": _synchronize,
            "recommended_max_memory": lambda: properties.total_memory,
            "driver_allocated_memory": lambda: _state.reserved,
            "current_allocated_memory": lambda: _state.allocated,
            "empty_cache": lambda: None,
        }
    else:
        offered = {
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "Event": Event,
            "synchronize": _synchronize,
            "memory_allocated": lambda device=None: _state.allocated,
            "max_memory_allocated": lambda device=None: _state.peak,
            "memory_reserved": lambda device=None: _state.reserved,
            "reset_peak_memory_stats": reset_peak,
            "empty_cache": lambda: None,
            "mem_get_info": lambda device=None: (properties.total_memory - _state.reserved, properties.total_memory),
            "get_device_properties": lambda device=None: properties,
            "get_device_name": lambda device=None: properties.name,
        }
    for name, value in offered.items():
        setattr(getattr(torch, family), name, value)


def install() -> None:
    """Let this process believe in a GPU, of which it has no other sign than `torch.cuda`'s."""
    kind = os.environ.get("GPU_DOUBLE", "h100")
    properties = _properties(kind)
    their_device = torch._C.TensorBase.device.__get__
    family = kind if kind in KINDS else "cuda"
    named = torch.device(family, 0)

    def real(tensor: torch.Tensor) -> torch.device:
        with torch._C.DisableTorchFunction():
            found: torch.device = their_device(tensor)
        return found

    def pretends(tensor: torch.Tensor) -> bool:
        return real(tensor).type == "cpu" and not _state.within

    torch.Tensor.device = property(lambda t: named if pretends(t) else real(t))  # type: ignore[assignment]
    torch.Tensor.is_cuda = property(lambda t: family == "cuda" and pretends(t))  # type: ignore[assignment]
    torch.Tensor.is_cpu = property(lambda t: not pretends(t) and real(t).type == "cpu")  # type: ignore[assignment]

    their_generator = torch.Generator

    class Generator(their_generator):  # type: ignore[misc,valid-type]
        def __new__(cls, device: object = "cpu") -> Any:
            return their_generator("cpu")

    torch.Generator = Generator  # type: ignore[misc]
    their_autocast = torch.autocast.__init__

    def autocast(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        their_autocast(self, "cpu" if device_type in KINDS else device_type, *args, **kwargs)

    torch.autocast.__init__ = autocast  # type: ignore[method-assign]
    for asked in ("is_autocast_enabled", "get_autocast_dtype"):
        answer = getattr(torch, asked)
        setattr(
            torch, asked, lambda kind=None, _a=answer: _a("cpu" if kind in KINDS else kind) if kind else _a()
        )  # fmt: skip

    def reset_peak(device: object = None) -> None:
        _state.peak = _state.allocated

    torch.compile = _compiled  # type: ignore[assignment]
    _profile_on_the_cpu()
    if family != "cuda":
        _install_other(family, properties, reset_peak)
        _Factories().__enter__()
        _Device().__enter__()
        return
    for name, value in {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "is_bf16_supported": lambda *_, **__: properties.major >= 8,
        "device_count": lambda: 2 if kind == "two" and "," in os.environ.get("CUDA_VISIBLE_DEVICES", "0,1") else 1,
        "current_device": lambda: 0,
        "init": lambda: None,
        "_lazy_init": lambda: None,
        "set_device": lambda device: None,
        "device": lambda device: contextlib.nullcontext(),
        "synchronize": _synchronize,
        "Event": Event,
        "Stream": Stream,
        "stream": _stream,
        "current_stream": lambda device=None: _state.stream,
        "default_stream": lambda device=None: _state.default,
        "CUDAGraph": CUDAGraph,
        "graph": graph,
        "is_current_stream_capturing": lambda: _state.capturing is not None,
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: properties.name,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "memory_allocated": lambda device=None: _state.allocated,
        "max_memory_allocated": lambda device=None: _state.peak,
        "memory_reserved": lambda device=None: _state.reserved,
        "reset_peak_memory_stats": reset_peak,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
        "mem_get_info": lambda device=None: (properties.total_memory - _state.reserved, properties.total_memory),
        "memory_snapshot": _snapshot,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "get_rng_state_all": list,
        "set_rng_state_all": lambda states: None,
        "_sleep": lambda cycles: _state.stream.add(cycles / CYCLES_PER_S),
    }.items():
        setattr(torch.cuda, name, value)
    torch.version.cuda = "13.0"  # type: ignore[assignment]
    if kind == "rocm":
        torch.version.cuda, torch.version.hip = None, "7.0.1"  # type: ignore[assignment]
    # a backend that this device is asked for is not to be had on a CPU
    torch.nn.attention.sdpa_kernel = functools.wraps(torch.nn.attention.sdpa_kernel)(_any_backend)
    _Factories().__enter__()
    _Device().__enter__()
