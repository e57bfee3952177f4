"""A published checkpoint in one command: audited, corrected, timed."""

import argparse
import gzip
import importlib.util
import json
import os
import pickle
import random
import re
import struct
import zipfile
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from run_all import app
from suite.audit import checkpoint, weights
from suite.core.errors import UserError
from variants.published.mcat import MCAT

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    with np.load(GOLDEN / "skyol5__parallel__b3_d16_k8_n9_l7.npz") as archive:
        named = {
            f"module.{name.removeprefix('param.')}": torch.from_numpy(archive[name])
            for name in archive.files
            if name.startswith("param.")
        }
    path = tmp_path / "model.pt"
    torch.save({"state_dict": named | {"encoder.weight": torch.zeros(2)}, "epoch": 3}, path)
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
    "flat, under a name": (lambda w: {"net": w | {"epoch": 7}, "best": {"loss": torch.tensor(0.3)}}, ""),
    "in a tuple": (lambda w: (w, {"epoch": 3}), ""),
    "in a list": (lambda w: {"models": [w]}, ""),
    "beside numbers for names": (lambda w: {0: None, "model": w}, ""),
    "with a date and a path": (lambda w: {"w": w, "when": datetime.now(UTC), "where": Path("x")}, ""),
    "with what counts batches": (lambda w: {"model": w, "n": torch.tensor(7)}, ""),
    "deep in a network": (
        lambda w: {f"module.net.encoder.layers.1.b.c.{k}": v for k, v in w.items()},
        "module.net.encoder.layers.1.b.c.",
    ),
    "among other modules": (lambda w: {f"net.{k}": v for k, v in w.items()} | {"net.a.w": torch.zeros(2)}, "net."),
}


def weights_of(saved: Path) -> Named:
    return checkpoint.read(saved, prefix="module.")


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_found_as_people_save_them(saved: Path, tmp_path: Path, form: str) -> None:
    made, prefix = FORMS[form]
    torch.save(made(weights_of(saved)), tmp_path / "w.pt")
    found = checkpoint.fitted("skyol5/parallel", checkpoint.read(tmp_path / "w.pt"), {})
    assert (found.named.keys(), found.prefix) == (weights_of(saved).keys(), prefix)
    assert found.left_out == (("a.",) if form == "among other modules" else ())


def test_of_layers_in_a_list_the_first_is_taken_and_the_others_are_told(saved: Path, tmp_path: Path) -> None:
    weights = weights_of(saved)
    layers = {f"net.layers.{n}.att.{k}": v + n for n in (10, 2, 3) for k, v in weights.items()}
    found = checkpoint.fitted("skyol5/parallel", layers | {"net.embed.weight": torch.zeros(2)}, {})
    assert (found.prefix, found.left_out) == ("net.layers.2.att.", ())
    assert found.alike == ("net.layers.3.att.", "net.layers.10.att.")
    assert torch.equal(found.named["W_b"], weights["W_b"] + 2)


@pytest.mark.parametrize("wrapper", ["module", "_orig_mod", "module._orig_mod", "_fsdp_wrapped_module"])
def test_wrappers_of_parts_of_a_network_are_seen_through(wrapper: str) -> None:
    net = MCAT(patch_width=3, gene_sizes=[2, 1], width=4, gene_hidden=2, ff=3, heads=2, layers=1, classes=2)
    parts = {
        ".".join((first, *((wrapper,) if first != "coattn" else ()), *rest)): weight
        for name, weight in net.state_dict().items()
        for first, *rest in [name.split(".")]
    }
    found = checkpoint.fitted("mcat/net", {f"model.{name}": weight for name, weight in parts.items()}, {"nhead": 2})
    assert found.named.keys() == net.state_dict().keys()
    assert (found.prefix, found.unwrapped) == ("model.", True)


WHOLE = {
    # parts of networks under the names that their authors' code gives them, beside the rest of each network
    "ban/residual": ("ban__residual__b2_d9_h6_g2_n8_l6", "module.", ("w_emb.", "c_prj.", "classifier.")),
    "lxmert/xlayer": ("lxmert__xlayer__b3_d16_h4_n9_l7", "module.bert.encoder.x_layers.3.", ()),
    "vilbert/connection": ("vilbert__connection__b3_d14_d10_bi12_h4_n9_l7", "bert.encoder.c_layer.0.", ()),
    "lightglue/crossblock": ("lightglue__crossblock__b3_d16_h4_n9_t7", "cross_attn.0.", ()),
    "drugban/banlayer": ("drugban__banlayer__b3_d14_d10_h6_o2_k3_n9_l7_raw", "bcn.", ()),
}


