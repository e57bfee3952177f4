"""`pytest --benchmark` times variants by the suite's clocks, and two of its runs can be compared."""

import json
import os
from statistics import median
from typing import Any

import pytest

from tests import warm

pytestmark = pytest.mark.slow

ASKED = ("--benchmark-variant", "parallel", "--benchmark-variant", "parallel+bf16", "--benchmark-workload", "tiny")


def run(*arguments: str) -> str:
    command = ["-m", "pytest", "tests/benchmarks", "-q", "-p", "no:cacheprovider", *arguments]
    # pytest-benchmark times nothing in what it takes for one of several processes of a test run
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = warm.run(*command, env=own)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The first run's file, and what the second printed when it was compared with the first."""
    folder = tmp_path_factory.mktemp("benchmarks")
    common = (*ASKED, f"--benchmark-storage=file://{folder}", "--benchmark-max-time=0.1", "--benchmark-save-data")
    run("--benchmark", "--benchmark-save=first", *common)
    printed = run("--benchmark", "--benchmark-compare", *common)
    (saved,) = folder.glob("*/0001_first.json")
    return json.loads(saved.read_text()), printed


def test_each_variant_is_a_benchmark_grouped_by_workload(two_runs: tuple[dict[str, Any], str]) -> None:
    cells = {(cell["group"], cell["extra_info"]["variant"]) for cell in two_runs[0]["benchmarks"]}
    assert cells == {
        (f"tiny, {phase}, cpu", variant)
        for phase in ("forward", "forward+backward")
        for variant in ("parallel", "parallel+bf16")
    }


def test_a_cell_holds_device_time_memory_and_reasons_for_doubt(two_runs: tuple[dict[str, Any], str]) -> None:
    for cell in two_runs[0]["benchmarks"]:
        extra = cell["extra_info"]
        assert extra["peak_memory_bytes"] > 0
        assert ("saved_for_backward_bytes" in extra) == (extra["phase"] == "forward+backward")
        assert isinstance(extra["trust"], list)
        assert {"spread", "involuntary_switches"} <= extra.keys()


def test_the_times_are_the_suites_clocks_own(two_runs: tuple[dict[str, Any], str]) -> None:
    for cell in two_runs[0]["benchmarks"]:
        assert cell["stats"]["rounds"] >= 5
        assert median(cell["stats"]["data"]) == pytest.approx(cell["extra_info"]["device_time_s"], rel=1e-6)


def test_the_machine_is_described_without_its_name(two_runs: tuple[dict[str, Any], str]) -> None:
    machine = two_runs[0]["machine_info"]
    assert "gpu" in machine
    assert machine["processor"]
    assert "node" not in machine


def test_two_runs_can_be_compared(two_runs: tuple[dict[str, Any], str]) -> None:
    printed = two_runs[1]
    assert "machine_info is different" not in printed
    assert printed.count("now / before (95 %)") == 2
    anchored = [line for line in printed.splitlines() if line.startswith("parallel+bf16") and "over parallel" in line]
    assert len(anchored) == 2, "parallel+bf16 is compared through the anchor, at both places"
    assert printed.count("its own times") == 2


def test_a_table_has_medians_intervals_rounds_and_verdicts_within_120_columns(
    two_runs: tuple[dict[str, Any], str],
) -> None:
    table = two_runs[1].partition("- benchmark -")[2]
    assert max(map(len, table.splitlines())) <= 120
    # a title of two words may stand in two lines
    for word in ("median", "95 %", "interval", "rounds", "over parallel", "verdict"):
        assert word in table
