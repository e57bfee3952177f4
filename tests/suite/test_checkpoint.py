"""A published checkpoint in one command: audited, corrected, timed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from run_all import app
from suite import checkpoint

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with np.load(GOLDEN / "skyol5__parallel__b3_d16_k8_n9_l7.npz") as archive:
        weights = {
            f"module.{name.removeprefix('param.')}": torch.from_numpy(archive[name])
            for name in archive.files
            if name.startswith("param.")
        }
    path = tmp_path / "model.pt"
    torch.save({"state_dict": weights | {"encoder.weight": torch.zeros(2)}, "epoch": 3}, path)
    return path


def test_correcting_changes_padded_batches_alone(saved: Path) -> None:
    modules = checkpoint.pair("skyol5/parallel", checkpoint.read(saved, prefix="module."), {})
    moved = {
        (record.details["condition"], record.details["output"]): record.value
        for record in checkpoint.changes(modules, task="test")
    }
    assert len(moved) == 8
    for (condition, _), value in moved.items():
        assert value is not None
        assert value > 0.1 if condition == "padded" else value < 1e-5


def test_names_can_be_left_out(saved: Path) -> None:
    assert sorted(checkpoint.read(saved, ignore=("module.", "nothing"))) == ["encoder.weight"]
    with pytest.raises(ValueError, match=r"no name is left that starts with 'net\.'"):
        checkpoint.read(saved, prefix="net.")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights\.pt: No such file or directory: expected a file that torch\.save"):
        checkpoint.read(tmp_path / "weights.pt")
    (tmp_path / "notes.md").write_text("# no weights")
    with pytest.raises(ValueError, match=r"notes\.md: expected a file that torch\.save wrote, of weights alone"):
        checkpoint.read(tmp_path / "notes.md")


def test_an_unknown_source_is_refused_before_its_file_is_opened() -> None:
    done = CliRunner().invoke(app, ["checkpoint", "no/such", "nowhere.pt"])
    assert isinstance(done.exception, ValueError)
    assert "'no/such' is no source of a mechanism; known are csdn/parallel" in str(done.exception)


def test_one_command_audits_corrects_and_times(saved: Path) -> None:
    done = CliRunner().invoke(app, ["checkpoint", "skyol5/parallel", str(saved), "--prefix", "module."])
    assert done.exit_code == 0, done.output
    assert "published_skyol5  P1  known: " in done.output
    assert "question of published_skyol5 is " in done.output
    assert "of the time of parallel: " in done.output
    assert not [line for line in done.output.splitlines() if line.startswith("parallel  ")]


def test_a_component_without_a_mechanism_is_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match="is no source of a mechanism; known are csdn/parallel"):
        checkpoint.pair("mcan/attflat", checkpoint.read(saved), {})
