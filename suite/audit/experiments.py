"""Experiments on a subject that failed: where padding first reaches what is valid, and on which line of its code.

A cause is stated as a fact only where one of these showed it on the very module.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from suite.audit.calling import NotJudged, here
from suite.audit.checks.padding import EMPTY, poured, widened
from suite.audit.lab import Lab, Lacking, Raised
from suite.audit.subject import Scene, Side, slots_of, with_side

HIDDEN = -1e3
"""Scores of padding below this are taken for hidden."""
MOVED = 1e-4
"""Relative, what rounding does not move in float32."""

_MEANS: Mapping[str, str] = {
    "_softmax": "the softmax",
    "_safe_softmax": "the softmax",
    "bmm": "a product that sums over slots",
    "mm": "a product that sums over slots",
    "addmm": "a product that sums over slots",
    "baddbmm": "a product that sums over slots",
    "sum": "a sum over slots",
    "mean": "a mean over slots",
    "var_mean": "statistics over slots",
    "amax": "a maximum over slots",
    "max": "a maximum over slots",
    "cumsum": "a running sum over slots",
    "convolution": "a convolution over slots",
    "native_batch_norm": "a normalisation over slots",
    "cudnn_batch_norm": "a normalisation over slots",
    "lstm": "a recurrence over slots",
    "gru": "a recurrence over slots",
    "mkldnn_rnn_layer": "a recurrence over slots",
    "sort": "a sort over slots",
    "topk": "a choice of the largest slots",
    "flip": "a reversal of slots",
    "roll": "a shift of slots",
}
"""What an operation is in which padding first reaches a valid slot."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as it ran."""

    name: str
    place: str
    """`` at file.py:12``, in the user's own code; empty where it is in none."""
    made: tuple[Tensor, ...]
    scores: Tensor | None = None
    """Of a softmax: what it was taken of, its axis last."""

    @property
    def meaning(self) -> str:
        if "attention" in self.name:
            return "attention"
        return _MEANS.get(self.name, f"the operation {self.name}")


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """Keeps every operation that is run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        made = func(*args, **(kwargs or {}))
        name = str(getattr(func, "overloadpacket", func)).rpartition(".")[2]
        tensors = tuple(value for value in (made if isinstance(made, tuple | list) else (made,)) if _counts(value))
        if tensors:
            scores = None
            if "softmax" in name and isinstance(args[0], Tensor) and isinstance(args[1], int):
                scores = args[0].detach().movedim(args[1], -1).clone()
            kept = tuple(value.detach().clone() for value in tensors)
            self.operations.append(Operation(name=name, place=here(), made=kept, scores=scores))
        return made


def _counts(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0


def trace(lab: Lab, scene: Scene) -> list[Operation]:
    """The operations of one call in eval mode."""
    kept = Trace()
    with kept, lab.entered(), torch.no_grad():
        lab.call(scene.copied())
    return kept.operations


def sides_of_softmax(lab: Lab, scene: Scene, side: Side, operation: Operation) -> Tensor | None:
    """The scores of a softmax over a side's slots, ``[B, ..., L]``; None where it is over something else."""
    scores, width = operation.scores, scene.valid[side].shape[1]
    if scores is None or scores.shape[-1] != width or scores.dim() < 2 or scores.shape[0] % scene.size:
        return None
    return scores.reshape(scene.size, -1, width)


def first_moved(lab: Lab, side: Side, before: Scene, after: Scene) -> Operation | None:
    """The first operation whose result differs between two scenes where every slot of that side is valid."""
    for one, two in zip(trace(lab, before), trace(lab, after), strict=False):
        if one.name != two.name:
            return None
        for left, right in zip(one.made, two.made, strict=False):
            left, right = _where_valid(before, side, left), _where_valid(after, side, right)
            if left.shape != right.shape or left.numel() == 0:
                continue
            scale = float(torch.nan_to_num(left.double()).square().mean().sqrt())
            difference = torch.nan_to_num((left.double() - right.double()).abs(), nan=math.inf)
            if float(difference.max()) > MOVED * max(scale, 1e-12):
                return one
    return None


def _where_valid(scene: Scene, side: Side, value: Tensor) -> Tensor:
    """The part of an intermediate result in which no padded slot of a side has a place of its own.

    An axis as long as the side is taken for its slots; those of every example's padding are cut.
    """
    valid = scene.valid[side]
    examples, width = valid.shape
    everywhere = valid.all(0).nonzero().squeeze(-1)
    for axis in range(value.dim()):
        size = value.shape[axis]
        if size == examples * width:
            value = value.index_select(axis, valid.flatten().nonzero().squeeze(-1))
        elif size == width:
            value = value.index_select(axis, everywhere)
    return value


def first_not_finite(operations: Sequence[Operation]) -> Operation | None:
    """The first operation that made a NaN; else the first infinity of another operation than a fill."""
    for operation in operations:
        if any(bool(value.isnan().any()) for value in operation.made):
            return operation
    return None


