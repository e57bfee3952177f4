"""Is it masked correctly? The audit of a built variant, as findings."""

from collections.abc import Iterator
from dataclasses import replace

from suite.audit.findings import findings
from suite.audit.lab import Lab
from suite.audit.properties import examine
from suite.audit.subject import WIDTH, from_variant
from suite.bench.probes import published
from suite.bench.probes.step import running_on
from suite.core.records import Record
from variants import build


def audit(
    name: str, device: str, *, task: str, seed: int = 0, width: int = WIDTH, stretch: int = 1
) -> Iterator[Record]:
    """Examine one variant, property by property.

    Args:
        name: a variant's name.
        device: label, such as ``cpu[threads=2]`` or ``cuda``.
        task: of the records.
        seed: of weights and batches.
        width: of both sides' features.
        stretch: how many times as long as usual the scenes are, for kernels that go block by block.

    Raises:
        ValueError: the name is wrong.
        Skip: the variant cannot be had here.
    """
    with running_on(device) as parsed:
        yield from published.deviate(name, device, task=task, seed=seed)
        variant = build(name, width=width, device=parsed.kind, seed=seed)
        subject = replace(from_variant(variant), stretch=stretch)
        lab = Lab(subject, seed)
        lab.forward(lab.batch)  # what cannot run at all is an error, not twenty broken properties
        yield from findings(subject, examine(subject, seed=seed), task=task, device=device, seed=seed)
