"""Region features of images on disk, read batch by batch and never whole.

Refused are pickles, parts that stand in other files, arrays larger than any image's, and arrays that may lie the other
way round: 36 regions of 2048 numbers and 2048 regions of 36 numbers look alike, and both would train.
"""

import itertools
import math
import os
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from suite.ablation.scenes import Floats, Ints
from suite.core import folders
from suite.core.errors import UserError
from suite.core.records import visible

MOST_REGIONS_B = 2**28
"""Of one image: a thousand regions of 2048 numbers are 8 MiB."""
_LOOKED_AT = 8
"""Files whose shapes tell which axis is which, where none of them counts its boxes."""
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
        self._check_axes(first)
        _check_finite(self.columns(first), first)

    def _check_axes(self, first: Path) -> None:
        """See that the first axis is the width of the features and the second counts regions.

        A file that counts its boxes has been held against them. Otherwise what differs from image to image is the
        number of regions, and features are wider than an image has regions.
        """
        if _boxes(first) == self.columns(first).shape[1]:
            return
        shapes = []
        for path in itertools.islice(sorted(self._folder.glob("*.npz")), _LOOKED_AT):
            with suppress(UserError):  # it is named when its image is read
                shapes.append(self.columns(path).shape)
        widths, counts = ({shape[axis] for shape in shapes} for axis in (0, 1))
        if min(widths) > max(counts) or (len(widths) == 1 and len(counts) > 1):
            return
        shape = list(shapes[0])
        told = "lies the other way round" if len(counts) == 1 and len(widths) > 1 else "may lie the other way round"
        raise UserError(
            f"{first}: x has shape {shape} and {told}, boxes first, and there is no num_bbox or bbox to tell: expected "
            f"(features, boxes), such as (2048, 36); save x.T, or num_bbox beside it"
        )

    def one(self, image_id: int) -> Floats:
        path = self._path(image_id)
        columns = self.columns(path)
        if columns.shape[0] != self.width:
            raise UserError(f"{path}: x has shape {list(columns.shape)}; expected ({self.width}, n) as its neighbours")
        _check_finite(columns, path)
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
        _refuse_what_is_no_file(path)
        try:
            with zipfile.ZipFile(path) as archive:
                columns = _array(archive, "x.npy", path)
        except KeyError as error:
            raise UserError(f"{path}: no key 'x'; expected x shaped (2048, n)") from error
        except FileNotFoundError as error:
            raise UserError(f"{path} is not there") from error
        except _TORN as error:
            raise UserError(f"{path}: cannot be read, torn or pickled: {visible(str(error))}") from error
        if columns.ndim != 2 or columns.dtype.kind != "f":
            raise UserError(
                f"{path}: x has shape {list(columns.shape)} of {columns.dtype}; expected (2048, n) of floats"
            )
        boxes = _boxes(path)
        if columns.shape[0] == boxes != columns.shape[1]:
            raise UserError(
                f"{path}: x has shape {list(columns.shape)}, and there are {boxes} boxes, so that they come first: "
                f"expected (features, {boxes}), as x.T has"
            )
        return columns


def _refuse_what_is_no_file(path: Path) -> None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path} is no ordinary file")
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error


