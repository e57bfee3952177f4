"""What the nodes of a cluster are, and whether they are as they have to be, before any work on them."""

import json
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from suite.bench import environment
from suite.core import devices, folders
from suite.core.errors import UserError
from suite.core.records import Measurement, Record
from suite.execution.jobs import Announcement, Executor, Job, Node, Site, Ticket
from suite.execution.relay import Check, differences

_CHOSEN = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
"""Variables that the scheduler sets anew for each job."""


def identity() -> dict[str, Any]:
    """What this machine is, for the records of what ran here."""
    here = environment.machine()
    return {
        "host": socket.gethostname(),
        "device": here.get("gpu") or here["processor"],
        "driver": here.get("driver", ""),
        **environment.versions(),
        "sources": environment.sources(()),  # files travel with each job
        "machine": here,
        "settings": {name: value for name, value in environment.settings().items() if name not in _CHOSEN},
    }


def check() -> Check:
    """What every node has to be: it has the versions of this machine, and the same sources."""
    here = {**environment.versions(), "sources": environment.sources(())}
    job = Job(name="identity", work=tell, what=None, alone=False, expected_s=10.0)
    return Check(job=job, expected=here)


class Cluster(Executor, Protocol):
    """An executor of other machines."""

    check: Check
    identities: dict[str, Mapping[str, Any]]
    models: dict[str, str]
    """The model of each node's device, where jobs are sent to several models."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the nodes have said."""

    machines: Mapping[str, Mapping[str, Any]]
    """For each machine, by its name."""
    nodes: Mapping[str, Mapping[str, Any]]
    """For each node, by its name; behind one that is a queue stands any machine."""


def survey(executor: Cluster, *, say: Callable[[str], object]) -> Survey:
    """Ask every node what it is; where a scheduler chooses machines, the first one that it chooses.

    Args:
        executor: where jobs will run.
        say: told why a node is waited for.

    Raises:
        UserError: one does not answer, or is not as it has to be; says which, and in what it differs.
    """
    asked: dict[Ticket, Node] = {}
    found: dict[str, Mapping[str, Any]] = {}
    whys: set[str] = set()
    try:
        for node in executor.nodes():
            asked[executor.start(replace(executor.check.job, name=f"identity {node.name}".strip()), node)] = node
        began_s = executor.now()
        while asked:
            for news in executor.wait(1.0):
                if news.why and news.why not in whys:
                    whys.add(news.why)
                    say(f"waiting for a node: {news.why}")
                if news.ending is not None and news.ending.way != "done":
                    raise UserError(f"the node {news.node} cannot be used: {news.ending.reason}")
                if news.ending is not None:
                    found[asked.pop(news.ticket).name] = executor.identities[news.node]
            if executor.now() - began_s > executor.patience_s:
                silent = next(iter(asked.values())).name or "that the queue was asked for"
                raise UserError(f"the node {silent} does not answer within {executor.patience_s:g} s")
    finally:
        for ticket in asked:
            executor.cancel(ticket)
    return Survey(machines=dict(executor.identities), nodes=found)


def models(executor: Cluster, found: Survey) -> dict[str, Mapping[str, Any]]:
    """Which models of device there are, and what a node has to be for the times of each: they get tables of their own.

    From now on, the executor tells the nodes of several apart. A node that comes later has to be like the others where
    there is one model alone; where there are several, it gets nothing that is for one of them.

    Args:
        executor: where jobs will run.
        found: what its nodes have said.

    Returns:
        By model, as labels have it; by nothing where there is one alone.

    Raises:
        UserError: two nodes have the same model and are not alike all the same, as with two drivers.
    """
    first: dict[str, str] = {}
    kinds: dict[str, Mapping[str, Any]] = {}
    of: dict[str, str] = {}
    for name, it in found.nodes.items():
        of[name] = model = devices.model_named(str(it["device"]))
        kind = kinds.setdefault(model, {key: it[key] for key in folders.OF_ONE_KIND})
        differs = differences(kind, it)
        if differs:
            raise UserError(
                f"the node {name} is not as {first[model]}: {'; '.join(differs)}; times of both would stand in one "
                "table: leave one of them out"
            )
        first.setdefault(model, name)
    if len(kinds) == 1:
        return {"": next(iter(kinds.values()))}
    executor.models = of
    return kinds


def record(folder: Path, executor: Cluster) -> None:
    """Put on record what every node is on which something has run."""
    described = environment.read(folder)
    known = described.get("nodes", {})
    if not executor.identities.keys() <= known.keys():
        environment.write(folder, described | {"nodes": {**known, **executor.identities}})


def named(records: Iterable[Record], node: str) -> list[Record]:
    """The records of a job, with the node that it ran on beside its time; an empty name is this machine's."""
    return [
        replace(it, details={**it.details, "node": node})
        if node and isinstance(it, Measurement) and it.quantity == "task_time"
        else it
        for it in records
    ]


def tell(_what: object, _site: Site, _at: Announcement) -> Iterator[str]:
    """The job of a survey."""
    yield json.dumps(identity())
