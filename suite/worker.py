"""Worker processes: each task runs in a fresh one, which dies with its parent and cannot take it along."""

import ctypes
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol, cast

import psutil

from suite.plan import LARGEST_BATCH, MACHINE, Task
from suite.records import Measurement, Record, Skip

PRELOADED = ("torch", "torch._dynamo", "torch.profiler", "torch.utils.flop_counter", "scipy.stats", "psutil", "typer")
"""Imported once, before the processes fork off; none of them starts a thread or a device."""
_HELLO = "begun"
_MEMORY_SHARE = 0.95
"""Of the memory that is free, what a worker on the CPU may take: its allocator fails before the kernel kills."""


class Announcement(Protocol):
    """An integer in shared memory: which of its task's variants a worker is at."""

    value: int


def context() -> ForkServerContext | SpawnContext:
    """Processes that start in milliseconds with torch loaded, where the system can fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(PRELOADED))
    return made


def warm_up() -> None:
    """Begin to load torch for the workers, beside whatever the caller does next."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    context()
    # OpenMP reads it when torch is loaded: threads that wait must not spin on a core that somebody else could use
    before = os.environ.get("OMP_WAIT_POLICY")
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["OMP_WAIT_POLICY"]
        else:
            os.environ["OMP_WAIT_POLICY"] = before


class Worker:
    """A task at work in a process of its own."""

    def __init__(self, task: Task, files: tuple[str, ...], folder: Path, cache: Path) -> None:
        made = context()
        self.task = task
        self.records: list[Record] = []
        self._asked_for = time.monotonic()
        self._began: float | None = None
        self._log = cache / "worker.log" if task.alone else cache / f"worker-{abs(hash(task.name))}.log"
        self._at: Announcement = made.RawValue("i", -1)
        self._receiving, sending = made.Pipe(duplex=False)
        self._process: BaseProcess = made.Process(
            target=_work, args=(task, files, folder, cache, self._log, self._at, sending), daemon=True
        )
        self._process.start()
        sending.close()

    @property
    def connection(self) -> Connection:
        """Readable when the worker has something to say, or has ended."""
        return self._receiving

    @property
    def at(self) -> str:
        """The variant at work, or empty."""
        index = self._at.value
        return self.task.variants[index] if 0 <= index < len(self.task.variants) else ""

    @property
    def elapsed_s(self) -> float:
        """Since the process began; the first one of a run waits for torch to be loaded."""
        return time.monotonic() - self._began if self._began is not None else 0.0

    @property
    def waited_s(self) -> float:
        """How long the process has been waited for, 0 once it began."""
        return time.monotonic() - self._asked_for if self._began is None else 0.0

    def receive(self) -> bool:
        """Take what has arrived; whether the worker has closed its end."""
        while self._receiving.poll():
            try:
                message = self._receiving.recv()
            except EOFError:
                return True
            if message == _HELLO:
                self._began = time.monotonic()
            else:
                self.records.append(message)
        return False

    def end(self) -> int | None:
        """Wait for the process that closed its end; its exit code, negative where a signal ended it."""
        self._process.join(5)
        if self._process.exitcode is None:
            self.kill()
        return self._process.exitcode

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.join(5)
        self._receiving.close()

    @property
    def last_words(self) -> str:
        """The last line that the process printed, or empty."""
        try:
            lines = self._log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:300] if lines else ""


def wait_for(workers: list[Worker], timeout_s: float) -> None:
    """Return when a worker has something to say, or after a while."""
    wait([worker.connection for worker in workers], timeout_s)


def _work(
    task: Task, files: tuple[str, ...], folder: Path, cache: Path, log: Path, at: Announcement, sending: Connection
) -> None:
    """The life of a worker: runs in the new process."""
    die_with_parent()
    sending.send(_HELLO)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
    os.environ["TRITON_CACHE_DIR"] = str(cache / "triton")
    if task.device.startswith("cpu") and sys.platform == "linux":
        limit = int(psutil.Process().memory_info().vms + _MEMORY_SHARE * psutil.virtual_memory().available)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    started, cpu = time.perf_counter(), time.process_time()
    from suite import user_files  # here: what a task needs is imported in its own process

    for path in files:
        user_files.load(Path(path))

    def announce(name: str) -> None:
        at.value = task.variants.index(name) if name in task.variants else -1

    fitting, left_out = _fitting(task, announce)
    for skip in left_out:
        sending.send(skip)
    for probe in task.probes if fitting.variants or task.probes == (MACHINE,) else ():
        announce(task.variants[0] if task.variants else "")
        try:
            for record in _probe(probe, fitting, folder, announce):
                sending.send(record)
        except Exception as error:  # a probe on a user's mechanism may raise anything; the next probe goes on
            sending.send(_failed(probe, task, error))
    took = time.perf_counter() - started
    sending.send(
        Measurement(
            task=task.name,
            device=task.device,
            quantity="task_time",
            unit="s",
            value=took,
            details={"planned_s": round(task.planned_s, 2), "cpu_s": round(time.process_time() - cpu, 2)},
        )
    )
    sending.close()


def _fitting(task: Task, announce: Callable[[str], None]) -> tuple[Task, list[Skip]]:
    """The task without the variants whose memory would not suffice, by an estimate from smaller batches."""
    if task.workload is None or task.phase is None or task.probes == (LARGEST_BATCH,):
        return task, []
    from suite.probes import capacity

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


def die_with_parent() -> None:
    """End this process when its parent does, even if it is killed."""
    end_with_starter()  # the fork server, which ends with the parent
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent watch").start()


def end_with_starter() -> None:
    """Have this process killed when the thread that started it ends; Linux alone can, elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _failed(probe: str, task: Task, error: Exception) -> Skip:
    from suite.probes.failures import refusal

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
        from suite.probes import peaks

        return peaks.measure(task.device, task=task.name, budget_s=task.sampling_s)
    if probe == "masking":
        masking = importlib.import_module("suite.probes.masking")
        return cast(Iterator[Record], masking.audit(task.variants[0], task.device, task=task.name))
    assert task.workload is not None
    assert task.phase is not None
    if probe == "timing":
        from suite.probes import timing

        return timing.compare(
            task.variants,
            task.workload,
            task.phase,
            task.device,
            task=task.name,
            budget_s=task.sampling_s,
            required=task.required_variants,
            announce=announce,
        )
    variant = task.variants[0]
    if probe == LARGEST_BATCH:
        from suite.probes import capacity

        return capacity.largest(variant, task.workload, task.phase, task.device, task=task.name)
    if probe == "start":
        from suite.probes import start

        return start.measure(variant, task.workload, task.phase, task.device, task=task.name)
    if probe == "memory":
        from suite.probes import memory

        return memory.measure(variant, task.workload, task.phase, task.device, task=task.name)
    if probe == "cost":
        from suite.probes import cost

        return cost.count(variant, task.workload, task.phase, task.device, task=task.name)
    if probe == "agreement":
        from suite.probes import agreement

        return agreement.check(variant, task.workload, task.phase, task.device, task=task.name)
    assert probe == "trace", probe
    from suite.probes import trace

    return trace.record(variant, task.workload, task.phase, task.device, task=task.name, folder=folder)
