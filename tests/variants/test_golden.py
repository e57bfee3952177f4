"""The published modules give the published numbers, and the replay that says so can tell when they do not."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests import warm

TESTS = Path(__file__).parents[1]
FILES = sorted((TESTS / "golden").glob("*.npz"))
SMALL = TESTS / "golden" / "dcn__layer__b2_d16_d16_n6_l5_none1.npz"


def load_replay() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden_replay", TESTS / "golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


golden = load_replay()
check = golden.check


def changed(folder: Path, **changes: Any) -> Path:
    """A copy of the small file with some arrays replaced, or left out where the change is None."""
    with np.load(SMALL) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name, value in changes.items():
        if value is None:
            del arrays[name]
        else:
            arrays[name] = value
    path = folder / "changed.npz"
    np.savez(path, **arrays)
    return path


def array(name: str) -> Any:
    with np.load(SMALL) as archive:
        return archive[name]


def meta(**changes: Any) -> Any:
    return np.array(json.dumps(json.loads(str(array("meta"))) | changes))


@pytest.mark.slow
def test_every_golden_file_is_matched() -> None:
    done = warm.run(TESTS / "golden.py", *FILES)
    lines = done.stdout.splitlines()
    assert len(lines) == len(FILES) == 114
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert done.returncode == 0, done.stderr


def test_a_line_tells_every_tensor_in_both_precisions_and_names_no_file_by_what_it_is_called(tmp_path: Path) -> None:
    holds, line = check(changed(tmp_path))
    assert holds
    with np.load(SMALL) as archive:
        tensors = [name for name in archive.files if name.startswith(("out.", "gin.", "gparam."))]
    for name in tensors:
        assert f"{name}[float32]" in line
        assert f"{name}[float64]" in line


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("out.data1", 1e-7),  # within float32's tolerance, far outside float64's
        ("out.attn2_0", 1e-7),
        ("gin.data2", 1e-7),
        ("gparam.dense_coattn.dcn_layers.0.dense_coattn.nones.0", 1e-7),
        ("param.dense_coattn.dcn_layers.0.linears.0.0.weight", 1e-4),
        ("in.data2", 1e-4),
        ("cot.data1", 1e-4),
    ],
)
def test_a_wrong_number_is_a_miss(tmp_path: Path, key: str, step: float) -> None:
    value = array(key).copy()
    value.flat[0] += step
    holds, line = check(changed(tmp_path, **{key: value}))
    assert not holds
    assert line.startswith("MISS ")


def test_not_a_number_is_a_miss(tmp_path: Path) -> None:
    value = array("out.data1").copy()
    value.flat[0] = np.nan
    assert not check(changed(tmp_path, **{"out.data1": value}))[0]


@pytest.mark.parametrize(
    "key",
    [
        "param.dense_coattn.dcn_layers.0.dense_coattn.nones.0",
        "out.attn1_0",
        "cot.attn1_0",
        "gin.data1",
        "gparam.dense_coattn.dcn_layers.0.dense_coattn.nones.0",
        "in.data1",
        "meta",
    ],
)
def test_a_missing_tensor_is_a_miss(tmp_path: Path, key: str) -> None:
    holds, line = check(changed(tmp_path, **{key: None}))
    assert not holds
    assert key.partition(".")[2] in line


def test_a_tensor_of_another_shape_is_a_miss(tmp_path: Path) -> None:
    holds, line = check(changed(tmp_path, **{"out.data1": array("out.data1")[:1]}))
    assert not holds
    assert "out.data1 is [1, 6, 16]" in line


@pytest.mark.parametrize("changes", [{"component": "tower"}, {"peer": "nobody"}])
def test_an_unknown_component_is_a_miss(tmp_path: Path, changes: dict[str, str]) -> None:
    holds, line = check(changed(tmp_path, meta=meta(**changes)))
    assert not holds
    assert "is no published component" in line


def test_options_come_from_the_metadata(tmp_path: Path) -> None:
    config = json.loads(str(array("meta")))["config"]
    assert not check(changed(tmp_path, meta=meta(config=config | {"num_attn": 4})))[0]
    assert "says num_none=2" in check(changed(tmp_path, meta=meta(config=config | {"num_none": 2})))[1]


def test_one_miss_among_files_that_hold_is_exit_1_and_the_others_are_still_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["golden.py", str(SMALL), str(tmp_path / "nowhere.npz"), str(SMALL)])
    assert golden.main() == 1
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["ok", "MISS", "ok"]
