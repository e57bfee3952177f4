"""What a variant has to compute and to move at least, in closed form, checked against torch's counter."""

from collections.abc import Iterator
from dataclasses import replace

from torch.utils.flop_counter import FlopCounterMode

from suite.probes.step import About, Step, make_inputs, prepared, running_on
from suite.records import Finding, Measurement, Record
from suite.workloads import Phase, Workload
from variants import build
from variants.build import canonical
from variants.spec import Spec


def count(name: str, workload: Workload, phase: Phase, device: str, *, task: str) -> Iterator[Record]:
    """FLOPs of the matrix products, and bytes that must be read or written once.

    The counter runs on the plain module, built anew: on a compiled one it would run it eagerly, and leave it so.

    Yields:
        ``matmul_flops``, two per multiply-add; ``flops``, the finding whether the closed form of the forward pass
        equals the counter's; ``least_bytes``.
    """
    about = About(task=task, variant=name, workload=str(workload), phase=phase, device=device)
    spec = canonical(name)
    with running_on(device) as parsed:
        plain = Spec(spec.mechanism, spec.options, spec.without)
        widths = {"image_width": workload.image_width, "question_width": workload.question_width}
        variant = build(plain, **widths, device=parsed.kind)
        # what runs fused, such as an LSTM, is invisible to the counter
        module = variant.module.written_out()
        variant = replace(variant, module=module, run=module)
        step = Step(variant, phase, make_inputs(workload, phase, parsed.kind, variant.dtype, turns=1))
        counted, seen = counted_flops(step)
        counted_forward = counted
        if step.learns:
            # on inputs of its own: the counter cannot follow leaves that want gradients where none are kept
            forward = make_inputs(workload, "forward", parsed.kind, variant.dtype, turns=1)
            counted_forward, _ = counted_flops(Step(variant, "forward", forward))
        closed = variant.module.matmul_flops(workload.batch, workload.regions, workload.words)
        yield Measurement(
            quantity="matmul_flops",
            unit="1",
            value=float(counted if closed is None else counted - counted_forward + closed),
            details={"counted": counted, "closed_form_forward": closed, "operations": seen},
            **about,
        )
        if closed is not None:
            yield Finding(
                quantity="flops",
                verdict="holds" if closed == counted_forward else "broken",
                value=abs(closed - counted_forward) / max(closed, 1),
                limit=0.0,
                summary=""
                if closed == counted_forward
                else f"the closed form says {closed} FLOPs, torch's counter {counted_forward}",
                **about,
            )
    yield Measurement(
        quantity="least_bytes", unit="B", value=float(least_bytes(prepared(name, workload, phase, device))), **about
    )


def counted_flops(step: Step) -> tuple[int, list[str]]:
    """FLOPs that torch's counter sees in one call, and in which operations."""
    counter = FlopCounterMode(display=False)
    with counter:
        step(0)
    step.clear()
    return counter.get_total_flops(), sorted(
        str(operation) for operation in counter.get_flop_counts().get("Global", {})
    )


def least_bytes(step: Step) -> int:
    """Parameters, inputs and outputs, each once; with a backward pass also their gradients, each once."""
    outputs = step(0)
    step.clear()
    batch = step.inputs[0]
    floats = [*step.variant.module.parameters(), batch.image, batch.question, *outputs]
    moved = sum(tensor.numel() * tensor.element_size() for tensor in floats)
    validity = batch.image_valid.numel() + batch.question_valid.numel()
    return moved * (2 if step.learns else 1) + validity
