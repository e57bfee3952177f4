"""A published checkpoint in one command: audited, corrected, timed."""

import argparse
import importlib.util
import json
import os
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from run_all import app
from suite.audit import checkpoint
from suite.core.errors import UserError

GOLDEN = Path(__file__).parents[2] / "golden"


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
    assert sorted(checkpoint.read(saved, ignore=("module.",))) == ["encoder.weight"]
    for options, message in (
        ({"prefix": "net."}, r"no name starts with 'net\.'; there are module\."),
        (
            {"ignore": ("module.", "nothing")},
            "--ignore nothing leaves nothing out: no name starts so; there are module",
        ),
        ({"prefix": "module.", "ignore": ("module.",)}, r"no name, taken without 'module\.', starts so"),
        ({"ignore": ("module.", "encoder.")}, "--ignore leaves no name"),
    ):
        with pytest.raises(UserError, match=message):
            checkpoint.read(saved, **options)  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights\.pt: No such file or directory: expected a file that torch\.save"):
        checkpoint.read(tmp_path / "weights.pt")
    (tmp_path / "notes.md").write_text("# no weights")
    with pytest.raises(
        ValueError, match=r"notes\.md: no file of weights: expected a file that torch\.save wrote, of weights"
    ):
        checkpoint.read(tmp_path / "notes.md")


NAN = float("nan")
Named = dict[str, torch.Tensor]
FORMS: dict[str, tuple[Callable[[Named], object], str]] = {
    # how people save weights, and the prefix that is taken from their names
    "alone": (lambda w: w, ""),
    "tutorial": (lambda w: {"epoch": 3, "model_state_dict": w, "optimizer_state_dict": {"state": {}}, "loss": 0.3}, ""),
    "under a name of their own": (lambda w: {"my_net": w, "epoch": 3}, ""),
    "deep": (lambda w: {"ckpt": {"net": w}}, ""),
    "beside tensors of an optimiser": (lambda w: {"model": w, "optimizer": {"step": torch.zeros(1)}}, ""),
    "one of two": (lambda w: {"ema": w, "state_dict": w}, ""),
    "lightning": (lambda w: {"state_dict": {f"model.{k}": v for k, v in w.items()}, "epoch": 1}, "model."),
    "wrapped twice": (lambda w: {f"module._orig_mod.{k}": v for k, v in w.items()}, "module._orig_mod."),
    "beside an encoder": (lambda w: {f"att.{k}": v for k, v in w.items()} | {"lstm.w": torch.zeros(2)}, "att."),
    "with a score of numpy": (lambda w: {"state_dict": w, "best": np.float64(61.3)}, ""),
    "with arguments": (lambda w: {"state_dict": w, "args": argparse.Namespace(lr=1e-3)}, ""),
    "parameters": (lambda w: {k: torch.nn.Parameter(v) for k, v in w.items()}, ""),
    "half": (lambda w: {k: v.half() for k, v in w.items()}, ""),
    "flat": (lambda w: w | {"epoch": 7}, ""),
}


def weights_of(saved: Path) -> Named:
    return checkpoint.read(saved, prefix="module.")


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_found_as_people_save_them(saved: Path, tmp_path: Path, form: str) -> None:
    made, prefix = FORMS[form]
    torch.save(made(weights_of(saved)), tmp_path / "w.pt")
    named, found = checkpoint.fitted("skyol5/parallel", checkpoint.read(tmp_path / "w.pt"), {})
    assert (named.keys(), found) == (weights_of(saved).keys(), prefix)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch executed",)


