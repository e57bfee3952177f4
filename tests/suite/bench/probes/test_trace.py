"""A trace shows the named regions of a mechanism, in one file per variant and place."""

import gzip
from pathlib import Path

import pytest

from suite.bench.probes import trace
from suite.bench.probes.step import prepared
from suite.bench.tasks import Target
from suite.core.records import Artifact, Measurement, decode, encode
from suite.core.workloads import Workload


# the profiler says so of a schedule without warm-up, which one step that was called before does not need
@pytest.mark.filterwarnings("ignore:Profiler won't be using warmup")
def test_a_trace_shows_the_regions_of_a_mechanism(tiny: Workload, tmp_path: Path) -> None:
    prepared.cache_clear()
    made, _ = trace.record(Target("parallel", tiny, "forward", "cpu", task="t", folder=tmp_path))
    assert isinstance(made, Artifact)
    assert made.path.startswith("traces/parallel/tiny.batch=2")
    text = gzip.decompress((tmp_path / made.path).read_bytes()).decode()
    for name in ("affinity", "scores", "pooling", "ProfilerStep#1"):
        assert f'"name": "{name}"' in text


@pytest.mark.filterwarnings("ignore:Profiler won't be using warmup")
def test_where_the_time_goes_is_a_record(tiny: Workload, tmp_path: Path) -> None:
    prepared.cache_clear()
    made = list(trace.record(Target("parallel", tiny, "forward+backward", "cpu", task="t", folder=tmp_path)))
    (step,) = (record for record in made if isinstance(record, Measurement))
    assert step == decode(encode(step))
    rows = step.details["regions"]
    assert isinstance(rows, list | tuple)
    paths = {str(row[0]) for row in rows if isinstance(row, list | tuple)}
    for region in ("affinity", "scores", "pooling"):
        assert any(path.startswith(f"forward/{region}/") for path in paths)
        assert any(path.startswith(f"backward/{region}/") for path in paths)
