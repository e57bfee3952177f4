"""Accelerators that are none of NVIDIA's, and several at once, each over a double and none on the thing itself."""

from typing import Any

import pytest

from tests.suite.bench.probes.test_over_a_gpu import over_a_gpu

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["mps", "xpu", "rocm"])
def test_an_accelerator_does_what_it_can_and_says_why_it_does_not_do_the_rest(kind: str) -> None:
    found: dict[str, Any] = over_a_gpu("accelerated", gpu=kind)["accelerated"]
    assert found["kind"] == ("cuda" if kind == "rocm" else kind)
    variants = found["variants"]
    for name in ("parallel", "hierarchical+bf16", "cross+amp_bf16", "parallel+compile", "parallel+fast"):
        assert variants[name] == "done", name
    for name in ("parallel+fused", "parallel+tf32"):
        assert ("ROCm" if kind == "rocm" else f"on the {kind}") in variants[name], name
    assert variants["parallel+cudagraph"] == (
        "done" if kind == "rocm" else f"parallel+cudagraph needs a CUDA device, but the variant is on the {kind}:0"
    )
    times = found["times"]
    assert 0 < times["launch"] <= times["latency"]
    assert times["device"] > 0
    assert ("device_cold" in times) == (kind == "rocm")
    assert found["clock"].get("device_held", True) == (kind == "rocm")
    said = found["said"]
    assert all(said[name] == "holds" for name in ("agreement", "mode", "honesty", "contract")), said
    assert said["gemm_time"] > 0
    assert said["cold_start"] > 0
    if kind == "mps":
        assert said["peak_memory"] == "the allocator of mps tells no peak"
        assert "tells no peak" in found["largest"]
    else:
        assert said["peak_memory"] > 0
        assert said["reserved_memory"] >= said["peak_memory"]
        assert found["largest"] == ["largest_batch"]
    machine = found["machine"]
    assert machine["gpu_memory_B"] > 2**30
    assert machine.get("hip") == ("7.0.1" if kind == "rocm" else None)


def test_one_of_several_gpus_may_be_chosen_and_all_of_one_kind_are_used_otherwise() -> None:
    found = over_a_gpu("chosen", gpu="two")["chosen"]
    assert [found[label] for label in ("None", "cuda", "cuda:0", "cuda:1")] == ["cuda", "cuda", "cuda:0", "cuda:1"]
    assert "torch sees 2 CUDA devices here: expected at most cuda:1" in found["cuda:2"]
    assert "expected a number, such as cuda:1" in found["cuda:x"]
    assert "torch sees none here" in found["mps"]
    assert "expected cpu, cuda, cuda:1, mps or xpu" in found["tpu"]
    assert found["nodes of cuda:1"] == ["GPU 1"]
    assert found["nodes of cuda"] in (["GPU 0", "GPU 1"], [""]), "as this machine has CPUs for"
    assert found["idle beside cpu"] == ["cuda"]
    assert found["idle beside cuda:1"] == ["cuda:0"]
    assert len(found["nodes of cuda"]) + len(found["idle beside cuda"]) == 2, "each is used, or said to be idle"
    assert found["named"] == "GPU-bb"
