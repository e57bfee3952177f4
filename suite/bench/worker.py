"""What the process of a task does: the job of a run."""

import gc
import importlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import psutil

from suite.bench.plan import LARGEST_BATCH, MACHINE, Task
from suite.core import user_files
from suite.core.errors import printable
from suite.core.exits import HARNESS
from suite.core.records import Measurement, Record, Skip, encode
from suite.execution.jobs import Announcement, Site
from variants import canonical, mechanisms

if TYPE_CHECKING:  # torch is imported in the process that runs a task
    from suite.bench.probes.settings import Watch

_MEMORY_SHARE = 0.95
"""Of the memory that is free, what a worker on the CPU may take: its allocator fails before the kernel kills."""


def work(task: Task, site: Site, at: Announcement) -> Iterator[str]:
    """The life of a worker: runs in the new process, announces which of its variants it is at, and yields records.

    What a comparison raises ends it: its program measures the others again without the variant that was at work. Any
    other probe leaves its exception on record, and the next probe goes on.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(site.cache / "inductor")
    os.environ["TRITON_CACHE_DIR"] = str(site.cache / "triton")
    if task.device.startswith("cpu") and sys.platform == "linux":
        limit = int(psutil.Process().memory_info().vms + _MEMORY_SHARE * psutil.virtual_memory().available)
        import resource  # here alone, so that what does not measure runs where there is none

        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    from suite.bench.probes import clocks, settings  # noqa: F401  # the clock's own functions, before a file can replace them

    started, cpu = time.perf_counter(), time.process_time()
    _tidy(task)
    watch = settings.Watch(strangers=bool(site.files))
    doubts = _Doubts()
    for path in site.files:
        before = mechanisms()
        user_files.load(Path(path))
        doubts.loaded(Path(path), mechanisms().keys() - before.keys(), watch)

    def announce(name: str) -> None:
        at.value = task.variants.index(name) if name in task.variants else -1

    fitting, left_out = _fitting(task, announce)
    yield from map(encode, left_out)
    for probe in task.probes if fitting.variants or not task.variants else ():
        announce(task.variants[0] if task.variants else "")
        found: list[Record] = []
        try:
            for record in _probe(probe, fitting, site.folder, announce):
                if site.files and probe != "timing" and isinstance(record, Measurement):
                    found.append(record)  # what it changes in its process is seen when the probe has ended
                else:
                    yield encode(doubts.about(record))
        except BaseException as error:  # a probe on a user's mechanism may raise anything; the next probe goes on
            if isinstance(error, GeneratorExit) or probe == "timing":
                raise
            found.append(_failed(probe, task, error))
        if site.files:
            doubts.changed(task.variants, watch)
        yield from (encode(doubts.about(record)) for record in found)
    took = time.perf_counter() - started
    yield encode(
        Measurement(
            task=task.name,
            device=task.device,
            quantity="task_time",
            unit="s",
            value=took,
            details={"planned_s": round(task.planned_s, 2), "cpu_s": round(time.process_time() - cpu, 2)},
        )
    )


def _tidy(task: Task) -> None:
    """Let go of what an earlier task has left in a process that is shared: nothing that is measured may stand on it."""
    if not task.room:
        return
    import torch

    from suite.bench.probes import step

    step.prepared.cache_clear()
    gc.collect()
    if task.device.startswith("cuda") and torch.cuda.is_available():
        torch.cuda.empty_cache()


class _Doubts:
    """What a user's files and mechanisms have changed in this process, as reasons against what is measured in it."""

    def __init__(self) -> None:
        self._shared: dict[str, None] = {}
        self._own: dict[str, dict[str, None]] = defaultdict(dict)
        """By mechanism."""

    def loaded(self, path: Path, registered: Collection[str], watch: "Watch") -> None:
        """A file was loaded: what it changed is put back; a thread that it left running cannot be."""
        file = printable(path.name)
        for phrase in watch.undo():
            for mechanism in registered:
                self._own[mechanism][f"{file} changes {phrase} when it is loaded; undone before anything ran"] = None
        if watch.threads():
            self._shared[f"a thread that {file} has started runs beside it"] = None

    def changed(self, variants: Iterable[str], watch: "Watch") -> None:
        """A probe has ended: what its variant changed is put back."""
        for phrase in watch.undo():
            for variant in variants:
                self._own[canonical(variant).mechanism][f"it changes {phrase}"] = None

    def about(self, record: Record) -> Record:
        """The record, with the reasons against it."""
        if not isinstance(record, Measurement) or not record.variant or record.quantity in HARNESS:
            return record
        own = self._own.get(canonical(record.variant).mechanism, {})
        return replace(record, trust=tuple(dict.fromkeys((*record.trust, *self._shared, *own))))


