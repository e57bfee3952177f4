"""Jobs in the queue of a Slurm cluster: submitted by submitit as arrays, watched on their node by a relay.

The run folder has to be on a file system that all nodes share. A job leaves its records in a part file there, so they
outlive this program: resumed, it takes in what has ended meanwhile, and finds what still waits or runs.
"""

import contextlib
import itertools
import math
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from suite.core.errors import UserError, printable
from suite.execution import parts, relay
from suite.execution.guest import ROOT
from suite.execution.jobs import Cause, Ending, Job, News, Node, Ticket
from suite.execution.relay import Check, Message, Opening, Parcel

POLL_S = 2.0
"""How often the queue and the part files are looked at."""
LINGER_S = 20.0
"""The part file of a job may arrive so many seconds after the job has left the queue: a shared file system is slow."""
_LONGEST_ANSWER_S = 60.0
_PATIENCE_S = 300.0
"""A scheduler may be silent for so many seconds, as while it is started anew."""
_WAITS = ("PENDING", "CONFIGURING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")
"""States of a job that has not ended and does not work: it has not begun, was put back, or was stopped for others."""
_WORKS = ("RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT")
_ENDS: Mapping[str, tuple[Cause, str]] = {
    "TIMEOUT": ("timeout", "was ended by Slurm at its limit of time"),
    "DEADLINE": ("timeout", "was ended by Slurm at its deadline"),
    "OUT_OF_MEMORY": ("memory", "was ended by Slurm for want of memory"),
    "CANCELLED": ("killed", "was cancelled"),
}
"""What happens to a job for its own sake, or because somebody wanted it; in any other state its node was lost to it."""
_ID = ".id"
_WARNINGS = (signal.SIGTERM, signal.SIGUSR2)
"""What Slurm sends to all processes of a job some time before it kills them."""
_LATE_S = 1.0
"""The relay may get a warning so many seconds later than its job does."""
_EARLY_S = 70.0
"""Slurm may warn so many seconds earlier than it was asked to: it looks once in a minute."""


HAS_ADDRESS = False
"""Slurm is found by its own configuration."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table ``[slurm]`` of the file: what each job asks for, in the words of sbatch."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    time: int = 60
    """Minutes that Slurm gives a job."""
    gres: str | tuple[str, ...] = ""
    """Such as ``gpu:h100:1``; of a GPU of any kind where ``--device cuda`` is given without it. Of several, as of
    constraints, each is asked for."""
    constraint: str | tuple[str, ...] = ""
    cpus: int = 2
    memory: str = ""
    """Such as ``16G``; the partition's own if left out."""
    at_once: int = 100
    """Jobs that may be in the queue at the same time."""
    wait_s: float = math.inf
    """How long a job may stay pending; however long it takes if left out."""
    setup: tuple[str, ...] = ()
    """Lines of shell before each job, such as ``module load cuda``."""


def opened(table: Table, opening: Opening) -> "Slurm":
    """A queue, found.

    Raises:
        UserError: as `Slurm`.
    """
    asked = {
        "partition": table.partition,
        "account": table.account,
        "qos": table.qos,
        "mem": table.memory,
    }
    parameters: dict[str, Any] = {name: value for name, value in asked.items() if value}
    parameters |= {"time": table.time, "cpus_per_task": table.cpus, "setup": list(table.setup)}
    parameters |= {"signal_delay_s": min(90, 15 * table.time), "additional_parameters": {"requeue": True}}
    kinds = {
        " ".join(filter(None, kind)): {name: it for name, it in zip(("gres", "constraint"), kind, strict=True) if it}
        for kind in itertools.product(_each(table.gres or ("gpu:1" if opening.gpu else "")), _each(table.constraint))
    }
    if len(kinds) == 1:  # and needs no name
        kinds = {"": next(iter(kinds.values()))}
    return Slurm(
        opening.folder,
        check=opening.check,
        gpu=opening.gpu,
        at_once=table.at_once,
        wait_s=table.wait_s,
        parameters=parameters,
        kinds=kinds,
    )


def _each(asked: str | tuple[str, ...]) -> tuple[str, ...]:
    return (asked,) if isinstance(asked, str) else asked


