"""Weights in a file as people save them: found wherever they stand in it, and nothing in it is ever run.

Read are what ``torch.save`` wrote, as far as torch's loader of weights alone goes, safetensors, and the index of either
where weights are spread over several files. What else a file may be, a whole pickled module or a TorchScript archive or
a page of the web, is told from its contents and named in the refusal.
"""

import argparse
import datetime
import os
import re
import stat
import warnings
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.core import folders
from suite.core.errors import UserError
from suite.core.records import shown, visible

_PREFERRED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
"""What people call the weights, the commonest first: it decides where a file holds several."""
_DEEPEST = 16
_LONGEST_LIST = 64
_MOST_VISITS = 10_000
"""A file of a few hundred bytes can hold a list of lists that takes years to walk through, each being there twice."""
_LARGEST_UNPACKED_B = 256 * 2**20
_MOST_UNPACKED = 20
"""Times the size of an archive: beyond both it holds no weights that somebody packed."""
_SCALARS = (int, float, str, bytes, type(None))
_OPTIMISERS = re.compile(r"optim|sched|scaler|amp|rng|callbacks|loops|hparams|hyper", re.IGNORECASE)
"""Names under which tensors stand that are no weights."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)|Unsupported (?:global|class)[: ]+(?:GLOBAL )?([\w.]+)")
_MODULES = ("torch.nn.", "models.", "model.")
_MOST_NAMED = 4
_OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS, and not what it points to: git lfs pull brings that",
    b"<": "a page of the web or XML, such as a download leaves that asks for a password",
    b"\x1f\x8b": "compressed with gzip: gunzip it first",
    b"BZh": "compressed with bzip2: bunzip2 it first",
    b"\xfd7zXZ": "compressed with xz: unxz it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unzstd it first",
    b"\x89HDF": "a file of HDF5, as Keras saves: convert it first",
    b"GGUF": "a file of GGUF: convert it first",
    b"\x93NUMPY": "an array of numpy without a name: expected weights by name",
}
"""How other files begin that lie where weights are expected, and what they are."""
_OF_TORCH = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little")
"""What stands at the beginning of a pickle that torch.save wrote."""
_SHARD = re.compile(r".*-\d+-of-\d+\.\w+")
_PLAIN = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COUNTS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""What may stand among weights and is none, such as how many batches were seen."""
_HARMLESS = [
    argparse.Namespace,
    *(datetime.datetime, datetime.date, datetime.timedelta, datetime.timezone),
    *(PurePosixPath, type(Path())),
    np.dtype,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]  # what a saved accuracy of numpy is made with
    *(type(np.dtype(kind)) for kind in ("bool", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")),
]
"""Plain data that stands beside weights in many files; making it runs no code of the file's."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Named tensors, and where in the file they were found."""

    named: Mapping[str, Tensor]
    where: str
    """Such as ``'model'``; empty where the file is nothing but weights."""


def read(path: Path, *, key: str = "") -> Weights:
    """The weights in a file; of one of several whose index lies beside them, the weights in all.

    Args:
        path: the file.
        key: under which name in it they stand, such as ``model`` or ``ema.model``; found where it is left out.

    Raises:
        UserError: it cannot be read, loading it would run code, or it holds no weights, or several; says why.
    """
    index = _index_of(path) if _SHARD.fullmatch(path.name) else None
    return Weights(named=_spread(index), where="") if index is not None else _read(path, key)


def _read(path: Path, key: str, *, is_shard: bool = False) -> Weights:
    """The weights in one file, or in those that it is the index of, where it is none of those itself."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{path} is a folder: expected a file of weights in it, or the index of several")
        if not stat.S_ISREG(mode):
            raise UserError(f"{path} is no ordinary file: expected weights")
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected a file that torch.save wrote, or safetensors") from error
    size_B = path.stat().st_size
    if not size_B:
        raise UserError(f"{path} is empty: expected a file that torch.save wrote, or safetensors")
    is_named_so = path.suffix == ".safetensors" and not start.startswith((b"PK", b"\x80"))
    if is_named_so or (start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size_B):
        weights = Weights(named=_safetensors(path), where="")
    elif start.lstrip().startswith(b"{"):
        if is_shard:
            raise UserError(f"{path}: an index among the files that an index names: expected weights")
        return Weights(named=_spread(path), where="")
    else:
        weights = _among(path, _loaded(path), key)
    if not weights.named:
        raise UserError(f"{path} holds no weights")
    for name, weight in weights.named.items():
        _check(path, name, weight)
    if not any(weight.dtype in _PLAIN for weight in weights.named.values()):
        kinds = ", ".join(sorted({str(weight.dtype).removeprefix("torch.") for weight in weights.named.values()}))
        raise UserError(f"{path}: every tensor in it is of {kinds}: expected weights in a floating-point dtype")
    return weights


def _index_of(path: Path) -> Path | None:
    """The index beside a file that says which weights lie in it and which in others."""
    for index in sorted(path.parent.glob("*.index.json")):
        with suppress(UserError):
            if path.name in _homes(index).values():
                return index
    return None


def _homes(path: Path) -> dict[str, str]:
    """Of an index: by weight, the file that it lies in."""
    index = folders.json_of(path)
    homes = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(homes, dict) or not homes or not all(isinstance(home, str) for home in homes.values()):
        raise UserError(f"{path}: JSON, which holds no weights: expected them, or the index of files that do")
    return homes


def _spread(path: Path) -> dict[str, Tensor]:
    """Weights that lie in several files, by the index that says which lies where."""
    homes = _homes(path)
    named: dict[str, Tensor] = {}
    for home in dict.fromkeys(homes.values()):
        shard = folders.inside(path.parent, home)
        if shard.suffix == ".json":
            raise UserError(f"{path}: expected files of weights, and {visible(home)} is none")
        named |= _read(shard, "", is_shard=True).named
    missing = [name for name in homes if name not in named]
    if missing:
        raise UserError(f"{path}: {_few([shown(name) for name in missing])} stands in no file that the index names")
    return {name: named[name] for name in homes}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(f"{path} is in the format of safetensors: pip install safetensors") from error
    try:
        named: dict[str, Tensor] = load_file(path)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not whole safetensors: {visible(str(error))}") from error
    return named


def _loaded(path: Path) -> Any:
    _refuse_archives(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
            warnings.simplefilter("ignore")  # of torch, about what it finds there: what is no weights is told below
            with path.open("rb") as file:  # by its name, torch would take some files for others than they are
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file may be anything: what torch makes of it has no end of classes
        raise UserError(f"{path}: {_reason(path, error)}") from error


def _refuse_archives(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            _refuse_bombs(path, archive)
            damaged = next((entry.filename for entry in archive.infolist() if not _whole(archive, entry)), None)
    except UserError:
        raise
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # torch says what is wrong with it
    if any(re.fullmatch(r"[^/]+/(constants\.pkl|code/.*)", name) for name in names):
        raise UserError(
            f"{path} is a TorchScript archive, which is a program: save weights alone, "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pt')"
        )
    if names and not any(name.endswith("data.pkl") for name in names):
        raise UserError(
            f"{path} is a zip archive that torch.save did not write; it holds {_few([visible(name) for name in names])}"
        )
    if damaged is not None:
        raise UserError(f"{path} is damaged: {visible(damaged)} in it is not what was written; copy or fetch it again")


def _refuse_bombs(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse a small file that would fill the memory: torch unpacks what is packed, of whatever size."""
    size_B, unpacked_B = path.stat().st_size, sum(entry.file_size for entry in archive.infolist())
    if unpacked_B > max(_LARGEST_UNPACKED_B, _MOST_UNPACKED * size_B):
        raise UserError(
            f"{path}: a zip archive of {size_B / 2**20:.3g} MiB that claims to hold {unpacked_B / 2**20:.0f} MiB, "
            "which torch.save does not write: it packs nothing"
        )


def _whole(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Whether a part of an archive is what its checksum says: torch does not look when it reads."""
    if not entry.CRC or entry.compress_type != zipfile.ZIP_STORED:  # it may store none, and it never packs
        return True
    try:
        with archive.open(entry) as part:
            while part.read(2**20):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False
    except RuntimeError:  # it is encrypted, which torch says
        return True
    return True


def _reason(path: Path, error: Exception) -> str:
    """Why torch would not load a file, in words."""
    wanted = _globals(path) or [match[1] or match[2] for match in _GLOBAL.finditer(str(error))]
    names = [visible(name) for name in dict.fromkeys(wanted)]
    if any(name.startswith(_MODULES) for name in names):
        return (
            f"a whole pickled model ({_few(names)}), which loading would have to run: where its code is, "
            "save weights alone, torch.save(model.state_dict(), 'weights.pt')"
        )
    if names and all(name.startswith("numpy.") for name in names):
        return f"it holds arrays of numpy ({_few(names)}): save tensors, as torch.from_numpy makes them"
    if names:
        return (
            f"loading it would run {_few(names)}, which is refused: save weights alone, without what stands beside "
            "them, torch.save(model.state_dict(), 'weights.pt')"
        )
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    told = re.search(r"WeightsUnpickler error: (.*)", str(error))
    said = visible(told[1] if told else str(error)).split(". ")[0][:120].strip()
    with path.open("rb") as file:
        start = file.read(64)
    for beginning, other in _OTHERS.items():
        if start.lstrip(b" \r\n\t\xef\xbb\xbf").startswith(beginning):
            return other
    kind = "torn" if start.startswith(b"PK") and not zipfile.is_zipfile(path) else "no file of weights"
    if start.startswith(b"\x80") and _OF_TORCH not in start:
        kind = "a pickle that torch.save did not write, or only the beginning of one"
    why = f" ({said})" if re.search(r"[a-z]{3}", said) else ""
    return f"{kind}: expected a file that torch.save wrote, of weights alone{why}"


def _globals(path: Path) -> list[str]:
    """What a file would have loaded besides weights, read from its pickle without running it."""
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return list(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # as above; the first error tells as much
        return []


def _few(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _among(path: Path, found: Any, key: str) -> Weights:
    """The one mapping of names to tensors in what was loaded."""
    places = dict(_places(found))
    if key:
        if key not in places:
            under = [where for where in places if where]
            there = f"there are some under {_listed(under)}" if under else "they stand by themselves, without a --key"
            raise UserError(f"{path}: no weights under {key!r}; {there if places else _what(found)}")
        return Weights(named=places[key], where=key)
    if "" in places:
        return Weights(named=places[""], where="")
    kept = {where: named for where, named in places.items() if not _OPTIMISERS.search(where)}
    first = min((_rank(where) for where in kept), default=None)
    best = [where for where in kept if _rank(where) == first]
    if len(best) == 1:
        return Weights(named=kept[best[0]], where=best[0])
    if best:
        raise UserError(f"{path}: weights under {_listed(kept)}: choose with --key {best[0]}")
    loose = {} if not isinstance(found, Mapping) else {k: v for k, v in found.items() if isinstance(v, Tensor)}
    if loose and all(isinstance(name, str) for name in loose):
        return Weights(named=loose, where="")  # what stands among them, such as a list of losses, is no weight
    raise UserError(
        f"{path}: {_what(found)}; expected weights by name, by themselves or under a key such as state_dict"
    )


def _places(found: Any) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every mapping from names to tensors, with the names, or places in a list, that lead to it; the nearest first.

    Plain values that stand among them, such as an epoch, are left out.
    """
    waiting = deque([("", found, 0)])
    for _ in range(_MOST_VISITS):
        if not waiting:
            return
        where, found, depth = waiting.popleft()
        if isinstance(found, list | tuple) and len(found) <= _LONGEST_LIST:
            found = dict(enumerate(found))
        if not isinstance(found, Mapping) or not found:
            continue
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
        others = [value for name, value in found.items() if name not in tensors]
        if (
            tensors
            and all(isinstance(name, str) for name in tensors)
            and all(isinstance(it, _SCALARS) for it in others)
        ):
            if any(value.dim() for value in tensors.values()):  # a loss and an accuracy are no weights
                yield where, tensors
        elif depth < _DEEPEST:
            waiting.extend(
                (f"{where}.{name}" if where else str(name), value, depth + 1)
                for name, value in found.items()
                if isinstance(value, list | tuple | Mapping)
            )


def _rank(where: str) -> tuple[int, int]:
    """How likely the weights stand there: a name that people use, high up."""
    words = where.split(".")
    return min((_PREFERRED.index(word) for word in words if word in _PREFERRED), default=len(_PREFERRED)), len(words)


def _listed(places: Iterable[str]) -> str:
    return _few([repr(where) for where in places])


def _what(found: Any) -> str:
    if isinstance(found, Mapping):
        kinds = ", ".join(f"{shown(name)}: {type(value).__name__}" for name, value in list(found.items())[:_MOST_NAMED])
        return f"a mapping of {kinds}" if found else "an empty mapping"
    return f"a {type(found).__name__}"


def _check(path: Path, name: str, weight: Tensor) -> None:
    """A weight is a dense tensor whose numbers are stored; what is stored may not be finite, which is said later."""
    if weight.is_meta:
        raise UserError(f"{path}: {shown(name)} is of the meta device, which keeps no numbers: expected weights")
    if weight.layout != torch.strided or weight.is_quantized:
        plain = "dequantize" if weight.is_quantized else "to_dense"
        raise UserError(f"{path}: {shown(name)} is not a dense tensor: expected plain weights, as .{plain}() gives")
    if weight.dtype not in (*_PLAIN, *_COUNTS):
        kind = str(weight.dtype).removeprefix("torch.")
        raise UserError(
            f"{path}: {shown(name)} is of {kind}, whose numbers alone are no weights: expected float16, bfloat16, "
            "float32 or float64"
        )
    if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
        raise UserError(f"{path}: {shown(name)} claims {weight.numel()} numbers, more than are stored")
