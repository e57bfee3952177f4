"""Jobs on this machine: a process for each, which dies with this one and cannot take it along."""

import os
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
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

    def nodes(self) -> Sequence[Node]:
        return self._nodes

    def start(self, job: Job, node: Node) -> Ticket:
        self._count += 1
        ticket = str(self._count)
        self._at_work[ticket] = _Process(ticket, job, self._folder, self._cache, self._gpus.get(node.name, ""))
        return ticket

    def wait(self, seconds: float) -> Sequence[News]:
        if not self._at_work:
            time.sleep(seconds)
            return []
        wait([waitable for process in self._at_work.values() for waitable in process.waitables], seconds)
        told = [news for process in self._at_work.values() if (news := process.hear()) is not None]
        for news in told:
            if news.ending is not None:
                del self._at_work[news.ticket]
        return told

    def cancel(self, ticket: Ticket) -> News:
        return self._at_work.pop(ticket).cancel()

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        for ticket in list(self._at_work):
            self.cancel(ticket)


class _Process:
    """A job at work."""

    def __init__(self, ticket: Ticket, job: Job, folder: Path, cache: Path, gpu: str) -> None:
        self._ticket = ticket
        self._at: Announcement = guest.context().RawValue("i", -1)
        self._lines: list[str] = []
        self._told = (False, -1)
        site = Site(folder=folder, cache=cache, files=job.files)
        self._guest = Guest(_go, job.work, job.what, site, self._at, gpu, temporary=cache)

    @property
    def waitables(self) -> tuple[Any, ...]:
        return self._guest.waitables

    def hear(self) -> News | None:
        """What is new, if something is; with the ending, nothing of the process is left."""
        for line in self._guest.hear():
            if isinstance(line, str):
                self._lines.append(line)
            else:
                self._guest.ending = Ending(way="raised", reason="its process sent no record")
        if self._guest.ending is not None:
            self._guest.close()
            return self._last(self._guest.ending)
        told = (self._guest.elapsed_s > 0, self._at.value)
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
            began=self._guest.elapsed_s > 0,
            at=self._at.value,
            ending=ending,
            took_s=self._guest.elapsed_s,
            lines=tuple(self._lines),
        )


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
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = names if len(names) == len(models) else [str(index) for index in range(len(models))]
    alike = [name for name, model in zip(names, models, strict=True) if model == models[0]][: max(most, 1)]
    return alike if len(alike) > 1 else []


def _go(work: Work, what: Any, site: Site, at: Announcement, gpu: str) -> Iterator[str]:
    """A job, in its own process."""
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when the first call reaches the driver
    yield from work(what, site, at)
