"""What each output is, found by running at two sizes: an axis is known by what it grows with."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from suite.audit.reading.arguments import words
from suite.audit.reading.trial import Outputs
from suite.audit.subject import Kind, Output, Scene, Side

SUMS = 1e-2
"""How far weights may be from a sum of 1."""

MORE = 4
"""How many slots of its own a module may put beside those of its sides, such as one for the class."""


@dataclass(frozen=True, kw_only=True)
class Longer:
    """An axis over sides' slots and a few more."""

    owners: tuple[Side, ...]
    by: int


Label = str | tuple[Side, ...] | int | Longer
"""Of an axis: ``batch``, ``const``, ``?``, the sides whose slots it runs over, or how many times the batch it is."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One output: what it means, and how its axes are laid for the audit."""

    output: Output
    axes: tuple[int, ...] = ()
    """The order that puts the batch first and slots where `Output` has them, after unfolding."""
    folded: int = 1
    """How many parts of each example lie on the first axis."""
    parts_first: bool = False
    """Whether all examples' first parts come before any second one."""
    widened: bool = False
    """Whether an axis of one feature is added."""
    source: str = ""
    """What the module calls it, where it is a part of that."""
    part: tuple[int, slice] | None = None
    """Along which axis of what the module returns it is which part."""
    why: str = ""
    """Why it is not judged."""

    @property
    def returned(self) -> str:
        """The name of what it is, or is a part of."""
        return self.source or self.output.name

    def laid(self, value: Tensor) -> Tensor:
        """The output as the audit reads it."""
        if self.output.kind == "unknown":
            return value
        if self.part is not None:
            axis, places = self.part
            value = value.movedim(axis, 0)[places].movedim(0, axis)
        if self.folded > 1:
            value = _unfolded(value, self.folded, parts_first=self.parts_first)
        if value.dim() != len(self.axes):
            raise RuntimeError(f"{self.output.name} has {value.dim()} axes where it had {len(self.axes)}")
        value = value.permute(self.axes)
        return value.unsqueeze(-1) if self.widened else value


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """A scene and the sizes in it."""

    scene: Scene
    outputs: Outputs

    @property
    def lengths(self) -> dict[Side, int]:
        return {side: features.shape[1] for side, features in self.scene.features.items()}


def classify(
    small: Sizes, large: Sizes, call: Callable[[Scene], Outputs], *, stated: Mapping[str, Kind] | None = None
) -> tuple[Seen, ...]:
    """What each output is.

    Args:
        small: outputs of a scene without padding.
        large: of another with other numbers of examples and of slots; sides of a fixed length keep it.
        call: of the module, for what two sizes leave open.
        stated: kinds that a user gives.
    """
    fixed = {side: length for side, length in small.lengths.items() if large.lengths[side] == length and length > 1}
    found = []
    for name, value in small.outputs.items():
        parts = _with_more(name, value, large.outputs.get(name), small, large, fixed, call)
        if parts and name not in (stated or {}):
            found += parts
            continue
        seen = _seen(name, value, large.outputs.get(name), small, large, fixed, call)
        kind = (stated or {}).get(name)
        if kind == "unknown":
            seen = Seen(output=Output(name=name, kind="unknown"), why="as stated")
        elif kind is not None and kind != seen.output.kind and seen.output.kind != "unknown":
            seen = replace(seen, output=replace(seen.output, kind=kind))
        found.append(seen)
    return tuple(_pooled(seen, found, small) for seen in found)