REFUSED: dict[str, tuple[Callable[[Named], object], str]] = {
    "evil": (lambda w: {"state_dict": w, "x": Evil()}, r"loading it would run (posix|nt)\.system, which is refused"),
    "whole model": (lambda w: torch.nn.Linear(2, 2), r"a whole pickled model \(torch\.nn\.modules\.linear\.Linear\)"),
    "a list": (lambda w: list(w.values()), "a list; expected weights by name"),
    "numbers for names": (lambda w: dict(enumerate(w.values())), "a mapping of 0: Tensor"),
    "nothing": (lambda w: {}, "an empty mapping"),
    "no tensors": (lambda w: {"model": {"a": 3}}, "a mapping of 'model': dict"),
    "two": (lambda w: {"a": w, "b": w}, "weights under 'a', 'b': choose with --key a"),
    "sparse": (lambda w: {"w": torch.eye(3).to_sparse()}, "'w' is not a dense tensor"),
    "not a number": (lambda w: w | {"W_b": w["W_b"] * NAN}, r"NaN or infinite: W_b \(256 of 256\)"),
    "infinite": (lambda w: w | {"W_b": w["W_b"] / 0}, r"NaN or infinite: W_b \(256 of 256\)"),
    "too much": (lambda w: w | {"extra": w["W_b"]}, "has extra, which nothing there takes; --ignore NAME leaves out"),
    "twice": (
        lambda w: {f"{p}.{k}": v for k, v in w.items() for p in "ab"},
        "stand under a. and b.: choose with --pre",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_not_loaded_is_told_in_one_line_and_never_run(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    made, message = REFUSED[form]
    monkeypatch.chdir(tmp_path)
    for legacy in (False, True):
        torch.save(made(weights_of(saved)), tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match=message) as error:
            checkpoint.fitted("skyol5/parallel", checkpoint.read(tmp_path / "w.pt"), {})
        assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_what_is_no_file_of_weights_is_told(saved: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")
        archive.writestr("script/code/__torch__.py", b"")
    whole = saved.read_bytes()
    (tmp_path / "torn.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    os.mkfifo(tmp_path / "fifo.pt")
    draw = random.Random(0)
    for count in range(30):
        (tmp_path / f"random{count}.pt").write_bytes(draw.randbytes(draw.randrange(1, 500)))
    for path in tmp_path.glob("*.pt"):
        if path != saved:
            with pytest.raises(UserError, match=re.escape(str(path))) as error:
                checkpoint.read(path)
            assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="is a TorchScript archive, which is a program: save weights alone"):
        checkpoint.read(tmp_path / "script.pt")
    with pytest.raises(UserError, match="torn: expected a file"):
        checkpoint.read(tmp_path / "torn.pt")


def test_safetensors_are_read_or_ask_for_their_package(saved: Path, tmp_path: Path) -> None:
    header, data = {}, b""
    for name, weight in weights_of(saved).items():
        raw = weight.float().contiguous().numpy().tobytes()
        header[name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(header).encode()
    (tmp_path / "weights.bin").write_bytes(struct.pack("<Q", len(head)) + head + data)
    (tmp_path / "torn.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data[:10])
    if importlib.util.find_spec("safetensors") is None:
        with pytest.raises(UserError, match="in the format of safetensors: pip install safetensors"):
            checkpoint.read(tmp_path / "weights.bin")
        return
    assert checkpoint.read(tmp_path / "weights.bin").keys() == weights_of(saved).keys()
    with pytest.raises(UserError, match="not whole safetensors"):
        checkpoint.read(tmp_path / "torn.safetensors")


def test_an_unknown_source_is_refused_before_its_file_is_opened() -> None:
    done = CliRunner().invoke(app, ["checkpoint", "no/such", "nowhere.pt"])
    assert isinstance(done.exception, ValueError)
    assert "'no/such' is no source of a mechanism; known are csdn/parallel" in str(done.exception)


def test_one_command_audits_corrects_and_times(saved: Path) -> None:
    done = CliRunner().invoke(
        app,
        [
            "checkpoint",
            "skyol5/parallel",
            str(saved),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "published_skyol5  P1  known: " in done.output
    assert "question of published_skyol5 is " in done.output
    assert "of the time of parallel: " in done.output
    assert not [line for line in done.output.splitlines() if line.startswith("parallel  ")]


def test_a_component_without_a_mechanism_is_refused(saved: Path) -> None:
    with pytest.raises(ValueError, match="is no source of a mechanism; known are csdn/parallel"):
        checkpoint.pair("mcan/attflat", checkpoint.read(saved), {})
