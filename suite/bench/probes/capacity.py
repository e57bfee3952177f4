"""How large a batch fits into memory, and whether a workload does, foretold from what small batches take."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil

from suite.bench.probes import accelerators
from suite.bench.probes.memory import cpu_peak
from suite.bench.probes.step import Step, prepare, running_on
from suite.bench.tasks import Target
from suite.core.devices import parse
from suite.core.failures import refusal
from suite.core.records import Measurement, Record
from suite.core.records import Skip as Skipped
from suite.core.workloads import Phase, Workload, override
from variants import Skip, canonical
from variants.transforms import TRANSFORMS

_SAFE = 0.9
"""Of the free memory, what a prediction may use up."""
_WORTH_ASKING = 0.02
"""Inputs that take less than this of the free memory are not worth a prediction."""
_SMALL = 3
"""Batches of so many examples fit anywhere."""
_SETTLED = 0.2
"""Probes have settled where an example more costs the same, within this, between two pairs of batches in a row."""
_MORE_THAN_LEAST = 1.05
_LEAST_PROBE = 16
_LARGEST_PROBE = 256
_PROBE_SHARE = 0.25
"""Of the free memory, what a probe may be expected to take."""
_LARGEST = 2**15
"""Beyond it, making the inputs takes longer than anybody waits."""
_TRIES = 16
_LOWERED = 0.7
"""What is tried next after a batch that did not fit: sixteen times this is a three-hundredth."""


def shortfall(name: str, workload: Workload, phase: Phase, device: str) -> str:
    """Why a workload does not fit into memory; empty where it does or where only trying can tell."""
    free = _free(device)
    if workload.batch <= _SMALL or _inputs(workload) < _WORTH_ASKING * free:
        return ""
    try:
        fixed, each = _needs(name, workload, phase, device)
    except Exception:  # whatever is wrong with it shows, and is recorded, when it is measured
        return ""
    needed = fixed + each * workload.batch
    if needed <= _SAFE * free:
        return ""
    return (
        f"needs about {needed / 2**30:.1f} GiB, {each / 2**20:.1f} MiB for each example, "
        f"and {free / 2**30:.1f} GiB are free"
    )


def largest(target: Target) -> Iterator[Record]:
    """The largest batch that runs: foretold from small ones, then tried, and lowered until it does.

    Yields:
        ``largest_batch``, a batch that ran, with what each example takes; a skip where none did.
    """
    about, (name, workload, phase, device) = target.about, target.place
    fixed, each = _needs(name, workload, phase, device)
    batch = int(min(max(1, (_SAFE * _free(device) - fixed) // max(each, 1)), _LARGEST))
    for _ in range(_TRIES):
        try:
            _peak(name, _at(workload, batch), phase, device)
        except Exception as error:  # only a lack of memory is an answer here
            why = refusal(error)
            if why["cause"] != "memory":
                raise
            if batch == 1:
                yield Skipped(quantity="largest_batch", **why, **about)
                return
            batch = max(1, int(_LOWERED * batch))
        else:
            details = {"bytes_per_example": each, "fixed_bytes": fixed, "free_bytes": _free(device)}
            yield Measurement(quantity="largest_batch", unit="1", value=float(batch), details=details, **about)
            return
    yield Skipped(
        quantity="largest_batch",
        reason=f"even {batch} examples ran out of memory, after {_TRIES} tries",
        cause="memory",
        **about,
    )


def _needs(name: str, workload: Workload, phase: Phase, device: str) -> tuple[float, float]:
    """Bytes that are needed whatever the batch, and for each example; inputs included."""
    return settled(
        lambda batch: _peak(name, _at(workload, batch), phase, device),
        least=_inputs(_at(workload, 1)),
        at_most=_PROBE_SHARE * _free(device),
    )


def settled(peak: Callable[[int], float], *, least: float, at_most: float) -> tuple[float, float]:
    """A line through the peaks of batches that are large enough for their growth to go on.

    At a batch of one or three the peak may stand where something is computed that hardly depends on the batch, or a
    buffer may not have reached its final size; an example more then seems to cost a fraction of what it will. Batches
    are doubled, to sixteen at least, until two increments in a row agree; of increments that never do, the steepest
    counts.

    Args:
        peak: bytes at the peak of a batch of so many examples.
        least: bytes that an example takes at any rate, such as its inputs.
        at_most: bytes beyond which no probe is taken.

    Returns:
        Bytes whatever the batch, and for each example.
    """
    batches, peaks = [1, 2], [peak(1), peak(2)]
    slopes = [peaks[1] - peaks[0]]
    while True:
        each = max(slopes[-1], least)
        agree = len(slopes) > 1 and abs(slopes[-1] - slopes[-2]) <= _SETTLED * each
        # an example that costs its inputs alone: the peak has not begun to depend on the batch
        if agree and batches[-1] >= _LEAST_PROBE and each > _MORE_THAN_LEAST * least:
            break
        batch = 2 * batches[-1]
        if batch > _LARGEST_PROBE or peaks[-1] + 2 * (batch - batches[-1]) * each > at_most:
            each = max(*slopes, least)
            break
        batches.append(batch)
        peaks.append(peak(batch))
        slopes.append((peaks[-1] - peaks[-2]) / (batches[-1] - batches[-2]))
    return max(peaks[-1] - batches[-1] * each, 0.0), each


def _peak(name: str, workload: Workload, phase: Phase, device: str) -> float:
    """Bytes at the peak of one call, inputs included."""
    with running_on(device) as parsed:
        step = prepare(_uncompiled(name), workload, phase, device, turns=1)
        if parsed.kind == "cpu":
            return cpu_peak(lambda: step(0)) + _inputs(workload)
        found = accelerators.peak(parsed.kind, lambda: step(0))
        if found is None:
            raise Skip(f"the allocator of {parsed.kind} tells no peak, and what fits cannot be foretold from it")
        return found[0] + _held(step)


def _uncompiled(name: str) -> str:
    """A compiled variant takes the memory of what was compiled, about, and would be compiled for each batch."""
    spec = canonical(name)
    kept = itertools.takewhile(lambda word: TRANSFORMS[word].axis != "compilation", spec.transforms)
    return str(replace(spec, transforms=tuple(kept)))


def _at(workload: Workload, batch: int) -> Workload:
    return override(workload, {"batch": str(batch)})


def _inputs(workload: Workload) -> float:
    """Bytes of the inputs in float32; with a backward pass their gradients are in the peak."""
    return 4.0 * workload.batch * (workload.regions * workload.image_width + workload.words * workload.question_width)


def _free(device: str) -> float:
    own = accelerators.free_b(parse(device).kind)
    return float(psutil.virtual_memory().available) if own is None else own


def _held(step: Step) -> float:
    """Bytes of what stands before a call: inputs and parameters."""
    tensors = (*step.variant.module.parameters(), *(field for batch in step.inputs for field in batch))
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
