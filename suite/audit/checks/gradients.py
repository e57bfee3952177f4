"""Properties about gradients: none from padding, finite beside empty rows, and those of the function itself."""

import math
from collections.abc import Iterator
from functools import partial

import torch

from suite.audit.checks.padding import OTHERS, empty_sides, masked_sides
from suite.audit.lab import Lab, Lacking, Outputs, attempt, of_input
from suite.audit.observation import Observation
from suite.audit.subject import Scene, Side, slots_of

STEP = 1e-6
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Of a finite difference in float64; what torch's gradcheck allows."""


def isolation(lab: Lab) -> Iterator[Observation]:
    gradients = lab.gradients(lab.batch)
    for side in masked_sides(lab):
        received = gradients[of_input(side)].double().masked_fill(slots_of(lab.batch, side)[1].unsqueeze(-1), 0).abs()
        largest = float(received.max())
        yield Observation(
            what="gradient at pads",
            sides=(side,),
            output="gradients",
            leak=largest if math.isfinite(largest) else math.inf,
            limit=0.0,
            where=tuple(int(i) for i in torch.unravel_index(received.argmax().cpu(), received.shape)),
        )
    yield from attempt("gradients alone", (), partial(_compacted, lab.loose))


def _compacted(lab: Lab) -> Iterator[Observation]:
    gradients = lab.gradients(lab.batch)
    inputs = {of_input(side): gradients[of_input(side)][valid] for side, (_, valid) in lab.batch.items()}
    yield from lab.compare_gradients("gradients alone", lab.gradients_alone(lab.batch), gradients | inputs)


def empty_row(lab: Lab) -> Iterator[Observation]:
    for sides, batch in empty_sides(lab):
        yield from attempt("side emptied", sides, partial(_finite_beside, lab, sides, batch))


def _finite_beside(lab: Lab, sides: tuple[Side, ...], batch: Scene) -> Iterator[Observation]:
    for examples, note in ((OTHERS, "with a loss on the other examples only"), (None, "with a loss on every example")):
        gradients = lab.gradients(batch, examples=examples)
        bad = sorted(name for name, value in gradients.items() if not bool(value.isfinite().all()))
        yield Observation(
            what="side emptied",
            sides=sides,
            output="gradients",
            leak=math.inf if bad else 0.0,
            limit=0.0,
            note=f"{note}: {', '.join(bad[:3])}" if bad else note,
        )


def finite_differences(lab: Lab) -> Iterator[Observation]:
    subject = lab.subject
    if subject.eager and subject.computes_in != torch.float32 and subject.computes_in != torch.float64:
        raise Lacking("finite differences need float64; its function is that of its float32 form")
    wide = Lab(subject.cast(torch.float64), lab.seed)
    lengths = [own if side.masked else (max(own),) * 2 for own, side in zip(_LENGTHS, subject.sides, strict=False)]
    batch = wide.scene(*lengths)
    inputs = {of_input(side): features for side, (features, _) in batch.items()}
    named = inputs | dict(wide.subject.module.named_parameters())
    analytic = wide.gradients(batch)
    for group in (*((name,) for name in inputs), tuple(sorted(set(analytic) - set(inputs)))):
        directions = {name: wide.normal(*named[name].shape, salt=40 + index) for index, name in enumerate(group)}
        if not directions:
            continue
        slope = sum(float((analytic[name] * direction).sum()) for name, direction in directions.items())
        ahead, behind = (_projected(wide, batch, directions, sign * STEP) for sign in (1, -1))
        measured = (ahead - behind) / (2 * STEP)
        leak = abs(measured - slope) / (abs(measured) + ABSOLUTE / RELATIVE)
        yield Observation(
            what="differences",
            output="gradients",
            leak=leak if math.isfinite(leak) else math.inf,
            limit=RELATIVE,
            note=f"of {group[0]}" if group[0] in inputs else "of the parameters",
        )


_LENGTHS = ((4, 1), (2, 3), (3, 2))
"""Of the sides of a small scene."""


def _projected(lab: Lab, batch: Scene, directions: Outputs, step: float) -> float:
    """The loss at a step along a direction in the inputs or the parameters."""
    parameters = dict(lab.subject.module.named_parameters())
    moved = {name: step * direction for name, direction in directions.items()}
    batch = batch.map(lambda side, features, valid: (features + moved.pop(of_input(side), 0), valid))
    kept = {name: parameters[name].detach().clone() for name in moved}
    try:
        with torch.no_grad():
            for name, change in moved.items():
                parameters[name].add_(change)
        return lab.loss(batch)
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)
