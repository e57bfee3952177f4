"""Region features are read along the axis that they lie on, from their own file, or not at all."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from suite.ablation import features
from suite.core.errors import UserError

Arrays = dict[str, object]


def folder(root: Path, images: list[Arrays]) -> Path:
    (root / "train2014").mkdir(parents=True)
    for number, arrays in enumerate(images):
        np.savez(root / "train2014" / f"COCO_train2014_{number:012d}.jpg.npz", **arrays)  # type: ignore[arg-type]
    return root


def x(features_: int, boxes: int) -> np.ndarray:
    return np.ones((features_, boxes), dtype=np.float32)


RIGHT: dict[str, tuple[list[Arrays], int]] = {
    "wider than many": ([{"x": x(64, 36)}] * 3, 64),
    "of varying number": ([{"x": x(8, 10 + number)} for number in range(3)], 8),
    "counted": ([{"x": x(36, 64), "num_bbox": 64}] * 2, 36),
    "with boxes": ([{"x": x(10, 50), "bbox": np.zeros((50, 4))}] * 2, 10),
    "square, counted": ([{"x": x(36, 36), "num_bbox": np.array([36])}] * 2, 36),
}
TURNED: dict[str, tuple[list[Arrays], str]] = {
    "alone": ([{"x": x(36, 64)}] * 3, "may lie the other way round, boxes first, and there is no num_bbox"),
    "of varying number": ([{"x": x(10 + number, 64)} for number in range(3)], "lies the other way round"),
    "counted": ([{"x": x(36, 2048), "num_bbox": 36}], "there are 36 boxes, so that they come first"),
    "with boxes": ([{"x": x(50, 10), "bbox": np.zeros((50, 4))}], "there are 50 boxes, so that they come first"),
    "square": ([{"x": x(36, 36)}], "may lie the other way round"),
}


@pytest.mark.parametrize("form", RIGHT)
def test_features_that_lie_right_are_read(tmp_path: Path, form: str) -> None:
    images, width = RIGHT[form]
    regions = features.find(folder(tmp_path, images), "train")
    assert regions.width == width
    assert regions.one(0).shape == x(*images[0]["x"].shape).T.shape  # type: ignore[attr-defined]  # an array


@pytest.mark.parametrize("form", TURNED)
def test_features_that_lie_the_other_way_round_are_refused(tmp_path: Path, form: str) -> None:
    images, message = TURNED[form]
    with pytest.raises(UserError, match=message):
        features.find(folder(tmp_path, images), "train")


def test_an_image_that_lies_the_other_way_round_among_others_is_refused(tmp_path: Path) -> None:
    right = [{"x": x(64, 36), "num_bbox": 36}]
    regions = features.find(folder(tmp_path, [*right, {"x": x(36, 64)}, *right]), "train")
    with pytest.raises(UserError, match=r"000000000001.*expected \(64, n\) as its neighbours"):
        regions.one(1)


def test_boxes_of_another_number_than_either_axis_say_nothing(tmp_path: Path) -> None:
    assert features.find(folder(tmp_path, [{"x": x(64, 36), "bbox": np.zeros((10, 4))}]), "train").width == 64


def hdf5(path: Path, fill: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as file:
        file["image_ids"] = np.arange(4)
        fill(file)
    return path.parent


def test_features_of_36_regions_are_read_or_refused_by_their_boxes(tmp_path: Path) -> None:
    def put(shape: tuple[int, ...], boxes: int | None) -> Callable[[h5py.File], None]:
        def fill(file: h5py.File) -> None:
            file["image_features"] = np.ones(shape, dtype=np.float32)
            if boxes:
                file["image_bb"] = np.ones((shape[0], boxes, 4), dtype=np.float32)

        return fill

    right = {"plain": ((4, 36, 64), None), "boxes": ((4, 36, 16), 36)}
    turned = {"turned": ((4, 64, 36), None), "turned-boxes": ((4, 64, 36), 36), "other-boxes": ((4, 20, 64), 64)}
    for name, (shape, boxes) in (right | turned).items():
        (tmp_path / name).mkdir()
        root = hdf5(tmp_path / name / "train36.hdf5", put(shape, boxes))
        if name in right:
            assert features.find(root, "train").width == shape[2]
        else:
            with pytest.raises(UserError, match="may lie the other way round: expected"):
                features.find(root, "train")


def test_no_other_file_is_opened_through_one(tmp_path: Path) -> None:
    other = tmp_path / "other.hdf5"
    with h5py.File(other, "w") as file:
        file["inner/x"] = np.ones((4, 3, 8), dtype=np.float32)
    layout = h5py.VirtualLayout(shape=(4, 3, 8), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "inner/x", shape=(4, 3, 8))

    def through_a_group(file: h5py.File) -> None:
        file["away"] = h5py.ExternalLink(str(other), "/inner")
        file["image_features"] = h5py.SoftLink("/away/x")

    ways: dict[str, Callable[[h5py.File], object]] = {
        "link": lambda file: file.__setitem__("image_features", h5py.ExternalLink(str(other), "/inner/x")),
        "group": through_a_group,
        "storage": lambda file: file.create_dataset(
            "image_features", (4, 3, 8), "f4", external=[(str(other), 0, 4 * 3 * 8 * 4)]
        ),
        "virtual": lambda file: file.create_virtual_dataset("image_features", layout),
    }
    for name, fill in ways.items():
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="image_features stands in another file, which is not opened"):
            features.find(hdf5(tmp_path / name / "train36.hdf5", fill), "train")


def test_a_dataset_that_cannot_be_what_it_says_is_refused(tmp_path: Path) -> None:
    plain = np.ones((4, 3, 8), dtype=np.float32)

    def corrupt(file: h5py.File) -> None:
        del file["image_ids"]
        ids = file.create_dataset("image_ids", data=np.arange(4), chunks=(4,), fletcher32=True)
        ids.id.write_direct_chunk((0,), b"\1" * 36)

    def replaced(**made: object) -> Callable[[h5py.File], None]:
        def fill(file: h5py.File) -> None:
            for name, value in {"image_features": plain, **made}.items():
                if name in file:
                    del file[name]
                if isinstance(value, tuple):
                    file.create_dataset(name, value, "i8", chunks=(1024, *value[1:]))
                else:
                    file[name] = value
            if not made:
                corrupt(file)

        return fill

    ways: dict[str, tuple[Callable[[h5py.File], object], str]] = {
        "a link": (
            lambda file: file.__setitem__("image_features", h5py.SoftLink("/nowhere")),
            "image_features is a link that leads nowhere; it has image_ids",
        ),
        "sparse": (replaced(image_ids=(10**12,)), r"image_ids has \d+ MiB; expected 256 at most"),
        "sparse bounds": (
            replaced(image_features=plain[0], pos_boxes=(10**12, 2)),
            r"pos_boxes has \d+ MiB; expected 256 at most",
        ),
        "nothing": (replaced(image_features=h5py.Empty("f4")), "image_features is an empty dataset; expected numbers"),
        "damaged": (replaced(), "image_ids cannot be read: "),
        "twice": (replaced(image_ids=np.array([7, 5, 9, 5])), "image 5 stands in image_ids twice"),
    }
    for name, (fill, said) in ways.items():
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match=said):
            features.find(hdf5(tmp_path / name / "train36.hdf5", fill), "train")


def test_an_archive_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    path = folder(tmp_path, [{"x": x(64, 36), "num_bbox": 36}]) / "train2014/COCO_train2014_000000000000.jpg.npz"
    encrypted = bytearray(path.read_bytes())
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first entry of the directory
    deep = b"-" * 9000 + b"1\n"
    with zipfile.ZipFile(tmp_path / "deep.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(deep).to_bytes(2, "little") + deep)
    np.savez(tmp_path / "complex.npz", x=x(64, 36), num_bbox=np.array([36j]))
    for content, said in (
        (bytes(encrypted), "cannot be read"),
        ((tmp_path / "deep.npz").read_bytes(), "cannot be read"),
        ((tmp_path / "complex.npz").read_bytes(), "num_bbox or bbox cannot be read"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=said) as error:
            features.find(tmp_path, "train")
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_what_is_no_array_of_an_image_is_refused_unread(tmp_path: Path) -> None:
    path = folder(tmp_path, [{"x": x(64, 36)}]) / "train2014/COCO_train2014_000000000000.jpg.npz"
    regions = features.find(tmp_path, "train")
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (64, %d), }"
    for columns, size in ((10**12, 100), (2**22, 2**30)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            head = (header % columns).ljust(127) + b"\n"
            with archive.open("x.npy", "w", force_zip64=True) as member:
                member.write(head)
                for _ in range(max(size >> 24, 1)):
                    member.write(b"\0" * min(size, 2**24))
        with pytest.raises(UserError, match="cannot be read"):
            regions.one(0)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="is no ordinary file"):
        regions.one(0)


def test_features_that_are_not_finite_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="features that are NaN or infinite"):
        features.find(folder(tmp_path, [{"x": x(64, 36) * np.nan}]), "train")


def test_an_image_among_others_whose_features_are_not_finite_is_named_when_it_is_read(tmp_path: Path) -> None:
    found = features.find(folder(tmp_path, [{"x": x(64, 36)}, {"x": x(64, 35)}, {"x": x(64, 34) * np.inf}]), "train")
    assert len(found.one(0)) == 36
    with pytest.raises(UserError, match=r"000000000002\.jpg\.npz: features that are NaN or infinite"):
        found.one(2)
