"""What nodes are is asked before work: several kinds of device stand in no table together."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from suite.bench import environment, nodes, run
from suite.bench import where as locations
from suite.bench.request import Request, understand
from suite.bench.where import Where
from suite.core import exits, store
from suite.core.answer import Manner
from suite.core.compare import check_machines
from suite.core.errors import UserError
from suite.core.latencies import Latencies
from suite.core.records import Measurement
from suite.execution.jobs import Ending, Job, News, Node, Ticket
from suite.execution.local import Local
from suite.execution.relay import Check
from suite.report import tables


@dataclass
class Cluster:
    """Nodes that say what they are told to say."""

    machines: Mapping[str, Mapping[str, Any]]
    dumb: Sequence[str] = ()
    """Those that do not answer."""
    patience_s: float = 3.0
    check: Check = field(default_factory=nodes.check)
    identities: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
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


def test_nodes_of_one_kind_are_no_models_and_those_that_come_later_have_to_be_like_them() -> None:
    cluster = Cluster({"a": H100, "b": H100})
    assert nodes.models(cluster, nodes.survey(cluster, say=print)) == {"": H100}
    assert cluster.models == {}


def test_two_models_of_device_are_told_apart_for_tables_of_their_own() -> None:
    cluster = Cluster({"a": H100, "b": A100, "c": H100})
    assert nodes.models(cluster, nodes.survey(cluster, say=print)) == {"h100": H100, "a100": A100}
    assert cluster.models == {"a": "h100", "b": "a100", "c": "h100"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            H100 | {"driver": "580.2"},
            r"b is not as a: driver is 580\.2 and not 570\.1; times of both would stand in one",
        ),
        (H100 | {"device": "h-100"}, None),
        (H100 | {"device": "H100."}, r"device is H100\. and not H100"),
    ],
)
def test_two_kinds_that_a_label_would_not_tell_apart_are_refused(other: dict[str, str], message: str | None) -> None:
    cluster = Cluster({"a": H100, "b": other})
    found = nodes.survey(cluster, say=print)
    if message is None:
        assert len(nodes.models(cluster, found)) == 2
        return
    with pytest.raises(UserError, match=message):
        nodes.models(cluster, found)


class Two(Local):
    """Two nodes that are this machine and call their devices as they were told to."""

    def __init__(self, folder: Path, called: Mapping[str, str]) -> None:
        super().__init__(folder, folder / "cache")
        self.check = nodes.check()
        self.identities: dict[str, Mapping[str, Any]] = {}
        self.models: dict[str, str] = {}
        self.called = called
        self.at: dict[Ticket, str] = {}

    def nodes(self) -> Sequence[Node]:
        return [Node(name=name, model=self.models.get(name, "")) for name in self.called]

    def start(self, job: Job, node: Node) -> Ticket:
        ticket = super().start(job, node)
        self.at[ticket] = node.name
        assert not job.needs or job.needs["device"] == self.called[node.name]
        return ticket

    def wait(self, seconds: float) -> Sequence[News]:
        told = [replace(news, node=self.at[news.ticket]) for news in super().wait(seconds)]
        for news in told:
            if news.lines and news.node not in self.identities:
                self.identities[news.node] = json.loads(news.lines[0]) | {"device": self.called[news.node]}
        return told


@pytest.mark.slow
def test_a_run_on_two_models_has_a_table_for_each_and_no_ratio_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def opened(_where: Where, folder: Path, **_: object) -> Iterator[Two]:
        made = Two(folder, {"first": "NVIDIA H100 80GB", "second": "AMD EPYC (64 cores)"})
        yield made
        made.close()

    monkeypatch.setattr(locations, "opened", opened)
    probes = ("timing", "masking")
    request = Request(variants=("pool",), workloads=("tiny",), phases=("forward",), probes=probes, device="cpu")
    folder = tmp_path / "run"
    assert run.start(request, out=folder, manner=Manner(quiet=True), where=Where(executor="ray")) == exits.DONE
    labels = {"cpu[model=nvidia-h100-80gb]": "first", "cpu[model=amd-epyc-64-cores]": "second"}
    records = store.read(folder)
    timed = [record for record in records if isinstance(record, Measurement) and record.quantity == "task_time"]
    assert {(record.device, record.details["node"]) for record in timed if record.device} == {*labels.items()}
    cells = tables.make(records).cells
    assert {(cell.device, cell.variant) for cell in cells.itertuples()} == {
        (label, variant) for label in labels for variant in ("parallel", "pool")
    }
    pools = cells[cells["variant"] == "pool"]
    assert list(pools["masking"]) == ["holds", "holds"]
    for pool in pools.itertuples():
        alone = Latencies([record for record in records if record.device == pool.device])
        (place,) = alone.places
        ratio = alone.ratio(place, "pool", "parallel")
        assert ratio is not None
        assert pool.over_anchor_low < 1 / ratio.estimate < pool.over_anchor_high
    page = (folder / "REPORT.md").read_text()
    assert all(label in page for label in labels)
    one = tmp_path / "one"
    one.mkdir()
    described = environment.read(folder)
    assert set(described["device"].split(", ")) == {"NVIDIA H100 80GB", "AMD EPYC (64 cores)"}
    environment.write(one, described | {"nodes": {"first": described["nodes"]["first"]}})
    with pytest.raises(UserError, match="device was 'NVIDIA H100 80GB' and is 'AMD EPYC"):
        check_machines(one, folder)


def test_a_node_that_does_not_answer_is_named_and_what_it_waits_for_was_said() -> None:
    said: list[str] = []
    cluster = Cluster({"a": H100, "b": H100}, dumb=["b"])
    with pytest.raises(UserError, match="the node b does not answer within 3 s"):
        nodes.survey(cluster, say=said.append)
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


def test_threads_are_counted_where_they_run() -> None:
    (device,) = understand(Request(device="cpu", threads="9000", elsewhere=True)).devices
    assert device.threads == 9000
    with pytest.raises(UserError, match="--threads 9000: this machine has"):
        understand(Request(device="cpu", threads="9000"))


def test_which_gpu_a_scheduler_gave_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert "CUDA_VISIBLE_DEVICES" not in nodes.identity()["settings"]
    assert "usable cores" in nodes.identity()["settings"]


def test_every_node_that_worked_is_on_record(tmp_path: Path) -> None:
    environment.write(tmp_path, {"device": "H100", "nodes": {"a": H100}})
    cluster = Cluster({"a": H100, "b": H100}, identities={"b": H100})
    nodes.record(tmp_path, cluster)
    assert environment.read(tmp_path)["nodes"] == {"a": H100, "b": H100}
