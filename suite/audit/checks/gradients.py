"""Properties about gradients: none from padding, finite beside empty rows, and those of the function itself."""

import math
from collections.abc import Iterator
from functools import partial

import torch

from suite.audit.checks.padding import OTHERS, empty_sides, masked_sides, padded
from suite.audit.lab import Lab, Lacking, Observation, Outputs, attempt
from suite.audit.subject import SIDES, slots_of
from variants import Batch

STEP = 1e-6
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""Of a finite difference in float64; what torch's gradcheck allows."""


def isolation(lab: Lab) -> Iterator[Observation]:
    gradients = lab.gradients(lab.batch)
    for side in masked_sides(lab):
        received = gradients[side].double().masked_fill(slots_of(lab.batch, side)[1].unsqueeze(-1), 0).abs()
        largest = float(received.max())
        yield Observation(
            condition=f"{padded(side)} get a gradient",
            output="gradients",
            leak=largest if math.isfinite(largest) else math.inf,
            limit=0.0,
            where=tuple(int(i) for i in torch.unravel_index(received.argmax().cpu(), received.shape)),
        )
    condition = "gradients of the same examples alone"
    yield from attempt(condition, partial(_compacted, lab.loose, condition))


def _compacted(lab: Lab, condition: str) -> Iterator[Observation]:
    gradients = lab.gradients(lab.batch)
    got = gradients | {side: gradients[side][slots_of(lab.batch, side)[1]] for side in SIDES}
    yield from lab.compare_gradients(condition, lab.gradients_alone(lab.batch), got)


def empty_row(lab: Lab) -> Iterator[Observation]:
    for condition, _, batch in empty_sides(lab):
        yield from attempt(condition, partial(_finite_beside, lab, condition, batch))


def _finite_beside(lab: Lab, condition: str, batch: Batch) -> Iterator[Observation]:
    for examples, note in ((OTHERS, "with a loss on the other examples only"), (None, "with a loss on every example")):
        gradients = lab.gradients(batch, examples=examples)
        bad = sorted(name for name, value in gradients.items() if not bool(value.isfinite().all()))
        yield Observation(
            condition=condition,
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
    batch = wide.scene(
        (4, 1) if "image" in subject.masked else (4, 4), (2, 3) if "question" in subject.masked else (3, 3)
    )
    named = {"image": batch.image, "question": batch.question} | dict(wide.subject.module.named_parameters())
    analytic = wide.gradients(batch)
    for group in (("image",), ("question",), tuple(sorted(set(analytic) - {"image", "question"}))):
        directions = {name: wide.normal(*named[name].shape, salt=40 + index) for index, name in enumerate(group)}
        if not directions:
            continue
        slope = sum(float((analytic[name] * direction).sum()) for name, direction in directions.items())
        ahead, behind = (_projected(wide, batch, directions, sign * STEP) for sign in (1, -1))
        measured = (ahead - behind) / (2 * STEP)
        leak = abs(measured - slope) / (abs(measured) + ABSOLUTE / RELATIVE)
        yield Observation(
            condition="finite differences",
            output="gradients",
            leak=leak if math.isfinite(leak) else math.inf,
            limit=RELATIVE,
            note="of the parameters" if len(group) > 1 else f"of the {group[0]}",
        )


def _projected(lab: Lab, batch: Batch, directions: Outputs, step: float) -> float:
    """The loss at a step along a direction in the inputs or the parameters."""
    parameters = dict(lab.subject.module.named_parameters())
    moved = {name: step * direction for name, direction in directions.items()}
    batch = batch._replace(
        image=batch.image + moved.pop("image", 0), question=batch.question + moved.pop("question", 0)
    )
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
