"""How large a batch fits into memory, and whether a workload does, foretold from what small batches take."""

from collections.abc import Iterator

import psutil
import torch

from suite.devices import parse
from suite.probes.failures import refusal
from suite.probes.memory import cpu_peak
from suite.probes.step import About, prepare, running_on
from suite.records import Measurement, Record, Skip
from suite.workloads import Phase, Workload, override

_SAFE = 0.9
"""Of the free memory, what a prediction may use up."""
_WORTH_ASKING = 0.02
"""Inputs that take less than this of the free memory are not worth a prediction."""
_SMALL = (1, 3)
_LARGEST = 2**15
"""Beyond it, making the inputs takes longer than anybody waits."""
_TRIES = 8


def shortfall(name: str, workload: Workload, phase: Phase, device: str) -> str:
    """Why a workload does not fit into memory; empty where it does or where only trying can tell."""
    free = _free(device)
    if workload.batch <= _SMALL[-1] or _inputs(workload) < _WORTH_ASKING * free:
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


def largest(name: str, workload: Workload, phase: Phase, device: str, *, task: str) -> Iterator[Record]:
    """The largest batch that runs: foretold from small ones, then tried, and lowered until it does.

    Yields:
        ``largest_batch``, a batch that ran, with what each example takes; a skip where none did.
    """
    about = About(task=task, variant=name, workload=str(workload), phase=phase, device=device)
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
                yield Skip(quantity="largest_batch", **why, **about)
                return
            batch = max(1, int(0.9 * batch))
        else:
            details = {"bytes_per_example": each, "fixed_bytes": fixed, "free_bytes": _free(device)}
            yield Measurement(quantity="largest_batch", unit="1", value=float(batch), details=details, **about)
            return
    yield Skip(
        quantity="largest_batch",
        reason=f"even {batch} examples ran out of memory, after {_TRIES} tries",
        cause="memory",
        **about,
    )


def _needs(name: str, workload: Workload, phase: Phase, device: str) -> tuple[float, float]:
    """Bytes that are needed whatever the batch, and for each example; inputs included."""
    few, more = _SMALL
    low = _peak(name, _at(workload, few), phase, device)
    high = _peak(name, _at(workload, more), phase, device)
    each = max((high - low) / (more - few), _inputs(_at(workload, 1)))
    return max(low - few * each, 0.0), each


def _peak(name: str, workload: Workload, phase: Phase, device: str) -> float:
    """Bytes at the peak of one call, inputs included."""
    with running_on(device) as parsed:
        # a compiled variant takes the memory of its eager form, about, and would be compiled for each batch
        step = prepare(name.partition("+compile")[0], workload, phase, device, turns=1)
        if parsed.kind == "cpu":
            return cpu_peak(lambda: step(0)) + _inputs(workload)
        torch.cuda.empty_cache()  # what a smaller batch has left behind
        torch.cuda.reset_peak_memory_stats()
        step(0)
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated())


def _at(workload: Workload, batch: int) -> Workload:
    return override(workload, {"batch": str(batch)})


def _inputs(workload: Workload) -> float:
    """Bytes of the inputs in float32; with a backward pass their gradients are in the peak."""
    return 4.0 * workload.batch * (workload.regions * workload.image_width + workload.words * workload.question_width)


def _free(device: str) -> float:
    if parse(device).kind == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    return float(psutil.virtual_memory().available)
