"""Following a mask through a module: which function is the last to be handed it, and does nothing with it."""

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from suite.audit.calling import theirs
from suite.audit.lab import Lab
from suite.audit.subject import Side


@dataclass(kw_only=True)
class Receiver:
    """A call of a user's own function with something that was made of the mask."""

    function: str
    argument: str
    place: str
    """``file.py:12``, where it is defined."""
    of_module: bool
    """Whether it is a module's own method; other functions may only check it."""
    used: bool = False
    """Whether an operation on it ran in there or below."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """How far a mask went."""

    argument: str
    """Its name where the user's own code first takes it."""
    last: Receiver | None
    """The last function that was handed it and ran no operation on it."""


_SHAPE_ALONE = (
    *(torch.ones_like, torch.zeros_like, torch.empty_like, torch.full_like, torch.rand_like, torch.randn_like),
    *(Tensor.new_ones, Tensor.new_zeros, Tensor.new_empty, Tensor.new_full, Tensor.new_tensor),
)
"""Functions that take nothing of a tensor but its shape and type."""


class _Follower(TorchFunctionMode):
    """Marks what is made of one tensor, and which calls of a user's functions take it."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self._kept: list[Tensor] = [mask]  # alive, so that no other tensor gets one of these numbers
        self._made = {id(mask)}
        self._calls: list[tuple[FrameType, Receiver | None]] = []
        self.receivers: list[Receiver] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        made = func(*args, **given)
        if func not in _SHAPE_ALONE and any(id(value) in self._made for value in _tensors([*args, *given.values()])):
            results = list(_tensors([made]))
            for value in results:
                self._made.add(id(value))
                self._kept.append(value)
            if results:
                for _, receiver in self._calls:
                    if receiver is not None:
                        receiver.used = True
        return made

    def watch(self, frame: FrameType, event: str, argument: object) -> None:
        """For `sys.setprofile`."""
        if event == "call":
            self._calls.append((frame, self._received(frame)))
        elif event == "return" and self._calls and self._calls[-1][0] is frame:
            self._calls.pop()

    def _received(self, frame: FrameType) -> Receiver | None:
        code = frame.f_code
        if not theirs(code.co_filename):
            return None
        named = inspect.getargvalues(frame)
        names = [*named.args, *(name for name in (named.varargs, named.keywords) if name)]
        for name in names:
            value = named.locals.get(name)
            for argument, inner in _parts(name, value, keywords=name == named.keywords).items():
                if any(id(tensor) in self._made for tensor in _tensors([inner])):
                    receiver = Receiver(
                        function=code.co_qualname,
                        argument=argument,
                        of_module=isinstance(named.locals.get("self"), nn.Module),
                        place=f"{Path(code.co_filename).name}:{code.co_firstlineno}",
                    )
                    self.receivers.append(receiver)
                    return receiver
        return None


def _parts(name: str, value: object, *, keywords: bool) -> Mapping[str, object]:
    """An argument, or what is in it where that has names of its own."""
    if keywords and isinstance(value, dict):
        return value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {f"{name}.{key}": part for key, part in zip(value._fields, value, strict=True)}
    return {name: value}


def _tensors(values: Iterable[object]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def follow(lab: Lab, side: Side) -> Followed | None:
    """How far the mask of a side goes in one call in eval mode; None where no function of the user's is handed it."""
    scene = lab.batch.copied()
    follower = _Follower(scene.valid[side])
    before: Any = sys.getprofile()
    with lab.entered(), torch.no_grad(), follower:
        sys.setprofile(follower.watch)
        try:
            lab.call(scene)
        finally:
            sys.setprofile(before)
    if not follower.receivers:
        return None
    unused = [receiver for receiver in follower.receivers if receiver.of_module and not receiver.used]
    return Followed(argument=follower.receivers[0].argument, last=unused[-1] if unused else None)