def _seen(
    name: str,
    value: Tensor,
    other: Tensor | None,
    small: Sizes,
    large: Sizes,
    fixed: Mapping[Side, int],
    call: Callable[[Scene], Outputs],
) -> Seen:
    def unknown(why: str) -> Seen:
        return Seen(output=Output(name=name, kind="unknown"), why=why)

    if not value.is_floating_point():
        return unknown("it holds no floating-point numbers")
    if other is None or other.dim() != value.dim():
        return unknown("it is there at some sizes only, or its axes change with them")
    labels = _labels(value.shape, other.shape, small, large, fixed)
    folded, parts_first = 1, False
    if "batch" not in labels:
        if not labels or not isinstance(labels[0], int):
            return unknown("none of its axes runs over the examples")
        folded = labels[0]
        order = _fold(name, folded, small, call)
        if order is None:
            return unknown("its first axis holds several parts of each example in no order that was found")
        parts_first = order
        value = _unfolded(value, folded, parts_first=parts_first)
        labels = ["batch", "const", *labels[1:]]
    batch = labels.index("batch")
    rest = [axis for axis in range(len(labels)) if axis != batch]
    odd = [axis for axis in rest if labels[axis] in ("?", "batch") or isinstance(labels[axis], int | Longer)]
    if odd:
        size = small.outputs[name].shape
        return unknown(f"axis {odd[0]} of {list(size)} grows with nothing known")
    slots = [axis for axis in rest if isinstance(labels[axis], tuple)]
    plain = [axis for axis in rest if axis not in slots]
    owners = [labels[axis] for axis in slots]
    if not slots:
        kind: Kind = "vectors" if len(rest) <= 1 else "fixed"
        output = Output(name=name, kind=kind, side=_named_side(name, small.lengths))
        return Seen(output=output, axes=(batch, *rest), folded=folded, parts_first=parts_first, widened=not rest)
    if len(slots) == 1:
        owner = owners[0]
        assert isinstance(owner, tuple)
        if _sums_to_one(value, (slots[0],)):
            if len(owner) > 1:
                return unknown("it holds weights over the slots of several sides in one row")
            return Seen(
                output=Output(name=name, kind="weights", side=owner[0]),
                axes=(batch, *plain, *slots),
                folded=folded,
                parts_first=parts_first,
            )
        axes = (batch, *slots, *plain)
        if len(owner) == 1:
            output = Output(name=name, kind="tokens", side=owner[0])
        else:
            output = Output(name=name, kind="joined", sides=_in_order(owner, small, name, slots[0], folded, call))
        return Seen(output=output, axes=axes, folded=folded, parts_first=parts_first, widened=not plain)
    if len(slots) > 2 or any(isinstance(owner, tuple) and len(owner) > 1 for owner in owners):
        return unknown("it has more axes over slots than two, or one over several sides beside another")
    first, last = slots
    if _sums_to_one(value, (last,)):
        kind = "weights"
    elif _sums_to_one(value, (first,)):
        kind, (first, last) = "weights", (last, first)
    else:
        kind = "joint_weights" if _sums_to_one(value, (first, last)) else "similarities"
    rows, side = labels[first], labels[last]
    assert isinstance(rows, tuple)
    assert isinstance(side, tuple)
    return Seen(
        output=Output(name=name, kind=kind, side=side[0], rows=rows[0]),
        axes=(batch, *plain, first, last),
        folded=folded,
        parts_first=parts_first,
    )


def _with_more(
    name: str,
    value: Tensor,
    other: Tensor | None,
    small: Sizes,
    large: Sizes,
    fixed: Mapping[Side, int],
    call: Callable[[Scene], Outputs],
) -> list[Seen]:
    """An output over sides' slots and a few more of the module's own, as one output each; nothing where it is none."""
    if other is None or other.dim() != value.dim() or value.dim() != 3 or not value.is_floating_point():
        return []
    labels = _labels(value.shape, other.shape, small, large, fixed)
    axis = next((at for at, label in enumerate(labels) if isinstance(label, Longer)), None)
    if axis is None or sorted(map(str, labels[:axis] + labels[axis + 1 :])) != ["batch", "const"]:
        return []
    longer = labels[axis]
    assert isinstance(longer, Longer)
    if _sums_to_one(value, (axis,)):
        return []
    begins = {side: _first_of(side, name, axis, small, call) for side in longer.owners}
    owners = tuple(sorted(longer.owners, key=lambda side: begins[side]))
    front = begins[owners[0]]
    where, expected = front, []
    for side in owners:
        expected.append(where)
        where += small.lengths[side]
    if front not in (0, longer.by) or [begins[side] for side in owners] != expected:
        return []
    size = longer.by
    slots, more = (slice(size, None), slice(0, size)) if front else (slice(0, -size), slice(-size, None))
    batch = labels.index("batch")
    axes = (batch, axis, 3 - batch - axis)
    kind: Kind = "tokens" if len(owners) == 1 else "joined"
    own = (
        Output(name=name, kind=kind, side=owners[0]) if kind == "tokens" else Output(name=name, kind=kind, sides=owners)
    )
    which = f"{name}[:, {'' if front else -size}:{size if front else ''}]"
    return [
        Seen(output=own, axes=axes, source=name, part=(axis, slots)),
        Seen(output=Output(name=which, kind="fixed"), axes=axes, source=name, part=(axis, more)),
    ]


