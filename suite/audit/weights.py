"""Weights in a file as people save them: found wherever they stand in it, and nothing in it is ever run.

Read are what ``torch.save`` wrote, as far as torch's loader of weights alone goes, and safetensors. What else a file
may be, a whole pickled module or a TorchScript archive, is told from its contents and named in the refusal.
"""

import argparse
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suite.core.errors import UserError
from suite.core.records import shown, visible

_PREFERRED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params")
"""What people call the weights, the commonest first: it decides where a file holds several."""
_DEEPEST = 4
_OPTIMISERS = re.compile(r"optim|sched|scaler|amp|rng|callbacks|loops|hparams|hyper", re.IGNORECASE)
"""Names under which tensors stand that are no weights."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)|Unsupported (?:global|class)[: ]+(?:GLOBAL )?([\w.]+)")
_MODULES = ("torch.nn.", "__main__.", "models.", "model.")
_MOST_NAMED = 4
_HARMLESS = [
    argparse.Namespace,
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
    """The weights in a file.

    Args:
        path: the file.
        key: under which name in it they stand, such as ``model`` or ``ema.model``; found where it is left out.

    Raises:
        UserError: it cannot be read, loading it would run code, or it holds no weights, or several; says why.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path} is no ordinary file: expected weights")
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: expected a file that torch.save wrote, or safetensors") from error
    size_B = path.stat().st_size
    if not size_B:
        raise UserError(f"{path} is empty: expected a file that torch.save wrote, or safetensors")
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size_B:
        weights = Weights(named=_safetensors(path), where="")
    else:
        weights = _among(path, _loaded(path), key)
    for name, weight in weights.named.items():
        _check(path, name, weight)
    return weights


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
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file may be anything: what torch makes of it has no end of classes
        raise UserError(f"{path}: {_reason(path, error)}") from error


def _refuse_archives(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # torch says what is wrong with it
    if any(re.fullmatch(r"[^/]+/(constants\.pkl|code/.*)", name) for name in names):
        raise UserError(
            f"{path} is a TorchScript archive, which is a program: save weights alone, "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pt')"
        )


def _reason(path: Path, error: Exception) -> str:
    """Why torch would not load a file, in words."""
    wanted = _globals(path) or [match[1] or match[2] for match in _GLOBAL.finditer(str(error))]
    names = [visible(name) for name in dict.fromkeys(wanted)]
    if any(name.startswith(_MODULES) for name in names):
        return (
            f"a whole pickled model ({_few(names)}), which loading would have to run: where its code is, "
            "save weights alone, torch.save(model.state_dict(), 'weights.pt')"
        )
    if names:
        return (
            f"loading it would run {_few(names)}, which is refused: save weights alone, without what stands beside "
            "them, torch.save(model.state_dict(), 'weights.pt')"
        )
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    said = visible(str(error)).split(". ")[0][:120].strip()
    with path.open("rb") as file:
        kind = "torn" if file.read(2) == b"PK" else "no file of weights"
    return f"{kind}: expected a file that torch.save wrote, of weights alone ({said or type(error).__name__})"


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
            raise UserError(f"{path}: no weights under {key!r}; there are some under {_listed(places)}")
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
        return Weights(named=loose, where="")  # what stands among them, such as an epoch, is no weight
    raise UserError(
        f"{path}: {_what(found)}; expected weights by name, by themselves or under a key such as state_dict"
    )


def _places(found: Any, where: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every mapping from names to tensors and nothing else, with the names that lead to it."""
    if not isinstance(found, Mapping) or not found or depth > _DEEPEST or not all(isinstance(k, str) for k in found):
        return
    if all(isinstance(value, Tensor) for value in found.values()):
        yield where, found
        return
    for name, value in found.items():
        yield from _places(value, f"{where}.{name}" if where else name, depth + 1)


def _rank(where: str) -> tuple[int, int]:
    """How likely the weights stand there: a name that people use, high up."""
    words = where.split(".")
    return min((_PREFERRED.index(word) for word in words if word in _PREFERRED), default=len(_PREFERRED)), len(words)


def _listed(places: Mapping[str, object]) -> str:
    return _few([repr(where or "the file itself") for where in places]) or "no name"


def _what(found: Any) -> str:
    if isinstance(found, Mapping):
        kinds = ", ".join(f"{shown(name)}: {type(value).__name__}" for name, value in list(found.items())[:_MOST_NAMED])
        return f"a mapping of {kinds}" if found else "an empty mapping"
    return f"a {type(found).__name__}"


def _check(path: Path, name: str, weight: Tensor) -> None:
    """A weight is a dense tensor whose numbers are stored; what is stored may not be finite, which is said later."""
    if weight.layout != torch.strided or weight.is_quantized or weight.is_meta:
        raise UserError(f"{path}: {shown(name)} is not a dense tensor: expected plain weights")
    if weight.numel() * weight.element_size() > weight.untyped_storage().nbytes():
        raise UserError(f"{path}: {shown(name)} claims {weight.numel()} numbers, more than are stored")
