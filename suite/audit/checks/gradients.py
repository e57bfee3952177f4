"""Properties about gradients: none from padding, finite beside empty rows, and those of the function itself."""

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from suite.audit.checks.padding import OTHERS, empty_sides, masked_sides, padded
from suite.audit.lab import Lab, Lacking, Observation, Outputs, alone, attempt, mode
from suite.audit.subject import SIDES, slots_of
from variants import Batch


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
    total: Outputs = {}
    inputs: dict[str, list[Tensor]] = {side: [] for side in SIDES}
    for example in range(len(lab.batch.image)):
        own = lab.gradients(alone(lab.batch, example))
        for side in SIDES:
            inputs[side].append(own.pop(side).flatten(0, 1))
        total = {name: total.get(name, 0) + value.double() for name, value in own.items()}
    expected = {name: value.to(lab.subject.dtype) for name, value in total.items()}
    expected |= {side: torch.cat(parts) for side, parts in inputs.items()}
    got = gradients | {side: gradients[side][slots_of(lab.batch, side)[1]] for side in SIDES}
    yield from lab.compare_gradients(condition, expected, got)


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
    lengths = {side: (3, 1) if side in subject.masked else (3, 3) for side in SIDES}
    batch = wide.scene(lengths["image"], tuple(reversed(lengths["question"])), words=4 if subject.masked else 3)
    parameters = [parameter for parameter in wide.subject.module.parameters() if parameter.requires_grad]

    def function(image: Tensor, question: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        judged = wide.judge(wide.subject.call(batch._replace(image=image, question=question)), batch)
        return tuple(value for value in judged.values() if value.requires_grad)

    inputs = (batch.image.requires_grad_(), batch.question.requires_grad_(), *parameters)
    with mode(wide.subject.module, train=False), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(lab.seed)
        passed, note = True, ""
        try:
            torch.autograd.gradcheck(function, inputs, fast_mode=True)
        except GradcheckError as error:
            passed, note = False, " ".join(str(error).split())[:160]
    yield Observation(
        condition="finite differences", output="gradients", leak=0.0 if passed else math.inf, limit=0.0, note=note
    )
