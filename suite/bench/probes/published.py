"""What a published implementation's defects change in numbers: it and ours, with the same weights, on one batch."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from suite.bench.inputs import make_batch
from suite.bench.probes.step import running_on
from suite.bench.tasks import About
from suite.core.records import Measurement
from suite.core.workloads import WORKLOADS
from variants import Attended, Batch, CoAttention, build, mechanisms
from variants.published import corrected
from variants.spec import parse

WIDTH = 32


def deviate(name: str, device: str, *, task: str, seed: int = 0) -> Iterator[Measurement]:
    """How far a published implementation is from ours with the same weights, padded and not.

    Args:
        name: of a variant; those whose origin names no weights, nor have a corrected form of their own, yield nothing.
        device: label.
        task: of the records.
        seed: of the weights.

    Yields:
        ``deviation_from_corrected``, the largest of the outputs' on a batch padded on both sides; in its details
        each output's, and ``unpadded``, the same without any padding. Relative to the RMS of ours.
    """
    origin = mechanisms()[name].origin if name in mechanisms() else None
    if origin is None:
        return
    ours_as = parse(origin.ours)
    itself = ours_as.mechanism == name
    if not origin.source and not itself:
        return
    with running_on(device) as parsed, torch.no_grad():
        theirs = build(name, width=WIDTH, seed=seed).module.eval()
        if itself:  # under the same names, so from the same seed
            ours = build(ours_as, width=WIDTH, seed=seed).module.eval()
        else:
            ours = corrected(theirs, origin.source, into=ours_as.mechanism).eval()
        shape = replace(
            WORKLOADS["tiny"], image_width=WIDTH, question_width=WIDTH, image_fill=0.6, question_fill=0.6, batch=8
        )
        padded = make_batch(shape, seed=seed)
        full = padded._replace(
            image_valid=torch.ones_like(padded.image_valid), question_valid=torch.ones_like(padded.question_valid)
        )
        for module in (theirs, ours):
            module.to(parsed.kind)
        apart = _apart(theirs, ours, _on(padded, parsed.kind))
        unpadded = _apart(theirs, ours, _on(full, parsed.kind))
    yield Measurement(
        **About(task=task, variant=name, workload="", phase="", device=device),
        quantity="deviation_from_corrected",
        unit="1",
        value=max(apart.values()),
        details={**apart, "unpadded": max(unpadded.values())},
    )


def _on(batch: Batch, kind: str) -> Batch:
    return Batch(*(field.to(kind) for field in batch))


def _apart(theirs: CoAttention, ours: CoAttention, batch: Batch) -> dict[str, float]:
    """The largest deviation of each output, relative to the RMS of ours."""
    return {
        output: float((one - other).abs().max() / other.square().mean().sqrt())
        for output, one, other in zip(Attended._fields, theirs(batch), ours(batch), strict=True)
    }
