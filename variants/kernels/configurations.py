"""Block sizes of the device programs: a table of what was measured on a device, and a safe entry for every other."""

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
    count = len(_table()["measured"].get(device, {}))
    return "all" if count == len(_table()["safe"]) else "some" if count else "none"


def configuration(program: str, itemsize: int, device: str) -> Configuration:
    """What to launch a program with.

    Args:
        program: its name.
        itemsize: bytes of an element of the features; 2 has entries of its own.
        device: name of the device as its driver gives it.
    """
    key = f"{program}/{8 * min(itemsize, 4)}"
    if key in _TRIED.get():
        return _TRIED.get()[key]
    entries = _table()["measured"].get(device, {})
    return Configuration(**entries.get(key, _table()["safe"][key]))
