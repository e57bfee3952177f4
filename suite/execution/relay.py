"""The far end of an executor: one job on another machine, watched there as it would be here.

What a scheduler runs on a node is a relay. It starts the job as a process of its own on that node, hears it, and passes
on what it hears; so a job that dies, hangs or leaves daemons behind is seen and swept where it runs.
"""

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite.execution.jobs import Ending, Job, News, Node
from suite.execution.local import Local

TELL_S = 1.0
"""How often a relay says how far its job is, at most."""
MOST_BROUGHT_B = 256 * 2**20
"""At most so many bytes of a job's files are brought home where no folder is shared."""
_THREADS = "OMP_NUM_THREADS"
"""A variable that schedulers set, and that changes how a processor does the same work."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What every node has to be, and the job that tells what it is."""

    job: Job
    """Yields one line: an object in JSON."""
    expected: Mapping[str, Any]
    """The keys of that object that have to have these values."""

    def of(self, job: Job) -> "Check":
        """With what the node of a job has to be beside."""
        return replace(self, expected={**self.expected, **job.needs})


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a cluster is opened for; each executor's file has an ``opened`` that takes it, beside its own table."""

    folder: Path
    """The run folder here."""
    check: Check
    gpu: bool
    """Whether jobs need a GPU."""
    beside: int
    """Most jobs that bear company on one machine without a GPU."""
    files: tuple[str, ...] = ()
    """The user's own."""
    address: str | None = None
    """The address of the cluster's head, where the user gave it."""


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A job as it travels, and what it finds where it arrives."""

    job: Job
    folder: Path | None
    """The run folder, where it is shared; None where files are brought home with the records."""
    threads: str | None
    """``OMP_NUM_THREADS`` as it is at home."""
    check: "Check"


@dataclass(frozen=True, kw_only=True)
class Message:
    """What a relay passes on."""

    news: News
    identity: Mapping[str, Any] | None = None
    """With the ending: what the node is, as far as that is known."""
    files: Mapping[str, bytes] | None = None
    """With the ending: what the job has written into its folder, where that is not the run's."""


_known: dict[str, Mapping[str, Any]] = {}
"""What this machine is: asked once in a process that relays several jobs."""


def parcel(job: Job, folder: Path | None, check: Check) -> Parcel:
    """A job, ready to travel."""
    return Parcel(job=job, folder=folder, threads=os.environ.get(_THREADS), check=check.of(job))


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is not as expected, each as a phrase."""
    return [
        f"{name} is {found.get(name) or 'absent'} and not {expected[name] or 'absent'}"
        for name in expected
        if found.get(name) != expected[name]
    ]


def is_unfit(told: Message, check: Check) -> bool:
    """Whether a job was refused because its node is not as it has to be.

    Args:
        told: of the job.
        check: of the job.
    """
    ending, found = told.news.ending, told.identity
    refused = ending is not None and ending.way == "refused"
    return refused and found is not None and bool(differences(check.expected, found))


def relay(it: Parcel) -> Iterator[Message]:
    """Run a job on this machine and pass on what is heard; the last says how it ended."""
    os.environ.pop(_THREADS, None)
    if it.threads is not None:
        os.environ[_THREADS] = it.threads
    with suppress(OSError, AttributeError):  # Ray's workers stand behind everything else; not everybody may change that
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    here = host()
    with ExitStack() as stack:
        cache = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="coattention-", ignore_cleanup_errors=True))
        )
        folder = it.folder or cache / "folder"
        folder.mkdir(exist_ok=True)
        executor = Local(folder, cache)
        stack.callback(executor.close)
        refused = _checked(executor, it.check)
        if refused is not None:
            yield Message(news=News(ticket="", node=here, ending=refused), identity=_known.get(here))
            return
        executor.start(it.job, Node(name=""))
        told_s = float("-inf")
        while True:
            for news in executor.wait(TELL_S):
                at_home = replace(news, node=here)
                if news.ending is not None:
                    yield Message(news=at_home, identity=_known[here], files=None if it.folder else _written(folder))
                    return
                if time.monotonic() - told_s >= TELL_S:
                    told_s = time.monotonic()
                    yield Message(news=at_home)


def host() -> str:
    """What this machine is called: by its scheduler, or by itself."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _checked(executor: Local, check: Check) -> Ending | None:
    """Find out what this machine is, in a process of its own; why it may not work, where it may not."""
    here = host()
    if here not in _known:
        executor.start(check.job, Node(name=""))
        ended = None
        while ended is None:
            ended = next((news for news in executor.wait(TELL_S) if news.ending is not None), None)
        assert ended.ending is not None
        if ended.ending.way != "done":
            return replace(ended.ending, reason=f"{here} cannot say what it is: {ended.ending.reason}")
        _known[here] = json.loads(ended.lines[0])
    differs = differences(check.expected, _known[here])
    return Ending(way="refused", reason=f"{here} is not as it has to be: {'; '.join(differs)}") if differs else None


def _written(folder: Path) -> dict[str, bytes]:
    """What stands in a folder, by relative path; checkpoints stay where they can be continued."""
    found: dict[str, bytes] = {}
    total_B = 0
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and not relative.startswith("checkpoints/"):
            total_B += path.stat().st_size
            if total_B > MOST_BROUGHT_B:
                break
            found[relative] = path.read_bytes()
    return found
