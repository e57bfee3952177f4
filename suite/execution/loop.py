"""The one loop that takes jobs to nodes and hears what becomes of them, for runs, ablations and whatever else is split.

It knows order, places, waiting, hung and lost jobs, and the end of all. What is done next, what a job's end means and
what is shown is its user's policy; where jobs run is the executor's.
"""

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from suite.execution.jobs import Ending, Executor, Job, News, Node, Ticket

TICK_S = 0.25
"""How long the loop waits for news, at most, before it looks at the clock."""
NODES_S = 10.0
"""How often the executor is asked which nodes there are."""
MOST_LOSSES = 3
"""Times that a job is begun again because its node was lost; it may be the job that takes nodes down."""


class Item(Protocol):
    """What a policy makes jobs of."""

    @property
    def alone(self) -> bool:
        """Whether nothing may run beside it."""

    @property
    def model(self) -> str:
        """The model of device that it needs; empty where any will do."""


T = TypeVar("T", bound=Item)


@dataclass(kw_only=True)
class Running(Generic[T]):
    """An item under way, and what was heard of it."""

    item: T
    job: Job
    node: Node
    executor: Executor = field(repr=False)
    asked_s: float
    """When it was asked for, on the executor's clock."""
    began_s: float | None = None
    ended_s: float | None = None
    took_s: float | None = None
    at: int = -1
    """How far it is, as it announced last."""
    place: str = ""
    """The name of the node on which it runs, as far as that is known."""
    why: str = ""
    """Why it has not begun, in the words of whoever keeps it waiting."""
    ending: Ending | None = None
    lines: tuple[str, ...] = field(default=(), repr=False)

    @property
    def elapsed_s(self) -> float:
        """Since it began; 0 before."""
        if self.took_s is not None:
            return self.took_s
        if self.began_s is None:
            return 0.0
        return (self.executor.now() if self.ended_s is None else self.ended_s) - self.began_s

    @property
    def waited_s(self) -> float:
        """How long it is being waited for; 0 once it began."""
        return self.executor.now() - self.asked_s if self.began_s is None else 0.0

    def hear(self, news: News) -> None:
        """Take in what was heard."""
        if news.back:
            self.began_s, self.at, self.place = None, -1, self.node.name
            self.asked_s = self.executor.now()
        if self.began_s is None and (news.began or (news.ending and news.ending.way == "done")):
            self.began_s = self.executor.now()
        self.at = news.at if news.at >= 0 else self.at
        self.place = news.node or self.place
        self.why = news.why if self.began_s is None else ""
        if news.ending is not None or news.lines:
            self.lines = news.lines
            self.took_s = news.took_s
        if news.ending is not None:
            self.ending = news.ending
            self.ended_s = self.executor.now()


class Policy(Protocol[T]):
    """What a session decides."""

    def job(self, item: T, pending: Collection[T]) -> Job | None:
        """The item whose turn it is as a job, as the time left allows; None where it is put off, which is on record.

        Args:
            item: there is a place for it now.
            pending: what comes after it, in order.
        """

    def over(self, running: Running[T]) -> bool:
        """Whether it has to end although it has not ended."""

    def ended(self, running: Running[T]) -> Iterable[T]:
        """Take what a job has left, however it ended; what that leaves to be done comes next."""

    def tell(self, running: Sequence[Running[T]], pending: Collection[T]) -> None:
        """Show how far everything is; called about once in `TICK_S`."""


class Stranded(Exception):
    """There is no node left for what is still to be done, and none has come back; the message says so on one line."""


class _Pending(Generic[T]):
    """What is still to be done: a queue for each model of device, which nothing that waits in another one holds up."""

    def __init__(self, items: Iterable[T]) -> None:
        self._queues: dict[str, deque[T]] = {}
        for item in items:
            self.of(item.model).append(item)

    def of(self, model: str) -> deque[T]:
        """Those that go to this model, in order."""
        return self._queues.setdefault(model, deque())

    def models(self) -> list[str]:
        """Those that something goes to."""
        return [model for model, queue in self._queues.items() if queue]

    def first(self, items: Iterable[T]) -> None:
        """Put these before all others."""
        for item in reversed(list(items)):
            self.of(item.model).appendleft(item)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[T]:
        return itertools.chain.from_iterable(self._queues.values())

    def __contains__(self, item: object) -> bool:
        return any(item in queue for queue in self._queues.values())


