"""An experiment on hand-written backward passes: each alone against finite differences of its own forward."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function
from torch.autograd.graph import Node

from suite.audit.calling import theirs
from suite.audit.lab import Lab


def of_own_backward(lab: Lab) -> str:
    """Whose hand-written backward is not that of its forward; empty where each is, or where there is none."""
    wide = Lab(lab.subject.cast(torch.float64), lab.seed)
    with wide.entered():
        for kind in _kinds(wide):
            given = _given(wide, kind)
            if given is not None and not _right(kind, given):
                return (
                    f"the hand-written backward of {kind.__qualname__}{_place(kind)} is not that of its forward: alone "
                    f"it differs from finite differences too; correct it, unless it is meant"
                )
    return ""


def _kinds(lab: Lab) -> list[type[Function]]:
    """The functions with a backward of their own, in a user's code, that one call runs through."""
    found: dict[type[Function], None] = {}
    with torch.enable_grad():
        features = {side: (x.clone().requires_grad_(), valid) for side, (x, valid) in lab.batch.items()}
        outputs = lab.call(lab.batch.map(lambda side, *_: features[side]))
    stack = [value.grad_fn for value in outputs.values() if value.grad_fn is not None]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack.extend(behind for behind, _ in node.next_functions if behind is not None)
        kind = getattr(type(node), "_forward_cls", None)  # of a function in Python alone
        if isinstance(kind, type) and issubclass(kind, Function) and theirs(_file(kind)):
            found[kind] = None
    return list(found)


def _file(kind: type[Function]) -> str:
    return inspect.getsourcefile(kind) or "<unknown>"


def _place(kind: type[Function]) -> str:
    code = getattr(kind.backward, "__code__", None)
    return f" at {Path(code.co_filename).name}:{code.co_firstlineno}" if code is not None else ""


def _given(lab: Lab, kind: type[Function]) -> tuple[Any, ...] | None:
    """What such a function was called with, the first time in one call."""
    kept: list[tuple[Any, ...]] = []
    forward = inspect.getattr_static(kind, "forward")
    call = kind.forward
    apart = kind.setup_context is not Function.setup_context

    def watched(*given: Any) -> Any:
        kept.append(given if apart else given[1:])
        return call(*given)

    setattr(kind, "forward", staticmethod(watched))  # noqa: B010  # a checker takes it for a method's
    try:
        with torch.no_grad():
            lab.call(lab.batch.copied())
    finally:
        setattr(kind, "forward", forward)  # noqa: B010
    return kept[0] if kept else None


def _right(kind: type[Function], given: tuple[Any, ...]) -> bool:
    def fresh() -> Iterator[Any]:
        for value in given:
            differs = isinstance(value, Tensor) and value.is_floating_point()
            yield value.detach().clone().requires_grad_() if differs else value

    with torch.enable_grad():
        return torch.autograd.gradcheck(kind.apply, tuple(fresh()), raise_exception=False, fast_mode=True)
