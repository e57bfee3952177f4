"""How much memory a variant takes beyond what stands before the call, to the byte."""

import gc
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from suite.bench.probes import accelerators
from suite.bench.probes.step import Step, prepared, running_on
from suite.bench.tasks import Target
from suite.core.records import Measurement, Record, Skip


def measure(target: Target) -> Iterator[Record]:
    """Peak of one warm call, what it keeps for the backward pass, and on CUDA what the allocator holds.

    Parameters and inputs stand before the call and do not count; outputs and gradients do. The process should hold
    nothing else: on CUDA the allocator's cache is shared.

    Yields:
        ``peak_memory``; ``saved_for_backward`` in a phase with a backward pass; on CUDA ``reserved_memory``, and
        ``graph_pool_memory`` where a graph was captured.
    """
    about = target.about
    with running_on(target.device) as parsed:
        step = prepared(*target.place)
        if not step.calls:  # what is made once, such as a workspace or a compiled function, is not the call's
            step(0)
            step.clear()
        if parsed.kind != "cpu":
            gc.collect()
            found = accelerators.peak(parsed.kind, lambda: step(0))
            if found is None:
                reason = f"the allocator of {parsed.kind} tells no peak"
                yield Skip(quantity="peak_memory", reason=reason, cause="impossible", **about)
            else:
                yield Measurement(quantity="peak_memory", unit="B", value=float(found[0]), **about)
                yield Measurement(quantity="reserved_memory", unit="B", value=float(found[1]), **about)
            if parsed.kind == "cuda" and (pooled := graph_pools()):
                yield Measurement(quantity="graph_pool_memory", unit="B", value=float(pooled), **about)
        else:
            yield Measurement(quantity="peak_memory", unit="B", value=float(cpu_peak(lambda: step(0))), **about)
        step.clear()
        if step.learns:
            saved = saved_for_backward(step)
            yield Measurement(quantity="saved_for_backward", unit="B", value=float(saved), **about)


def cpu_peak(call: Callable[[], object]) -> int:
    """Exact peak of one call above its start, from the profiler's allocation events, in bytes."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        outputs = call()
    del outputs
    events = profiler.profiler.kineto_results.events() if profiler.profiler else []
    return replay([event.nbytes() for event in events if event.name() == "[memory]"])


def replay(changes: Sequence[int]) -> int:
    """The highest sum of allocations, counted from 0 in the order in which they were made."""
    held = peak = 0
    for change in changes:
        held += change
        peak = max(peak, held)
    return peak


def saved_for_backward(step: Step) -> int:
    """Bytes that the graph of one forward pass keeps alive beside parameters and inputs."""
    own = {
        tensor.untyped_storage().data_ptr()
        for tensor in (
            *step.variant.module.parameters(),
            *step.variant.module.buffers(),
            *(field for batch in step.inputs for field in batch),
        )
    }
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is given out twice while we count

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = step.variant.call(step.inputs[0])
    del outputs
    return sum(kept.values())


def graph_pools() -> int:
    """Bytes that captured graphs hold in pools of their own, which no call's peak shows: they stand before it."""
    segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]  # torch leaves it so
    return sum(segment["total_size"] for segment in segments if tuple(segment["segment_pool_id"]) != (0, 0))
