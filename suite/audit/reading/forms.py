"""The forms in which public code takes features and masks, each made from one boolean validity."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from suite.audit.subject import Scene, Side, drawn

Layout = Literal["[B, L, D]", "[L, B, D]", "[B, D, L]", "[B, D, H, W]", "[B, H, W, D]", "[B, D]", "[L, D]"]
Values = Literal["booleans", "integers", "floats", "additive", "lengths", "shares"]
COUNTS: tuple[Values, ...] = ("lengths", "shares")
"""One number an example: how many slots are real, or which share of them."""
Shape = Literal[
    "[B, L]",
    "[B, 1, 1, L]",
    "[B, 1, L]",
    "[B, L, 1]",
    "[B, 1, L, 1]",
    "[B]",
    "[B, 1]",
    "[B, R, L]",
    "[B, 1, R, L]",
    "[B H, R, L]",
    "[L, B]",
    "[B, L1 + L2]",
    "[B, 1, 1, L1 + L2]",
    "[B, H, W]",
]
Hides = Literal["columns", "pairs"]
"""Of a mask with rows: whether it hides padded slots from every row, or every pair that has padding on either side."""

SINGLE: tuple[Shape, ...] = ("[B, L]", "[B, 1, 1, L]", "[B, 1, L]", "[B, L, 1]", "[B, 1, L, 1]")
PAIRED: tuple[Shape, ...] = ("[B, R, L]", "[B, 1, R, L]", "[B H, R, L]")
JOINED: tuple[Shape, ...] = ("[B, L1 + L2]", "[B, 1, 1, L1 + L2]")
"""One row over the slots of all sides, which follow each other."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """How an argument carries a side's features."""

    side: Side
    layout: Layout = "[B, L, D]"
    width: int
    integers: bool = False
    """Whether it takes whole numbers, one per slot."""
    first: bool = True
    """Whether it is what the side's features are; another argument of the same side is made from them."""

    def given(self, scene: Scene) -> Tensor:
        """The tensor to pass."""
        features, _ = scene[self.side]
        if self.integers:
            numbers: Tensor = drawn(scene.places[self.side], salt=3).abs().mul(1e4).long()
            return numbers % max(self.width - 1, 1) + 1
        if features.shape[-1] != self.width:
            features = _beside(features, self.width)
        return laid_out(features, self.layout)


def _beside(features: Tensor, width: int) -> Tensor:
    """Features of another width that follow a slot: mixed from its own; four numbers are a box in the unit square."""
    mixing = drawn(torch.zeros(1, dtype=torch.long), features.shape[-1], width, salt=5)[0]
    mixed: Tensor = features @ mixing.to(features) / features.shape[-1] ** 0.5
    if width != 4:
        return mixed
    corner, size = mixed.sigmoid().chunk(2, -1)
    return torch.cat([corner / 2, (corner + size) / 2], -1)


def laid_out(features: Tensor, layout: Layout) -> Tensor:
    """Features ``[B, L, D]`` in the layout that an argument takes."""
    match layout:
        case "[L, B, D]":
            return features.transpose(0, 1)
        case "[B, D, L]":
            return features.transpose(1, 2)
        case "[B, D, H, W]":
            channels = features.transpose(1, 2)
            return channels.reshape(*channels.shape[:2], *_grid(features.shape[1]))
        case "[B, H, W, D]":
            return features.reshape(len(features), *_grid(features.shape[1]), features.shape[-1])
        case "[B, D]":
            return features[:, 0]
        case _:
            return features