def work(items: Iterable[T], executor: Executor, policy: Policy[T]) -> None:
    """Work through items in their order, as many at once as there are places, whatever becomes of their jobs.

    Whichever way it ends, no job of it goes on.

    Raises:
        Stranded: every node was lost.
    """
    _Loop(items, executor, policy).work()


class _Loop(Generic[T]):
    def __init__(self, items: Iterable[T], executor: Executor, policy: Policy[T]) -> None:
        self._executor = executor
        self._policy = policy
        self._pending = _Pending(items)
        self._running: dict[Ticket, Running[T]] = {}
        self._losses: dict[str, int] = {}
        self._places: dict[str, Places] = {}
        """For each model of device, the places on its nodes."""
        self._looked_s = float("-inf")
        self._renew()
        self._without_nodes_s: float | None = None

    def work(self) -> None:
        try:
            while self._pending or self._running:
                self._begin()
                if not self._running and not self._pending:
                    break
                for news in self._executor.wait(TICK_S):
                    running = self._running.get(news.ticket)
                    if running is not None:
                        running.hear(news)
                        if running.ending is not None:
                            self._end(news.ticket)
                now = self._executor.now()
                if now - self._looked_s >= TICK_S:  # not after each of many events
                    self._looked_s = now
                    self._look_around()
                    self._policy.tell(tuple(self._running.values()), self._pending)
        finally:
            for ticket in self._running:
                self._executor.cancel(ticket)

    def _begin(self) -> None:
        """Begin what there is a place for: in order, but for what waits for a node that it needs for itself."""
        for model, places in self._places.items():
            if places.changed:
                # what needs this model first, then what any will do for
                for wanted in dict.fromkeys((model, "")):
                    self._fill(places, self._pending.of(wanted))
                places.release()

    def _fill(self, places: "Places", queue: deque[T]) -> None:
        waiting: list[T] = []
        while queue and not places.full:
            item = queue.popleft()
            node = places.find(item.alone)
            if node is None:
                waiting.append(item)
                continue
            job = self._policy.job(item, self._pending)
            if job is None:
                continue
            ticket = self._executor.start(job, node)
            places.take(ticket, node, alone=item.alone)
            self._running[ticket] = Running(
                item=item, job=job, node=node, place=node.name, executor=self._executor, asked_s=self._executor.now()
            )
        queue.extendleft(reversed(waiting))

    def _look_around(self) -> None:
        """End what is over, hung, or does not begin."""
        for ticket, running in list(self._running.items()):
            ending = self._verdict(running)
            if ending is not None:
                running.hear(self._executor.cancel(ticket))
                running.ending = ending
                running.ended_s = self._executor.now()
                self._end(ticket)
        now = self._executor.now()
        if now - self._renewed_s >= NODES_S:
            self._renew()
        with_nodes = {model for model, places in self._places.items() if places.nodes}
        if with_nodes and (self._running or "" in self._pending.models() or with_nodes & {*self._pending.models()}):
            self._without_nodes_s = None
            return
        self._without_nodes_s = now if self._without_nodes_s is None else self._without_nodes_s
        without_s = now - self._without_nodes_s
        if without_s > self._executor.patience_s:
            of = f" of {' or '.join(self._pending.models())}" if with_nodes else ""
            raise Stranded(f"no node{of} is left, and none came back within {without_s:.0f} s")

    def _renew(self) -> None:
        """Ask which nodes there are: some are lost, and some come."""
        self._renewed_s = self._executor.now()
        found: dict[str, list[Node]] = {model: [] for model in self._places}
        for node in self._executor.nodes():
            found.setdefault(node.model, []).append(node)
        for model, here in found.items():
            self._places.setdefault(model, Places(())).renew(here)

    def _verdict(self, running: Running[T]) -> Ending | None:
        if self._policy.over(running):
            return Ending(way="cut", reason="the time was over before it was done", cause="timeout")
        if running.elapsed_s >= running.job.limit_s:
            reason = f"no end after {running.elapsed_s:.0f} s, planned were {running.job.expected_s:.0f} s"
            return Ending(way="hung", reason=reason, cause="timeout")
        if running.waited_s >= self._executor.patience_s:
            because = f": {running.why}" if running.why else ""
            reason = f"its process did not begin within {running.waited_s:.0f} s{because}"
            return Ending(way="stuck", reason=reason, cause="timeout")
        return None

    def _end(self, ticket: Ticket) -> None:
        running = self._running.pop(ticket)
        self._places[running.node.model].leave(ticket)
        assert running.ending is not None
        if running.ending.way == "lost":
            self._renew()
            losses = self._losses[running.job.name] = self._losses.get(running.job.name, 0) + 1
            if losses <= MOST_LOSSES:
                self._pending.first([running.item])
                return
        self._pending.first(self._policy.ended(running))


