"""Jobs on this machine: a process for each, which dies with this one and cannot take it along."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from suite.execution import guest
from suite.execution.guest import Guest
from suite.execution.jobs import Announcement, Ending, Job, News, Node, Site, Ticket, Work


class Local:
    """Processes of this machine: one node, or one for each of several GPUs."""

    patience_s = guest.LONGEST_START_S

    def __init__(self, folder: Path, cache: Path, *, beside: int = 1, gpus: Sequence[str] = ()) -> None:
        """Start nothing yet.

        Args:
            folder: the run folder.
            cache: removed where this program is killed while a job is at work.
            beside: jobs that bear company and run at once, where there are no several GPUs.
            gpus: each a node with one job at a time, as ``CUDA_VISIBLE_DEVICES`` names them; none to leave that alone.
        """
        self._folder = folder
        self._cache = cache
        self._gpus = {f"GPU {name}": name for name in gpus}
        self._nodes = [Node(name=name) for name in self._gpus] or [Node(name="", beside=beside)]
        self._count = 0
        self._at_work: dict[Ticket, _Process] = {}
        self._idle: dict[str, _Room] = {}
        """For each node, the process whose room had the last job there."""

    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def start(self, job: Job, node: Node) -> Ticket:
        self._count += 1
        ticket = str(self._count)
        gpu = self._gpus.get(node.name, "")
        room = self._idle.pop(node.name, None)
        if room is not None and not (room.name == job.room and room.answers):
            room.guest.close()
            room = None
        if job.room and room is None:
            room = _Room(job.room, node.name, self._cache, gpu)
        self._at_work[ticket] = _Process(ticket, job, self._folder, self._cache, gpu, room)
        return ticket

    def wait(self, seconds: float) -> Sequence[News]:
        if not self._at_work:
            time.sleep(seconds)
            return []
        wait([waitable for process in self._at_work.values() for waitable in process.waitables], seconds)
        told = [news for process in self._at_work.values() if (news := process.hear()) is not None]
        for news in told:
            if news.ending is not None:
                room = self._at_work.pop(news.ticket).room
                if room is not None and news.ending.way == "done" and room.answers:
                    self._idle[room.node] = room
        return told

    def cancel(self, ticket: Ticket) -> News:
        return self._at_work.pop(ticket).cancel()

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        for ticket in list(self._at_work):
            self.cancel(ticket)
        for room in self._idle.values():
            room.guest.close()
        self._idle.clear()


class _Room:
    """A process that takes one job after another; what a job raises ends it, and the next one gets a new process."""

    def __init__(self, name: str, node: str, cache: Path, gpu: str) -> None:
        self.name = name
        self.node = node
        self.at: Announcement = guest.context().RawValue("i", -1)
        receiving, self._sending = guest.context().Pipe(duplex=False)
        self.guest = Guest(_serve, receiving, self.at, gpu, temporary=cache)
        receiving.close()

    @property
    def answers(self) -> bool:
        """Whether it still waits for a job."""
        return not self.guest.hear() and self.guest.ending is None

    def give(self, job: Job, site: Site) -> None:
        self.at.value = -1
        with suppress(OSError):  # it has ended since, which is heard
            self._sending.send((job.work, job.what, site))


class _Process:
    """A job at work."""

    def __init__(
        self, ticket: Ticket, job: Job, folder: Path, cache: Path, gpu: str, room: _Room | None = None
    ) -> None:
        self.room = room
        self._ticket = ticket
        self._lines: list[str] = []
        self._told = (False, -1)
        self._given_s = time.monotonic()
        self._ending: Ending | None = None
        site = Site(folder=folder, cache=cache, files=job.files)
        if room is not None:
            self._at, self._guest = room.at, room.guest
            room.give(job, site)
        else:
            self._at = guest.context().RawValue("i", -1)
            self._guest = Guest(_go, job.work, job.what, site, self._at, gpu, temporary=cache)

    @property
    def _elapsed_s(self) -> float:
        """Since the job began, which may be its process's second."""
        return min(self._guest.elapsed_s, time.monotonic() - self._given_s)

    @property
    def waitables(self) -> tuple[Any, ...]:
        return self._guest.waitables

    def hear(self) -> News | None:
        """What is new, if something is; with the ending, nothing of the process is left."""
        for line in self._guest.hear():
            if isinstance(line, str):
                self._lines.append(line)
            elif line is None and self.room is not None:
                self._ending = Ending(way="done")
            else:
                self._guest.ending = Ending(way="raised", reason="its process sent no record")
        if self._ending is not None and self._guest.ending is None:
            return self._last(self._ending)
        if self._guest.ending is not None:
            self._guest.close()
            return self._last(self._ending or self._guest.ending)
        told = (self._elapsed_s > 0, self._at.value)
        if told == self._told:
            return None
        self._told = told
        return News(ticket=self._ticket, began=told[0], at=told[1])

    def cancel(self) -> News:
        heard = self.hear()
        self._guest.close()
        return self._last(None) if heard is None or heard.ending is None else heard

    def _last(self, ending: Ending | None) -> News:
        return News(
            ticket=self._ticket,
            began=self._elapsed_s > 0,
            at=self._at.value,
            ending=ending,
            took_s=self._elapsed_s,
            lines=tuple(self._lines),
        )


def gpu_name(index: int) -> str:
    """How ``CUDA_VISIBLE_DEVICES`` names the GPU that torch has under this number, which it may number anew."""
    import torch  # as below

    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return names[index] if len(names) == torch.cuda.device_count() else str(index)


def visible_gpus(most: int) -> list[str]:
    """The GPUs of one model that jobs may be given one each, as ``CUDA_VISIBLE_DEVICES`` names them.

    Args:
        most: how many at once this machine has CPUs for.

    Returns:
        The first one's like, or nothing where there is no other one: it need not be named then.
    """
    import torch  # here alone, so that what does not measure runs without

    if torch.cuda.device_count() < 2:
        return []
    models = [torch.cuda.get_device_properties(index).name for index in range(torch.cuda.device_count())]
    names = [gpu_name(index) for index in range(len(models))]
    alike = [name for name, model in zip(names, models, strict=True) if model == models[0]][: max(most, 1)]
    return alike if len(alike) > 1 else []


def _serve(jobs: Connection, at: Announcement, gpu: str) -> Iterator[str | None]:
    """One job after another, in a process that they share; None ends the records of each."""
    while True:
        try:
            work, what, site = jobs.recv()
        except EOFError:  # nobody will send another
            return
        yield from _go(work, what, site, at, gpu)
        at.value = -1
        yield None


def _go(work: Work, what: Any, site: Site, at: Announcement, gpu: str) -> Iterator[str]:
    """A job, in its own process."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when the first call reaches the driver
    yield from work(what, site, at)
