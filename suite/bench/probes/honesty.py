"""Whether a variant does its work on every call, where the clock looks, and leaves its inputs alone."""

import time

import torch
from torch import Tensor

from suite.bench.probes.step import Step
from suite.bench.tasks import About
from suite.core.records import Finding
from variants import Batch

MOST_LEFT = 0.1
"""Of a call's time, what may still run on the device after its stream is done."""


def examine(step: Step, about: About) -> Finding:
    """Call a variant on other contents at the same addresses, and on the same contents elsewhere.

    Meant for after the timing: contents change in place and are put back. It costs three calls.
    """
    against: list[str] = []
    batch = step.inputs[0]
    kept = tuple(feature.detach().clone() for feature in batch[:2])
    generator = torch.Generator().manual_seed(2016)
    changed = tuple(torch.randn(feature.shape, generator=generator).to(feature) for feature in kept)
    before = _outputs(step)
    _fill(batch, changed)
    after = _outputs(step)
    if not all(torch.equal(now, was) for now, was in zip(batch[:2], changed, strict=True)):
        against.append("writes into its inputs")
        _fill(batch, changed)
    elsewhere = _outputs(Step(step.variant, step.phase, (_copy(batch),)))
    _fill(batch, kept)
    stale, own = _distance(after, before), _distance(after, elsewhere)
    if stale is not None and own is not None and stale <= own:
        against.append("gives an earlier result again although its inputs have changed")
    if step.variant.device.type == "cuda":
        left = _left_behind(step)
        if left > MOST_LEFT:
            against.append(f"{left:.0%} of its work is still running when its stream is done")
    return Finding(
        quantity="honesty",
        verdict="broken" if against else "holds",
        summary="; ".join(against),
        details={"distance_to_earlier": stale, "distance_to_same_contents": own},
        **about,
    )


def _outputs(step: Step) -> tuple[Tensor, ...]:
    attended: object = step(0)
    # whatever else it returns breaks the contract, which is said there
    returned = attended if isinstance(attended, tuple) else ()
    outputs = tuple(output.detach().clone() for output in returned if isinstance(output, Tensor))
    step.clear()
    return outputs


def _fill(batch: Batch, contents: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        for feature, content in zip(batch[:2], contents, strict=True):
            feature.copy_(content)


def _copy(batch: Batch) -> Batch:
    image, question = (feature.detach().clone().requires_grad_(feature.requires_grad) for feature in batch[:2])
    return batch._replace(image=image, question=question)


def _distance(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float | None:
    """Largest difference of finite entries; None where there are none."""
    largest = None
    for one, other in zip(ours, theirs, strict=True):
        # in float32 at least, and on the CPU where the device has no float64
        one, other = (it.cpu() if it.device.type == "mps" else it for it in (one, other))
        difference = (one.double() - other.double()).abs()
        finite = difference[difference.isfinite()]
        if finite.numel():
            largest = max(largest or 0.0, float(finite.max()))
    return largest


def _left_behind(step: Step) -> float:
    """Share of a call's time that its own stream does not know of; the least of five calls, as neighbours only add."""
    shares = []
    for _ in range(5):
        torch.cuda.synchronize()
        started = time.perf_counter()
        step(0)
        torch.cuda.current_stream().synchronize()
        own_s = time.perf_counter() - started
        torch.cuda.synchronize()
        all_s = time.perf_counter() - started
        step.clear()
        shares.append((all_s - own_s) / all_s)
    return min(shares)
