"""The loop, on nodes that are made up and a clock that is made up too: places, losses, hangs, ends."""

import heapq
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from suite.execution import loop
from suite.execution.jobs import Announcement, Ending, Job, News, Node, Site, Ticket
from suite.execution.loop import MOST_LOSSES, Places, Running, Stranded


def nothing(_what: Any, _site: Site, _at: Announcement) -> Iterator[str]:
    """What no job here ever does."""
    yield from ()


@dataclass(frozen=True)
class Piece:
    """A made-up piece of work."""

    name: str
    takes_s: float
    alone: bool = False
    model: str = ""


@dataclass(kw_only=True)
class Cluster:
    """Made-up nodes whose jobs take the time that they say, and a clock that jumps from event to event."""

    patience_s: float = 300.0
    beside: int = 2
    up: list[str] = field(default_factory=list)
    dies: dict[str, float] = field(default_factory=dict)
    """When each of these nodes is lost."""
    comes: dict[str, float] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    """How often the job of each of these names is killed halfway."""
    never: set[str] = field(default_factory=set)
    """Names of those that never begin."""
    models: dict[str, str] = field(default_factory=dict)
    """Of the devices of these nodes."""
    time_s: float = 0.0

    def __post_init__(self) -> None:
        self.at_work: dict[Ticket, tuple[Job, str]] = {}
        self.company: dict[str, list[Job]] = {}
        self.begun: list[str] = []
        self.places: list[tuple[str, str]] = []
        self.cancelled: list[str] = []
        self.busy_s = 0.0
        self._events: list[tuple[float, int, Ticket, News]] = []
        self._count = 0
        for name, when in [*self.dies.items(), *self.comes.items()]:
            self._push(when, f"node {name}", News(ticket=""))

    def _push(self, when: float, ticket: Ticket, news: News) -> None:
        self._count += 1
        heapq.heappush(self._events, (when, self._count, ticket, news))

    def nodes(self) -> Sequence[Node]:
        return [Node(name=name, beside=self.beside, model=self.models.get(name, "")) for name in self.up]

    def start(self, job: Job, node: Node) -> Ticket:
        assert node.name in self.up
        there = self.company.setdefault(node.name, [])
        assert not there or not (job.alone or any(other.alone for other in there)), "somebody's company is not borne"
        there.append(job)
        assert len(there) <= self.beside
        ticket = str(len(self.begun))
        self.begun.append(job.name)
        self.places.append((job.name, node.name))
        self.at_work[ticket] = job, node.name
        if job.name not in self.never:
            took_s, ending = job.what, Ending(way="done")
            if self.killed[job.name]:
                self.killed[job.name] -= 1
                took_s, ending = 0.5 * took_s, Ending(way="killed", reason="ended by SIGKILL", cause="killed")
            self._push(self.time_s, ticket, News(ticket=ticket, began=True))
            news = News(ticket=ticket, ending=ending, took_s=took_s, lines=(job.name,) if ending.way == "done" else ())
            self._push(self.time_s + took_s, ticket, news)
        return ticket

    def wait(self, seconds: float) -> Sequence[News]:
        until = self.time_s + seconds
        while self._events and self._events[0][0] <= until:
            when, _, ticket, news = heapq.heappop(self._events)
            self.time_s = max(self.time_s, when)
            if ticket.startswith("node "):
                return self._changed(ticket.removeprefix("node "))
            if ticket in self.at_work:
                if news.ending is not None:
                    self._leave(ticket)
                    self.busy_s += news.took_s or 0.0
                return [news]
        self.time_s = until
        return []

    def _changed(self, name: str) -> list[News]:
        if name not in self.up:
            self.up.append(name)
            return []
        self.up.remove(name)
        lost = [ticket for ticket, (_, node) in self.at_work.items() if node == name]
        for ticket in lost:
            self._leave(ticket)
        return [News(ticket=ticket, ending=Ending(way="lost", reason=f"{name} is gone")) for ticket in lost]

    def _leave(self, ticket: Ticket) -> None:
        job, node = self.at_work.pop(ticket)
        self.company[node].remove(job)

    def cancel(self, ticket: Ticket) -> News:
        self.cancelled.append(self.at_work[ticket][0].name)
        self._leave(ticket)
        return News(ticket=ticket)

    def now(self) -> float:
        return self.time_s


