"""Jobs on a Ray cluster: each is a task of Ray on the node that the loop chose, and a relay watches it there.

Ray decides nothing: a task is never tried again by it, and never moves. Nothing has to be shared between the machines:
the sources travel as the job's working directory, records and files with its end.
"""

import logging
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from suite.core import folders
from suite.core.errors import UserError, printable
from suite.core.interrupts import ASKING
from suite.execution import relay
from suite.execution.guest import ROOT
from suite.execution.jobs import Ending, Job, News, Node, Ticket
from suite.execution.relay import Check, Message, Opening, Parcel

_PACKAGES = ("suite", "variants")
_SHUN_S = 30.0
"""A node gets no job for so many seconds after one was lost there: Ray takes a while to see that a node is dead."""
_PROMPT_S = 30.0
"""A job that has not begun after so many seconds is said to wait; the first one on a node has to load torch."""


HAS_ADDRESS = True
"""Whether ``--at`` names its head."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table ``[ray]`` of the file."""

    beside: int = 8
    """Jobs that bear company on one machine without a GPU."""
    kind: str = ""
    """The kind of accelerator, as Ray calls it: machines with other kinds are left alone."""
    wait_s: float = 600.0
    """How long a job may be waited for until it begins."""


def opened(table: Table, opening: Opening) -> "Ray":
    """A Ray cluster, connected to.

    Raises:
        UserError: as `Ray`.
    """
    return Ray(
        opening.folder,
        check=opening.check,
        address=opening.address or "auto",
        gpu=opening.gpu,
        beside=min(opening.beside, table.beside),
        kind=table.kind,
        files=opening.files,
        wait_s=table.wait_s,
    )


@dataclass(frozen=True, kw_only=True)
class _Machine:
    """A node of Ray."""

    id: str
    cpus: float
    gpus: float
    kind: str


