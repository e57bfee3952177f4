"""`+fused`: what the interpreter and the compiler tell of it without a GPU, each in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from variants import Skip, build

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]
SHARED_BYTES = {90: 232_448, 80: 163_840}
"""What one block may have; on sm_80 a little less than it could."""
HEAVY = ("scored", "scored_backward", "features_gradient", "sum_over_regions")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("chosen", "least"), [("not audit", 50), ("audit and parallel", 1)])
def test_the_interpreter_finds_the_kernels_right(chosen: str, least: int) -> None:
    found = python("-m", "pytest", "tests/kernels/check_fused.py", "-q", "-x", "-k", chosen, TRITON_INTERPRET="1")
    assert found.returncode == 0, found.stdout[-5000:] + found.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", found.stdout)[1]) >= least


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
    capability: int, dtype: str, cases: str, programs: tuple[str, ...]
) -> None:
    found = python("-m", "tests.kernels.compiled", str(capability), dtype, cases, *programs, TRITON_INTERPRET="0")
    assert found.returncode == 0, found.stderr[-5000:]
    reports = [json.loads(line) for line in found.stdout.splitlines()]
    assert {report["program"] for report in reports} >= set(programs or (*HEAVY, "combine", "attend_rows"))
    for report in reports:
        assert report["narrow_products"] == [], report  # offsets that end at 2^31 elements
        assert report["shared_bytes"] <= SHARED_BYTES[capability], report
        assert report["local_accesses"] == 0, report  # spilled registers
        assert report["atomics"] == 0, report  # sums in no fixed order
        if report["program"] in HEAVY:
            products = "warpgroup_products" if capability == 90 else "warp_products"
            assert report[products] > 0, report  # tensor cores of that generation


def test_an_offset_in_32_bits_would_be_seen() -> None:
    found = python("-m", "tests.kernels.compiled", "90", "bf16", "planted", TRITON_INTERPRET="0")
    assert found.returncode == 0, found.stderr[-5000:]
    assert len(json.loads(found.stdout)) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter stands in for a device")
def test_without_a_device_there_is_a_reason() -> None:
    with pytest.raises(Skip, match="needs a CUDA device"):
        build("parallel+fused", width=8)


def test_what_has_no_kernel_is_skipped_for_that_reason() -> None:
    for name in ("cross+fused", "published_csdn+fused", "parallel[bias=true]+fused", "hierarchical-word_level+fused"):
        with pytest.raises(Skip, match="fused kernels"):
            build(name, width=8)
