"""`+fused`: what the interpreter and the compiler tell of it without a GPU, each in a process of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from variants import Skip, build
from variants.kernels.configurations import Configuration
from variants.kernels.shortlist import shared_b

triton = pytest.importorskip("triton")

SHARED_BYTES = {90: 232_448, 80: 163_840, 86: 101_376}
"""What one block may have; on sm_80 a little less than it could. sm_89 has as much as sm_86."""
ROOT = Path(__file__).parents[2]
TRITON = tuple(map(int, triton.__version__.split(".")[:2]))
MOST_SPILLED = 0 if TRITON < (3, 8) else 32
"""Reads and writes of registers that did not fit. The blocks use every register that Triton 3.7 has for them; 3.8 is a
few short on sm_80 (16 accesses in fp16, 11 in fp32): too few to choose other blocks without a device to measure on."""
HEAVY = ("scored", "scored_backward", "features_gradient", "sum_over_regions")


def python(*arguments: str, interpret: str) -> str:
    """What a module prints that Triton interprets, or does not; one process cannot do both."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": interpret}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(
    TRITON < (3, 7),
    reason="Triton's interpreter before 3.7 fails with NumPy 2.4",
)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("chosen", "least"),
    [("not audit", 50), ("audit and parallel and not several", 1)],
)
def test_the_interpreter_finds_the_kernels_right(chosen: str, least: int) -> None:
    said = python("pytest", "tests/kernels/check_fused.py", "-q", "-x", "-k", chosen, interpret="1")
    assert int(re.search(r"(\d+) passed", said)[1]) >= least


STANDING = {
    "scored": Configuration(128, 32, 64, 32, 8, 4, standing=True),
    "scored_backward": Configuration(128, 32, 64, 32, 8, 4, standing=True),
}
"""Entries whose tile stands, at sizes that fill the registers or the shared memory of a block."""
COMPILED: list[tuple[Any, ...]] = [
    (90, "bf16", "parallel:80;hierarchical:26;hierarchical[inner=alternating]:80"),
    (
        90,
        "bf16",
        "parallel[dropout=0.1]:26;hierarchical[dropout=0.1,inner=alternating]:80",
        "scored",
        "scored_backward",
    ),
    (90, "bf16", "parallel:26;hierarchical:26", *([name, *entry] for name, entry in STANDING.items())),
    (90, "fp32", "parallel:80;hierarchical:26", *HEAVY),
    (80, "fp16", "hierarchical:26", *HEAVY),
    (80, "fp32", "hierarchical:26", *HEAVY),
    (86, "bf16", "hierarchical:26;hierarchical[inner=alternating]:80", *HEAVY),
    (86, "fp32", "hierarchical:26", *HEAVY),
]
"""A capability, a type, mechanisms with their numbers of words, and the programs that are wanted; all if none is.
A program in brackets has an entry of its own."""


@pytest.fixture(scope="module")
def compiled() -> list[list[dict[str, Any]]]:
    """What became of each, and of a planted offset at the end."""
    jobs = json.dumps([*COMPILED, (90, "bf16", "planted")])
    return [json.loads(line) for line in python("tests.kernels.compiled", jobs, interpret="0").splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", range(len(COMPILED)), ids=[" ".join(map(str, job)) for job in COMPILED])
def test_every_program_compiles_within_its_limits(job: int, compiled: list[list[dict[str, Any]]]) -> None:
    capability, _, _, *wanted = COMPILED[job]
    programs = [one if isinstance(one, str) else one[0] for one in wanted]
    assert {report["program"] for report in compiled[job]} >= set(programs or (*HEAVY, "combine", "attend_rows"))
    for report in compiled[job]:
        assert report["narrow_products"] == [], report  # offsets that end at 2^31 elements
        assert report["shared_bytes"] <= SHARED_BYTES[capability], report
        assert report["local_accesses"] <= MOST_SPILLED, report
        assert report["atomics"] == 0, report  # sums in no fixed order
        if report["program"] in HEAVY:
            products = "warpgroup_products" if capability == 90 else "warp_products"
            assert report[products] > 0, report  # tensor cores of that generation


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", STANDING)
def test_a_tile_that_stands_takes_the_shared_memory_that_the_model_says(
    program: str, compiled: list[list[dict[str, Any]]]
) -> None:
    reports = [report for job in compiled[:-1] for report in job if report["program"] == program and report["standing"]]
    assert reports
    # a tile in registers that a compiler puts into shared memory instead would be 128 KiB more
    assert {report["shared_bytes"] for report in reports} == {shared_b(program, STANDING[program], 2)}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_offset_in_32_bits_would_be_seen(compiled: list[list[dict[str, Any]]]) -> None:
    (planted,) = compiled[-1]
    assert len(planted["narrow_products"]) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter stands in for a device")
def test_without_a_device_there_is_a_reason() -> None:
    with pytest.raises(Skip, match="needs a CUDA device"):
        build("parallel+fused", width=8)


def test_what_has_no_kernel_is_skipped_for_that_reason() -> None:
    for name in ("cross+fused", "published_csdn+fused", "parallel[bias=true]+fused", "hierarchical-word_level+fused"):
        with pytest.raises(Skip, match="fused kernels"):
            build(name, width=8)
