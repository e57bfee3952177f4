"""Properties about what stands in padded slots, how many there are, and rows with nothing else."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from suite.audit.calling import NORMALISATION
from suite.audit.declared import declares
from suite.audit.lab import (
    Lab,
    Lacking,
    Outputs,
    attempt,
    narrowed,
    of_input,
)
from suite.audit.observation import Observation
from suite.audit.subject import Scene, Side, slots_of, with_side

PAD_WIDTHS = (1, 7, 8, 64, 127)
"""Odd, even, a vector width, a tile, and a tile less one."""


def masked_sides(lab: Lab) -> tuple[Side, ...]:
    """The sides that can be padded.

    Raises:
        Lacking: it takes no mask, or is given none.
    """
    if not lab.subject.masked:
        left = lab.subject.ignored
        raise Lacking(
            f"without {' and '.join(left)} it has no padding" if left else "it takes no mask, so it has no padding"
        )
    return lab.subject.masked


def poured(batch: Scene, side: Side, contents: Tensor | float) -> Scene:
    """The batch with other contents in one side's padded slots."""
    features, valid = slots_of(batch, side)
    filling = torch.as_tensor(contents, dtype=features.dtype, device=features.device)
    return with_side(batch, side, features=torch.where(valid.unsqueeze(-1), features, filling))


def fillings(lab: Lab, side: Side, batch: Scene) -> tuple[Tensor | float, ...]:
    """Ordinary numbers several times as large as the features; and, where padding is promised to be hidden bit for
    bit, very large ones of both signs. Elsewhere those are extreme scores, which are a property of their own."""
    shape = slots_of(batch, side)[0].shape
    ordinary = 3 * lab.normal(*shape, salt=20)
    return (ordinary, 1e4, -1e4) if lab.subject.exact else (ordinary, 10 * lab.normal(*shape, salt=26))


@declares(
    "P1",
    "wrong",
    "pad content",
    "what stands in padded slots reaches no output",
    says="{output} moved by {leak} when {condition} changed",
)
def contents(lab: Lab) -> Iterator[Observation]:
    trained = None
    for side in masked_sides(lab):
        for filling in fillings(lab, side, lab.batch):
            changed = poured(lab.batch, side, filling)
            yield from attempt("pads filled", (side,), partial(_unmoved, lab, side, changed))
        trained = lab.train(lab.batch) if trained is None else trained
        note = "in train mode"
        yield from lab.compare("pads filled", trained, lab.train(changed), "exact", sides=(side,), note=note)


def _unmoved(lab: Lab, side: Side, batch: Scene) -> Iterator[Observation]:
    yield from lab.compare("pads filled", lab.reference, lab.forward(batch), "exact", sides=(side,))


@declares(
    "P1n",
    "fragile",
    "quarantine",
    "NaN and Inf in padded slots reach no output and no gradient",
    says="{output} moved by {leak} when {condition} held NaN or Inf",
)
def quarantine(lab: Lab) -> Iterator[Observation]:
    gradients = None
    for side in masked_sides(lab):
        for filling in (math.nan, math.inf, -math.inf):
            changed = poured(lab.batch, side, filling)
            yield from lab.compare("pads not finite", lab.reference, lab.forward(changed), "exact", sides=(side,))
        gradients = lab.gradients(lab.batch) if gradients is None else gradients
        for filling in (math.nan, math.inf):
            changed = poured(lab.batch, side, filling)
            yield from lab.compare_gradients(
                "pads not finite", gradients, lab.gradients(changed), "exact", sides=(side,)
            )