class Places:
    """Which nodes take another job now, of either kind.

    A job that needs a node for itself has one kept for it as soon as its turn comes: the one that will be free first,
    as far as the number of jobs on it says. Others fill the rest meanwhile.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes: dict[str, Node] = {}
        self._on: dict[str, dict[Ticket, bool]] = {}
        """For each node its jobs, and whether each of them has the node for itself."""
        self._at: dict[Ticket, str] = {}
        self._free: dict[str, None] = {}
        """Nodes with nothing on them, in order."""
        self._open: dict[str, None] = {}
        """Nodes at work with a place for one more that bears company."""
        self._kept: list[str] = []
        self._busy: list[str] | None = None
        """Nodes that could be kept, the one that is free last in front; made when it is asked for."""
        self.changed = True
        """Whether there may be a place that there was not when all was filled before."""
        self.renew(nodes)

    def renew(self, nodes: Sequence[Node]) -> None:
        """Know of these nodes from now on; jobs on others are there until they end."""
        self.nodes = {node.name: node for node in nodes}
        self.changed = True
        for name in {**self.nodes, **dict.fromkeys(self._on)}:
            self._on.setdefault(name, {})
            self._sort(name)

    @property
    def full(self) -> bool:
        """Whether no node takes anything."""
        return not self._free and not self._open

    def find(self, alone: bool) -> Node | None:
        """A node that takes a job now; None where there is none, and one is kept for it if it has to be alone."""
        for names in (self._free,) if alone else (self._open, self._free):
            for name in names:
                return self.nodes[name]
        if alone:
            if self._busy is None:
                load = {name: (any(self._on[name].values()), len(self._on[name])) for name in self.nodes}
                self._busy = sorted(self.nodes, key=lambda name: load[name], reverse=True)
            if self._busy:
                self._kept.append(kept := self._busy.pop())
                self._open.pop(kept, None)
        return None

    def take(self, ticket: Ticket, node: Node, *, alone: bool) -> None:
        """Have a job on a node."""
        self._at[ticket] = node.name
        self._on[node.name][ticket] = alone
        self._sort(node.name)

    def leave(self, ticket: Ticket) -> None:
        """A job has ended."""
        name = self._at.pop(ticket)
        del self._on[name][ticket]
        self.changed = True
        self._sort(name)

    def release(self) -> None:
        """Keep nodes for nobody until something changes: then whoever waits asks again, in order."""
        for name in self._kept:
            self._sort(name)
        self._kept.clear()
        self._busy = None
        self.changed = False

    def _sort(self, name: str) -> None:
        self._free.pop(name, None)
        self._open.pop(name, None)
        node, jobs = self.nodes.get(name), self._on[name]
        if node is None:
            if not jobs:
                del self._on[name]
        elif not jobs or (node.queue and len(jobs) < node.beside):
            self._free[name] = None
        elif not any(jobs.values()) and len(jobs) < node.beside:
            self._open[name] = None
