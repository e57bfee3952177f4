"""What a published implementation's defects change in numbers: it and ours, with the same weights, on one batch."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from suite.bench.inputs import make_batch
from suite.bench.probes.step import About, running_on
from suite.core.records import Measurement
from suite.core.workloads import WORKLOADS
from variants import Attended, Batch, CoAttention, build, mechanisms
from variants.build import option_types
from variants.published import corrected

WIDTH = 32
SOURCES = {
    "published_csdn": ("csdn/parallel", "parallel"),
    "published_skyol5": ("skyol5/parallel", "parallel"),
    "published_zhangtd_parallel": ("zhangtd/parallel", "parallel"),
    "published_hiecoatt_parallel": ("hiecoatt/parallel", "parallel"),
    "published_hiecoatt_alternating": ("hiecoatt/alternating", "alternating"),
    "published_dcn": ("dcn/stack", "dense"),
    "published_mcan": ("mcan/net", "modular"),
    "published_ban": ("ban/residual", "bilinear"),
    "published_bidaf": ("bidaf/attflow", "flow"),
    "published_allennlp": ("allennlp/bidaf", "flow"),
}
"""Where the weights of the published layer are those of ours: its component, and our mechanism."""


def deviate(name: str, device: str, *, task: str, seed: int = 0) -> Iterator[Measurement]:
    """How far a published implementation is from ours with the same weights, padded and not.

    Args:
        name: of a variant; those that are neither in `SOURCES` nor have a corrected form of their own yield nothing.
        device: label.
        task: of the records.
        seed: of the weights.

    Yields:
        ``deviation_from_corrected``, the largest of the outputs' on a batch padded on both sides; in its details
        each output's, and ``unpadded``, the same without any padding. Relative to the RMS of ours.
    """
    itself = "corrected" in option_types(mechanisms()[name]) if name in mechanisms() else False
    if name not in SOURCES and not itself:
        return
    with running_on(device) as parsed, torch.no_grad():
        theirs = build(name, width=WIDTH, seed=seed).module.eval()
        if itself:  # under the same names, so from the same seed
            ours = build(f"{name}[corrected=true]", width=WIDTH, seed=seed).module.eval()
        else:
            source, mechanism = SOURCES[name]
            ours = corrected(theirs, source, into=mechanism).eval()
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
