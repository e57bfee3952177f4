"""A trace shows the named regions of a mechanism, in one file per variant and place."""

import gzip
from pathlib import Path

import pytest

from suite.bench.probes import trace
from suite.bench.probes.step import prepared
from suite.core.workloads import Workload


# the profiler says so of a schedule without warm-up, which one step that was called before does not need
@pytest.mark.filterwarnings("ignore:Profiler won't be using warmup")
def test_a_trace_shows_the_regions_of_a_mechanism(tiny: Workload, tmp_path: Path) -> None:
    prepared.cache_clear()
    (made,) = trace.record("parallel", tiny, "forward", "cpu", task="t", folder=tmp_path)
    assert made.path.startswith("traces/parallel/tiny.batch=2")
    text = gzip.decompress((tmp_path / made.path).read_bytes()).decode()
    for name in ("affinity", "scores", "pooling", "ProfilerStep#1"):
        assert f'"name": "{name}"' in text
