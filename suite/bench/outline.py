"""What a mechanism says of itself before it is run: its FLOPs, its parameters, or why it cannot be had here."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from suite.core.user_files import Introduced
from suite.core.workloads import Workload
from variants import Skip, mechanisms
from variants.build import blueprint
from variants.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Of a plain mechanism on one workload."""

    flops: int | None = None
    """FLOPs of the forward pass's matrix products; None where it does not say."""
    parameters: int = 0
    """How many tensors they are."""
    refusal: str = ""
    """Why it cannot be had here; or empty."""


_told: dict[tuple[Spec, Workload], Outline] = {}
"""What the processes that run a user's files have said of these."""


def outline(spec: Spec, workload: Workload) -> Outline:
    """Of a variant's mechanism; of a user's, what was told of it, since it is not built here."""
    spec = spec.plain
    known = mechanisms().get(spec.mechanism)
    if known is not None and issubclass(known, Introduced):
        return _told.get((spec, workload), Outline())
    return _built(spec, workload)


@lru_cache(maxsize=1024)
def _built(spec: Spec, workload: Workload) -> Outline:
    """Of what is built here, without its weights."""
    try:
        module = blueprint(spec, image_width=workload.image_width, question_width=workload.question_width)
    except (Skip, ValueError) as error:
        return Outline(refusal=str(error))
    return Outline(
        flops=module.matmul_flops(workload.batch, workload.regions, workload.words),
        parameters=sum(1 for _ in module.parameters()),
    )


def tell(specs: Iterable[Spec], workloads: Iterable[Workload]) -> Iterator[Mapping[str, Any]]:
    """The outlines of a user's mechanisms as plain data, in the order of specs and then of workloads.

    For a process in which their files are loaded. One that cannot be outlined is no error here: it will fail, and be
    put on record, where it is run.
    """
    workloads = tuple(workloads)
    for spec in specs:
        for workload in workloads:
            try:
                made = outline(spec, workload)
                flops = None if made.flops is None else int(made.flops)
                yield {"outline": {"flops": flops, "parameters": made.parameters, "refusal": made.refusal}}
            except Exception:  # a user's constructor may raise anything
                yield {"outline": {}}


def hear(specs: Iterable[Spec], workloads: Iterable[Workload], outlines: Iterable[Mapping[str, Any]]) -> None:
    """Keep what `tell` has said in another process."""
    places = [(spec.plain, workload) for spec in specs for workload in tuple(workloads)]
    _told.update(zip(places, (Outline(**told) for told in outlines), strict=True))
