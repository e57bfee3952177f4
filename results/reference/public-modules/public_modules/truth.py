"""A padding test that knows one module: what the audit's answer is held against.

It needs torch and the module's own package, and nothing of the suite. Each case says by hand how its module is called,
which axes of what it gives run over slots, and what is right. The test itself is the plainest there is: features of
five examples with different numbers of real slots, padding behind them, everything in float64.
"""

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

EXAMPLES = 5
ROUNDING = 2**13
"""How many roundings apart two runs may be: sums of some thousand terms, in another order where padding is trimmed."""


class Side(NamedTuple):
    name: str
    width: int
    length: int
    """Slots of the longest example."""
    padded: bool = True
    shortest: int = 2


class Out(NamedTuple):
    """One output, batch first, and which of its axes run over whose slots."""

    value: Tensor
    axes: tuple[tuple[int, str], ...] = ()


Given = Mapping[str, Tensor]
"""Features ``[B, L, D]``, or validity ``[B, L]``, True where real, by the name of the side."""
Call = Callable[[nn.Module, Given, Given], Mapping[str, Out]]
Right = Literal["correct", "wrong", "cannot be judged"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One public module."""

    name: str
    package: str
    """The distribution that holds it, by its name in the package index."""
    make: Callable[[], nn.Module]
    sides: tuple[Side, ...]
    call: Call
    """How the module's own callers hand it features and masks."""
    right: Right = "correct"
    breaks: tuple[str, ...] = ()
    """Where it is wrong, the questions of the truth that it fails: see ``truth``."""
    why: str = ""
    line: str = ""
    """Where it is wrong, the line that makes it so."""
    bare: bool = True
    """Whether the module says the same without an adapter; False where the case is one way to call it."""
    dtype: torch.dtype = torch.float64
    rounds_in: torch.dtype = torch.float64
    """The narrowest type that it computes in, whatever it is given."""

    def module(self) -> nn.Module:
        """The module with seeded weights, in eval mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make().eval().requires_grad_(True)

    def version(self) -> str | None:
        """Of the package; None where it is not installed."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None


def tokens(value: Tensor, side: str) -> Out:
    return Out(value, ((1, side),))


def pooled(value: Tensor) -> Out:
    return Out(value)


def additive(valid: Tensor, dtype: torch.dtype) -> Tensor:
    """``[B, 1, 1, L]``: 0 where real, the lowest number of the type where padding."""
    return torch.zeros(valid.shape, dtype=dtype).masked_fill(~valid, torch.finfo(dtype).min)[:, None, None, :]


@dataclass(frozen=True)
class Scene:
    features: dict[str, Tensor]
    valid: dict[str, Tensor]


def scene(case: Case, *, seed: int) -> Scene:
    """Features of examples with different numbers of real slots, ordinary numbers in the padding behind them."""
    made = torch.Generator().manual_seed(seed)
    features, valid = {}, {}
    for side in case.sides:
        counts = torch.linspace(side.length, side.shortest, EXAMPLES).long() if side.padded else None
        if counts is not None:
            counts = counts[torch.randperm(EXAMPLES, generator=made)]
        drawn = torch.randn(EXAMPLES, side.length, side.width, generator=made, dtype=torch.float64)
        features[side.name] = drawn.to(case.dtype)
        slots = torch.arange(side.length).expand(EXAMPLES, -1)
        valid[side.name] = slots < (side.length if counts is None else counts[:, None])
    return Scene(features, valid)


def run(case: Case, module: nn.Module, given: Scene) -> dict[str, Out]:
    with torch.no_grad():
        return dict(case.call(module, given.features, given.valid))


def real(out: Out, valid: Given, example: int) -> Tensor:
    """One example's part of an output, over real slots alone."""
    value = out.value[example]
    for axis, side in out.axes:
        (kept,) = valid[side][example].nonzero(as_tuple=True)
        value = value.index_select(axis - 1, kept)
    return value


def apart(case: Case, first: dict[str, Out], second: dict[str, Out], valid: Given, other: Given) -> float:
    """The largest difference at real slots, relative to the output's size; infinite where something is not finite."""
    worst = 0.0
    for name, out in first.items():
        for example in range(EXAMPLES):
            a, b = real(out, valid, example), real(second[name], other, example)
            if a.shape != b.shape or not bool(torch.isfinite(b).all()):
                return float("inf")
            scale = a.double().square().mean().sqrt().clamp_min(1e-30)
            worst = max(worst, float((a.double() - b.double()).abs().max() / scale) if a.numel() else 0.0)
    return worst


def with_padding(case: Case, given: Scene, fill: Callable[[Tensor], Tensor]) -> Scene:
    changed = {
        name: torch.where(given.valid[name][..., None], value, fill(value)) for name, value in given.features.items()
    }
    return Scene(changed, given.valid)


def truth(case: Case) -> dict[str, float]:
    """How far real outputs move, by question; ``tolerance`` is what rounding may move.

    ``finite``: 0 where every real output of an ordinary padded batch is finite. ``content``: other numbers in the
    padding. ``count``: more padding. ``trimmed``: each example alone, without its padding. ``large``: numbers of size
    1e4 in the padding. ``nan``: NaN in the padding, infinite where it gets through. ``read``: one real slot of a side
    is hidden by its mask, the least of the sides: 0 where a mask has no effect. ``gradient``: parameters' gradients of
    a loss on real outputs, with other numbers in the padding; infinite where they are not finite. ``train``: other
    numbers in the padding in train mode, all randomness seeded alike.
    """
    module = case.module().to(case.dtype)
    given = scene(case, seed=1)
    before = run(case, module, given)
    found = {"finite": 0.0 if apart(case, before, before, given.valid, given.valid) == 0 else float("inf")}
    draw = torch.Generator().manual_seed(2)
    noise = with_padding(case, given, lambda value: 3 * torch.randn(value.shape, generator=draw).to(value.dtype))
    found["content"] = apart(case, before, run(case, module, noise), given.valid, given.valid)
    wider = with_more_padding(case, given)
    found["count"] = apart(case, before, run(case, module, wider), given.valid, wider.valid)
    found["gradient"] = moved_gradients(case, module, given, noise)
    found["trimmed"] = trimmed(case, module, given, before)
    big = with_padding(case, given, lambda value: 1e4 * torch.randn(value.shape, generator=draw).to(value.dtype))
    found["large"] = apart(case, before, run(case, module, big), given.valid, given.valid)
    nan = with_padding(case, given, lambda value: torch.full_like(value, float("nan")))
    found["nan"] = apart(case, before, run(case, module, nan), given.valid, given.valid)
    found["train"] = in_train_mode(case, given, noise)
    found["read"] = hidden(case, module, given, before)
    found["tolerance"] = ROUNDING * max(torch.finfo(case.rounds_in).eps, torch.finfo(case.dtype).eps)
    return found


def moved_gradients(case: Case, module: nn.Module, given: Scene, noise: Scene) -> float:
    first, second = gradients(case, module, given), gradients(case, module, noise)
    worst = 0.0
    scale = torch.cat([value.flatten() for value in first]).square().mean().sqrt().clamp_min(1e-30) if first else 1.0
    for a, b in zip(first, second, strict=True):
        if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
            return float("inf")
        worst = max(worst, float((a - b).abs().max() / scale))
    return worst


def in_train_mode(case: Case, given: Scene, noise: Scene) -> float:
    outs = []
    for each in (given, noise):
        module = case.module().to(case.dtype).train()  # its own: running statistics move
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            outs.append(run(case, module, each))
    return apart(case, *outs, given.valid, given.valid)


def gradients(case: Case, module: nn.Module, given: Scene) -> list[Tensor]:
    """Of the parameters that a loss on real outputs reaches, in eval mode."""
    module.zero_grad()
    outs = case.call(module, given.features, given.valid)
    loss = torch.zeros((), dtype=torch.float64)
    for out in outs.values():
        for example in range(EXAMPLES):
            kept = real(out, given.valid, example).double()
            if kept.requires_grad:
                loss = loss + kept[kept.detach().abs() < 1e30].square().sum()  # scores hold a fill at padding
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    return [each.grad.double() for each in module.parameters() if each.grad is not None]


def with_more_padding(case: Case, given: Scene) -> Scene:
    """Five slots of padding more on each padded side."""
    draw = torch.Generator().manual_seed(3)
    features, valid = dict(given.features), dict(given.valid)
    for side in case.sides:
        if side.padded:
            more = torch.randn(EXAMPLES, 5, side.width, generator=draw).to(case.dtype)
            features[side.name] = torch.cat((features[side.name], more), 1)
            valid[side.name] = torch.cat((valid[side.name], torch.zeros(EXAMPLES, 5, dtype=torch.bool)), 1)
    return Scene(features, valid)


def trimmed(case: Case, module: nn.Module, given: Scene, before: dict[str, Out]) -> float:
    worst = 0.0
    for example in range(EXAMPLES):
        keep = {name: valid[example] for name, valid in given.valid.items()}
        alone = Scene(
            {name: value[example : example + 1, keep[name]] for name, value in given.features.items()},
            {name: valid[example : example + 1, keep[name]] for name, valid in given.valid.items()},
        )
        after = run(case, module, alone)
        for name, out in before.items():
            a, b = real(out, given.valid, example).double(), real(after[name], alone.valid, 0).double()
            if a.shape != b.shape or not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
                return float("inf")
            scale = a.square().mean().sqrt().clamp_min(1e-30)
            worst = max(worst, float((a - b).abs().max() / scale) if a.numel() else 0.0)
    return worst


def hidden(case: Case, module: nn.Module, given: Scene, before: dict[str, Out]) -> float:
    """What hiding the second slot of a side moves at the slots that stay, the least of the sides that have a mask."""
    moves = []
    for side in case.sides:
        if not side.padded:
            continue
        valid = dict(given.valid)
        valid[side.name] = valid[side.name].clone()
        valid[side.name][:, 1] = False
        after = run(case, module, Scene(given.features, valid))
        moves.append(apart(case, before, after, valid, valid))
    return min(moves, default=0.0)


QUESTIONS = ("finite", "content", "count", "trimmed", "gradient", "train")
"""What has to hold of a correct module; the others tell how robust it is and whether its masks are read."""


def broken(found: Mapping[str, float]) -> tuple[str, ...]:
    """The questions that it fails."""
    return tuple(name for name in QUESTIONS if not found[name] <= found["tolerance"])