def _fitting(task: Task, announce: Callable[[str], None]) -> tuple[Task, list[Skip]]:
    """The task without the variants whose memory would not suffice, by an estimate from smaller batches."""
    if task.workload is None or task.phase is None or task.probes == (LARGEST_BATCH,):
        return task, []
    from suite.bench.probes import capacity

    left_out = []
    for name in task.variants:
        announce(name)
        reason = capacity.shortfall(name, task.workload, task.phase, task.device)
        if reason:
            left_out.append(
                Skip(
                    task=task.name,
                    variant=name,
                    workload=str(task.workload),
                    phase=task.phase,
                    device=task.device,
                    quantity="+".join(task.probes),
                    reason=reason,
                    cause="impossible",
                    remedy="a smaller batch; --largest-batch finds the largest that fits",
                )
            )
    lost = {skip.variant for skip in left_out}
    return replace(task, variants=tuple(name for name in task.variants if name not in lost)), left_out


def _failed(probe: str, task: Task, error: BaseException) -> Skip:
    from suite.core.failures import refusal

    return Skip(
        task=task.name,
        variant=task.variants[0] if len(task.variants) == 1 else "",
        workload=str(task.workload or ""),
        phase=task.phase or "",
        device=task.device,
        quantity=probe,
        **refusal(error),
    )


def _probe(probe: str, task: Task, folder: Path, announce: Callable[[str], None]) -> Iterator[Record]:
    """The records of one probe, its code imported here."""
    if probe == MACHINE:
        from suite.bench.probes import peaks

        return peaks.measure(task.device, task=task.name, budget_s=task.sampling_s)
    if probe == "masking":
        masking = importlib.import_module("suite.bench.probes.masking")
        return cast(Iterator[Record], masking.audit(task.variants[0], task.device, task=task.name))
    assert task.workload is not None
    assert task.phase is not None
    if probe == "timing":
        from suite.bench.probes import timing

        return timing.compare(
            task.variants,
            task.workload,
            task.phase,
            task.device,
            task=task.name,
            budget_s=task.sampling_s,
            required=task.required_variants,
            announce=announce,
            until_spent=task.spends,
            deadline_s=task.deadline_s,
            foreseen={it.variant: (it.call_s, it.compile_s) for it in task.foreseen},
        )
    variant = task.variants[0]
    if probe == LARGEST_BATCH:
        from suite.bench.probes import capacity

        return capacity.largest(variant, task.workload, task.phase, task.device, task=task.name)
    if probe == "start":
        from suite.bench.probes import start

        return start.measure(variant, task.workload, task.phase, task.device, task=task.name)
    if probe == "memory":
        from suite.bench.probes import memory

        return memory.measure(variant, task.workload, task.phase, task.device, task=task.name)
    if probe == "cost":
        from suite.bench.probes import cost

        return cost.count(variant, task.workload, task.phase, task.device, task=task.name)
    if probe == "agreement":
        from suite.bench.probes import agreement

        return agreement.check(variant, task.workload, task.phase, task.device, task=task.name)
    assert probe == "trace", probe
    from suite.bench.probes import trace

    return trace.record(variant, task.workload, task.phase, task.device, task=task.name, folder=folder)
