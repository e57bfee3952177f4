"""Does a variant return what the contract says, on the very inputs on which it is timed?

A masking audit asks for more. This is what a time stands on: code that returns something else did another work.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from suite.bench.probes.step import Step
from suite.bench.tasks import About
from suite.core.records import Finding, Verdict
from variants import Attended, Batch
from variants.transforms import products_in

_FIELDS = (("image", "image", "regions"), ("question", "question", "words"))
_VALUES = ("P4", "P1n", "P9", "P10")
"""Declared defects that may show in values on ordinary inputs."""


def examine(step: Step, about: About) -> Finding:
    """Call a variant once and hold what it returns against the contract: shapes, dtypes, and what weights are."""
    batch = step.inputs[0]
    outputs = step(0)
    shape = list(_shape(outputs, batch))
    values: list[str] = []
    if not shape:
        shape += _gradients(step, outputs)
        values = list(_values(outputs, batch, _tolerance(step)))
    step.clear()
    declared = {defect.property for defect in step.variant.module.known_defects}
    verdict: Verdict = "holds"
    if shape or values:
        verdict = "known" if not shape and declared.intersection(_VALUES) else "broken"
    return Finding(quantity="contract", verdict=verdict, summary="; ".join((*shape, *values)), **about)


def _shape(outputs: object, batch: Batch) -> Iterator[str]:
    """What is wrong with types, shapes, dtypes and devices; the rest is looked at only where nothing is."""
    if not isinstance(outputs, Attended):
        yield f"returns {type(outputs).__name__}, expected Attended"
        return
    for field, value in outputs._asdict().items():
        if not isinstance(value, Tensor):
            yield f"{field} is {type(value).__name__}, expected a tensor"
            return
        if not value.is_floating_point():
            yield f"{field} has dtype {value.dtype}, expected a floating-point dtype"
        if value.device != batch.image.device:
            yield f"{field} is on {value.device}, but the inputs are on {batch.image.device}"
    for side, features, slots in _FIELDS:
        vectors: Tensor = getattr(outputs, side)
        weights: Tensor = getattr(outputs, f"{side}_weights")
        examples, length = getattr(batch, features).shape[:2]
        if vectors.dim() != 3 or vectors.shape[0] != examples:
            yield f"{side} has shape {list(vectors.shape)}, expected [{examples}, glimpses, width]"
        elif weights.shape != (examples, vectors.shape[1], length):
            yield (
                f"{side}_weights has shape {list(weights.shape)}, "
                f"expected [{examples}, {vectors.shape[1]} glimpses, {length} {slots}]"
            )


def _gradients(step: Step, outputs: Attended) -> Iterator[str]:
    if step.learns and not any(output.requires_grad for output in outputs):
        yield "no output has a gradient, so that there is no backward pass"


def _values(outputs: Attended, batch: Batch, tolerance: float) -> Iterator[str]:
    for field, value in outputs._asdict().items():
        if not value.isfinite().all():
            yield f"{field} is not finite on inputs that are"
            return
    for side, _, slots in _FIELDS:
        weights = getattr(outputs, f"{side}_weights").detach()
        weights = (weights.cpu() if weights.device.type == "mps" else weights).double()
        if weights.numel() and float(weights.min()) < -tolerance:
            yield f"{side}_weights has {float(weights.min()):.2g}, expected at least 0"
            continue
        sums = weights.sum(-1)  # [B, G]
        some = getattr(batch, f"{side}_valid").any(-1, keepdim=True)
        off = ((sums - 1).abs() * some).max() if sums.numel() else sums.new_zeros(())
        if float(off) > tolerance:
            worst = float(sums.flatten()[int(((sums - 1).abs() * some).argmax())])
            yield f"a row of {side}_weights sums to {worst:.3g} over the {slots}, expected 1"


def _tolerance(step: Step) -> float:
    """Four roundings of the narrowest type that it computes in: a row of weights is rounded entry by entry."""
    return max(1e-3, *(4 * torch.finfo(dtype).eps for dtype in (products_in(step.variant.spec), step.variant.dtype)))