@declares(
    "P1v",
    "fragile",
    "no laundering",
    "a NaN in a valid slot shows in the outputs that see it",
    says="{output} hid a NaN in a {condition}",
)
def laundering(lab: Lab) -> Iterator[Observation]:
    example = 2  # of middling length on both sides
    for side in lab.subject.names:
        features, _ = slots_of(lab.batch, side)
        spot = torch.zeros(features.shape[:2], dtype=torch.bool, device=features.device)
        spot[example, 0] = True
        ordinary = 3 * lab.normal(*features.shape, salt=21)
        moved = lab.forward(with_side(lab.batch, side, features=torch.where(spot[..., None], ordinary, features)))
        poisoned = lab.forward(with_side(lab.batch, side, features=features.masked_fill(spot[..., None], math.nan)))
        # an output that sees the slot has to show its NaN
        for seen in lab.compare("NaN in a valid slot", lab.reference, moved, "moves", sides=(side,)):
            if seen.verdict == "holds":
                shows = bool(poisoned[seen.output][example].isnan().any())
                if not shows and _is_rounded(lab, side):
                    continue
                yield replace(seen, rule="exact", leak=0.0 if shows else math.inf, limit=0.0, noise=0.0, where=())


def _is_rounded(lab: Lab, side: Side) -> bool:
    """Whether a side's features reach the outputs and have no gradient: whole numbers made from them hold no NaN."""
    gradient, valid = lab.gradients(lab.batch)[of_input(side)], slots_of(lab.batch, side)[1]
    return not bool(gradient[valid].any())


def widened(lab: Lab, batch: Scene, side: Side, count: int) -> Scene:
    """The batch with more padded slots on the right of one side, holding ordinary numbers."""
    features, valid = slots_of(batch, side)
    more = 3 * lab.normal(features.shape[0], count, features.shape[2], salt=22)
    return with_side(
        batch,
        side,
        features=torch.cat([features, more], dim=1),
        valid=torch.cat([valid, valid.new_zeros(valid.shape[0], count)], dim=1),
    )


