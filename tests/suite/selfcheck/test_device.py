"""`selfcheck device`: a line for each path, whatever becomes of it and of its process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from suite import cli
from suite.core import exits
from suite.core.errors import UserError
from suite.core.records import Finding
from suite.selfcheck import device
from tests.suite.selfcheck.walkers import go
from variants.transforms import TRANSFORMS

ROOT = Path(__file__).parents[3]


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {str(row.details["check"]): row for row in found}


@pytest.mark.slow
def test_a_path_that_takes_its_process_along_costs_itself_alone() -> None:
    lanes = {"one": ["works", "crashes", "fails", "skipped", "crashes too", "works too"], "two": ["hangs", "never"]}
    rows = by_name(list(device.walked(lanes, go, within_s=15.0)))
    assert {name: row.verdict for name, row in rows.items()} == {
        "works": "holds", "works too": "holds", "fails": "broken", "skipped": "not applicable",
        "crashes": "broken", "crashes too": "broken", "hangs": "unclear", "never": "unclear",
    }  # fmt: skip
    assert "SIGABRT" in rows["crashes"].summary
    assert rows["hangs"].summary.startswith("no end within 15 s")
    assert rows["never"].summary.startswith("not reached within 15 s")


def test_every_transform_and_every_mechanism_has_a_path() -> None:
    names = [name for lane in device.LANES.values() for name in lane]
    assert len(names) == len(set(names))
    words = " ".join(names)
    # the tuned compilation takes minutes, and what `fast` picks is among the others
    assert all(f"+{transform}" in words for transform in TRANSFORMS.keys() - {"compile_tuned", "fast"})
    assert all(f"{name}, both passes" in names for name in (*device.CLASSIC, *device.TODAY))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_there_is_one_line_and_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suite.execution.guest.warm_up", lambda **_: None)
    refused = CliRunner().invoke(cli.app, ["selfcheck", "device"]).exception
    assert isinstance(refused, UserError), refused
    (line,) = str(refused).splitlines()
    assert "torch sees no CUDA device here; expected one" in line


@pytest.mark.slow
def test_every_path_goes_over_a_double_of_a_gpu(tmp_path: Path) -> None:
    path = os.pathsep.join((str(ROOT / "tests" / "doubles"), str(ROOT)))
    double = {"GPU_DOUBLE": "h100", "PYTHONPATH": path, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, "run_all.py", "selfcheck", "device", "--full", "--json", "--out", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, timeout=900, env=os.environ | double,
    )  # fmt: skip
    rows = json.loads(ended.stdout)["rows"]
    assert len(rows) == sum(map(len, device.LANES.values()))
    of_the_double = ("products rounded to TF32", "proof of mode, and honesty")  # of its arithmetic and its profiler
    for row in rows:
        verdict = "not applicable" if row["check"] in of_the_double else "holds"
        assert row["verdict"] == verdict, (row["check"], row["remark"])
    assert ended.returncode == exits.DONE