@dataclass(kw_only=True)
class Session:
    """A policy that keeps what comes, and begins again what was killed."""

    limit_s: float = float("inf")
    over_s: float = float("inf")
    stop_after: int = 10**9
    taken: list[str] = field(default_factory=list)
    endings: list[tuple[str, Ending]] = field(default_factory=list)
    put_off: list[str] = field(default_factory=list)
    whys: set[str] = field(default_factory=set)
    now_s: float = 0.0

    def job(self, item: Piece, pending: Collection[Piece]) -> Job | None:
        if self.now_s + item.takes_s > self.over_s:
            self.put_off.append(item.name)
            return None
        return Job(
            name=item.name, work=nothing, what=item.takes_s, alone=item.alone, expected_s=item.takes_s,
            limit_s=self.limit_s,
        )  # fmt: skip

    def over(self, running: Running[Piece]) -> bool:
        return running.executor.now() > self.over_s

    def ended(self, running: Running[Piece]) -> Iterable[Piece]:
        assert running.ending is not None
        self.endings.append((running.item.name, running.ending))
        self.taken += running.lines
        if len(self.taken) >= self.stop_after:
            raise KeyboardInterrupt
        return [running.item] if running.ending.way == "killed" else []

    def tell(self, running: Sequence[Running[Piece]], pending: Collection[Piece]) -> None:
        self.now_s = running[0].executor.now() if running else self.now_s
        self.whys |= {one.why for one in running if one.why}


def nodes(count: int) -> list[str]:
    return [f"node{number}" for number in range(count)]


def pieces(count: int, *, alone: float, seed: int = 0) -> list[Piece]:
    draw = random.Random(seed)
    return [
        Piece(f"piece {number}", draw.lognormvariate(3.0, 0.7), alone=draw.random() < alone) for number in range(count)
    ]


@pytest.mark.parametrize("alone", [0.0, pytest.param(0.3, marks=pytest.mark.slow), 1.0])
def test_ten_thousand_pieces_on_two_hundred_nodes_end_within_a_tenth_of_the_ideal(alone: float) -> None:
    # the longest first, as plans have them
    made = sorted(pieces(10_000, alone=alone), key=lambda piece: -piece.takes_s)
    cluster, session = Cluster(up=nodes(200)), Session()
    loop.work(made, cluster, session)
    ideal_s = sum(piece.takes_s if piece.alone else piece.takes_s / cluster.beside for piece in made) / 200
    assert cluster.time_s <= 1.1 * max(ideal_s, max(piece.takes_s for piece in made))
    assert Counter(session.taken) == Counter(piece.name for piece in made)


def test_pieces_for_one_model_of_device_go_to_its_nodes_alone_and_hold_up_no_others() -> None:
    models = {name: ("h100", "a100")[number % 2] for number, name in enumerate(nodes(20))}
    drawn = pieces(1200, alone=0.3)
    # three times as many for one as for the other, and some that any node will do for
    wanted = [
        replace(piece, model=("a100", "h100", "h100", "h100", "", "")[number % 6]) for number, piece in enumerate(drawn)
    ]
    made = sorted(wanted, key=lambda piece: -piece.takes_s)
    cluster, session = Cluster(up=nodes(20), models=models), Session()
    loop.work(made, cluster, session)
    asked = {piece.name: piece.model for piece in made}
    assert all(asked[piece] in ("", models[node]) for piece, node in cluster.places)
    assert Counter(session.taken) == Counter(piece.name for piece in made)
    assert {models[node] for piece, node in cluster.places if not asked[piece]} >= {"a100"}
    busiest_s = sum(piece.takes_s / (1 if piece.alone else 2) for piece in made if piece.model == "h100") / 10
    assert cluster.time_s <= 1.1 * busiest_s, "whatever any node does is done where there is time for it"


