"""What is right of a module: the answer of an audit, and a padding test of its own that shares no code with it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Outputs = Sequence[tuple[Tensor, int | None]]
"""Each output, and the number of the side whose slots its second axis runs over."""
Call = Callable[..., Outputs]
"""Of a module and, for each side, features ``[B, L, D]`` and validity ``[B, L]``, True where real."""
LENGTHS = (9, 6, 4)
WIDER = 3
NOISE = 5.0
ROUNDING = 1e-4


@dataclass(frozen=True, kw_only=True)
class Case:
    """One module."""

    name: str
    make: Callable[[], Any]
    exits: tuple[int, ...]
    """What an audit may end with."""
    broken: tuple[tuple[str, ...], ...]
    """Properties of which one of each group has to be found broken."""
    sound: tuple[str, ...]
    """Properties that must not be."""
    says: str
    """A regular expression that the answer has to hold."""
    never: str
    """One that it must not hold."""
    call: Call | None
    """How its author calls it; where it is left out, only the answer is held against the table."""
    sides: tuple[int, ...]
    """Widths."""
    lengths: tuple[tuple[int, ...], ...]
    """Of each side, how many slots each example has; where all have as many, the side is never padded."""
    what: str


CASES: dict[str, Case] = {}


def case(
    *,
    exit: str = "0",
    broken: str = "",
    sound: str = "P1,P2,P3,P6",
    says: str = "",
    never: str = "",
    call: Call | None = None,
    sides: tuple[int, ...] = (),
    lens: Sequence[Sequence[int]] | None = None,
    what: str = "",
) -> Callable[[Any], Any]:
    """Enter a class or factory into the table; what is right is written as ``0|2``, ``P1,P6|P1``.

    What it stands for is its docstring unless it is given.
    """

    def enter(make: Any) -> Any:
        turned = [LENGTHS[index:] + LENGTHS[:index] for index in range(len(sides))]
        CASES[make.__name__] = Case(
            name=make.__name__,
            make=make,
            exits=tuple(int(code) for code in exit.split("|")),
            broken=tuple(tuple(group.split("|")) for group in broken.split(",") if group),
            sound=tuple(filter(None, sound.split(","))) if exit.startswith("0") else (),
            says=says,
            never=never,
            call=call,
            sides=sides,
            lengths=tuple(tuple(some) for some in lens or turned),
            what=what or make.__doc__ or "",
        )
        return make

    return enter


def broken(case: Case) -> dict[str, float]:
    """How far valid outputs move, relative, when padding holds something else, grows, or is cut away."""
    assert case.call is not None
    call = case.call
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = case.make().eval()
        generator = torch.Generator().manual_seed(5)
        real = [
            [torch.randn(length, width, generator=generator) for length in lengths]
            for width, lengths in zip(case.sides, case.lengths, strict=True)
        ]

        def batch(wider: int, noise: float, seed: int) -> list[Tensor]:
            around = torch.Generator().manual_seed(seed)
            made = []
            for width, lengths, slots in zip(case.sides, case.lengths, real, strict=True):
                most = max(lengths) + (wider if len(set(lengths)) > 1 else 0)
                features = torch.randn(len(lengths), most, width, generator=around) * noise
                for row, held in zip(features, slots, strict=True):
                    row[: len(held)] = held
                made += [features, torch.arange(most) < torch.tensor(lengths)[:, None]]
            return made

        def run(arguments: list[Tensor]) -> Outputs:
            torch.manual_seed(1)
            return call(module, *[argument.clone() for argument in arguments])

        def apart(one: Outputs, example: int, two: Outputs, other: int) -> float:
            furthest = 0.0
            for (before, side), (after, _) in zip(one, two, strict=True):
                first, second = before[example], after[other]
                if side is not None:
                    count = case.lengths[side][example]
                    first, second = first[:count], second[:count]
                moved = float((first - second).abs().max() / first.abs().max().clamp(min=1e-6))
                furthest = max(furthest, math.inf if math.isnan(moved) else moved)
            return furthest

        examples = range(len(case.lengths[0]))
        reference = run(batch(0, 1.0, 1))
        noisy, wide = run(batch(0, NOISE, 2)), run(batch(WIDER, 1.0, 3))
        alone = [
            run([tensor for slots in real for tensor in (slots[i][None], torch.ones(1, len(slots[i])).bool())])
            for i in examples
        ]
        return {
            "contents": max(apart(reference, i, noisy, i) for i in examples),
            "width": max(apart(reference, i, wide, i) for i in examples),
            "cut": max(apart(reference, i, alone[i], 0) for i in examples),
        }