@declares(
    "P2",
    "wrong",
    "pad width",
    "more padding changes nothing",
    says="{output} moved by {leak} when more {condition} were added",
)
def width(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    sides = tuple(side for side in masked_sides(lab) if lab.subject.side(side).length is None)
    if not sides:
        raise Lacking("its sides have fixed lengths")
    for changed in [(side,) for side in sides] + ([sides] if len(sides) > 1 else []):
        for count in PAD_WIDTHS:
            yield from attempt("pads added", changed, partial(_wider, lab, changed, count))


def _wider(lab: Lab, sides: tuple[Side, ...], count: int) -> Iterator[Observation]:
    batch = lab.batch
    for side in sides:
        batch = widened(lab, batch, side, count)
    outputs = narrowed(lab.subject, lab.forward(batch), batch, lab.batch)
    yield from lab.compare("pads added", lab.reference, outputs, "band", sides=sides, note=f"{count} of them")


def empty_sides(lab: Lab) -> Iterator[tuple[tuple[Side, ...], Scene]]:
    """The scene with one example emptied on each side, and on all of them; first which sides those are."""
    sides = masked_sides(lab)
    for emptied in [(side,) for side in sides] + ([sides] if len(sides) > 1 else []):
        batch = lab.batch
        for side in emptied:
            valid = slots_of(batch, side)[1].clone()
            valid[EMPTY] = False
            batch = with_side(batch, side, valid=valid)
        yield emptied, batch


EMPTY = 2
"""The example that is emptied; the longest rows stay as they are."""
OTHERS = (0, 1, 3)


@declares(
    "P9",
    "fragile",
    "empty row",
    "a side without a valid slot gives exact zeros and changes no other example",
    says="{output} moved by {leak} with {condition}",
)
def empty_row(lab: Lab) -> Iterator[Observation]:
    for sides, batch in empty_sides(lab):
        yield from attempt("side emptied", sides, partial(_emptied, lab, sides, batch))


def _emptied(lab: Lab, sides: tuple[Side, ...], batch: Scene) -> Iterator[Observation]:
    outputs = lab.forward(batch)
    what, note = "side emptied", "in another example"
    yield from lab.compare(what, lab.reference, outputs, "band", sides=sides, only=OTHERS, note=note)
    for output in lab.subject.judged:
        value = outputs[output.name][EMPTY].double()
        zeros = output.kind == "weights" or (output.kind == "vectors" and lab.subject.zeros_when_empty)
        own = zeros and output.side in sides
        largest = float(value.abs().max()) if bool(value.isfinite().all()) else math.inf
        if own and largest > 0:
            note = "should be exact zeros"
        else:
            largest, note = (largest, "in the empty row") if math.isinf(largest) else (0.0, "")
        yield Observation(what=what, sides=sides, output=output.name, leak=largest, limit=0.0, note=note)
    got = lab.gradients(batch, examples=OTHERS)
    if all(bool(value.isfinite().all()) for value in got.values()):  # whether they are is another property
        yield from lab.compare_gradients(what, lab.gradients(lab.batch, examples=OTHERS), got, sides=sides)


@declares(
    "P9r",
    "fragile",
    "empty, residual",
    "an empty side hears nothing from the other side, and its padding reaches nobody",
    says="{output} moved by {leak} with {condition}",
)
def empty_residual(lab: Lab) -> Iterator[Observation]:
    what = "side emptied"
    for sides, batch in empty_sides(lab):
        reference = lab.forward(batch)
        for side in lab.subject.names:
            features, _ = slots_of(batch, side)
            replaced = features.clone()
            replaced[EMPTY] = 3 * lab.normal(*features.shape, salt=23)[EMPTY]
            outputs = lab.forward(with_side(batch, side, features=replaced))
            if side in sides:
                note = "what stood in the empty row came through"
                yield from lab.compare(what, reference, outputs, "exact", sides=sides, only=(EMPTY,), note=note)
                continue
            # whose vector it is, is promised by the contract alone
            promised = ("vectors", "weights") if lab.subject.zeros_when_empty else ("weights",)
            own = {
                output.name: outputs[output.name]
                for output in lab.subject.judged
                if output.side in sides and output.kind in promised
            }
            note = "another side reached the empty row"
            yield from lab.compare(what, reference, own, "exact", sides=sides, only=(EMPTY,), note=note)


@declares(
    "P18",
    "wrong",
    "statistics",
    "normalisation in train mode pools valid slots only",
    says="{output} moved by {leak} in train mode when {condition} changed",
)
def statistics(lab: Lab) -> Iterator[Observation]:
    if not any(isinstance(part, NORMALISATION) for part in lab.subject.module.modules()):
        raise Lacking("no normalisation in it takes statistics over the batch")
    loose = lab.loose
    if not _normalises_slots(loose):
        raise Lacking("its normalisation stands where there are no slots")
    reference = loose.train(lab.batch, statistics=True)
    for side in masked_sides(lab):
        for filling in fillings(lab, side, lab.batch):
            poisoned = poured(lab.batch, side, filling)
            if all(
                f.verdict == "holds"
                for f in loose.compare("pads filled", loose.reference, loose.forward(poisoned), "band")
            ):
                changed = loose.train(poisoned, statistics=True)
                yield from loose.compare("pads filled", reference, changed, "exact", sides=(side,))
        if lab.subject.side(side).length is None:
            more = widened(loose, lab.batch, side, 7)
            plain = narrowed(lab.subject, loose.forward(more), more, lab.batch)
            if _same(loose, plain):
                wider = narrowed(lab.subject, loose.train(more, statistics=True), more, lab.batch)
                note = "7 more of them"
                yield from loose.compare("pads added", reference, wider, "band", sides=(side,), note=note)


def _same(lab: Lab, outputs: Outputs) -> bool:
    return all(found.verdict == "holds" for found in lab.compare("pads filled", lab.reference, outputs, "band"))


def _normalises_slots(lab: Lab) -> bool:
    """Whether what a normalisation layer sees has more to it than one vector an example."""
    seen: list[tuple[int, ...]] = []
    layers = [part for part in lab.subject.module.modules() if isinstance(part, NORMALISATION)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: seen.extend(tuple(v.shape) for v in given)) for layer in layers
    ]
    try:
        lab.forward(lab.batch)
    finally:
        for hook in hooks:
            hook.remove()
    return any(len(shape) > 2 or shape[0] != lab.batch.size for shape in seen)