def facts(lab: Lab, side: Side) -> Iterator[str]:
    """What experiments show about how a side's padding gets through, the nearest cause first.

    Each is a sentence that names the line; nothing where they show nothing.
    """
    own = lab.subject.side(side)
    batch = lab.batch
    whole = with_side(batch, side, valid=torch.ones_like(batch.valid[side]))
    with lab.entered(), torch.no_grad():
        again = lab.judge(lab.call(whole.copied()), batch)
    if all(torch.equal(again[name], value) for name, value in lab.reference.items()):
        yield (
            f"the mask of {side} is never used: outputs are the same whatever it says; "
            f"follow it to every softmax and every sum over {own.slots}"
        )
        return
    filled = poured(batch, side, 3 * lab.normal(*slots_of(batch, side)[0].shape, salt=20))
    moved = first_moved(lab, side, batch, filled)
    softmaxes = [
        operation for operation in trace(lab, batch) if sides_of_softmax(lab, batch, side, operation) is not None
    ]
    seen = [_pad_scores(lab, batch, side, operation) for operation in softmaxes]
    for operation, (least, most) in zip(softmaxes, seen, strict=True):
        if most <= HIDDEN:
            continue
        if least == most == 0:
            yield (
                f"the softmax{operation.place} counts padding: scores of padded {own.slots} are 0, and each takes "
                f"exp(0) of its row; fill them with -inf, where the row has another entry"
            )
        elif least == most:
            yield (
                f"the softmax{operation.place} has the fill {most:g} for padded {own.slots}, too small a number to "
                f"hide them; fill with -inf, where the row has another entry"
            )
        else:
            yield (
                f"the softmax{operation.place} does not see the mask of {side}: scores of padded {own.slots} are "
                f"ordinary numbers there; fill them with -inf, where the row has another entry"
            )
        return
    if moved is None and own.length is None:
        wide = widened(lab, batch, side, 7)
        moved = first_moved(lab, side, batch, wide)
    if moved is None:
        return
    if softmaxes and "softmax" not in moved.name and "attention" not in moved.name:
        yield (
            f"the mask of {side} reaches the softmax{softmaxes[0].place}, and not the affinity: padded {own.slots} "
            f"first reach valid ones in {moved.meaning}{moved.place}; zero them before that"
        )
    else:
        yield f"padded {own.slots} first reach valid ones in {moved.meaning}{moved.place}; mask it there"


def _pad_scores(lab: Lab, scene: Scene, side: Side, operation: Operation) -> tuple[float, float]:
    """The least and the largest score of padding in a softmax, of rows that are not padding of another side."""
    scores = sides_of_softmax(lab, scene, side, operation)
    assert scores is not None
    pads = scores.movedim(1, -1)[~scene.valid[side]]  # [pads, rows]
    if pads.numel() == 0:
        return -math.inf, -math.inf
    return float(pads.min()), float(pads.max())


def of_nan_pads(lab: Lab, side: Side) -> str:
    """Where NaN in padding first gets through."""
    moved = first_moved(lab, side, lab.batch, poured(lab.batch, side, math.nan))
    if moved is None:
        return ""
    return (
        f"NaN in padding first gets through in {moved.meaning}{moved.place}, where a weight or a mask of 0 meets it, "
        f"and 0 * NaN is NaN; blank padding with where or masked_fill before that"
    )


def of_empty_row(lab: Lab, side: Side) -> str:
    """Which operation first makes a NaN of a row without a valid slot."""
    valid = lab.batch.valid[side].clone()
    valid[EMPTY] = False
    return _first_nan(
        lab, with_side(lab.batch, side, valid=valid), f"of a row without valid {lab.subject.side(side).slots}"
    )


def of_ordinary_batch(lab: Lab) -> str:
    """Which operation first makes a NaN of an ordinary padded batch."""
    return _first_nan(lab, lab.batch, "of rows that are padding alone")


def _first_nan(lab: Lab, scene: Scene, what: str) -> str:
    bad = first_not_finite(trace(lab, scene))
    if bad is None:
        return ""
    if "softmax" in bad.name and bad.scores is not None and bool((bad.scores == -math.inf).all(-1).any()):
        return (
            f"the softmax{bad.place} makes the first NaN, {what}: all its scores are -inf; "
            f"fill with -inf only where the row has another entry"
        )
    return f"{bad.meaning}{bad.place} makes the first NaN, {what}"


def of_narrow_type(lab: Lab, dtype: torch.dtype, scene: Scene | None = None) -> str:
    """Which operation first gives a number that a narrow type cannot hold."""
    own = Lab(lab.subject.cast(dtype), lab.seed)
    try:
        operations = trace(own, own.batch if scene is None else scene)
    except (Raised, NotJudged):
        return ""
    for operation in operations:
        if any(not bool((value.isfinite() | (value == -math.inf)).all()) for value in operation.made):
            return f"the first number that is not finite is made by {operation.meaning}{operation.place}"
    return ""


def safely(experiment: Callable[[], str]) -> str:
    """An experiment's sentence; empty where it could not be made."""
    try:
        return experiment()
    except (Lacking, Raised, NotJudged, RuntimeError, ValueError, TypeError, IndexError):
        return ""