def _grid(slots: int) -> tuple[int, int]:
    """The squarest grid with that many cells."""
    height = max(h for h in range(1, int(slots**0.5) + 1) if slots % h == 0)
    return height, slots // height


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a mask says which slots are real."""

    side: Side
    values: Values = "booleans"
    real: bool = True
    """Whether True and 1 stand where a slot is real; an additive mask adds 0 there in any case."""
    shape: Shape = "[B, L]"
    rows: Side | None = None
    """Of a paired shape: whose slots its rows are."""
    hides: Hides = "columns"
    heads: int = 1
    joined: tuple[Side, ...] = ()
    """Of a joined shape: whose slots follow each other."""

    @property
    def flipped(self) -> "Form":
        return replace(self, real=not self.real)

    @property
    def sides(self) -> tuple[Side, ...]:
        """Whose padding it hides."""
        if self.joined:
            return self.joined
        if self.rows is not None and self.hides == "pairs" and self.rows != self.side:
            return (self.side, self.rows)
        return (self.side,)

    @property
    def encoding(self) -> str:
        """In words, after ``takes``."""
        shape = self.shape.replace("R", "L1").replace(", L]", ", L2]") if self.rows else self.shape
        if self.joined:
            slots = " + ".join(f"L{number}" for number in range(1, len(self.joined) + 1))
            shape = f"{self.shape.replace('L1 + L2', slots)} of {' and then '.join(self.joined)}"
        match self.values:
            case "lengths":
                return f"lengths, whole numbers, one per example{', [B, 1]' if self.shape == '[B, 1]' else ''}"
            case "shares":
                return "lengths as shares of the padded row, one per example, 1.0 where it is full"
            case "additive":
                told = "0 where real, a large negative number where padding"
                return f"an additive mask {shape}, {told if self.real else 'the other way round'}"
            case "booleans":
                return f"a boolean mask {shape}, True where {'real' if self.real else 'padding'}"
            case _:
                return f"{self.values} 0 and 1, {shape}, 1 where {'real' if self.real else 'padding'}"

    def given(self, scene: Scene, dtype: torch.dtype) -> Tensor:
        """The tensor to pass.

        A scene whose validity is no boolean asks for another encoding of the same: its integers, bytes or floats are
        passed in this form's shape and polarity; a float that has infinities is additive.
        """
        valid = scene.valid[self.side]
        if self.joined:
            valid = torch.cat([scene.valid[side] for side in self.joined], 1)
        values: Values | Literal["as given"] = self.values
        real, kind = self.real, valid.dtype
        if valid.dtype != torch.bool:
            hides = valid.is_floating_point() and not valid.is_meta and bool(valid.isinf().any())
            valid = valid == 0 if hides else valid != 0
            if values not in COUNTS:
                values, real = ("additive", True) if hides else ("as given", real)
        if values in COUNTS:
            if valid.shape != scene.features[self.side].shape[:2]:
                raise ValueError("lengths are counted from a validity that fits the features")
            counts: Tensor = valid.sum(-1)
            counts = counts if real else valid.shape[1] - counts
            if values == "shares":
                return counts.to(dtype) / valid.shape[1]
            return counts[:, None] if self.shape == "[B, 1]" else counts
        told = self._shaped(valid, scene)
        if values == "additive":
            zeros = torch.zeros(told.shape, dtype=dtype, device=told.device)
            return zeros.masked_fill(told != real, torch.finfo(dtype).min)
        told = told if real else ~told
        match values:
            case "integers":
                return told.long()
            case "floats":
                return told.to(dtype)
            case "as given":
                return told.to(kind)
            case _:
                return told

    def _shaped(self, valid: Tensor, scene: Scene) -> Tensor:
        """Validity in this form's shape."""
        match self.shape:
            case "[B, 1, 1, L]" | "[B, 1, 1, L1 + L2]":
                return valid[:, None, None]
            case "[B, 1, L]":
                return valid[:, None]
            case "[B, L, 1]":
                return valid[..., None]
            case "[B, 1, L, 1]":
                return valid[:, None, :, None]
            case "[L, B]":
                return valid.T
            case "[B, H, W]":
                return valid.view(len(valid), *_grid(valid.shape[1]))
            case "[B, R, L]" | "[B, 1, R, L]" | "[B H, R, L]":
                assert self.rows is not None
                rows = scene.valid[self.rows].bool()
                pairs = valid[:, None].expand(-1, rows.shape[1], -1)
                pairs = pairs & rows[..., None] if self.hides == "pairs" else pairs.contiguous()
                if self.shape == "[B, 1, R, L]":
                    return pairs[:, None]
                return pairs.repeat_interleave(self.heads, 0) if self.shape == "[B H, R, L]" else pairs
            case _:
                return valid


def forms(side: Side, sides: Sequence[Side], *, counts: bool, heads: Sequence[int]) -> Iterator[Form]:
    """Every form that a mask of one side may have, the commonest first; polarity and what pairs hide are left open.

    Args:
        side: whose slots it tells of.
        sides: all of them, in order; rows of paired masks are theirs.
        counts: whether it is named like lengths, which are tried first then.
        heads: numbers of heads that the module may have.
    """
    kinds: tuple[Values, ...] = ("booleans", "integers", "floats", "additive")
    shapes: tuple[Shape, ...] = ("[B]", "[B, 1]")
    lengths = [Form(side=side, values="lengths", shape=shape) for shape in shapes]
    lengths.append(Form(side=side, values="shares", shape="[B]"))
    if counts:
        yield from lengths
    for shape in SINGLE:
        for values in kinds:
            yield Form(side=side, values=values, shape=shape)
    if not counts:
        yield from lengths
    for rows in (*(other for other in sides if other != side), side):
        for shape in PAIRED:
            for values in ("booleans", "integers", "floats", "additive"):
                for count in heads if shape == "[B H, R, L]" else (1,):
                    yield Form(side=side, values=values, shape=shape, rows=rows, heads=count)
    for order in itertools.permutations(sides) if 2 <= len(sides) <= 3 else ():
        for shape in JOINED:
            for values in kinds:
                yield Form(side=order[0], values=values, shape=shape, joined=order)
    for shape in ("[L, B]", "[B, H, W]"):
        for values in kinds:
            yield Form(side=side, values=values, shape=shape)
