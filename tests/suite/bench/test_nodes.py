"""What nodes are is asked before work: several kinds of device stand in no table together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from suite.bench import environment, nodes
from suite.bench.request import Request
from suite.core.errors import UserError
from suite.execution.jobs import Ending, Job, News, Node, Ticket
from suite.execution.relay import Check


@dataclass
class Cluster:
    """Nodes that say what they are told to say."""

    machines: Mapping[str, Mapping[str, Any]]
    dumb: Sequence[str] = ()
    """Those that do not answer."""
    patience_s: float = 3.0
    check: Check = field(default_factory=nodes.check)
    identities: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    time_s: float = 0.0

    def nodes(self) -> Sequence[Node]:
        return [Node(name=name) for name in self.machines]

    def start(self, job: Job, node: Node) -> Ticket:
        self.asked.append(node.name)
        return node.name

    def wait(self, seconds: float) -> Sequence[News]:
        self.time_s += seconds
        asked, self.asked = self.asked, []
        told = []
        for name in asked:
            if name in self.dumb:
                self.asked.append(name)
                told.append(News(ticket=name, why="Resources"))
                continue
            self.identities[name] = self.machines[name]
            told.append(News(ticket=name, node=name, ending=Ending(way="done"), lines=("{}",)))
        return told

    def cancel(self, ticket: Ticket) -> News:
        self.cancelled.append(ticket)
        return News(ticket=ticket)

    def now(self) -> float:
        return self.time_s

    def close(self) -> None: ...


H100, A100 = {"device": "H100", "driver": "570.1"}, {"device": "A100", "driver": "570.1"}


def test_two_kinds_of_device_are_refused_where_times_are_compared_and_named() -> None:
    with pytest.raises(UserError, match="b is not as a: device is A100 and not H100; times of both would stand in one"):
        nodes.survey(Cluster({"a": H100, "b": A100}), of_one_kind=True, say=print)
    assert nodes.survey(Cluster({"a": H100, "b": A100}), of_one_kind=False, say=print).keys() == {"a", "b"}


def test_two_drivers_are_two_kinds() -> None:
    with pytest.raises(UserError, match=r"driver is 580\.2 and not 570\.1"):
        nodes.survey(Cluster({"a": H100, "b": H100 | {"driver": "580.2"}}), of_one_kind=True, say=print)


def test_a_node_that_comes_later_has_to_be_of_the_kind_of_the_first() -> None:
    cluster = Cluster({"a": H100, "b": H100})
    nodes.survey(cluster, of_one_kind=True, say=print)
    assert cluster.check.expected["device"] == "H100"
    assert cluster.check.expected["sources"] == environment.sources(())


def test_a_node_that_does_not_answer_is_named_and_what_it_waits_for_was_said() -> None:
    said: list[str] = []
    cluster = Cluster({"a": H100, "b": H100}, dumb=["b"])
    with pytest.raises(UserError, match="the node b does not answer within 3 s"):
        nodes.survey(cluster, of_one_kind=True, say=said.append)
    assert said == ["waiting for a node: Resources"]
    assert cluster.cancelled == ["b"]


def test_a_node_tells_its_name_device_versions_and_sources() -> None:
    (line,) = nodes.tell(None, None, None)  # type: ignore[arg-type]  # it looks at neither
    told = json.loads(line)
    assert told.keys() >= {"host", "device", "driver", "python", "torch", "sources"}


def test_a_run_is_resumed_on_any_node_of_its_kind_and_on_no_other() -> None:
    one = {**H100, "machine": {"memory_B": 10}, "settings": {"usable cores": "8"}}
    two = one | {"machine": {"memory_B": 11}}
    before = environment.describe(Request(), {"a": one})
    assert environment.changes(before, environment.describe(Request(), {"b": two})) == []
    (changed,) = environment.changes(before, environment.describe(Request(), {"b": two | {"device": "A100"}}))
    assert changed == "the device of the nodes was H100 and is A100"


def test_which_gpu_a_scheduler_gave_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert "CUDA_VISIBLE_DEVICES" not in nodes.identity()["settings"]
    assert "usable cores" in nodes.identity()["settings"]


def test_every_node_that_worked_is_on_record(tmp_path: Path) -> None:
    environment.write(tmp_path, {"device": "H100", "nodes": {"a": H100}})
    cluster = Cluster({"a": H100, "b": H100}, identities={"b": H100})
    nodes.record(tmp_path, cluster)
    assert environment.read(tmp_path)["nodes"] == {"a": H100, "b": H100}