def test_pieces_whose_model_of_device_is_lost_strand_when_all_others_are_done() -> None:
    made = [replace(piece, model=("h100", "a100")[number % 2]) for number, piece in enumerate(pieces(40, alone=0.0))]
    models = {"one": "h100", "other": "a100"}
    cluster, session = Cluster(up=["one", "other"], models=models, dies={"other": 5.0}, patience_s=60.0), Session()
    with pytest.raises(Stranded, match="no node of a100 is left"):
        loop.work(made, cluster, session)
    assert {piece.name for piece in made if piece.model == "h100"} <= {*session.taken}


def test_on_one_node_everything_goes_in_its_order() -> None:
    made, cluster = pieces(200, alone=0.3), Cluster(up=[""])
    loop.work(made, cluster, Session())
    assert cluster.begun == [piece.name for piece in made]


def test_a_piece_that_has_to_be_alone_is_not_starved_by_those_that_bear_company() -> None:
    small = [Piece(f"small {number}", 1.0 + number % 7) for number in range(500)]
    cluster = Cluster(up=nodes(3))
    loop.work([*small[:6], Piece("large", 1.0, alone=True), *small[6:]], cluster, Session())
    assert cluster.begun.index("large") < 30


def test_nodes_that_are_lost_cost_their_pieces_time_alone_and_nodes_that_come_are_used() -> None:
    made, names = pieces(2000, alone=0.2), nodes(50)
    dies = {name: 20.0 + 10 * number for number, name in enumerate(names[:30])}
    comes = {f"late{number}": 100.0 + number for number in range(10)}
    cluster, session = Cluster(up=names, dies=dies, comes=comes), Session()
    loop.work(made, cluster, session)
    assert Counter(session.taken) == Counter(piece.name for piece in made)
    assert {ending.way for _, ending in session.endings} == {"done"}


def test_a_node_that_comes_is_used_though_none_was_lost() -> None:
    cluster, session = Cluster(up=["first"], comes={"late": 50.0}), Session()
    loop.work(pieces(100, alone=0.5), cluster, session)
    assert len(session.taken) == 100
    assert cluster.company.keys() == {"first", "late"}


def test_a_piece_that_takes_every_node_down_with_it_is_given_up() -> None:
    class Fragile(Cluster):
        def start(self, job: Job, node: Node) -> Ticket:
            if job.name == "heavy":
                self._push(self.time_s + 1, f"node {node.name}", News(ticket=""))
            return super().start(job, node)

    cluster, session = Fragile(up=nodes(10)), Session()
    loop.work([Piece("heavy", 100.0, alone=True), *pieces(100, alone=0.5)], cluster, session)
    assert cluster.begun.count("heavy") == MOST_LOSSES + 1
    assert [(name, it.way) for name, it in session.endings if it.way != "done"] == [("heavy", "lost")]
    assert len(session.taken) == 100


def test_without_a_node_left_the_loop_waits_for_its_patience_and_says_so() -> None:
    cluster = Cluster(up=["only"], dies={"only": 5.0}, patience_s=60.0)
    with pytest.raises(Stranded, match="no node is left"):
        loop.work(pieces(10, alone=0.0), cluster, Session())
    assert 65 <= cluster.time_s < 70
    back = Cluster(up=["only"], dies={"only": 5.0}, comes={"other": 30.0}, patience_s=60.0)
    session = Session()
    loop.work(pieces(10, alone=0.0), back, session)
    assert len(session.taken) == 10


def test_what_was_killed_is_the_policys_to_begin_again_and_arrives_once() -> None:
    made = pieces(50, alone=0.2)
    cluster, session = Cluster(up=nodes(4), killed=Counter({made[3].name: 2, made[7].name: 1})), Session()
    loop.work(made, cluster, session)
    assert Counter(session.taken) == Counter(piece.name for piece in made)
    assert sum(ending.way == "killed" for _, ending in session.endings) == 3


