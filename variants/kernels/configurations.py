"""Block sizes of the device programs: what was measured on a device, what a model predicts for its family, and what is
safe everywhere else."""

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, NamedTuple

TABLE = Path(__file__).with_name("configurations.json")


class Configuration(NamedTuple):
    """Sizes of a program's blocks, each a power of two and at least 16, and how it is compiled."""

    rows: int
    """Regions in a block."""
    outer: int
    """Columns of the result in a block."""
    inner: int
    """Columns of the contracted axis in a block."""
    words: int
    """Words in a block, at most."""
    warps: int
    stages: int
    standing: bool = False
    """Whether a tile of rows is loaded once, up to `WIDEST` columns, and serves every product of a thread block."""


FORMED = 32
"""Words in the block of an affinity that is written down; of more, it would take as much memory as the features."""
WIDEST = 512
"""Columns of a tile that may stand; wider features are read block by block."""
CHOICES: Mapping[str, tuple[int, ...]] = {
    "rows": (32, 64, 128),
    "outer": (32, 64, 128, 256, 512),
    "inner": (16, 32, 64, 128),
    "words": (16, 32, 64),
    "warps": (4, 8),
    "stages": (1, 2, 3, 4),
    "standing": (False, True),
}
"""Sizes that are tried."""


@functools.cache
def _table() -> Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]:
    table: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]] = json.loads(TABLE.read_text())
    return table


_TRIED: ContextVar[Mapping[str, Configuration]] = ContextVar("tried", default={})  # noqa: B039  # never written to


@contextmanager
def trying(entries: Mapping[str, Configuration]) -> Iterator[None]:
    """Inside, launch with these, by ``program/bits``, before those of the table."""
    token = _TRIED.set(entries)
    try:
        yield
    finally:
        _TRIED.reset(token)


def measured(device: str) -> Literal["all", "some", "none"]:
    """For how many programs, in both sizes of number, the table has entries of a device of that name.

    Args:
        device: name of the device as its driver gives it.
    """
    return _how_many("measured", device)


def predicted(family: str) -> Literal["all", "some", "none"]:
    """The same of entries that a model chose for a family of GPUs, which nobody has timed.

    Args:
        family: such as ``sm_90``.
    """
    return _how_many("predicted", family)


def _how_many(kind: str, of: str) -> Literal["all", "some", "none"]:
    count = len(_table()[kind].get(of, {}))
    return "all" if count == len(_table()["safe"]) else "some" if count else "none"


def configuration(program: str, itemsize: int, device: str, family: str = "") -> Configuration:
    """What to launch a program with: as measured on this device, else as predicted for its family, else safe.

    Args:
        program: its name.
        itemsize: bytes of an element of the features; 2 has entries of its own.
        device: name of the device as its driver gives it.
        family: of its compute capability, such as ``sm_90``; empty where none is known.
    """
    key = f"{program}/{8 * min(itemsize, 4)}"
    if key in _TRIED.get():
        return _TRIED.get()[key]
    table = _table()
    for entries in (table["measured"].get(device, {}), table["predicted"].get(family, {})):
        if key in entries:
            return _read(entries[key])
    return safe(program, itemsize)


def safe(program: str, itemsize: int) -> Configuration:
    """What fits every device: blocks of moderate size, and no tile that stands.

    Args:
        program: its name.
        itemsize: bytes of an element of the features.
    """
    entry: Mapping[str, int] = _table()["safe"][f"{program}/{8 * min(itemsize, 4)}"]  # type: ignore[assignment]  # no devices in between
    return _read(entry)


def _read(entry: Mapping[str, int]) -> Configuration:
    return Configuration(**entry)  # type: ignore[arg-type]  # sizes, and true or false