def _first_of(side: Side, name: str, axis: int, small: Sizes, call: Callable[[Scene], Outputs]) -> int:
    """Where along an axis the first slot of a side stands: what moves most when it changes."""
    features = small.scene.features[side].clone()
    features[:, 0] = 3 * features[:, 0].flip(-1) + 1
    changed = call(replace(small.scene, features={**small.scene.features, side: features}))[name]
    return int((changed - small.outputs[name]).double().abs().movedim(axis, 0).flatten(1).mean(-1).argmax())


def _unfolded(value: Tensor, parts: int, *, parts_first: bool) -> Tensor:
    """``[B * parts, ...]`` or ``[parts * B, ...]`` as ``[B, parts, ...]``."""
    if parts_first:
        return value.reshape(parts, -1, *value.shape[1:]).transpose(0, 1)
    return value.reshape(-1, parts, *value.shape[1:])


def _fold(name: str, parts: int, small: Sizes, call: Callable[[Scene], Outputs]) -> bool | None:
    """Whether parts come before examples on a first axis that holds both: other examples stay when one changes."""
    features = {side: tensor.clone() for side, tensor in small.scene.features.items()}
    for tensor in features.values():
        tensor[0] = 2 * tensor[0].flip(-1) + 1
    changed = call(replace(small.scene, features=features))[name]
    for parts_first in (False, True):
        difference = _unfolded((changed - small.outputs[name]).abs(), parts, parts_first=parts_first)
        if float(difference[0].max()) > 0 and float(difference[1:].max()) <= 1e-4 * float(difference[0].max()):
            return parts_first
    return None


