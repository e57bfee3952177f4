"""Properties about what stands in padded slots, how many there are, and rows with nothing else."""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from suite.audit.lab import (
    NORMALISATION,
    Lab,
    Lacking,
    Observation,
    Outputs,
    attempt,
)
from suite.audit.subject import SIDES, SLOTS, Side, other, slots_of, with_side
from variants import Batch

PAD_WIDTHS = (1, 7, 8, 64, 127)
"""Odd, even, a vector width, a tile, and a tile less one."""


def masked_sides(lab: Lab) -> tuple[Side, ...]:
    """The sides that can be padded.

    Raises:
        Lacking: it takes no mask.
    """
    if not lab.subject.masked:
        raise Lacking("it takes no mask, so it has no padding")
    return lab.subject.masked


def padded(side: Side) -> str:
    return f"padded {SLOTS[side]}"


def poured(batch: Batch, side: Side, contents: Tensor | float) -> Batch:
    """The batch with other contents in one side's padded slots."""
    features, valid = slots_of(batch, side)
    filling = torch.as_tensor(contents, dtype=features.dtype, device=features.device)
    return with_side(batch, side, features=torch.where(valid.unsqueeze(-1), features, filling))


def fillings(lab: Lab, side: Side, batch: Batch) -> tuple[Tensor | float, ...]:
    """Ordinary numbers three times as large as the features, and very large ones of both signs."""
    return (3 * lab.normal(*slots_of(batch, side)[0].shape, salt=20), 1e4, -1e4)


def contents(lab: Lab) -> Iterator[Observation]:
    trained = None
    for side in masked_sides(lab):
        condition = padded(side)
        for filling in fillings(lab, side, lab.batch):
            changed = poured(lab.batch, side, filling)
            yield from attempt(condition, partial(_unmoved, lab, condition, changed))
        trained = lab.train(lab.batch) if trained is None else trained
        yield from lab.compare(condition, trained, lab.train(changed), "exact", note="in train mode")


def _unmoved(lab: Lab, condition: str, batch: Batch) -> Iterator[Observation]:
    yield from lab.compare(condition, lab.reference, lab.forward(batch), "exact")


def quarantine(lab: Lab) -> Iterator[Observation]:
    gradients = None
    for side in masked_sides(lab):
        condition = padded(side)
        for filling in (math.nan, math.inf, -math.inf):
            changed = poured(lab.batch, side, filling)
            yield from lab.compare(condition, lab.reference, lab.forward(changed), "exact")
        gradients = lab.gradients(lab.batch) if gradients is None else gradients
        for filling in (math.nan, math.inf):
            changed = poured(lab.batch, side, filling)
            yield from lab.compare_gradients(condition, gradients, lab.gradients(changed), "exact")


def laundering(lab: Lab) -> Iterator[Observation]:
    example = 2  # of middling length on both sides
    for side in SIDES:
        features, _ = slots_of(lab.batch, side)
        spot = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
        spot[example, 0] = True
        ordinary = 3 * lab.normal(*features.shape, salt=21)
        moved = lab.forward(with_side(lab.batch, side, features=torch.where(spot[..., None], ordinary, features)))
        poisoned = lab.forward(with_side(lab.batch, side, features=features.masked_fill(spot[..., None], math.nan)))
        condition = f"valid {SLOTS[side][:-1]}"
        # an output that sees the slot has to show its NaN
        for seen in lab.compare(condition, lab.reference, moved, "moves"):
            if seen.verdict == "holds":
                shows = bool(poisoned[seen.output][example].isnan().any())
                yield Observation(
                    condition=condition, output=seen.output, leak=0.0 if shows else math.inf, limit=0.0, note=""
                )


def widened(lab: Lab, batch: Batch, side: Side, count: int) -> Batch:
    """The batch with more padded slots on the right of one side, holding ordinary numbers."""
    features, valid = slots_of(batch, side)
    more = 3 * lab.normal(features.shape[0], count, features.shape[2], salt=22)
    return with_side(
        batch,
        side,
        features=torch.cat([features, more], dim=1),
        valid=torch.cat([valid, valid.new_zeros(valid.shape[0], count)], dim=1),
    )


def narrowed(lab: Lab, outputs: Outputs, batch: Batch) -> Outputs:
    """Outputs of a widened batch, cut back to the slots of the original."""
    result = {}
    for output in lab.subject.outputs:
        value = outputs[output.name]
        for axis, side in output.slot_axes():
            value = value.narrow(axis % value.dim(), 0, slots_of(batch, side)[1].shape[1])
        result[output.name] = value
    return result


