"""Where the time of a traced step goes: by named region, work of the backward pass under the region that caused it.

A backward function carries the sequence number of the operation that made it. Of several forward operations with one
number the last is the one that took it: those before it are the calls around it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import nn
from torch._C._autograd import DeviceType  # what the events below say of themselves
from torch.autograd.profiler_util import FunctionEvent
from torch.utils.hooks import RemovableHandle

from variants.regions import region

STEP = "ProfilerStep"
FORWARD, BACKWARD = "forward", "backward"
"""The two spans of a step, which `suite.bench.probes.step` names."""
ADDED_UP = "gradients added up"
NOT_OF_THE_STEP = "between the calls"
MOST_ROWS = 150
COMPILED = "compiled graph"
"""What is in it and under no operation are kernels that the compiler made."""
_WRAPPERS = ("Torch-Compiled Region", "CompiledFunction", "## Call CompiledFxGraph", "TorchDynamo Cache Lookup")
_PART = "part: "
_DEEPEST_PART = 2
_RUNS = "autograd::engine::evaluate_function: "
Row = tuple[str, float, float, int]
"""A path with slashes, such as ``backward/scores/MmBackward0``; seconds on the host, on the device, and how often."""


@contextmanager
def parts_named(module: nn.Module) -> Iterator[None]:
    """Within, calls of a module's own parts show in a trace: those of a mechanism that names no regions tell it then.

    Not for what is compiled, which would be compiled again because of the hooks.
    """
    hooks = []
    for name, part in module.named_modules():
        if name and name.count(".") < _DEEPEST_PART:
            hooks += _hooked(f"{_PART}{name}", part)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _hooked(name: str, part: nn.Module) -> list[RemovableHandle]:
    entered: list[AbstractContextManager[object]] = []

    def enter(*_: object) -> None:
        entered.append(region(name))
        entered[-1].__enter__()

    def leave(*_: object) -> None:
        if entered:
            entered.pop().__exit__(None, None, None)

    return [part.register_forward_pre_hook(enter), part.register_forward_hook(leave, always_call=True)]


def regions(events: Iterable[FunctionEvent]) -> list[Row]:
    """The time of every operation of the traced steps under its path, the longest first.

    Times are self times, so that they add up to those of the steps; an operation is the outermost below a region.
    What is beyond `MOST_ROWS` is left under the spans that it belongs to.
    """
    found = [event for event in events if event.device_type == DeviceType.CPU and not event.is_async]
    named = any(_is_region(event) and not event.name.startswith(_PART) for event in found)
    caused = {number: _regions_around(event, parts=not named) for number, event in _last_of_each_number(found).items()}
    host: dict[str, float] = defaultdict(float)
    device: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for event in found:
        path, outermost = _path(event, caused, parts=not named)
        if path:
            host[path] += event.self_cpu_time_total / 1e6
            device[path] += event.self_device_time_total / 1e6
            calls[path] += outermost
    ordered = sorted(host, key=lambda path: -(host[path] + device[path]))
    for path in ordered[MOST_ROWS:]:
        span = path.partition("/")[0]
        host[span] += host.pop(path)
        device[span] += device[path]
    return [(path, host[path], device[path], calls[path]) for path in ordered if path in host]


def _above(event: FunctionEvent | None) -> Iterator[FunctionEvent]:
    """An event and all that it lies in, from the inside."""
    while event is not None:
        yield event
        event = event.cpu_parent


def _is_region(event: FunctionEvent) -> bool:
    return bool(event.is_user_annotation) and event.name not in (FORWARD, BACKWARD) and not event.name.startswith(STEP)


def _path(event: FunctionEvent, caused: dict[int, tuple[str, ...]], *, parts: bool) -> tuple[str, bool]:
    """Where an event belongs, and whether it is itself the outermost operation there; nothing outside of a step."""
    chain = list(_above(event))
    at = next((place for place, above in enumerate(chain) if above.name.startswith(STEP)), None)
    names: list[str] = []
    if at is None:
        # torch runs the backward pass on a GPU in a thread of its own, which lies in no step
        if not any(above.name.startswith(_RUNS) for above in chain):
            return "", False
        names.append(BACKWARD)
    for above in reversed(chain[:at]):
        if above.name.startswith(_RUNS):
            name = above.name.removeprefix(_RUNS)
            names += [ADDED_UP] if "AccumulateGrad" in name else caused.get(above.sequence_nr, ())
            if not name.startswith(_WRAPPERS):
                return "/".join([*names, name] if names[-1] != ADDED_UP else names), event is above
        elif above.name.startswith(_WRAPPERS):
            if names[-1:] != [COMPILED]:
                names.append(COMPILED)
        elif not above.is_user_annotation:
            names.append(_said(above))
            return "/".join(names), event is above
        elif parts or not above.name.startswith(_PART):
            names.append(_said(above))
    return "/".join(names) or NOT_OF_THE_STEP, False


def _said(event: FunctionEvent) -> str:
    return event.name.removeprefix(_PART).replace("/", " ")


def _last_of_each_number(events: Iterable[FunctionEvent]) -> dict[int, FunctionEvent]:
    """By sequence number, the forward operation that took it."""
    last: dict[int, FunctionEvent] = {}
    for event in events:
        if event.sequence_nr < 0 or any(above.name.startswith(_RUNS) for above in _above(event)):
            continue
        before = last.get(event.sequence_nr)
        if before is None or event.time_range.start >= before.time_range.start:
            last[event.sequence_nr] = event
    return last


def _regions_around(event: FunctionEvent, *, parts: bool) -> tuple[str, ...]:
    around = [
        _said(above) for above in _above(event) if _is_region(above) and (parts or not above.name.startswith(_PART))
    ]
    return tuple(reversed(around))
