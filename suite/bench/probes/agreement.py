"""Whether a variant still computes its function: against the eager module in float64, on padded rows too."""

import gc
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from suite.bench.inputs import make_batch
from suite.bench.probes import accelerators
from suite.bench.probes.step import Step, prepared, running_on
from suite.bench.tasks import Target
from suite.core.failures import refusal
from suite.core.records import Finding, Measurement, Record
from variants import Attended, Batch, build
from variants.spec import Spec
from variants.transforms import products_in, rounds_to_tf32

LIMITS = {"float64": 4e-14, "float32": 2.4e-5, "float16": 4e-2, "bfloat16": 0.3}
"""Largest error of an output, relative to the root mean square of the reference: noise bands against float64."""
GRADIENT_LIMITS = LIMITS | {"float64": 1.6e-13, "float32": 1e-4}
"""Largest error of a gradient by norm, where the function itself is smooth at this rounding; see `_sensitivity`."""
_DRAWS = 8
_ROUNDING = 2e-6
"""Relative; what the arithmetic of a few layers in float32 comes to."""
_MOST_SENSITIVE = 1e-2
"""However undecided a function is, an error beyond this is a fault."""
_GRADIENT = "gradient of "
_TF32_LIMIT = 4e-3


def check(target: Target) -> Iterator[Record]:
    """Compare outputs, and in a phase with a backward pass gradients, with float64.

    The reference has the weights and inputs as they were before any rounding, so the error is all that the variant's
    dtype and way of running cost. Outputs are judged by their largest difference, gradients by their norm.

    Yields:
        ``agreement_error``, the largest over all outputs and gradients, and the finding ``agreement``.
    """
    about = target.about
    with running_on(target.device) as parsed:
        step = prepared(*target.place)
        spec = step.variant.spec
        found = results(step)
        step.clear()
        kind = parsed.kind
        if accelerators.without_float64(kind):
            kind, found = "cpu", {key: value.cpu() for key, value in found.items()}
        widths = {"image_width": target.workload.image_width, "question_width": target.workload.question_width}
        reference = build(spec.plain, **widths, device=kind)
        reference.module.double()
        exact = make_batch(target.workload, dtype=torch.float64, device=kind)
        wide = Step(reference, target.phase, (_like(exact, step.inputs[0]),))
        expected, size = exactly(wide)
        gradient_names = [key for key in expected if key.startswith(_GRADIENT)]
        floor = root_mean_square([expected[key] for key in gradient_names]) if gradient_names else 0.0
        errors = {
            key: norm_error(found[key], expected[key], floor=floor)
            if key in gradient_names
            else relative_error(found[key], expected[key])
            for key in expected
        }
        limits = {key: _limit(spec, parsed.kind, gradient=key.startswith(_GRADIENT)) for key in errors}
        if products_in(spec) == torch.float32 and any(errors[key] > limits[key] for key in gradient_names):
            moved = _sensitivity(wide, expected, size, floor=floor)
            limits |= {key: max(limits[key], min(2 * moved[key], _MOST_SENSITIVE)) for key in gradient_names}
    # NaN is worse than any number
    worst = max(errors, key=lambda key: errors[key] / limits[key] if errors[key] == errors[key] else float("inf"))
    error, limit = errors[worst], limits[worst]
    holds = error <= limit  # NaN does not
    declared = any(
        defect.property == "agreement" and defect.output == worst for defect in step.variant.module.known_defects
    )
    yield Measurement(
        quantity="agreement_error", unit="1", value=error, details={"where": worst, "limit": limit}, **about
    )
    yield Finding(
        quantity="agreement",
        verdict="holds" if holds else "known" if declared else "broken",
        value=error,
        limit=limit,
        summary=""
        if holds
        else f"{worst} differs from float64 by {error:.3g} of its size, allowed are {limit:.3g}"
        if error == error
        else f"{worst} is not finite",
        details={key: value if value == value else None for key, value in errors.items()},
        **about,
    )


