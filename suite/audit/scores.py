"""Finding, in a module that nobody described, the weights that scale its scores and the place where to shift them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from suite.audit.calling import NotJudged
from suite.audit.lab import Lab, Raised

STRAIGHT = 1e-3
"""How exactly, relative, log-weights follow a change of a parameter that is the scores' own."""


@dataclass(frozen=True, kw_only=True)
class ScoreHandle:
    """Parameters of one submodule whose doubling multiplies the log-ratios of some weights."""

    path: str
    parameters: tuple[str, ...]
    """Full names."""
    rows: tuple[str, ...]
    """Which weights, by output and glimpse."""
    spread: float
    """Largest difference of log-weights within a row, as the module stands."""
    power: int
    """Log-ratios grow with the factor to this power: 1 for a score's own weights, 2 where query and key share one."""
    shifts: bool
    """Whether adding a constant to what that submodule returns shifts whole rows of scores, which no weight sees."""


def score_handles(lab: Lab) -> tuple[ScoreHandle, ...]:
    """The handles of every weights output that has one, found by trial on a float64 copy, last submodules first."""
    subject = lab.subject
    if not subject.weights():
        return ()
    try:
        wide = Lab(subject.cast(torch.float64), lab.seed)
        base = _log_ratios(wide)
    except (Raised, NotJudged):
        return ()
    missing = {name for name, ratios in base.items() if float(ratios.abs().max()) > 1e-6}
    handles: list[ScoreHandle] = []
    for path, names in reversed(list(_groups(wide.subject.module))):
        if not missing:
            break
        handle = _tried(wide, base, path, names)
        if handle is not None and missing & set(handle.rows):
            handles.append(handle)
            missing -= set(handle.rows)
    return tuple(handles)


@contextmanager
def scaled_scores(module: nn.Module, handles: tuple[ScoreHandle, ...], factor: float) -> Iterator[None]:
    """Multiply what scales the scores, in place; put it back afterwards."""
    named = dict(module.named_parameters())
    kept = [(named[name], named[name].detach().clone()) for handle in handles for name in handle.parameters]
    powers = [1 / handle.power for handle in handles for _ in handle.parameters]
    with torch.no_grad():
        for (parameter, _), power in zip(kept, powers, strict=True):
            parameter.mul_(math.copysign(abs(factor) ** power, factor))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)


@contextmanager
def shifted_scores(module: nn.Module, handles: tuple[ScoreHandle, ...], shift: float) -> Iterator[None]:
    """Add a constant to every score, before any mask can have been applied."""
    hooks = [
        module.get_submodule(handle.path).register_forward_hook(lambda part, inputs, output: output + shift)
        for handle in handles
        if handle.shifts
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _groups(module: nn.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    for path, part in module.named_modules():
        own = tuple(f"{path}.{name}" if path else name for name, _ in part.named_parameters(recurse=False))
        if not own:
            continue
        yield path, own
        if len(own) > 1:
            for name in own:
                yield path, (name,)


def _tried(lab: Lab, base: dict[str, Tensor], path: str, names: tuple[str, ...]) -> ScoreHandle | None:
    module = lab.subject.module
    probe = ScoreHandle(path=path, parameters=names, rows=(), spread=0.0, power=1, shifts=True)
    try:
        with scaled_scores(module, (probe,), 2.0):
            doubled = _log_ratios(lab)
        grown = {name: _growth(base[name], doubled[name]) for name in base}
        rows = tuple(name for name, power in grown.items() if power)
        if not rows:
            return None
        part = module.get_submodule(path)
        shifts = False
        if not list(part.children()):
            with shifted_scores(module, (probe,), 4.0):
                moved = _log_ratios(lab)
            shifts = all(torch.allclose(moved[name], base[name], rtol=STRAIGHT, atol=1e-6) for name in rows)
    except (Raised, NotJudged):
        return None
    return ScoreHandle(
        path=path,
        parameters=names,
        rows=rows,
        spread=max(float(base[name].abs().max()) for name in rows),
        power=max(grown[name] for name in rows),
        shifts=shifts,
    )


def _growth(base: Tensor, doubled: Tensor) -> int:
    scale = float(base.abs().max())
    for power in (1, 2):
        if float((doubled - base * 2**power).abs().max()) < STRAIGHT * scale:
            return power
    return 0


def _log_ratios(lab: Lab) -> dict[str, Tensor]:
    """Log-weights less their row's first, on a batch without padding; each glimpse by itself."""
    outputs = lab.forward(lab.full)
    result: dict[str, Tensor] = {}
    for output in lab.subject.weights():
        logs = outputs[output.name].double().clamp(min=1e-300).log()
        ratios = logs - logs[..., :1]
        glimpses = ratios.unbind(1) if ratios.dim() > 2 and output.rows is None else (ratios,)
        result |= {f"{output.name} {index}": glimpse for index, glimpse in enumerate(glimpses)}
    return result
