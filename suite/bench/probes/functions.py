"""Functions that everybody in a process calls: whether somebody has put others in their place, and which.

A file that replaces ``torch.softmax``, or a method of ours, replaces it for its neighbours too. Looked at are the names
of torch's that a mechanism is written in, Python's own, and every module and class of this program. What merely holds a
value is left alone, and so is what is added to a module, as a compiler does: nobody of ours calls it.
"""

import builtins
import itertools
import math
import operator
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch

_HOUSES = ("variants", "suite")
_MOST_NAMED = 3
_MOMENTS = itertools.count()
_PYTHONS = vars(builtins)
_BEFORE = dict(_PYTHONS)


def pythons_own() -> list[str]:
    """Which names of Python's own stand for something else; without calling one of them."""
    return [name for name, value in _BEFORE.items() if _PYTHONS.get(name) is not value]


def put_back_pythons_own() -> None:
    """Let Python's own names stand for what they stood for."""
    _PYTHONS.update(_BEFORE)


class Functions:
    """What each name stands for at one moment; two are equal where nothing changed from the first to the second."""

    def __init__(self) -> None:
        self._moment = next(_MOMENTS)
        self._held = {place: (owner, vars(owner).copy()) for place, owner in _owners()}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Functions):
            return False
        first, second = sorted((self, other), key=lambda one: one._moment)
        return not first.changed(second)

    __hash__ = None  # type: ignore[assignment]  # it is compared, and never a key

    def changed(self, now: "Functions") -> list[str]:
        """The names that stand for something else now, such as ``torch.softmax``."""
        return [f"{place}.{name}" for place, _, name in self._differences(now)]

    def put_back(self) -> None:
        """Let every name stand for what it stood for."""
        for place, owner, name in list(self._differences(Functions())):
            held = self._held[place][1]
            if name in held:
                setattr(owner, name, held[name])
            else:
                delattr(owner, name)

    def _differences(self, now: "Functions") -> Iterator[tuple[str, Any, str]]:
        for place, (owner, before) in self._held.items():
            _, after = now._held.get(place, (owner, before))
            if len(before) == len(after) and all(map(operator.is_, before.values(), after.values())):
                continue  # nearly always
            for name, was in before.items():
                value = after.get(name)
                if not _alike(was, value) and (_is_function(was) or _is_function(value)):
                    yield place, owner, name
            if isinstance(owner, type):  # what is added to a class may hide what it has from another
                hidden = {name for base in owner.__mro__[1:] for name in vars(base)}
                for name in sorted(hidden & (after.keys() - before.keys())):
                    yield place, owner, name


def said(before: Functions, now: Functions) -> str:
    """Which names differ, in brackets; at most a few."""
    names = before.changed(now)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f" ({', '.join(names[:_MOST_NAMED])}{more})"


def _owners() -> Iterator[tuple[str, Any]]:
    """Modules and classes whose functions others call, each under the name by which a person knows it."""
    yield "math", math
    for module in (torch, torch.nn.functional, torch.linalg, torch.special):
        yield module.__name__, module
    yield "torch.Tensor", torch.Tensor
    for name, kind in vars(torch.nn).items():
        if isinstance(kind, type):
            yield f"torch.nn.{name}", kind
    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] not in _HOUSES:
            continue
        yield name, module
        for kind in list(vars(module).values()):
            if isinstance(kind, type) and kind.__module__ == name:
                yield f"{name}.{kind.__qualname__}", kind


def _alike(before: object, now: object) -> bool:
    """Whether both are the same, or torch itself has changed it, as it does when its compiler is loaded."""
    if before is now or _wraps(before, now) or _wraps(now, before):
        return True
    return before is not None and type(now) is FunctionType and _home(now).startswith("torch._")


def _wraps(one: object, other: object) -> bool:
    if other is None or type(one) is not FunctionType or vars(one).get("__wrapped__") is not other:
        return False
    return _home(one).partition(".")[0] == "torch"


def _home(function: FunctionType) -> str:
    """The module that it was written in, whatever it says of itself."""
    return str(function.__globals__.get("__name__"))


def _is_function(value: object) -> bool:
    return callable(value) or isinstance(value, (property, staticmethod, classmethod))