def exactly(step: Step) -> tuple[dict[str, Tensor], int]:
    """As `results`, for as many examples at a time as fit: float64 takes twice the memory of what it judges.

    Returns:
        Outputs and gradients, and how many examples were computed at a time.

    Raises:
        Exception: what running out of memory raises here, where examples cannot be taken apart, or one alone is too
            much.
    """
    size = len(step.inputs[0].image)
    while True:
        try:
            return in_chunks(step, size), size
        except Exception as error:  # only a lack of memory has this way out
            if size == 1 or _mixes(step.variant.module) or refusal(error)["cause"] != "memory":
                raise
        size = -(-size // 2)
        step.clear()
        gc.collect()
        if step.variant.device.type == "cuda":
            torch.cuda.empty_cache()


def _mixes(module: nn.Module) -> bool:
    """Whether an example's results depend on those beside it, as in a normalisation over the batch."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training for part in module.modules())


def in_chunks(step: Step, size: int) -> dict[str, Tensor]:
    """As `results`, so many examples at a time: gradients of the inputs are put together, those of parameters added."""
    (batch,) = step.inputs
    examples = len(batch.image)
    if size >= examples:
        return results(step)
    chunks: list[dict[str, Tensor]] = []
    for start in range(0, examples, size):
        part = Batch(*(field.detach()[start : start + size] for field in batch))
        one = Step(step.variant, step.phase, (_like(part, batch),), chunk=(start, examples))
        one.clear()
        chunks.append(results(one))
    one.clear()
    of_examples = {*Attended._fields, f"{_GRADIENT}image", f"{_GRADIENT}question"}
    return {
        key: torch.cat([chunk[key] for chunk in chunks])
        if key in of_examples
        else torch.stack([chunk[key] for chunk in chunks]).sum(0)
        for key in chunks[0]
    }


def results(step: Step) -> dict[str, Tensor]:
    """Outputs by name, and gradients where the phase has them."""
    outputs = step(0)
    found = {field: getattr(outputs, field).detach() for field in outputs._fields}
    if step.learns:
        batch = step.inputs[0]
        named = {"image": batch.image, "question": batch.question, **dict(step.variant.module.named_parameters())}
        found |= {f"{_GRADIENT}{key}": tensor.grad for key, tensor in named.items() if tensor.grad is not None}
    return found


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the root mean square of what was expected; padded slots count like any other."""
    scale = expected.double().square().mean().sqrt()
    difference = (found.double() - expected.double()).abs().max()
    if scale == 0:
        return 0.0 if difference == 0 else float("inf")
    return float(difference / scale)


def norm_error(found: Tensor, expected: Tensor, *, floor: float) -> float:
    """Norm of the difference over the norm of what was expected, for gradients.

    A few slots carry most of a gradient (a maximum over n-grams sends all of it one way, and rounding may send it the
    other), so the largest difference over the root mean square says more about the tail than about the function.

    Args:
        found: any shape.
        expected: the same shape.
        floor: root mean square of all gradients together. A gradient below it is judged by it: that of a bias in front
            of a softmax is exactly zero, and what rounding leaves of it has no size of its own.
    """
    scale = max(root_mean_square([expected]), floor)
    difference = root_mean_square([found.double() - expected.double()])
    if scale == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / scale


def root_mean_square(tensors: Sequence[Tensor]) -> float:
    """Over all elements of all tensors."""
    total = sum(float(tensor.double().square().sum()) for tensor in tensors)
    return math.sqrt(total / max(sum(tensor.numel() for tensor in tensors), 1))


def _sensitivity(step: Step, expected: dict[str, Tensor], size: int, *, floor: float) -> dict[str, float]:
    """How far each gradient moves in float64 alone when the inputs move by a rounding: what no arithmetic can beat.

    A rectifier or a maximum that is nearly undecided falls the other way, and a whole row of a gradient with it.
    """
    (batch,) = step.inputs
    worst = dict.fromkeys((key for key in expected if key.startswith(_GRADIENT)), 0.0)
    for draw in range(_DRAWS):
        generator = torch.Generator(batch.image.device).manual_seed(draw)

        def moved(features: Tensor, generator: torch.Generator = generator) -> Tensor:
            by = torch.rand(features.shape, generator=generator, dtype=features.dtype, device=features.device) * 2 - 1
            return (features.detach() * (1 + _ROUNDING * by)).requires_grad_(features.requires_grad)

        step.clear()
        nearby = batch._replace(image=moved(batch.image), question=moved(batch.question))
        found = in_chunks(Step(step.variant, "forward+backward", (nearby,)), size)
        worst = {key: max(value, norm_error(found[key], expected[key], floor=floor)) for key, value in worst.items()}
    return worst


def _like(batch: Batch, other: Batch) -> Batch:
    """The batch as leaves that ask for gradients where the other's do."""
    return batch._replace(
        image=batch.image.requires_grad_(other.image.requires_grad),
        question=batch.question.requires_grad_(other.question.requires_grad),
    )


def _limit(spec: Spec, kind: str, *, gradient: bool) -> float:
    dtype = str(products_in(spec)).removeprefix("torch.")
    if rounds_to_tf32(spec) or (
        dtype == "float32" and kind == "cuda" and torch.backends.cuda.matmul.fp32_precision == "tf32"
    ):
        return _TF32_LIMIT
    return (GRADIENT_LIMITS if gradient else LIMITS)[dtype]
