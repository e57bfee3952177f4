"""What the loop and the executors say to each other: jobs, nodes and news, as plain data.

This module imports neither torch nor a probe nor a page, so that an executor can be tried without them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Ticket = str
"""What an executor calls a job that it has taken."""
Cause = Literal["error", "timeout", "memory", "killed"]
Way = Literal["done", "refused", "raised", "killed", "exited", "lost", "hung", "cut", "stuck"]
"""How a job may end.

::

    done      its function returned
    refused   it raised a `UserError`
    raised    it raised something else
    killed    a signal ended its process, or its scheduler did
    exited    its process ended by itself before the function had returned
    lost      its node was lost, and it with that
    hung      it was ended, because it went on for too long
    cut       it was ended, because the time of all jobs was over
    stuck     it was given up, because it did not begin
"""


class Announcement(Protocol):
    """An integer in shared memory, through which a job says how far it is, at the cost of a store."""

    value: int


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where a job finds itself, on whatever machine it runs."""

    folder: Path
    """A folder for files beside its records: the run folder, or one whose files are brought there."""
    cache: Path
    """A folder for files that may be thrown away."""
    files: tuple[str, ...] = ()
    """The user's own files that the job needs, where they are to be found there."""


Work = Callable[[Any, Site, Announcement], Iterator[str]]
"""A function at the top of a module of this program: what to do, where, and how far it is; yields records as lines."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work, the unit of loss and of resume; it pickles."""

    name: str
    """Unique in a run, and the same in every run of the same request."""
    work: Work
    what: Any
    """The first argument of ``work``."""
    files: tuple[str, ...] = ()
    """The user's own files that it needs."""
    alone: bool
    """Whether nothing may run beside it: it has the GPU, or where there is none the whole node, for itself."""
    expected_s: float
    """What it takes, about."""
    room: str = ""
    """Jobs of one room may go through one process, one after the other, where the executor can: starting it costs more
    than they do. Empty where a job needs a process that has run nothing before."""
    limit_s: float = float("inf")
    """It counts as hung when it has not ended so many seconds after it began."""
    needs: Mapping[str, Any] = field(default_factory=dict)
    """What its node has to be, beside what every node has to be."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A place where jobs run: a machine, one GPU of it, or a queue with a scheduler behind it."""

    name: str
    """Empty for the machine that this program runs on."""
    beside: int = 1
    """How many jobs that bear company it takes at once."""
    queue: bool = False
    """Whether it keeps jobs that have to be alone apart by itself."""
    model: str = ""
    """The model of its device, as labels have it, where jobs are sent to several models; empty where any will do."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a job ended."""

    way: Way
    reason: str = ""
    """One line; empty where it is done."""
    cause: Cause = "error"
    trace: str = ""
    """The traceback of what was raised."""


@dataclass(frozen=True, kw_only=True)
class News:
    """What was heard of a job since it was heard of before."""

    ticket: Ticket
    began: bool = False
    """Whether it is known to have begun; told once at least."""
    back: bool = False
    """Whether it had begun and was put back, preempted or with its node; it begins anew."""
    at: int = -1
    """How far it is, as it announced last."""
    node: str = ""
    """Where it runs, once that is known."""
    why: str = ""
    """Why it has not begun, in the words of whoever keeps it waiting."""
    ending: Ending | None = None
    """How it ended; nothing follows it."""
    took_s: float | None = None
    """With its ending: seconds since it began, counted where it ran, by another process than its own."""
    lines: tuple[str, ...] = field(default=(), repr=False)
    """With its ending: all records that it yielded."""


class Executor(Protocol):
    """Where jobs run. It starts one, hears from it and ends it, and decides nothing else."""

    @property
    def patience_s(self) -> float:
        """How long a job may be waited for until it has begun."""

    def nodes(self) -> Sequence[Node]:
        """The nodes that can be had now; asked again when a job was lost, and every few seconds."""

    def start(self, job: Job, node: Node) -> Ticket:
        """Begin a job, or ask for it to be begun; returns at once."""

    def wait(self, seconds: float) -> Sequence[News]:
        """What was heard, as soon as something was, or nothing after so many seconds. It raises for no job."""

    def cancel(self, ticket: Ticket) -> News:
        """End a job and all that it has started, whether it had begun or not; its last news."""

    def now(self) -> float:
        """Seconds, on the clock by which jobs are timed."""

    def close(self) -> None:
        """End what still runs, and give back what it runs on."""