@pytest.mark.parametrize("source", WHOLE)
def test_a_part_is_found_in_its_authors_network(source: str) -> None:
    name, prefix, beside = WHOLE[source]
    with np.load(GOLDEN / f"{name}.npz") as archive:
        weights = {n[6:]: torch.from_numpy(archive[n]) for n in archive.files if n.startswith("param.")}
        config = json.loads(str(archive["meta"]))["config"]
    network = {f"{prefix}{name}": weight for name, weight in weights.items()}
    others = beside or ("encoder.layer.0.attention.", "head.")
    shared = prefix if beside else "module." if prefix.startswith("module.") else ""
    network |= {f"{shared}{other}dense.weight": torch.zeros(2, 3) for other in others}
    found = checkpoint.fitted(source, network, config)
    assert (found.prefix, found.left_out) == (prefix, beside)
    assert {n for n in found.named if not n.endswith("num_batches_tracked")} == weights.keys()


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch executed",)


class Mine:
    """Of a training script's own."""


REFUSED: dict[str, tuple[Callable[[Named], object], str]] = {
    "evil": (lambda w: {"state_dict": w, "x": Evil()}, r"loading it would run (posix|nt)\.system, which is refused"),
    "whole model": (lambda w: torch.nn.Linear(2, 2), r"a whole pickled model \(torch\.nn\.modules\.linear\.Linear\)"),
    "a list": (lambda w: list(w.values()), "a list; expected weights by name"),
    "numbers for names": (lambda w: dict(enumerate(w.values())), "a mapping of 0: Tensor"),
    "nothing": (lambda w: {}, "an empty mapping"),
    "no tensors": (lambda w: {"model": {"a": 3}}, "a mapping of 'model': dict"),
    "two": (lambda w: {"a": w, "b": w}, "weights under 'a', 'b': choose with --key a"),
    "whole numbers": (lambda w: {k: v.int() for k, v in w.items()}, "every tensor in it is of int32"),
    "complex": (lambda w: {k: v.to(torch.complex64) for k, v in w.items()}, "'W_b' is of complex64"),
    "quarter": (
        lambda w: {k: v.to(torch.float8_e4m3fn) for k, v in w.items()},
        "'W_b' is of float8_e4m3fn|no file of weights",
    ),
    "a defaultdict": (lambda w: {"w": w, "x": defaultdict(list, a=[1])}, "would run .*collections.defaultdict"),
    "sparse": (lambda w: {"w": torch.eye(3).to_sparse()}, r"w\.pt: 'w' is not a dense tensor: .* as \.to_dense\(\)"),
    "without numbers": (lambda w: {"w": torch.zeros(3, device="meta")}, "'w' is of the meta device"),
    "arrays": (lambda w: {k: v.numpy() for k, v in w.items()}, r"it holds arrays of numpy \(.*: save tensors"),
    "beside an object": (
        lambda w: {"w": w, "x": Mine()},
        r"would run [\w.]*\.Mine, which is refused: save weights alone",
    ),
    "of another shape": (
        lambda w: w | {"W_v": w["W_v"][:2]},
        r"w\.pt: .*has shape .*; of skyol5/parallel they are not",
    ),
    "not a number": (lambda w: w | {"W_b": w["W_b"] * NAN}, r"NaN or infinite: W_b \(256 of 256\)"),
    "infinite": (lambda w: w | {"W_b": w["W_b"] / 0}, r"NaN or infinite: W_b \(256 of 256\)"),
    "one of whole numbers": (
        lambda w: w | {"W_b": w["W_b"].char()},
        r"weights of whole numbers: W_b \(int8\); expected",
    ),
    "one of flags": (lambda w: {"net": w | {"W_v": w["W_v"] > 0}}, r"weights of whole numbers: W_v \(bool\); expected"),
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
            checkpoint.fitted("skyol5/parallel", checkpoint.read(tmp_path / "w.pt"), {}, file=tmp_path / "w.pt")
        assert str(error.value).startswith(str(tmp_path / "w.pt"))
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


def test_what_another_file_is_is_told_from_how_it_begins(saved: Path, tmp_path: Path) -> None:
    found = {
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "a pointer of Git LFS",
        b"\n<!DOCTYPE html><html>Sign in": "a page of the web",
        gzip.compress(saved.read_bytes()): "compressed with gzip",
        b'{"weights": [1, 2]}': "JSON, which holds no weights",
        b"\x89HDF\r\n\x1a\n": "a file of HDF5",
        pickle.dumps({"a": [0.5]}): r"a pickle that torch\.save did not write",
        b"hello": r"no file of weights: expected a file that torch\.save wrote, of weights alone$",
    }
    for content, said in found.items():
        (tmp_path / "w.bin").write_bytes(content)
        with pytest.raises(UserError, match=said):
            checkpoint.read(tmp_path / "w.bin")
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    with pytest.raises(UserError, match=r"a zip archive that torch\.save did not write; it holds a\.npy"):
        checkpoint.read(tmp_path / "w.npz")


def test_a_damaged_file_is_not_taken_for_other_weights(saved: Path, tmp_path: Path) -> None:
    torch.save(weights_of(saved), tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as archive:
        entry = max(archive.infolist(), key=lambda item: item.file_size)
        inside = archive.read(entry)
    whole = (tmp_path / "w.pt").read_bytes()
    at = whole.index(inside)
    (tmp_path / "w.pt").write_bytes(whole[: at + 9] + bytes([whole[at + 9] ^ 1]) + whole[at + 10 :])
    with pytest.raises(UserError, match="is damaged: w/data/"):
        checkpoint.read(tmp_path / "w.pt")
    torch.serialization.set_crc32_options(False)
    try:  # whoever saves without checksums has none to be held against
        torch.save(weights_of(saved), tmp_path / "w.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert checkpoint.read(tmp_path / "w.pt").keys() == weights_of(saved).keys()


def test_weights_in_several_files_are_read_by_their_index(saved: Path, tmp_path: Path) -> None:
    named = list(weights_of(saved).items())
    homes = {}
    for number in (1, 2):
        part = dict(named[number - 1 :: 2])
        torch.save(part, tmp_path / f"model-0000{number}-of-00002.bin")
        homes |= dict.fromkeys(part, f"model-0000{number}-of-00002.bin")
    index = tmp_path / "model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    for path in (index, tmp_path / "model-00002-of-00002.bin"):
        assert checkpoint.read(path).keys() == dict(named).keys()
    for wrong, said in (
        ({"a": "../out.bin"}, "leads out of the folder"),
        ({"a": index.name}, "is none"),
        ({"a": "model-00001-of-00002.bin"}, "'a' stands in no file"),
        ({"a": 3}, "JSON, which holds no weights"),
    ):
        index.write_text(json.dumps({"weight_map": wrong}))
        with pytest.raises(UserError, match=said):
            checkpoint.read(index)


def test_an_index_that_leads_to_an_index_or_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_text(json.dumps({"weight_map": {"w": "a.bin"}}))
    (tmp_path / "b.index.json").write_text(json.dumps({"weight_map": {"w": "a.bin"}}))
    for name in ("a.bin", "b.index.json"):
        with pytest.raises(UserError, match=r"a\.bin: an index among the files that an index names"):
            checkpoint.read(tmp_path / name)


@pytest.mark.slow
def test_a_small_file_cannot_fill_the_memory_or_take_for_ever(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_LARGEST_UNPACKED_B", 2**20)
    torch.save(weights_of(saved), tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    for name, zeros in {"packed.pt": 0, "bomb.pt": 2**22}.items():
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for part, content in parts.items():
                archive.writestr(part, content + bytes(zeros if part.endswith("data/0") else 0))
    assert checkpoint.read(tmp_path / "packed.pt").keys() == weights_of(saved).keys()
    with pytest.raises(UserError, match=r"bomb\.pt: a zip archive of .* MiB that claims to hold 4 MiB"):
        checkpoint.read(tmp_path / "bomb.pt")
    lists: list[object] = [torch.zeros(3)]
    for _ in range(14):
        lists = [lists] * 60
    torch.save({"lists": lists, "model": weights_of(saved)}, tmp_path / "lists.pt")
    assert checkpoint.read(tmp_path / "lists.pt").keys() == weights_of(saved).keys()


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
    torch.save(weights_of(saved), tmp_path / "of_torch.safetensors")
    assert checkpoint.read(tmp_path / "of_torch.safetensors").keys() == weights_of(saved).keys()
    (tmp_path / "long.safetensors").write_bytes(struct.pack("<Q", 2**60) + head + data)
    with pytest.raises(UserError, match="not whole safetensors"):
        checkpoint.read(tmp_path / "long.safetensors")
    (tmp_path / "none.safetensors").write_bytes(struct.pack("<Q", 8) + b"{}      ")
    with pytest.raises(UserError, match=r"none\.safetensors holds no weights"):
        checkpoint.read(tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="not whole safetensors"):
        checkpoint.read(tmp_path / "torn.safetensors")


def test_a_folder_and_a_key_that_leads_nowhere_are_told_what_there_is(saved: Path, tmp_path: Path) -> None:
    torch.save({"net": weights_of(saved), "epoch": 3}, tmp_path / "w.pt")
    torch.save(weights_of(saved), tmp_path / "alone.pt")
    for name, said in {
        "w.pt": "there are some under 'net'",
        "alone.pt": "they stand by themselves, without a --key",
    }.items():
        with pytest.raises(UserError, match=f"{re.escape(name)}: no weights under 'epoch'; {said}"):
            checkpoint.read(tmp_path / name, key="epoch")
    with pytest.raises(UserError, match="is a folder: expected a file of weights in it"):
        checkpoint.read(tmp_path)


def test_an_unknown_source_is_refused_before_its_file_is_opened() -> None:
    done = CliRunner().invoke(app, ["checkpoint", "no/such", "nowhere.pt"])
    assert isinstance(done.exception, ValueError)
    assert "'no/such' is no source of a mechanism; known are csdn/parallel" in str(done.exception)


@pytest.mark.slow
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
