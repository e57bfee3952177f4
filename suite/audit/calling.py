"""How a subject is called: in which mode and dtype, with which randomness, and whose an exception is."""

import dis
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from types import FrameType, TracebackType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from suite.core.errors import words

NORMALISATION = nn.modules.batchnorm._NormBase
"""Layers whose train mode takes statistics over the batch."""


class NotJudged(Exception):
    """A comparison that cannot be made, through no fault of the subject; the message is the reason."""


def ended_inside(error: BaseException, module: nn.Module) -> bool:
    """Whether an exception was raised by a module's own code, or by what that called; not by who calls the module."""
    parts = {id(part) for part in module.modules()}
    trace = error.__traceback__
    while trace is not None:
        if id(trace.tb_frame.f_locals.get("self")) in parts:
            return True
        trace = trace.tb_next
    return False


_NOT_THEIRS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))

_PYTHONS = str(Path(traceback.__file__).parent)


def place(error: BaseException) -> str:
    """Where in a user's own code an exception passed last, as ``file.py:12``; empty where it did not."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if theirs(frame.f_code.co_filename):
            found = f"{Path(frame.f_code.co_filename).name}:{line}"
    return found


def refuses(error: BaseException) -> bool:
    """Whether a user's own code raises it on purpose: an ``assert`` or a ``raise`` of theirs, and no operation."""
    last: TracebackType | None = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not theirs(last.tb_frame.f_code.co_filename):
        return False
    code = last.tb_frame.f_code.co_code
    return dis.opname[code[last.tb_lasti]] == "RAISE_VARARGS"


_CALLER = str(Path(__file__).with_name("lab.py"))
"""What stands above this file's frames called the subject."""


def here() -> str:
    """Where in a user's own code a function is being called, as `` at file.py:12``; empty where it is in none.

    A package that only helps, as those for a notation of arrays do, is passed over for the module that calls it.
    """
    frame: FrameType | None = sys._getframe(1)
    passed: list[FrameType] = []
    while frame is not None and frame.f_code.co_filename != _CALLER:
        if theirs(frame.f_code.co_filename):
            passed.append(frame)
            if isinstance(frame.f_locals.get("self"), nn.Module):
                break
        frame = frame.f_back
    if not passed:
        return ""
    owner = _package(passed[-1].f_code.co_filename)
    own = next(one for one in passed if _package(one.f_code.co_filename) in (owner, ""))
    return f" at {Path(own.f_code.co_filename).name}:{own.f_lineno}"


def _package(filename: str) -> str:
    """The installed package that a file is of; empty where it is not installed."""
    _, installed, inside = filename.partition("site-packages/")
    return inside.partition("/")[0] if installed else ""


def theirs(filename: str) -> bool:
    """Whether a file is of a user's own code, or of a package of theirs: not of torch, of this program or of Python."""
    if filename.startswith(_PYTHONS) and "site-packages" not in filename:
        return False
    return not filename.startswith((*_NOT_THEIRS, "<")) and not filename.endswith(("run_all.py", "/pytest/__main__.py"))


def told(error: BaseException) -> str:
    """An exception's class and message on one line, whatever its own ``__str__`` does."""
    text = words(error)
    return text if len(text) <= 200 else f"{text[:197]}..."


_SPARE: list[np.random.MT19937] = []
"""Generators that no call uses at the moment: to make one takes half a millisecond."""


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Every source of randomness started from one seed; put back afterwards."""
    # the global generators, since a module may draw from them
    kept = torch.get_rng_state(), random.getstate()
    # numpy's is exchanged for one of ours meanwhile: copying its state out and in takes as long as a small call
    theirs = np.random.get_bit_generator()  # type: ignore[attr-defined]  # numpy's stubs leave them out
    ours = _SPARE.pop() if _SPARE else np.random.MT19937(0)
    np.random.set_bit_generator(ours)  # type: ignore[attr-defined]
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 2 ms, for devices that are not there
    if cuda:
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_bit_generator(theirs)  # type: ignore[attr-defined]
        _SPARE.append(ours)
        random.setstate(kept[1])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


@contextmanager
def cast_in_place(module: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Parameters, buffers and other tensors of a module in another floating dtype, without a copy of the module.

    Some modules cannot be copied (normalised weights, kept results, locks), and none has to be.
    """
    held = [(tensor, tensor.data) for tensor in chain(module.parameters(), module.buffers())]
    attributes = [
        (part, name, value)
        for part in module.modules()
        for name, value in vars(part).items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype
    ]
    held = [(tensor, data) for tensor, data in held if data.is_floating_point() and data.dtype != dtype]
    try:
        for tensor, data in held:
            tensor.data = data.to(dtype)
        for part, name, value in attributes:
            vars(part)[name] = value.detach().to(dtype)
        yield
    finally:
        for tensor, data in held:
            tensor.data = data
        for part, name, value in attributes:
            vars(part)[name] = value


_DROPOUT = nn.modules.dropout._DropoutNd, nn.MultiheadAttention, nn.RNNBase


@contextmanager
def mode(module: nn.Module, *, train: bool, statistics: bool = False) -> Iterator[None]:
    """Train or eval mode, without dropout in layers that are known; modes, rates and buffers are put back.

    Args:
        module: what is switched.
        train: train mode, but for layers that would take statistics over the batch.
        statistics: train mode for those too.
    """
    modes = [(part, part.training) for part in module.modules()]
    rates = [
        (part, field, getattr(part, field))
        for part in module.modules()
        for field in ("p", "dropout")
        if train and isinstance(part, _DROPOUT) and getattr(part, field, None)
    ]
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()] if train else []
    # set one by one and only where it differs: a compiled module guards on these
    for part, was in modes:
        wanted = train and (statistics or not isinstance(part, NORMALISATION))
        if was != wanted:
            part.training = wanted
    for part, field, _ in rates:
        setattr(part, field, 0.0)
    try:
        yield
    finally:
        for part, was in modes:
            if part.training != was:
                part.training = was
        for part, field, rate in rates:
            setattr(part, field, rate)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


class Quiet(TorchFunctionMode):
    """Dropout functions with a rate of their own drop nothing, as their layers do with a rate of 0."""

    _RATES: Mapping[Callable[..., object], tuple[str, int]] = {
        functional.dropout: ("p", 1),
        functional.dropout1d: ("p", 1),
        functional.dropout2d: ("p", 1),
        functional.dropout3d: ("p", 1),
        functional.alpha_dropout: ("p", 1),
        functional.feature_alpha_dropout: ("p", 1),
        torch.dropout: ("p", 1),
        torch.dropout_: ("p", 1),
        torch.feature_dropout: ("p", 1),
        functional.scaled_dot_product_attention: ("dropout_p", 4),
    }

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        given = dict(kwargs or {})
        if func in self._RATES:
            name, place = self._RATES[func]
            if len(args) > place:
                args = (*args[:place], 0.0, *args[place + 1 :])
            else:
                given[name] = 0.0
        return func(*args, **given)


@contextmanager
def entered(
    module: nn.Module,
    *,
    dtype: torch.dtype | None = None,
    train: bool = False,
    statistics: bool = False,
    quiet: bool = True,
    seed: int = 0,
) -> Iterator[None]:
    """A module as the audit calls it: in one mode, seeded, and in another dtype where one is given."""
    with ExitStack() as stack:
        if dtype is not None:
            stack.enter_context(cast_in_place(module, dtype))
        stack.enter_context(mode(module, train=train, statistics=statistics))
        if train and quiet:
            stack.enter_context(Quiet())
        stack.enter_context(seeded(seed))
        yield
