"""torch.compile: one whole graph for every shape."""

import inspect
from collections.abc import Mapping
from dataclasses import replace

import torch

from variants.interface import Attended, Batch, Skip
from variants.transforms.precision import Rounded
from variants.transforms.transform import Transform, renamed
from variants.variant import Variant

_RECOMPILE_LIMIT = 64
"""Shapes, phases and modes of one variant before torch gives up; torch's own 8 are used up by three shapes."""


def _compilation(name: str, summary: str, options: Mapping[str, str | int | bool] | None) -> Transform:
    def apply(variant: Variant) -> Variant:
        rounded = isinstance(variant.run, Rounded)
        inner = variant.run.inner if isinstance(variant.run, Rounded) else variant.run
        if (reason := getattr(inner, "untraceable", None)) is not None:
            raise Skip(f"{variant.name}+{name}: {reason}")

        def run(batch: Batch) -> Attended:
            return inner(batch)

        compiled = torch.compile(  # type: ignore[call-overload]  # the overloads do not know its newest arguments
            run,
            fullgraph=True,  # a part that breaks the graph is an error, not a slower benchmark
            dynamic=False,
            options=dict(options) if options else None,
            **isolation(),
        )
        return replace(variant, spec=renamed(variant, name), run=Rounded(compiled) if rounded else compiled)

    return Transform(name=name, axis="compilation", summary=summary, apply=apply)


def isolation() -> dict[str, bool | int]:
    """What keeps variants of one class, which share a code object, out of each other's recompile limit."""
    wanted = {"isolate_recompiles": True, "recompile_limit": _RECOMPILE_LIMIT}
    known = {key: value for key, value in wanted.items() if key in inspect.signature(torch.compile).parameters}
    if known.keys() != wanted.keys():  # torch before 2.13 has one limit, for all
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _RECOMPILE_LIMIT)
    return known


TRANSFORMS = (
    _compilation("compile", "torch.compile, one graph, static shapes", None),
    _compilation(
        "compile_tuned",
        "torch.compile with kernels tuned by measuring: the fair rival of a hand-written one",
        {"max_autotune": True, "coordinate_descent_tuning": True, "coordinate_descent_check_all_directions": True},
    ),
)
