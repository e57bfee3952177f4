"""Proof of mode: that what was timed is what its name says."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch.profiler import profile

from suite.bench.probes import accelerators
from suite.bench.probes.step import Step
from suite.bench.tasks import About
from suite.core.devices import Kind
from suite.core.records import Finding, Measurement, Record
from variants.transforms import compiles, products_in

_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mv", "aten::convolution")
_DEVICES = (torch.profiler.DeviceType.CUDA, torch.profiler.DeviceType.XPU)
_DTYPES = {"float": "float32", "c10::Half": "float16", "c10::BFloat16": "bfloat16", "double": "float64"}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Dynamo's and Inductor's counters at one moment of this process."""

    graphs: int
    breaks: int
    lowered: int
    """Graphs that Inductor took, from its cache or anew."""
    compiling_s: float
    """Wall time in the compiler, of forward and backward graphs."""


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """What one variant's calls made the compiler do."""

    graphs: int
    graph_breaks: int
    lowered: int
    recompiles: int
    """Graphs made after the first call."""
    compile_s: float
    """Wall time in the compiler."""

    def details(self) -> dict[str, int]:
        return {"graphs": self.graphs, "graph_breaks": self.graph_breaks, "recompiles": self.recompiles}


def compilations() -> Counts:
    """The counters now."""
    if "torch._dynamo" not in sys.modules:  # it takes longer to load than all of torch, and nothing was compiled
        return Counts(graphs=0, breaks=0, lowered=0, compiling_s=0.0)
    from torch._dynamo.utils import calculate_time_spent, counters

    inductor = counters["inductor"]
    return Counts(
        graphs=counters["stats"]["unique_graphs"],
        breaks=sum(counters["graph_break"].values()),
        lowered=sum(inductor[f"fxgraph_cache_{outcome}"] for outcome in ("hit", "miss", "bypass")),
        compiling_s=calculate_time_spent()["total_wall_time"],
    )


def compilation(before: Counts, first: Counts, after: Counts) -> Compilation:
    """What happened between two moments, the first call in between."""
    return Compilation(
        graphs=after.graphs - before.graphs,
        graph_breaks=after.breaks - before.breaks,
        lowered=after.lowered - before.lowered,
        recompiles=after.graphs - first.graphs,
        compile_s=after.compiling_s - before.compiling_s,
    )


def prove(step: Step, compiled: Compilation, about: About) -> Iterator[Record]:
    """Compare what ran with the variant's name.

    Runs the step once under the profiler, so it comes after the timing.
    """
    asks_compilation = compiles(step.variant.spec)
    dtypes, regions, kernels = _seen(step)
    against: list[str] = []
    if asks_compilation and not (compiled.graphs and compiled.lowered):
        against.append("asks for compilation, but nothing was compiled")
    elif asks_compilation and not regions:
        against.append("was compiled, but its calls did not run a compiled region")
    if not asks_compilation and compiled.graphs:
        against.append(f"asks for no compilation, but {compiled.graphs} graphs were compiled")
    if asks_compilation and compiled.recompiles:
        against.append(f"compiled {compiled.recompiles} graphs more after its first call")
    wanted = str(products_in(step.variant.spec)).removeprefix("torch.")
    if dtypes and wanted not in dtypes:
        against.append(f"asks for products in {wanted}, but they ran in {', '.join(sorted(dtypes))}")
    if asks_compilation:
        for quantity, value in compiled.details().items():
            yield Measurement(quantity=quantity, unit="1", value=float(value), **about)
        yield Measurement(quantity="compile_time", unit="s", value=compiled.compile_s, **about)
    yield Finding(
        quantity="mode",
        verdict="broken" if against else "holds",
        summary="; ".join(against),
        details={
            **compiled.details(),
            "lowered_graphs": compiled.lowered,
            "compiled_regions": regions,
            "product_dtypes": sorted(dtypes),
            "kernels": kernels,
            "notes": step.variant.notes,
        },
        **about,
    )


def _seen(step: Step) -> tuple[set[str], int, list[str]]:
    """Dtypes of matrix products, how many compiled regions ran, and the names of the kernels on the device."""
    kind = cast(Kind, step.variant.device.type)
    with profile(activities=accelerators.activities(kind), record_shapes=True) as profiler:
        step(0)
        accelerators.synchronize(kind)
    step.clear()
    dtypes: set[str] = set()
    kernels: dict[str, None] = {}
    regions = 0
    for event in profiler.profiler.kineto_results.events():
        name = event.name()
        if name.startswith("Torch-Compiled Region"):
            regions += 1
        elif name in _PRODUCTS:
            dtypes |= {_DTYPES[dtype] for dtype in event.dtypes() if dtype in _DTYPES}
        elif kind in ("cuda", "xpu") and event.device_type() in _DEVICES:
            kernels[name] = None
    return dtypes, regions, list(kernels)[:40]
