"""Jobs in the queue of a Slurm cluster: submitted by submitit as arrays, watched on their node by a relay.

The run folder has to be on a file system that all nodes share. A job leaves its records in a part file there, so they
outlive this program: resumed, it takes in what has ended meanwhile, and finds what still waits or runs.
"""

import contextlib
import math
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite.core.errors import UserError, printable
from suite.execution import parts, relay
from suite.execution.guest import ROOT
from suite.execution.jobs import Ending, Job, News, Node, Ticket
from suite.execution.relay import Check, Opening, Parcel, Told

POLL_S = 2.0
"""How often the queue and the part files are looked at."""
LINGER_S = 20.0
"""For which the part file of a job that has left the queue may come late, through a shared file system."""
_LONGEST_ANSWER_S = 60.0


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
    gres: str = ""
    """Such as ``gpu:h100:1``; of a GPU of any kind where ``--device cuda`` is given without it."""
    constraint: str = ""
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
        "gres": table.gres or ("gpu:1" if opening.gpu else ""),
        "constraint": table.constraint,
        "mem": table.memory,
    }
    parameters: dict[str, Any] = {name: value for name, value in asked.items() if value}
    parameters |= {"time": table.time, "cpus_per_task": table.cpus, "setup": list(table.setup)}
    return Slurm(
        opening.folder,
        check=opening.check,
        gpu=opening.gpu,
        at_once=table.at_once,
        wait_s=table.wait_s,
        parameters=parameters,
    )


@dataclass(kw_only=True)
class _Submitted:
    """A job that was handed to Slurm."""

    job: Job
    at: Path
    """Of its part files."""
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
    ) -> None:
        """Look for the scheduler.

        Args:
            folder: the run folder, shared by all nodes.
            check: what every node has to be.
            gpu: whether jobs need a GPU.
            at_once: jobs that may be in the queue at the same time.
            wait_s: how long a job may be waited for; infinite for however long it takes.
            parameters: of submitit, for every job.

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
        self.patience_s = wait_s
        self._folder = folder.resolve()
        self._gpu, self._at_once, self._parameters = gpu, at_once, parameters
        self._jobs: dict[Ticket, _Submitted] = {}
        self._new: list[Ticket] = []
        self._unwanted: list[str] = []
        self._taken: list[Path] = []
        self._looked_s = float("-inf")
        self._lost = False
        try:
            self._queue()
        except (OSError, subprocess.SubprocessError) as error:
            raise UserError(f"--executor slurm: squeue does not answer: {printable(str(error))}") from error

    def nodes(self) -> Sequence[Node]:
        return [Node(name="", beside=self._at_once, queue=True)]

    def start(self, job: Job, node: Node) -> Ticket:
        ticket = job.name
        at = parts.stem(self._folder, job.name)
        at.parent.mkdir(parents=True, exist_ok=True)
        submitted = _Submitted(job=job, at=at)
        self._jobs[ticket] = submitted
        with contextlib.suppress(OSError):  # there is one where a head before this one was lost
            submitted.id = _id_file(at).read_text().strip()
        if not submitted.id or (submitted.id not in self._queue() and parts.heard(at) is None):
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
        try:
            queue = self._queue()
        except (OSError, subprocess.SubprocessError):  # a scheduler that is restarted answers later
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
        self._cancel()
        for at in self._taken:
            parts.remove(at)
            _id_file(at).unlink(missing_ok=True)
        if not self._lost:
            shutil.rmtree(self._folder / parts.FOLDER / "logs", ignore_errors=True)
        with contextlib.suppress(OSError):
            (self._folder / parts.FOLDER).rmdir()

    def _submit(self) -> None:
        """Hand over what is new: an array of what has to be alone, and one of what bears company."""
        new, self._new = self._new, []
        path = f"export PYTHONPATH={shlex.quote(str(ROOT))}:$PYTHONPATH"
        for alone in (True, False):
            tickets = [ticket for ticket in new if self._jobs[ticket].job.alone == alone]
            if not tickets:
                continue
            logs = self._folder / parts.FOLDER / "logs"
            executor = self._submitit.SlurmExecutor(folder=logs)
            whole = {"exclusive": True} if alone and not self._gpu else {}
            executor.update_parameters(
                **{**self._parameters, **whole, "setup": [path, *self._parameters.get("setup", ())]},
                job_name="coattention",
                array_parallelism=self._at_once,
            )
            try:
                with executor.batch():
                    handed = [
                        executor.submit(_relay, self._parcel(ticket), self._jobs[ticket].at) for ticket in tickets
                    ]
            except self._submitit.core.utils.FailedJobError as error:
                raise UserError(f"--executor slurm: Slurm refuses the jobs: {printable(str(error))}") from error
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
            if told.identity is not None:
                self.identities[told.news.node] = told.identity
            return replace(told.news, ticket=ticket)
        state, why = queue.get(it.id, ("", ""))
        if not state:
            it.missing_since_s = it.missing_since_s or time.monotonic()
            if time.monotonic() - it.missing_since_s < LINGER_S:
                return None
            self._lost = True
            reason = f"job {it.id} left the queue without a result: it was ended, or its node was lost"
            return News(ticket=ticket, ending=Ending(way="lost", reason=reason, cause="killed"))
        it.missing_since_s = None
        if state == "PENDING":
            return News(ticket=ticket, why=f"job {it.id} is pending: {why}" if why != "None" else "")
        at = parts.progress(it.at)
        return News(ticket=ticket, began=True, at=int(at.get("at", -1)), node=str(at.get("node", "")))

    def _queue(self) -> dict[str, tuple[str, str]]:
        """State and reason of every job of this user, by Slurm's number of it."""
        answer = subprocess.run(
            ["squeue", "--me", "-h", "-r", "-o", "%i|%T|%r"],
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
    return at.with_name(at.name + ".id")


def _relay(it: Parcel, at: Path) -> None:
    """What Slurm runs on a node."""
    told: Told
    try:
        for told in relay.relay(it):
            parts.tell(at, told)
    except Exception as error:  # it has to be told to somebody who is far away
        ending = Ending(way="raised", reason=f"its relay raised {type(error).__name__}: {printable(str(error))}")
        parts.tell(at, Told(news=News(ticket="", ending=ending)))
