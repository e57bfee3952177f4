"""Processes that train side by side, one job at a time each."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from suite.ablation.jobs import Job, work
from suite.ablation.training import Progress
from suite.core.records import Record, Skip
from suite.execution.tether import end_with_starter


class Crew:
    """Processes that train; each ends with its parent."""

    def __init__(self, lanes: int, folder: Path, device: str) -> None:
        self.running: dict[Job, Progress] = {}
        self._context = multiprocessing.get_context("spawn")
        self._folder = folder
        self._device = device
        self._free: list[tuple[Any, Connection]] = []
        self._busy: dict[Connection, tuple[Any, Job]] = {}
        self._lanes = lanes

    @property
    def free(self) -> bool:
        return len(self._busy) < self._lanes

    def start(self, job: Job) -> None:
        self._free = [(process, pipe) for process, pipe in self._free if process.is_alive()]
        process, pipe = self._free.pop() if self._free else self._hire()
        with suppress(BrokenPipeError, ConnectionResetError):  # dead already, which waiting for it will tell
            pipe.send(job)
        self._busy[pipe] = (process, job)
        self.running[job] = Progress(epoch=0, epochs=job.recipe.epochs, loss=float("nan"))

    def wait(self, timeout_s: float) -> Iterable[tuple[Job, Progress | None, Sequence[Record] | None]]:
        """What was heard: progress of a job, or its records at the end."""
        for ready in wait(list(self._busy), timeout_s):
            assert isinstance(ready, Connection)
            process, job = self._busy[ready]
            try:
                heard = ready.recv()
            except (EOFError, OSError):  # OSError: it died with the job unread
                process.join()
                del self._busy[ready], self.running[job]
                yield job, None, [_killed(job, process.exitcode, self._device)]
                continue
            if isinstance(heard, Progress):
                yield job, heard, None
            else:
                del self._busy[ready], self.running[job]
                self._free.append((process, ready))
                yield job, None, heard

    def close(self) -> None:
        """End all processes; what they were at continues from its last epoch another time."""
        for process, pipe in [*self._free, *((process, pipe) for pipe, (process, _) in self._busy.items())]:
            pipe.close()
            process.terminate()
            process.join()

    def _hire(self) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_train, args=(theirs, self._folder, self._device), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends when the process does
        return process, ours


def _train(pipe: Connection, folder: Path, device: str) -> None:
    """Train job after job until the parent closes the pipe, or dies."""
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    torch.set_num_threads(1)
    try:
        while True:
            job: Job = pipe.recv()
            pipe.send(work(job, folder, device, pipe.send))
    except (EOFError, BrokenPipeError):
        return


def _end_with_parent() -> None:
    """End this process when its parent does, even if it is killed."""
    end_with_starter()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent watch").start()


def _killed(job: Job, code: int | None, device: str) -> Skip:
    return Skip(
        task=job.name,
        variant=job.row.variant,
        device=device,
        quantity="accuracy",
        reason=f"the training process ended with code {code}",
        cause="killed",
        details={"row": job.row.label, "seed": job.seed},
    )