def _boxes(path: Path) -> int | None:
    """How many boxes a file says that it has, by ``num_bbox`` or the rows of ``bbox``; None where it says nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "num_bbox.npy" in names:
                counted = _array(archive, "num_bbox.npy", path)
                if counted.dtype.kind not in "iuf":
                    raise ValueError(f"num_bbox is of {counted.dtype}")
                return int(counted.reshape(-1)[0])
            if "bbox.npy" in names:
                bbox = _array(archive, "bbox.npy", path)
                return len(bbox) if bbox.ndim == 2 and bbox.shape[1] == 4 else None
    except (*_TORN, KeyError, IndexError, OverflowError) as error:
        raise UserError(f"{path}: num_bbox or bbox cannot be read: {visible(str(error))}") from error
    return None


def _check_finite(numbers: Columns, where: object) -> None:
    if not np.isfinite(numbers).all():
        raise UserError(f"{where}: features that are NaN or infinite; expected finite numbers")


_TORN = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    struct.error,
    SyntaxError,
    MemoryError,
)
"""What reading such a file may end in; an encrypted one and a header nested too deeply are a ``RuntimeError``."""


def _array(archive: zipfile.ZipFile, name: str, path: Path) -> Columns:
    """An array of an ``.npz``: where it stands in the file if it is not compressed, otherwise read.

    Raises:
        KeyError: there is none of that name.
        ValueError: it is torn, too large, or holds Python objects.
    """
    entry = archive.getinfo(name)
    if entry.file_size > MOST_REGIONS_B:
        raise ValueError(f"{name} has {entry.file_size / 2**20:.0f} MiB; expected {MOST_REGIONS_B // 2**20} at most")
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if header is None:
            raise ValueError(f"{name} has version {version}; expected (1, 0) or (2, 0)")
        shape, fortran, dtype = header(member)
        header_B = member.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    if entry.file_size != header_B + dtype.itemsize * math.prod(shape):
        raise ValueError(f"{name} has {entry.file_size} bytes, but says that its shape is {list(shape)}")
    if entry.compress_type != zipfile.ZIP_STORED:
        with archive.open(entry) as member:
            read: Columns = np.lib.format.read_array(member, allow_pickle=False)
            return read
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
        _refuse_what_is_no_file(path)
        try:
            self._file: h5py.File = h5py.File(path, "r")
        except OSError as error:
            raise UserError(f"{path}: not whole HDF5: {error}") from error
        features = self._dataset("image_features", kinds="f")
        if features is None:
            there = ", ".join(visible(name) for name in self._file if name != "image_features") or "nothing else"
            is_link = "image_features" in [*self._file]
            why = "image_features is a link that leads nowhere" if is_link else "no dataset 'image_features'"
            raise UserError(f"{path}: {why}; it has {there}")
        boxes = self._read("pos_boxes", kinds="iu")
        if features.ndim != (3 if boxes is None else 2):
            wanted = "(images, 36, 2048)" if boxes is None else "(regions, 2048), as there are pos_boxes"
            raise UserError(f"{path}: image_features has shape {list(features.shape)}; expected {wanted}")
        self._features = features
        self.width = int(features.shape[-1])
        if boxes is None:
            self._check_axes(features.shape[1])
        self._bounds: Ints | None = None if boxes is None else np.asarray(boxes, dtype=np.int64)
        self._row_of = self._rows()

    def _dataset(self, name: str, *, kinds: str) -> Any:
        """A dataset of this very file, or None where there is none of that name.

        Raises:
            UserError: it is no dataset of such numbers, or stands in another file.
        """
        import h5py

        try:
            if isinstance(self._file.get(name, getlink=True), h5py.ExternalLink):
                raise UserError(
                    f"{self._path}: {name} stands in another file, which is not opened: copy it into this one"
                )
            found = self._file.get(name)
            if found is None:
                return None
            if not isinstance(found, h5py.Dataset):
                raise UserError(f"{self._path}: {name} is a {type(found).__name__.lower()}; expected a dataset")
            # the file that it was reached in, since a link may lead through another
            if found.external or found.is_virtual or found.file.filename != self._file.filename:
                raise UserError(
                    f"{self._path}: {name} stands in another file, which is not opened: copy it into this one"
                )
            if found.shape is None:
                raise UserError(f"{self._path}: {name} is an empty dataset; expected numbers")
            if found.dtype.kind not in kinds:
                numbers = "numbers" if kinds == "f" else "whole numbers"
                raise UserError(f"{self._path}: {name} is of {found.dtype}; expected {numbers}")
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self._path}: {name} cannot be read: {visible(str(error))}") from error
        return found

    def _read(self, name: str, *, kinds: str) -> Columns | None:
        """A dataset as `_dataset` gives it, read whole.

        Raises:
            UserError: as there, or it is larger than such a dataset can be, or cannot be read.
        """
        found = self._dataset(name, kinds=kinds)
        if found is None:
            return None
        if found.nbytes > MOST_REGIONS_B:  # which a file of a few bytes can claim, where nothing of it was written
            raise UserError(
                f"{self._path}: {name} has {found.nbytes / 2**20:.0f} MiB; expected {MOST_REGIONS_B // 2**20} at most"
            )
        try:
            return np.asarray(found)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{self._path}: {name} cannot be read: {visible(str(error))}") from error

    def _check_axes(self, regions: int) -> None:
        """See that the second axis counts regions, by the boxes beside them where there are some."""
        boxes = self._dataset("image_bb", kinds="f")
        if boxes is not None and boxes.ndim == 3:
            if boxes.shape[1] == regions:
                return
        elif regions < self.width or self._path.stem.endswith(str(regions)):  # the name of train36.hdf5 tells it, too
            return
        raise UserError(
            f"{self._path}: image_features has shape {list(self._features.shape)} and may lie the other way round: "
            "expected (images, boxes, features), such as (images, 36, 2048)"
        )

    def one(self, image_id: int) -> Floats:
        row = self._row_of[image_id]
        wanted = row if self._bounds is None else slice(*self._bounds[row])
        try:
            read = np.asarray(self._features[wanted], dtype=np.float32)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"{self._path}: image {image_id} cannot be read: {error}") from error
        _check_finite(read, f"{self._path}: image {image_id}")
        return read

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
        listed_ids = self._read("image_ids", kinds="iufS")
        if listed_ids is not None:
            if listed_ids.ndim != 1 or listed_ids.dtype.kind not in "iu":
                raise UserError(
                    f"{self._path}: image_ids has shape {list(listed_ids.shape)} of {listed_ids.dtype}; expected "
                    "(images,) of whole numbers"
                )
            rows = {int(image): row for row, image in enumerate(listed_ids)}
            if len(rows) != len(listed_ids):
                images, counts = np.unique(listed_ids, return_counts=True)
                twice = images[counts > 1][0]
                raise UserError(f"{self._path}: image {twice} stands in image_ids twice")
        elif listed.exists():
            rows = self._listed(listed)
        else:
            pickled = listed.with_suffix(".pkl")
            hint = (
                f"; {pickled.name} is a pickle, which runs code when read: write it as JSON" if pickled.exists() else ""
            )
            raise UserError(f"{self._path}: neither a dataset 'image_ids' nor {listed.name} says who is who{hint}")
        longest = self._features.shape[1] if self._bounds is None else int(np.diff(self._bounds).max(initial=0))
        if longest * self.width * 4 > MOST_REGIONS_B:
            raise UserError(f"{self._path}: {longest} regions of {self.width} numbers in one image; expected far fewer")
        outside = next((image for image, row in rows.items() if not 0 <= row < count), None)
        if outside is not None:
            raise UserError(f"{self._path}: image {outside} is row {rows[outside]} of {count}")
        return rows

    def _listed(self, path: Path) -> dict[int, int]:
        try:
            listed = folders.json_of(path)
            return {int(image): int(row) for image, row in listed.items()}
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: expected a JSON object from image number to row: {visible(str(error))}"
            ) from error
