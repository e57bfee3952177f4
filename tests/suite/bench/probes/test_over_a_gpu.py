"""What only a GPU runs, run over a double of one (`tests/doubles/gpu.py`), which is true to order and refusals."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests import warm

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[4]


PROGRAM = f"""
import runpy, sys, warnings
sys.path.insert(0, {str(ROOT / "tests" / "doubles")!r})
sys.modules.pop("pynvml", None)  # that of torch, which a process that is warm has loaded
import gpu
gpu.install()
warnings.simplefilter("ignore")
runpy.run_module("tests.suite.bench.probes.over_a_gpu", run_name="__main__")
"""


def over_a_gpu(*asked: str, gpu: str = "h100") -> dict[str, Any]:
    done = warm.run("-c", PROGRAM, *asked, env=os.environ | {"GPU_DOUBLE": gpu}, timeout=500)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return over_a_gpu("times", "captured", "probes", "seen", "rounded")


def test_the_devices_own_time_holds_no_gap_of_the_host(found: dict[str, Any]) -> None:
    for name, times in found["times"].items():
        assert times["launch"] <= times["latency"], name
        if not times["doubts"]:
            # the double's device takes microseconds for an operation, the host on a CPU far longer
            assert times["device"] < times["launch"] / 3, name
            assert times["device_cold"] == pytest.approx(times["device"], rel=0.3), name
    assert not any(times["doubts"] for name, times in found["times"].items() if name.startswith("parallel"))


def test_a_call_that_waits_for_the_device_is_said_to_hold_the_hosts_gaps(found: dict[str, Any]) -> None:
    assert any("published_csdn" in doubt for doubt in found["times"]["published_csdn forward"]["doubts"])


def test_captures_are_bounded_and_right_and_refuse_what_would_read_memory_that_is_gone(found: dict[str, Any]) -> None:
    captured = found["captured"]
    assert captured["largest difference"] < 1e-5
    assert captured["second backward"].startswith("a second backward of one call of a +cudagraph variant")
    assert "cannot be captured: CUDA error: operation not permitted" in captured["published_csdn+cudagraph"]


def test_float32_means_float32_however_a_program_chose_otherwise_and_that_comes_back() -> None:
    ways = over_a_gpu("rounding")["rounding"]  # a process of its own, since what it chooses stays
    assert len({str(before) for before, *_ in ways.values()}) == len(ways), "each way is another"
    for name, (before, inside, after_a_call, after) in ways.items():
        assert inside[2:] == after_a_call[2:] == ["ieee"] * 3, name
        assert inside[:2] == after_a_call[:2] == ["highest", False], name
        assert after == before, name


def test_tf32_is_a_transform_that_rounds_both_passes_and_nothing_after_them(found: dict[str, Any]) -> None:
    rounded = found["rounded"]
    exact, narrow = ["highest", False], ["high", True]
    assert rounded["parallel"] == [[exact], exact, [exact], exact]
    for name in ("parallel+tf32", "parallel+tf32+compile", "parallel+chunked+tf32"):
        assert rounded[name] == [[narrow], exact, [narrow], exact], name
    assert rounded["limit of parallel"] < rounded["limit of parallel+tf32"]
    assert rounded["floor of parallel"] < rounded["floor of parallel+tf32"]


def test_kernels_with_products_of_their_own_do_not_round_to_tf32(found: dict[str, Any]) -> None:
    for kernel in ("fused", "fast"):
        assert f"the kernels of +{kernel} have products of their own" in found["rounded"][f"parallel+{kernel}+tf32"]


def test_the_probes_of_memory_start_and_peaks_run(found: dict[str, Any]) -> None:
    probed = found["probes"]
    assert probed["graph_pool_memory"] > 0
    assert probed["peak_memory"] > 0
    assert probed["cold_start"] > 0
    assert probed["gemm_time"] > 0
    assert probed["copy_time"] > 0


NVML: dict[str, tuple[set[str], set[str], bool]] = {
    # what is there, what is said to be lacking, and whether it is a reason for doubt
    "ok": ({"sm_mhz", "watts", "celsius"}, set(), False),
    "missing": (set(), {"no_nvml"}, False),
    "uninstalled": (set(), {"no_nvml"}, False),
    "few": ({"celsius", "foreign_processes"}, {"no_sm_mhz", "no_watts", "no_throttled_by"}, False),
    "denied": ({"sm_mhz", "watts"}, {"no_throttled_by", "no_foreign_processes"}, False),
    "container": ({"sm_mhz", "watts"}, {"no_foreign_processes"}, False),
    "foreign": ({"sm_mhz", "foreign_processes"}, set(), True),
    "throttled": ({"sm_mhz", "throttled_by"}, set(), True),
}


@pytest.mark.parametrize("how", NVML)
def test_a_gpu_is_asked_field_by_field(found: dict[str, Any], how: str) -> None:
    seen = found["seen"][how]
    there, lacking, doubted = NVML[how]
    assert seen.keys() >= there | lacking
    assert {name for name in seen if name.startswith("no_")} == lacking
    assert bool(seen["doubts"]) == doubted