def width(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    sides = masked_sides(lab)
    for changed_sides in [(side,) for side in sides] + ([sides] if len(sides) == 2 else []):
        condition = " and ".join(padded(side) for side in changed_sides)
        for count in PAD_WIDTHS:
            yield from attempt(condition, partial(_wider, lab, condition, changed_sides, count))


def _wider(lab: Lab, condition: str, sides: Sequence[Side], count: int) -> Iterator[Observation]:
    batch = lab.batch
    for side in sides:
        batch = widened(lab, batch, side, count)
    outputs = lab.forward(batch)
    yield from lab.compare(condition, lab.reference, narrowed(lab, outputs, lab.batch), "band", note=f"{count} of them")


def empty_sides(lab: Lab) -> Iterator[tuple[str, tuple[Side, ...], Batch]]:
    """The scene with one example emptied on one side, and on both."""
    sides = masked_sides(lab)
    for emptied in [(side,) for side in sides] + ([sides] if len(sides) == 2 else []):
        batch = lab.batch
        for side in emptied:
            valid = slots_of(batch, side)[1].clone()
            valid[EMPTY] = False
            batch = with_side(batch, side, valid=valid)
        yield " and ".join(f"empty {side}" for side in emptied), emptied, batch


EMPTY = 2
"""The example that is emptied; the longest rows stay as they are."""
OTHERS = (0, 1, 3)


def empty_row(lab: Lab) -> Iterator[Observation]:
    for condition, sides, batch in empty_sides(lab):
        yield from attempt(condition, partial(_emptied, lab, condition, sides, batch))


def _emptied(lab: Lab, condition: str, sides: Sequence[Side], batch: Batch) -> Iterator[Observation]:
    outputs = lab.forward(batch)
    yield from lab.compare(condition, lab.reference, outputs, "band", only=OTHERS, note="in another example")
    for output in lab.subject.outputs:
        value = outputs[output.name][EMPTY].double()
        zeros = output.kind == "weights" or (output.kind == "vectors" and lab.subject.zeros_when_empty)
        own = zeros and output.side in sides
        largest = float(value.abs().max()) if bool(value.isfinite().all()) else math.inf
        if own and largest > 0:
            note = "should be exact zeros"
        else:
            largest, note = (largest, "in the empty row") if math.isinf(largest) else (0.0, "")
        yield Observation(condition=condition, output=output.name, leak=largest, limit=0.0, note=note)
    got = lab.gradients(batch, examples=OTHERS)
    if all(bool(value.isfinite().all()) for value in got.values()):  # whether they are is another property
        yield from lab.compare_gradients(condition, lab.gradients(lab.batch, examples=OTHERS), got)


def empty_residual(lab: Lab) -> Iterator[Observation]:
    for condition, sides, batch in empty_sides(lab):
        reference = lab.forward(batch)
        for side in SIDES:
            features, _ = slots_of(batch, side)
            replaced = features.clone()
            replaced[EMPTY] = 3 * lab.normal(*features.shape, salt=23)[EMPTY]
            outputs = lab.forward(with_side(batch, side, features=replaced))
            if side in sides:
                note = "what stood in the empty row came through"
                yield from lab.compare(condition, reference, outputs, "exact", only=(EMPTY,), note=note)
            elif other(side) in sides:
                # whose vector it is, is promised by the contract alone
                promised = ("vectors", "weights") if lab.subject.zeros_when_empty else ("weights",)
                own = {
                    output.name: outputs[output.name]
                    for output in lab.subject.outputs
                    if output.side == other(side) and output.kind in promised
                }
                note = "the other side reached the empty row"
                yield from lab.compare(condition, reference, own, "exact", only=(EMPTY,), note=note)


def statistics(lab: Lab) -> Iterator[Observation]:
    if not any(isinstance(part, NORMALISATION) for part in lab.subject.module.modules()):
        raise Lacking("no normalisation in it takes statistics over the batch")
    loose = lab.loose
    reference = loose.train(lab.batch, statistics=True)
    for side in masked_sides(lab):
        condition = padded(side)
        for filling in fillings(lab, side, lab.batch):
            changed = loose.train(poured(lab.batch, side, filling), statistics=True)
            yield from loose.compare(condition, reference, changed, "exact")
        wider = loose.train(widened(loose, lab.batch, side, 7), statistics=True)
        yield from loose.compare(condition, reference, narrowed(loose, wider, lab.batch), "band", note="7 more of them")