def _labels(
    shape: Sequence[int], other: Sequence[int], small: Sizes, large: Sizes, fixed: Mapping[Side, int]
) -> list[Label]:
    one, two = small.lengths, large.lengths
    sums: dict[tuple[int, int], tuple[Side, ...]] = {}
    for size in range(1, len(one) + 1):
        for chosen in itertools.combinations(one, size):
            if size == 1 and chosen[0] in fixed:
                continue
            pair = sum(one[side] for side in chosen), sum(two[side] for side in chosen)
            if pair[0] != pair[1]:
                sums.setdefault(pair, chosen)
    labels: list[Label] = []
    for a, b in zip(shape, other, strict=True):
        if (a, b) == (small.scene.size, large.scene.size):
            labels.append("batch")
        elif (a, b) in sums:
            labels.append(sums[a, b])
        elif a == b:
            held = [side for side, length in fixed.items() if length == a]
            # an axis of a fixed side looks like one of features; the first one that is as long is taken for its slots
            free = held and labels and (held[0],) not in labels and len(labels) < len(shape) - 1
            labels.append((held[0],) if free else "const")
        elif a % small.scene.size == 0 and a * large.scene.size == b * small.scene.size:
            labels.append(a // small.scene.size)
        else:
            more = (by for by in range(1, MORE + 1) if (a - by, b - by) in sums)
            by = next(more, 0)
            labels.append(Longer(owners=sums[a - by, b - by], by=by) if by else "?")
    return labels


def _sums_to_one(value: Tensor, axes: tuple[int, ...]) -> bool:
    if not bool((value >= 0).all()):
        return False
    return bool(((value.double().sum(axes) - 1).abs() < SUMS).all())


def _in_order(
    sides: tuple[Side, ...], small: Sizes, name: str, axis: int, folded: int, call: Callable[[Scene], Outputs]
) -> tuple[Side, ...]:
    """In which order the slots of several sides follow each other: those that change move most themselves."""
    movements: dict[Side, Tensor] = {}
    for side in sides:
        features = small.scene.features[side]
        changed = replace(small.scene, features={**small.scene.features, side: 3 * features.flip(-1) + 1})
        difference = (call(changed)[name] - small.outputs[name]).double().abs()
        difference = difference.reshape(-1, folded, *difference.shape[1:]) if folded > 1 else difference
        movements[side] = difference.transpose(0, axis).flatten(1).mean(-1)

    def own(order: tuple[Side, ...]) -> float:
        total, start = 0.0, 0
        for side in order:
            stop = start + small.lengths[side]
            total += float(movements[side][start:stop].mean() / movements[side].mean().clamp(min=1e-30))
            start = stop
        return total

    return max(itertools.permutations(sides), key=own)


def _named_side(name: str, sides: Mapping[Side, int]) -> Side:
    """The side whose name an output's name holds; empty where none."""
    own = set(words(name))
    return next((side for side in sides if set(words(side)) & own), "")


def _pooled(seen: Seen, others: Sequence[Seen], small: Sizes) -> Seen:
    """The output; where it is a side's features weighted by weights that are returned too, as that side's."""
    if seen.output.kind != "vectors" or seen.output.side:
        return seen
    vector = seen.laid(small.outputs[seen.output.name]).flatten(1)
    for weights in others:
        if weights.output.kind != "weights" or weights.output.rows is not None:
            continue
        features = small.scene.features[weights.output.side]
        rows = weights.laid(small.outputs[weights.output.name]).reshape(len(vector), -1, features.shape[1])
        pooled = (rows @ features).flatten(1)
        if pooled.shape == vector.shape and torch.allclose(pooled, vector, rtol=1e-3, atol=1e-4):
            return replace(seen, output=replace(seen.output, side=weights.output.side))
    return seen


def with_cuts(seen: Sequence[Seen], full: Outputs, padded: Outputs, less: Mapping[Side, int]) -> tuple[Seen, ...]:
    """The outputs with whether their slot axes are cut to the longest row.

    Args:
        seen: what they are.
        full: outputs of a scene without padding.
        padded: of the same scene with so many of the last slots of ``less`` as padding in every example.
        less: sides and numbers of slots.
    """
    found = []
    for one in seen:
        before, after = full.get(one.returned), padded.get(one.returned)
        cut = False
        if before is not None and after is not None and one.output.kind in ("tokens", "weights", "similarities"):
            axes = [(axis, owner) for axis, owners in one.output.slot_axes() for owner in owners]
            first, second = one.laid(before), one.laid(after)
            if first.dim() == second.dim():
                cut = any(first.shape[a] - second.shape[a] == less[o] for a, o in axes if less.get(o))
        found.append(replace(one, output=replace(one.output, cut=cut)) if cut else one)
    return tuple(found)


def in_words(seen: Seen) -> str:
    """What an output is, after its name."""
    output = seen.output
    match output.kind:
        case "tokens":
            said = f"one vector per slot of {output.side}"
        case "joined":
            said = f"one vector per slot of {' and then of '.join(output.sides)}"
        case "weights":
            said = f"weights over slots of {output.side}"
            said += f", one row per slot of {output.rows}" if output.rows is not None else ""
        case "joint_weights":
            said = f"weights over all pairs of slots of {output.rows} and {output.side}"
        case "similarities":
            said = f"a number for each pair of slots of {output.rows} and {output.side}, judged on valid pairs alone"
        case "fixed":
            said = "several vectors per example, as many at any size" if seen.part is None else "slots of its own"
        case "vectors":
            said = "one vector per example" + (f", of {output.side}" if output.side else "")
        case _:
            said = f"not judged: {seen.why}"
    return said + (", cut to the longest row" if output.cut else "")