class Ray:
    """A Ray cluster: a node for each machine, or for each of its GPUs."""

    def __init__(
        self,
        folder: Path,
        *,
        check: Check,
        address: str,
        gpu: bool,
        beside: int,
        kind: str = "",
        files: Sequence[str] = (),
        wait_s: float = 600.0,
    ) -> None:
        """Connect.

        Args:
            folder: the run folder here.
            check: what every node has to be.
            address: of the cluster's head, or ``auto`` for the one that runs here.
            gpu: whether jobs need a GPU.
            beside: jobs that bear company on one machine without a GPU; fewer where it has fewer CPUs.
            kind: of accelerator, as Ray calls it; machines with others are left alone.
            files: the user's own, which travel with the sources.
            wait_s: how long a job may be waited for.

        Raises:
            UserError: Ray is not installed, there is no such cluster, or it has no node that would do.
        """
        try:
            import ray
        except ImportError as error:
            raise UserError(f"--executor ray: {error}; pip install ray") from error
        self._ray: Any = ray
        self.check = check
        self.identities: dict[str, Mapping[str, Any]] = {}
        """What each node is on which a job has ended."""
        self.models: dict[str, str] = {}
        self._folder = folder
        self._gpu, self._beside, self._kind = gpu, beside, kind
        self.patience_s = wait_s
        self._staged, self._files = _staged(files)
        handlers = {number: signal.getsignal(number) for number in ASKING}
        try:
            ray.init(
                address=address,
                runtime_env={"working_dir": str(self._staged)},
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except Exception as error:  # ConnectionError, ValueError, RuntimeError: whatever it says is about the address
            shutil.rmtree(self._staged, ignore_errors=True)
            raise UserError(
                f"--executor ray: no cluster at {address!r}: {printable(str(error))}; "
                "start one with 'ray start --head', or name its head with --at"
            ) from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        self._relay = ray.remote(max_retries=0, num_returns="streaming")(_relay)
        self._at_work: dict[Ticket, tuple[Any, Job, str]] = {}
        self._waiting: dict[Ticket, tuple[float, str]] = {}
        """Those of which nothing was heard: since when, and what they ask for."""
        self._count = 0
        self._machines: dict[str, _Machine] = {}
        self._shunned: dict[str, float] = {}
        """Until when, by Ray's name of the node."""
        self._fit = False
        """Whether a node was as it has to be: others, that come later, are left alone."""
        if not self.nodes():
            self.close()
            wanted = f"with a GPU of kind {kind!r}" if kind else "with a GPU" if gpu else "with a CPU"
            raise UserError(f"--executor ray: the cluster at {address!r} has no node {wanted}")

    def nodes(self) -> Sequence[Node]:
        alive = [it for it in self._ray.nodes() if it["Alive"]]
        hosts = Counter(it["NodeManagerHostname"] for it in self._ray.nodes())
        now = time.monotonic()
        self._machines = {}
        for it in alive:
            found = it["Resources"]
            kind = next((name.partition(":")[2] for name in found if name.startswith("accelerator_type:")), "")
            if (
                (self._gpu and found.get("GPU", 0) < 1)
                or found.get("CPU", 0) < 1
                or (self._kind and kind != self._kind)
                or self._shunned.get(it["NodeID"], 0.0) > now
            ):
                continue
            host = it["NodeManagerHostname"]
            name = host if hosts[host] == 1 else f"{host} {it['NodeID'][:6]}"
            machine = _Machine(id=it["NodeID"], cpus=found["CPU"], gpus=found.get("GPU", 0), kind=kind)
            if self._gpu:
                self._machines |= {f"{name} GPU {index}": machine for index in range(int(machine.gpus))}
            else:
                self._machines[name] = machine
        return [
            Node(
                name=name,
                beside=1 if self._gpu else max(1, min(self._beside, int(machine.cpus))),
                model=self.models.get(name, ""),
            )
            for name, machine in self._machines.items()
        ]

    def start(self, job: Job, node: Node) -> Ticket:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._count += 1
        ticket = str(self._count)
        machine = self._machines[node.name]
        cpus = machine.cpus // machine.gpus if self._gpu else machine.cpus if job.alone else machine.cpus // node.beside
        travelling = replace(job, files=tuple(self._files[path] for path in job.files))
        stream = self._relay.options(
            name=printable(job.name, most=80),
            num_cpus=cpus,
            num_gpus=1 if self._gpu else 0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(machine.id, soft=False),
        ).remote(relay.parcel(travelling, None, self.check))
        self._at_work[ticket] = stream, job, node.name
        asks = f"CPUs: {cpus:g}, GPUs: {int(self._gpu)}"
        self._waiting[ticket] = time.monotonic(), f"nothing heard from {node.name} yet; asked for there: {asks}"
        return ticket

    def wait(self, seconds: float) -> Sequence[News]:
        if not self._at_work:
            time.sleep(seconds)
            return []
        tickets = {stream: ticket for ticket, (stream, _, _) in self._at_work.items()}
        streams = list(tickets)
        ready, _ = self._ray.wait(streams, num_returns=1, timeout=seconds, fetch_local=False)
        if ready and len(streams) > 1:
            ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=0, fetch_local=False)
        told = [self._heard(tickets[stream], stream) for stream in ready]
        for news in told:
            self._waiting.pop(news.ticket, None)
            if news.ending is not None:
                _, _, name = self._at_work.pop(news.ticket)
                if news.ending.way == "lost":
                    self._shun(name, time.monotonic() + _SHUN_S)
        late_s = time.monotonic() - _PROMPT_S
        return [*told, *(News(ticket=it, why=why) for it, (since_s, why) in self._waiting.items() if since_s < late_s)]

    def cancel(self, ticket: Ticket) -> News:
        stream, _, name = self._at_work.pop(ticket)
        self._waiting.pop(ticket, None)
        with suppress(self._ray.exceptions.RayError):
            self._ray.cancel(stream, force=True)  # the job's keeper sees its relay go, and ends what is left
        return News(ticket=ticket, node=name)

    def now(self) -> float:
        return time.monotonic()

    def close(self) -> None:
        """Leave the cluster, which ends whatever of this program is still there."""
        for ticket in list(self._at_work):
            self.cancel(ticket)
        self._ray.shutdown()
        shutil.rmtree(self._staged, ignore_errors=True)

    def _shun(self, name: str, until_s: float) -> None:
        if name in self._machines:
            id_ = self._machines[name].id
            self._shunned[id_] = max(until_s, self._shunned.get(id_, 0.0))

    def _heard(self, ticket: Ticket, stream: Any) -> News:
        """One thing that a relay has told, or what became of it."""
        _, job, name = self._at_work[ticket]
        errors = self._ray.exceptions
        try:
            told: Message = self._ray.get(next(stream))
        except StopIteration:
            return News(ticket=ticket, node=name, ending=Ending(way="lost", reason="its relay ended without a word"))
        except errors.OutOfMemoryError as error:
            reason = f"its node ran out of memory: {_first_line(error)}"
            return News(ticket=ticket, node=name, ending=Ending(way="killed", reason=reason, cause="memory"))
        except (errors.RayTaskError, errors.RuntimeEnvSetupError) as error:
            # the relay's and not the job's, whose errors arrive as news: something is wrong there
            *_, said = type(error).__name__, *str(error).strip().splitlines()
            reason = f"its relay on {name} raised: {printable(said)}"
            return News(ticket=ticket, node=name, ending=Ending(way="lost", reason=reason))
        except errors.RayError as error:  # its worker, its node, or what it had said is gone
            reason = f"lost with its node or its worker there: {_first_line(error)}"
            return News(ticket=ticket, node=name, ending=Ending(way="lost", reason=reason, cause="killed"))
        if self._fit and told.news.ending is not None and relay.is_unfit(told, self.check.of(job)):
            self._shun(name, float("inf"))
            ending = replace(told.news.ending, way="lost")
            return replace(told.news, ticket=ticket, node=name, ending=ending)
        self._fit = self._fit or (told.news.ending is not None and told.news.ending.way == "done")
        if told.identity is not None:
            self.identities[name] = told.identity
        for relative, content in (told.files or {}).items():
            path = folders.target(self._folder, relative)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return replace(told.news, ticket=ticket, node=name)


def _relay(it: Parcel) -> Any:
    """What Ray runs on a node."""
    job = replace(it.job, files=tuple(str(ROOT / name) for name in it.job.files))
    yield from relay.relay(replace(it, job=job))


def _staged(files: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """A folder with what has to travel, and where in it each of the user's files stands."""
    staged = Path(tempfile.mkdtemp(prefix="coattention-sources-"))
    for package in _PACKAGES:
        shutil.copytree(ROOT / package, staged / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    places = {}
    for number, path in enumerate(files):
        places[path] = f"files/{number}/{Path(path).name}"
        (staged / places[path]).parent.mkdir(parents=True)
        shutil.copy(path, staged / places[path])
    return staged, places


def _first_line(error: BaseException) -> str:
    """The last line of a message with a traceback, the first of any other."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    return printable(lines[-1] if "Traceback" in str(error) else lines[0])