def test_a_piece_that_hangs_is_ended_at_its_limit_and_the_others_go_on() -> None:
    made = [Piece("hang", 1e9), *pieces(20, alone=0.0)]
    cluster, session = Cluster(up=nodes(1)), Session(limit_s=500.0)
    loop.work(made, cluster, session)
    (reason,) = [ending.reason for name, ending in session.endings if name == "hang"]
    assert reason.startswith("no end after 500 s")
    assert cluster.cancelled == ["hang"]
    assert len(session.taken) == 20


def test_a_piece_that_never_begins_is_said_while_it_waits_and_given_up_with_the_schedulers_words() -> None:
    class Queue(Cluster):
        def wait(self, seconds: float) -> Sequence[News]:
            why = "ReqNodeNotAvail, Reserved for maintenance"
            told = [News(ticket=it, why=why) for it, (job, _) in self.at_work.items() if job.name in self.never]
            return [*super().wait(seconds), *told]

    cluster, session = Queue(up=nodes(2), never={"stuck"}, patience_s=100.0), Session()
    loop.work([Piece("stuck", 1.0), *pieces(10, alone=0.0)], cluster, session)
    (ending,) = [ending for name, ending in session.endings if name == "stuck"]
    assert ending.way == "stuck"
    assert "did not begin within 100 s: ReqNodeNotAvail" in ending.reason
    assert session.whys == {"ReqNodeNotAvail, Reserved for maintenance"}


def test_a_piece_that_was_put_back_into_its_queue_waits_and_does_not_hang() -> None:
    class Queue(Cluster):
        def start(self, job: Job, node: Node) -> Ticket:
            ticket = super().start(job, node)
            self._events.clear()
            self._push(10.0, ticket, News(ticket=ticket, began=True, at=7, node="n1"))
            self._push(100.0, ticket, News(ticket=ticket, back=True, why="preempted"))
            self._push(2000.0, ticket, News(ticket=ticket, began=True, node="n2"))
            self._push(2300.0, ticket, News(ticket=ticket, ending=Ending(way="done"), took_s=300.0))
            return ticket

    class Told(Session):
        def tell(self, running: Sequence[Running[Piece]], pending: Collection[Piece]) -> None:
            super().tell(running, pending)
            seen.update((one.place, one.at, bool(one.why)) for one in running)

    seen: set[tuple[str, int, bool]] = set()
    session = Told(limit_s=500.0)
    loop.work([Piece("preempted", 300.0)], Queue(up=[""], patience_s=float("inf")), session)
    assert [ending.way for _, ending in session.endings] == ["done"]
    assert seen == {("", -1, False), ("n1", 7, False), ("", -1, True), ("n2", -1, False)}
    session = Told(limit_s=500.0)
    loop.work([Piece("preempted", 300.0)], Queue(up=[""], patience_s=600.0), session)
    assert [(ending.way, "preempted" in ending.reason) for _, ending in session.endings] == [("stuck", True)]


def test_an_interrupt_cancels_all_that_runs() -> None:
    cluster = Cluster(up=nodes(20))
    with pytest.raises(KeyboardInterrupt):
        loop.work(pieces(500, alone=0.1), cluster, Session(stop_after=50))
    assert not cluster.at_work
    assert cluster.cancelled


def test_when_the_time_is_over_what_runs_is_cut_and_the_rest_is_put_off() -> None:
    made = pieces(500, alone=0.1)
    cluster, session = Cluster(up=nodes(5)), Session(over_s=300.0)
    loop.work(made, cluster, session)
    cut = [name for name, ending in session.endings if ending.way == "cut"]
    assert cluster.time_s <= 300 + 2 * loop.TICK_S
    assert {*session.taken, *session.put_off, *cut} == {piece.name for piece in made}


def test_a_queue_takes_both_kinds_at_once_up_to_its_length() -> None:
    places = Places([Node(name="queue", beside=3, queue=True)])
    for ticket, alone in enumerate((True, False, True)):
        node = places.find(alone)
        assert node is not None
        places.take(str(ticket), node, alone=alone)
    assert places.full
