"""What a variant has to compute and to move at least, in closed form, checked against torch's counter."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from suite.bench.probes.step import Step, make_inputs, running_on
from suite.bench.tasks import Target
from suite.core.records import Finding, Measurement, Record
from suite.core.workloads import Phase, Workload
from variants import Attended, Variant, build
from variants.build import blueprint, canonical
from variants.spec import Spec


def _added_product(
    total: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...], out_shape: object = None, **factors: float
) -> int:
    """FLOPs of ``total += left @ right``, from shapes; the other arguments are torch's protocol."""
    return 2 * math.prod(left) * right[-1]


IN_PLACE = dict.fromkeys((torch.ops.aten.addmm_, torch.ops.aten.baddbmm_), _added_product)
"""Products that torch's counter passes over where they write into their first argument; they cost the same."""


def flop_counter() -> FlopCounterMode:
    """Torch's counter, which sees products in place too."""
    return FlopCounterMode(display=False, custom_mapping=IN_PLACE)


def count(target: Target) -> Iterator[Record]:
    """FLOPs of the matrix products, and bytes that must be read or written once.

    The counter runs on the plain module, without numbers where that works: on a compiled one it would run it eagerly,
    and leave it so.

    Yields:
        ``matmul_flops``, two per multiply-add; in a forward phase ``flops``, the finding whether the closed form
        equals the counter's; ``least_bytes``.
    """
    about, workload = target.about, target.workload
    spec = canonical(target.variant)
    with running_on(target.device) as parsed:
        step = _plain_step(spec.plain, workload, target.phase, "meta")
        try:
            counted, seen, outputs = counted_flops(step)
        except (NotImplementedError, RuntimeError):
            # some published code looks at its numbers, and so needs some
            step = _plain_step(spec.plain, workload, target.phase, parsed.kind)
            counted, seen, outputs = counted_flops(step)
    closed = step.variant.module.matmul_flops(workload.batch, workload.regions, workload.words)
    yield Measurement(
        quantity="matmul_flops",
        unit="1",
        value=float(counted),
        details={"closed_form_forward": closed, "operations": seen},
        **about,
    )
    if closed is not None and not step.learns:
        agree = closed == counted
        yield Finding(
            quantity="flops",
            verdict="holds" if agree else "broken",
            value=abs(closed - counted) / max(closed, 1),
            limit=0.0,
            summary="" if agree else f"the closed form says {closed} FLOPs, torch's counter {counted}",
            **about,
        )
    itemsize = _itemsize(spec)
    yield Measurement(
        quantity="least_bytes", unit="B", value=float(least_bytes(step, outputs, itemsize=itemsize)), **about
    )


def _plain_step(plain: Spec, workload: Workload, phase: Phase, kind: str) -> Step:
    """The mechanism eager in float32, with all its products in sight of the counter."""
    widths = {"image_width": workload.image_width, "question_width": workload.question_width}
    # what runs fused, such as an LSTM, is invisible to the counter
    if kind == "meta":
        module = blueprint(plain, **widths).written_out()
        variant = Variant(spec=plain, module=module, dtype=torch.float32, run=module)
    else:
        built = build(plain, **widths, device=kind)
        module = built.module.written_out()
        variant = replace(built, module=module, run=module)
    return Step(variant, phase, make_inputs(workload, phase, kind, variant.dtype, turns=1))


def counted_flops(step: Step) -> tuple[int, list[str], Attended]:
    """FLOPs that torch's counter sees in one call, in which operations, and the outputs."""
    counter = flop_counter()
    with counter:
        outputs = step(0)
    step.clear()
    operations = sorted(str(operation) for operation in counter.get_flop_counts().get("Global", {}))
    return counter.get_total_flops(), operations, outputs


def least_bytes(step: Step, outputs: Attended, *, itemsize: int) -> int:
    """Parameters, inputs and outputs, each once; with a backward pass also their gradients, each once.

    Args:
        step: whose parameters and inputs.
        outputs: of a call.
        itemsize: bytes of a number in the dtype that the variant keeps them in.
    """
    batch = step.inputs[0]
    numbers = sum(
        tensor.numel() for tensor in (*step.variant.module.parameters(), batch.image, batch.question, *outputs)
    )
    validity = batch.image_valid.numel() + batch.question_valid.numel()
    return numbers * itemsize * (2 if step.learns else 1) + validity


def _itemsize(spec: Spec) -> int:
    return 2 if {"fp16", "bf16"} & set(spec.transforms) else 4
