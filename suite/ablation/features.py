"""Region features of images on disk, read batch by batch and never whole; pickles are refused."""

import json
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from suite.ablation.scenes import Floats, Ints
from suite.errors import UserError

Columns = np.ndarray[Any, np.dtype[Any]]


class Regions(ABC):
    """Where the regions of one part's images are."""

    width: int
    """V, numbers per region."""

    @abstractmethod
    def one(self, image_id: int) -> Floats:
        """Regions of one image, ``[n, V]``.

        Raises:
            UserError: naming file and image.
        """

    @abstractmethod
    def check(self, image_ids: Ints) -> None:
        """See that every image is there, without reading it.

        Raises:
            UserError: naming the first that is not.
        """

    def read(self, image_ids: Ints) -> tuple[Floats, Ints]:
        """Padded regions ``[B, N, V]`` of some images, and how many each of them has, ``[B]``."""
        images = [self.one(int(image_id)) for image_id in image_ids]
        counts = np.array([len(image) for image in images], dtype=np.int64)
        padded = np.zeros((len(images), max(int(counts.max()), 1), self.width), dtype=np.float32)
        for row, image in zip(padded, images, strict=True):
            row[: len(image)] = image
        return padded, counts


def find(root: Path, part: str) -> Regions:
    """The regions of ``train`` or ``val``, in whichever form the folder has.

    Raises:
        UserError: none of them is there, or the one that is cannot be read.
    """
    folder = root / f"{part}2014"
    if folder.is_dir():
        return NpzFolder(folder, part)
    for stem in (f"{part}36", part):
        for suffix in (".hdf5", ".h5"):
            path = root / f"{stem}{suffix}"
            if path.exists():
                return Hdf5File(path)
    raise UserError(
        f"{root} holds no regions of {part}: expected a folder {part}2014/ of COCO_{part}2014_<12 digits>.jpg.npz, "
        f"or {part}36.hdf5 (36 regions an image), or {part}.hdf5 (a varying number)"
    )