@dataclass(kw_only=True)
class _Submitted:
    """A job that was handed to Slurm."""

    job: Job
    at: Path
    """The path of its part files, without their endings."""
    kind: str = ""
    """The kind of node that is asked for."""
    id: str = ""
    """Slurm's, once it is submitted."""
    began: bool = False
    missing_since_s: float | None = None
    """When it was first seen to have left the queue without a part file."""


class Slurm:
    """A queue, which decides where and when."""

    def __init__(
        self,
        folder: Path,
        *,
        check: Check,
        gpu: bool,
        at_once: int,
        wait_s: float,
        parameters: Mapping[str, Any],
        kinds: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Look for the scheduler.

        Args:
            folder: the run folder, shared by all nodes.
            check: what every node has to be.
            gpu: whether jobs need a GPU.
            at_once: jobs that may be in the queue at the same time.
            wait_s: how long a job may be waited for; infinite for however long it takes.
            parameters: of submitit, for every job.
            kinds: of node, by name, and what of submitit asks for each; one without a name if left out.

        Raises:
            UserError: submitit is not installed, or Slurm does not answer.
        """
        try:
            import submitit
        except ImportError as error:
            raise UserError(f"--executor slurm: {error}; pip install submitit") from error
        self._submitit: Any = submitit
        self.check = check
        self.identities: dict[str, Mapping[str, Any]] = {}
        self.models: dict[str, str] = {}
        self._kinds = kinds or {"": {}}
        self.patience_s = wait_s
        self._folder = folder.resolve()
        self._gpu, self._at_once, self._parameters = gpu, at_once, parameters
        self._warned_after_s = max(0.0, 60.0 * parameters["time"] - parameters["signal_delay_s"] - _EARLY_S)
        self._jobs: dict[Ticket, _Submitted] = {}
        self._new: list[Ticket] = []
        self._unwanted: list[str] = []
        self._taken: list[Path] = []
        self._fit = False
        """Whether a node was as it has to be."""
        self._unfit: dict[str, set[str]] = {kind: set() for kind in self._kinds}
        """For each kind, names of nodes that were not: they are asked for no more once there is one that was."""
        self._looked_s = float("-inf")
        self._lost = False
        self._silent_since_s: float | None = None
        try:
            self._queue()
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(f"--executor slurm: squeue does not answer: {printable(str(error))}") from error

    def nodes(self) -> Sequence[Node]:
        most = max(1, self._at_once // len(self._kinds))
        return [Node(name=name, beside=most, queue=True, model=self.models.get(name, "")) for name in self._kinds]

    def start(self, job: Job, node: Node) -> Ticket:
        ticket = job.name
        at = parts.stem(self._folder, job.name)
        at.parent.mkdir(parents=True, exist_ok=True)
        submitted = _Submitted(job=job, at=at, kind=node.name)
        self._jobs[ticket] = submitted
        with contextlib.suppress(OSError):  # there is one where a head before this one was lost
            submitted.id = _id_file(at).read_text().strip()
        if not submitted.id or (not self._is_queued(submitted.id) and parts.heard(at) is None):
            parts.remove(at)
            submitted.id = ""
            self._new.append(ticket)
        return ticket

    def wait(self, seconds: float) -> Sequence[News]:
        for at in self._taken:  # the loop has handed on what was heard before
            parts.remove(at)
            _id_file(at).unlink(missing_ok=True)
        self._taken.clear()
        self._submit()
        self._cancel()
        left_s = self._looked_s + POLL_S - time.monotonic()
        if left_s > 0:
            time.sleep(min(left_s, seconds))
            if left_s > seconds:
                return []
        self._looked_s = time.monotonic()
        queue = self._answer()
        if queue is None:
            return []
        told = [news for ticket, it in self._jobs.items() if (news := self._heard(ticket, it, queue)) is not None]
        for news in told:
            if news.ending is not None:
                self._taken.append(self._jobs.pop(news.ticket).at)
        return told

    def cancel(self, ticket: Ticket) -> News:
        it = self._jobs.pop(ticket)
        if it.id:
            self._unwanted.append(it.id)
        if ticket in self._new:
            self._new.remove(ticket)
        self._taken.append(it.at)
        if not self._jobs:  # the last of many; a few wait for the next look at the queue
            self._cancel()
        return News(ticket=ticket)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        """Cancel what is still in the queue, and leave no file of it; logs stay where a job was lost."""
        for ticket in list(self._jobs):
            self.cancel(ticket)
        if self._fit:  # work was done, and what a lost head had asked for and this one did not is for nobody
            for path in (self._folder / parts.FOLDER).glob(f"*{_ID}"):
                self._unwanted.append(path.read_text().strip())
                self._taken.append(path.with_name(path.name.removesuffix(_ID)))
        self._cancel()
        for at in self._taken:
            parts.remove(at)
            _id_file(at).unlink(missing_ok=True)
        if not self._lost:
            shutil.rmtree(self._folder / parts.FOLDER / "logs", ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._folder / parts.FOLDER).rmdir()

    def _submit(self) -> None:
        """Hand over what is new: for each kind of node an array of what has to be alone, and one of what need not."""
        if self._silent_since_s is not None:
            return
        new, self._new = self._new, []
        path = f"export PYTHONPATH={shlex.quote(str(ROOT))}:$PYTHONPATH"
        for kind, alone in itertools.product(self._kinds, (True, False)):
            tickets = [ticket for ticket in new if (it := self._jobs[ticket]).kind == kind and it.job.alone == alone]
            if not tickets:
                continue
            logs = self._folder / parts.FOLDER / "logs"
            executor = self._submitit.SlurmExecutor(folder=logs)
            whole: dict[str, Any] = {"exclusive": True} if alone and not self._gpu else {}
            if self._unfit[kind]:
                whole["exclude"] = ",".join(sorted(self._unfit[kind]))
            executor.update_parameters(
                **{
                    **self._parameters,
                    **self._kinds[kind],
                    **whole,
                    "setup": [path, *self._parameters.get("setup", ())],
                },
                job_name="coattention",
                array_parallelism=self._at_once,
            )
            try:
                with executor.batch():
                    handed = [
                        executor.submit(_relay, self._parcel(ticket), self._jobs[ticket].at, self._warned_after_s)
                        for ticket in tickets
                    ]
            except self._submitit.core.utils.FailedJobError as error:
                if self._answer() is None:
                    self._new += tickets
                    continue
                but = f" (without {whole['exclude']}, not as they have to be)" if self._unfit[kind] else ""
                raise UserError(f"--executor slurm: Slurm refuses the jobs{but}: {printable(str(error))}") from error
            for ticket, job in zip(tickets, handed, strict=True):
                self._jobs[ticket].id = job.job_id
                _id_file(self._jobs[ticket].at).write_text(job.job_id)

    def _parcel(self, ticket: Ticket) -> Parcel:
        job = self._jobs[ticket].job
        files = tuple(os.path.abspath(path) for path in job.files)
        return relay.parcel(replace(job, files=files), self._folder, self.check)

    def _heard(self, ticket: Ticket, it: _Submitted, queue: Mapping[str, tuple[str, str]]) -> News | None:
        told = parts.heard(it.at)
        if told is not None:
            if queue.get(it.id, ("", ""))[0] in _WAITS:  # put back in the moment that it had ended
                self._unwanted.append(it.id)
            if self._fit and relay.is_unfit(told, self.check.of(it.job)):
                assert told.news.ending is not None
                self._unfit[it.kind].add(told.news.node)
                parts.remove(it.at)
                it.id, it.began = "", False
                self._new.append(ticket)
                return News(ticket=ticket, back=True, why=told.news.ending.reason)
            self._fit = self._fit or (told.news.ending is not None and told.news.ending.way == "done")
            if told.identity is not None:
                self.identities[told.news.node] = told.identity
            return replace(told.news, ticket=ticket)
        if not it.id:
            return None
        state, why = queue.get(it.id, ("", ""))
        if state in _WAITS:
            back, it.began, it.missing_since_s = it.began, False, None
            again = " again" if back else ""
            because = f": {why}" if why != "None" else ""
            # pending for no reason, it was not looked at yet
            said = f"job {it.id} is {state.lower()}{again}{because}" if because or back or state != "PENDING" else ""
            return News(ticket=ticket, back=back, why=said)
        if state in _WORKS:
            it.began, it.missing_since_s = True, None
            at = parts.progress(it.at)
            return News(ticket=ticket, began=True, at=int(at.get("at", -1)), node=str(at.get("node", "")))
        it.missing_since_s = it.missing_since_s or time.monotonic()
        if time.monotonic() - it.missing_since_s < LINGER_S:
            return None
        self._lost = True
        if state in _ENDS:
            cause, said = _ENDS[state]
            return News(ticket=ticket, ending=Ending(way="killed", reason=f"job {it.id} {said}", cause=cause))
        reason = f"job {it.id} left the queue without a result ({state.lower() or 'nothing known of it'})"
        return News(ticket=ticket, ending=Ending(way="lost", reason=reason, cause="killed"))

    def _is_queued(self, id_: str) -> bool:
        """Whether a job waits or works."""
        return self._queue().get(id_, ("", ""))[0] in (*_WAITS, *_WORKS)

    def _answer(self) -> dict[str, tuple[str, str]] | None:
        """The queue, or nothing where the scheduler does not answer now.

        Raises:
            UserError: it has not answered for long.
        """
        try:
            queue = self._queue()
        except (OSError, subprocess.SubprocessError) as error:
            now = time.monotonic()
            self._silent_since_s = self._silent_since_s or now
            if now - self._silent_since_s > _PATIENCE_S:
                raise UserError(f"--executor slurm: squeue answers no more: {printable(str(error))}") from error
            return None
        self._silent_since_s = None
        return queue

    def _queue(self) -> dict[str, tuple[str, str]]:
        """State and reason of every job of this user, ended lately or not, by Slurm's number of it."""
        answer = subprocess.run(
            ["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T|%r"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_LONGEST_ANSWER_S,
        )
        rows = (line.split("|") for line in answer.stdout.splitlines())
        return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}

    def _cancel(self) -> None:
        unwanted, self._unwanted = self._unwanted, []
        if unwanted:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(["scancel", *unwanted], capture_output=True, timeout=_LONGEST_ANSWER_S)


def _id_file(at: Path) -> Path:
    return at.with_name(at.name + _ID)


class _Warned(BaseException):
    """Slurm is about to end this job."""

    def __init__(self, number: int) -> None:
        self.number = number


def _warn(number: int, _frame: FrameType | None) -> None:
    for each in _WARNINGS:  # once is enough
        signal.signal(each, signal.SIG_IGN)
    raise _Warned(number)


def _relay(it: Parcel, at: Path, warned_after_s: float) -> None:
    """What Slurm runs on a node.

    A job that is preempted leaves no part file, not even about the signal: Slurm puts it back into its queue. Where
    Slurm does not, the head sees that it is in the queue no more.

    Args:
        it: the job.
        at: the path of its part files, without their endings.
        warned_after_s: a user's signal that comes later than this says that its time is over.
    """
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0" and not _id_file(at).exists():
        return  # it had been done and taken in before it was put back
    began_s = time.monotonic()
    told: Message
    try:
        for number in _WARNINGS:
            signal.signal(number, _warn)
        for told in relay.relay(it):
            if told.news.ending is not None and told.news.ending.way == "killed":
                time.sleep(_LATE_S)
            parts.tell(at, told)
    except _Warned as warning:
        took_s = time.monotonic() - began_s
        if warning.number == signal.SIGUSR2 and took_s >= warned_after_s:
            reason = f"Slurm's time for a job was over after {took_s:.0f} s: give it more in the file of --cluster"
            ending = Ending(way="killed", reason=reason, cause="timeout")
            parts.tell(at, Message(news=News(ticket="", node=relay.host(), ending=ending, took_s=took_s)))
    except Exception as error:  # something is wrong there, which has to be told to somebody who is far away
        ending = Ending(way="lost", reason=f"its relay raised {type(error).__name__}: {printable(str(error))}")
        parts.tell(at, Message(news=News(ticket="", ending=ending)))
