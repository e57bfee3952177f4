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
from typing import TYPE_CHECKING

import psutil

from suite.bench.probes import LARGEST_BATCH, PROBES
from suite.bench.tasks import Audit, Comparison, Examination, Machine, Target, Task
from suite.core import user_files
from suite.core.errors import printable
from suite.core.records import HARNESS, Measurement, Record, Skip, encode
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

    # the clock's own functions, before a file can replace them
    from suite.bench.probes import clocks, conditions, settings  # noqa: F401

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

    compares = isinstance(task.what, Comparison)
    fitting, left_out = _fitting(task, announce)
    yield from map(encode, left_out)
    for probe in fitting.what.probes if fitting.variants or not task.variants else ():
        announce(task.variants[0] if task.variants else "")
        found: list[Record] = []
        try:
            for record in _probe(probe, fitting, site.folder, announce):
                if site.files and not compares and isinstance(record, Measurement):
                    found.append(record)  # what it changes in its process is seen when the probe has ended
                else:
                    yield encode(doubts.about(record))
        except BaseException as error:  # a probe on a user's mechanism may raise anything; the next probe goes on
            if isinstance(error, GeneratorExit) or compares:
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
    what = task.what
    if not isinstance(what, Comparison | Examination) or what.probes == (LARGEST_BATCH,):
        return task, []
    from suite.bench.probes import capacity

    left_out = []
    for name in what.variants:
        announce(name)
        reason = capacity.shortfall(name, what.workload, what.phase, task.device)
        if reason:
            left_out.append(
                Skip(
                    task=task.name,
                    variant=name,
                    workload=str(what.workload),
                    phase=what.phase,
                    device=task.device,
                    quantity="+".join(what.probes),
                    reason=reason,
                    cause="impossible",
                    remedy="a smaller batch; --largest-batch finds the largest that fits",
                )
            )
    lost = {skip.variant for skip in left_out}
    if not lost:
        return task, []
    if isinstance(what, Comparison):
        what = replace(what, variants=tuple(name for name in what.variants if name not in lost))
        return replace(task, what=what), left_out
    return replace(task, what=replace(what, probes=())), left_out


def _failed(probe: str, task: Task, error: BaseException) -> Skip:
    from suite.core.failures import refusal

    return Skip(
        task=task.name,
        variant=task.variants[0] if len(task.variants) == 1 else "",
        workload=str(task.what.workload or ""),
        phase=task.what.phase or "",
        device=task.device,
        quantity=probe,
        **refusal(error),
    )


def _probe(probe: str, task: Task, folder: Path, announce: Callable[[str], None]) -> Iterator[Record]:
    """The records of one probe, its code imported here."""
    file, _, function = PROBES[probe].code.partition(".")
    measure: Callable[..., Iterator[Record]] = getattr(importlib.import_module(f"suite.bench.probes.{file}"), function)
    match task.what:
        case Machine():
            return measure(task.device, task=task.name, budget_s=task.sampling_s)
        case Audit(variant=variant):
            return measure(variant, task.device, task=task.name)
        case Examination(variant=variant, workload=workload, phase=phase):
            return measure(Target(variant, workload, phase, task.device, task.name, folder))
        case Comparison() as what:
            return measure(
                what.variants,
                what.workload,
                what.phase,
                task.device,
                task=task.name,
                budget_s=task.sampling_s,
                required=what.required,
                announce=announce,
                until_spent=what.spends,
                deadline_s=what.deadline_s,
                foreseen={it.variant: (it.call_s, it.compile_s) for it in what.foreseen},
            )
