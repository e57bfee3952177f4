"""`tensorboard --logdir results/<run>/traces` shows each variant as a run of its own, with its named regions."""

import gzip
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from suite.bench.probes import trace
from suite.bench.tasks import Target
from suite.core.workloads import WORKLOADS
from tests import board

pytestmark = pytest.mark.slow

REGIONS = {
    "parallel": {"affinity", "scores", "pooling"},
    # alternating guides one side by the other's summary: it has no affinity
    "hierarchical[inner=alternating]+bf16": {"scores", "pooling", "encoder"},
}
"""By variant, what must be seen in its trace."""
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    for name in REGIONS:
        list(trace.record(Target(name, WORKLOADS["tiny"], "forward+backward", "cpu", task="trace", folder=folder)))
    return folder / "traces"


@pytest.fixture(scope="module")
def address(traces: Path) -> Iterator[str]:
    with board.served(traces) as address:
        yield address


def ask(address: str, route: str, **query: str) -> Any:
    url = f"{address}data/plugin/pytorch_profiler/{route}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        body = answer.read()
        return json.loads(gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body)


def only_span(address: str, run: str, worker: str) -> str:
    (span,) = ask(address, "spans", run=run, worker=worker)
    return str(span)


@pytest.fixture(scope="module")
def runs(address: str) -> list[str]:
    """The plugin's runs, once it has read them all."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            found = ask(address, "runs")
        except urllib.error.URLError:
            found = {"loading": True}
        if not found["loading"] and len(found["runs"]) == len(REGIONS):
            return sorted(found["runs"])
        time.sleep(0.5)
    raise AssertionError(f"the plugin did not read its runs; it has {found}")


def test_each_variant_is_a_run_of_its_own(runs: list[str]) -> None:
    assert runs == sorted(trace.plain_words(name) for name in REGIONS)


def test_the_plugin_answers_all_its_views(address: str, runs: list[str]) -> None:
    for run in runs:
        views = ask(address, "views", run=run)
        assert {"Overview", "Operator", "Trace", "Memory"} <= set(views), views
        for view in views:
            (worker,) = ask(address, "workers", run=run, view=view)
            assert worker.startswith("tiny-forward+backward-cpu")
        about = {"run": run, "worker": worker, "span": only_span(address, run, worker)}
        assert ask(address, "overview", **about)["steps"]["rows"]
        assert ask(address, "operation/table", **about, group_by="Operation")["data"]
        assert ask(address, "memory", **about)


def test_named_regions_are_visible_in_the_trace(address: str, runs: list[str]) -> None:
    assert runs
    for variant, regions in REGIONS.items():
        run = trace.plain_words(variant)
        (worker,) = ask(address, "workers", run=run, view="Trace")
        span = only_span(address, run, worker)
        events = ask(address, "trace", run=run, worker=worker, span=span)["traceEvents"]
        assert {event.get("name") for event in events} >= regions
