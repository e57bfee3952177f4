"""`+fused`: what the interpreter and the compiler tell of it without a GPU, each in a process of its own."""

import json
import os
import re
from subprocess import CompletedProcess

import pytest
import torch

from variants import Skip, build

pytestmark = pytest.mark.slow

triton = pytest.importorskip("triton")

SHARED_BYTES = {90: 232_448, 80: 163_840}
"""What one block may have; on sm_80 a little less than it could."""
HEAVY = ("scored", "scored_backward", "features_gradient", "sum_over_regions")


def interpreted(chosen: str, least: int) -> list[str]:
    return ["-m", "pytest", "tests/kernels/check_fused.py", "-q", "-x", "-k", chosen]


def compiled(capability: int, dtype: str, cases: str, programs: tuple[str, ...]) -> list[str]:
    return ["-m", "tests.kernels.compiled", str(capability), dtype, cases, *programs]


def planted() -> list[str]:
    return ["-m", "tests.kernels.compiled", "90", "bf16", "planted"]


@pytest.mark.skipif(
    tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7),
    reason="Triton's interpreter before 3.7 fails with NumPy 2.4",
)
@pytest.mark.timeout(900)
@pytest.mark.beside(interpreted, interpret="1")
@pytest.mark.parametrize(("chosen", "least"), [("not audit", 50), ("audit and parallel and not several", 1)])
def test_the_interpreter_finds_the_kernels_right(chosen: str, least: int, finished: CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stdout[-5000:] + finished.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", finished.stdout)[1]) >= least


@pytest.mark.timeout(900)
@pytest.mark.beside(compiled, interpret="0")
@pytest.mark.parametrize(
    ("capability", "dtype", "cases", "programs"),
    [
        (90, "bf16", "parallel:26;parallel:80;hierarchical:26;hierarchical[inner=alternating]:80", ()),
        (
            90,
            "bf16",
            "parallel[dropout=0.1]:26;hierarchical[dropout=0.1,inner=alternating]:80",
            ("scored", "scored_backward"),
        ),
        (90, "fp32", "parallel:80;hierarchical:26", HEAVY),
        (80, "fp16", "hierarchical:26", HEAVY),
        (80, "fp32", "hierarchical:26", HEAVY),
    ],
)
def test_every_program_compiles_within_its_limits(
    capability: int, dtype: str, cases: str, programs: tuple[str, ...], finished: CompletedProcess[str]
) -> None:
    assert finished.returncode == 0, finished.stderr[-5000:]
    reports = [json.loads(line) for line in finished.stdout.splitlines()]
    assert {report["program"] for report in reports} >= set(programs or (*HEAVY, "combine", "attend_rows"))
    for report in reports:
        assert report["narrow_products"] == [], report  # offsets that end at 2^31 elements
        assert report["shared_bytes"] <= SHARED_BYTES[capability], report
        assert report["local_accesses"] == 0, report  # spilled registers
        assert report["atomics"] == 0, report  # sums in no fixed order
        if report["program"] in HEAVY:
            products = "warpgroup_products" if capability == 90 else "warp_products"
            assert report[products] > 0, report  # tensor cores of that generation


@pytest.mark.timeout(900)
@pytest.mark.beside(planted, interpret="0")
def test_an_offset_in_32_bits_would_be_seen(finished: CompletedProcess[str]) -> None:
    assert finished.returncode == 0, finished.stderr[-5000:]
    assert len(json.loads(finished.stdout)) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter stands in for a device")
def test_without_a_device_there_is_a_reason() -> None:
    with pytest.raises(Skip, match="needs a CUDA device"):
        build("parallel+fused", width=8)


def test_what_has_no_kernel_is_skipped_for_that_reason() -> None:
    for name in ("cross+fused", "published_csdn+fused", "parallel[bias=true]+fused", "hierarchical-word_level+fused"):
        with pytest.raises(Skip, match="fused kernels"):
            build(name, width=8)