class NpzFolder(Regions):
    """One ``.npz`` per image, its key ``x`` shaped (V, n): mapped where it is stored plainly, inflated otherwise."""

    def __init__(self, folder: Path, part: str) -> None:
        self._folder = folder
        self._part = part
        first = next(iter(sorted(folder.glob("*.npz"))), None)
        if first is None:
            raise UserError(f"{folder} holds no .npz file")
        self.width = self.columns(first).shape[0]

    def one(self, image_id: int) -> Floats:
        path = self._path(image_id)
        columns = self.columns(path)
        if columns.shape[0] != self.width:
            raise UserError(f"{path}: x has shape {list(columns.shape)}; expected ({self.width}, n) as its neighbours")
        return np.ascontiguousarray(columns.T, dtype=np.float32)

    def check(self, image_ids: Ints) -> None:
        there = {path.name for path in self._folder.iterdir()}
        for image_id in image_ids:
            path = self._path(int(image_id))
            if path.name not in there:
                raise UserError(f"{path} is not there, but the questions ask about image {image_id}")

    def _path(self, image_id: int) -> Path:
        return self._folder / f"COCO_{self._part}2014_{image_id:012d}.jpg.npz"

    def columns(self, path: Path) -> Columns:
        """What a file holds under ``x``.

        Raises:
            UserError: naming the file.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                columns = _array(archive, "x.npy", path)
        except KeyError as error:
            raise UserError(f"{path}: no key 'x'; expected x shaped (2048, n)") from error
        except FileNotFoundError as error:
            raise UserError(f"{path} is not there") from error
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
            raise UserError(f"{path}: cannot be read, torn or pickled: {error}") from error
        if columns.ndim != 2 or columns.dtype.kind != "f":
            raise UserError(
                f"{path}: x has shape {list(columns.shape)} of {columns.dtype}; expected (2048, n) of floats"
            )
        return columns


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> Columns:
    """An array of an ``.npz``: where it stands in the file if it is not compressed, otherwise read.

    Raises:
        KeyError: there is none of that name.
        UserError: it is torn, or holds Python objects.
    """
    entry = archive.getinfo(name)
    with archive.open(entry) as member:
        if entry.compress_type != zipfile.ZIP_STORED:
            read: Columns = np.lib.format.read_array(member, allow_pickle=False)
            return read
        version = np.lib.format.read_magic(member)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if header is None:
            raise UserError(f"{name} has version {version}; expected (1, 0) or (2, 0)")
        shape, fortran, dtype = header(member)
        header_B = member.tell()
    if dtype.hasobject:
        raise UserError(f"{name} holds Python objects")
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # where a zip entry keeps the lengths of its name and of its extra field
        name_B, extra_B = struct.unpack("<HH", file.read(4))
    start = entry.header_offset + 30 + name_B + extra_B + header_B
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order="F" if fortran else "C")


class Hdf5File(Regions):
    """``image_features`` shaped (images, 36, V); or (regions, V) with the start and end of each image in ``pos_boxes``.

    Which image is which row stands in a dataset ``image_ids``, or in a JSON object from image to row beside the file,
    ``<name>_imgid2idx.json``.
    """

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError as error:
            raise UserError(f"{path} needs the package h5py: pip install h5py") from error
        self._path = path
        try:
            self._file: h5py.File = h5py.File(path, "r")
        except OSError as error:
            raise UserError(f"{path}: not whole HDF5: {error}") from error
        features = self._file.get("image_features")
        if features is None:
            raise UserError(f"{path}: no dataset 'image_features'; it has {', '.join(self._file) or 'none'}")
        boxes = self._file.get("pos_boxes")
        if features.ndim != (3 if boxes is None else 2):
            wanted = "(images, 36, 2048)" if boxes is None else "(regions, 2048), as there are pos_boxes"
            raise UserError(f"{path}: image_features has shape {list(features.shape)}; expected {wanted}")
        self._features = features
        self.width = int(features.shape[-1])
        self._bounds: Ints | None = None if boxes is None else np.asarray(boxes, dtype=np.int64)
        self._row_of = self._rows()

    def one(self, image_id: int) -> Floats:
        row = self._row_of[image_id]
        wanted = row if self._bounds is None else slice(*self._bounds[row])
        try:
            return np.asarray(self._features[wanted], dtype=np.float32)
        except OSError as error:
            raise UserError(f"{self._path}: image {image_id} cannot be read: {error}") from error

    def check(self, image_ids: Ints) -> None:
        for image_id in image_ids:
            if int(image_id) not in self._row_of:
                raise UserError(f"{self._path}: no row for image {image_id}, which the questions ask about")

    def _rows(self) -> Mapping[int, int]:
        count = len(self._features) if self._bounds is None else len(self._bounds)
        if self._bounds is not None:
            if self._bounds.ndim != 2 or self._bounds.shape[1] != 2:
                raise UserError(f"{self._path}: pos_boxes has shape {list(self._bounds.shape)}; expected (images, 2)")
            start, end = self._bounds.T
            wrong = np.flatnonzero((start < 0) | (end < start) | (end > len(self._features)))
            if wrong.size:
                raise UserError(
                    f"{self._path}: pos_boxes[{wrong[0]}] is {self._bounds[wrong[0]].tolist()}, but image_features has "
                    f"{len(self._features)} rows"
                )
        listed = self._path.with_name(f"{self._path.stem}_imgid2idx.json")
        if "image_ids" in self._file:
            listed_ids = np.asarray(self._file["image_ids"])
            if listed_ids.ndim != 1 or listed_ids.dtype.kind not in "iu":
                raise UserError(
                    f"{self._path}: image_ids has shape {list(listed_ids.shape)} of {listed_ids.dtype}; expected "
                    "(images,) of whole numbers"
                )
            rows = {int(image): row for row, image in enumerate(listed_ids)}
        elif listed.exists():
            rows = self._listed(listed)
        else:
            pickled = listed.with_suffix(".pkl")
            hint = (
                f"; {pickled.name} is a pickle, which runs code when read: write it as JSON" if pickled.exists() else ""
            )
            raise UserError(f"{self._path}: neither a dataset 'image_ids' nor {listed.name} says who is who{hint}")
        outside = next((image for image, row in rows.items() if not 0 <= row < count), None)
        if outside is not None:
            raise UserError(f"{self._path}: image {outside} is row {rows[outside]} of {count}")
        return rows

    def _listed(self, path: Path) -> dict[int, int]:
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))
            return {int(image): int(row) for image, row in listed.items()}
        except (json.JSONDecodeError, AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{path}: expected a JSON object from image number to row: {error}") from error
