"""Files of a run folder, which may come from anywhere: read within limits, and never outside of the folder.

A FIFO, a device or a link that leads out is refused before a byte is read or written. This module imports neither torch
nor the variants.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from suite.core.errors import UserError
from suite.core.records import DECODER, reason, visible

ENVIRONMENT = "environment.json"
LARGEST_JSON_B = 16 * 2**20
_DEEPEST = 8
_LONGEST_NAME = 180
OF_ONE_KIND = ("device", "driver")
"""What has to be alike on the nodes of a cluster: none has as many bytes of memory as another."""
_OBJECTS = ("machine", "request", "details", "settings")


def content(path: Path, *, at_most: int) -> bytes:
    """The bytes of an ordinary file.

    Args:
        path: of the file.
        at_most: bytes; a larger file is refused unread.

    Raises:
        UserError: there is none, it is no ordinary file, is too large, or cannot be read.
    """
    try:
        # without waiting for somebody to write, as a FIFO would have it
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path.parent} holds no {path.name}: expected the folder of a run") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is no ordinary file")
        if found.st_size > at_most:
            raise UserError(f"{path} has {found.st_size / 2**20:.0f} MiB; expected {at_most / 2**20:.0f} MiB at most")
        with open(number, "rb", closefd=False) as file:
            return file.read(at_most)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    finally:
        os.close(number)


def json_of(path: Path) -> Any:
    """What a file of JSON holds; its texts are fit to be printed.

    Raises:
        UserError: as `content`, or it is not JSON, or nested too deeply.
    """
    try:
        return _inert(DECODER.decode(content(path, at_most=LARGEST_JSON_B).decode("utf-8-sig")))
    except UserError:
        raise
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON: {visible(str(error))}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise UserError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{path}: {reason(error)}") from error


def environment(folder: Path) -> dict[str, Any]:
    """What a run folder says of its machine.

    Raises:
        UserError: it says nothing, or what it says cannot be read.
    """
    path = folder / ENVIRONMENT
    described = json_of(path)
    if not isinstance(described, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(described).__name__}")
    for name in _OBJECTS:
        if not isinstance(described.get(name, {}), Mapping):
            raise UserError(f"{path}: {name!r} is a {type(described[name]).__name__}; expected an object")
    return described


def kind_of_nodes(described: Mapping[str, object]) -> Mapping[str, object] | None:
    """What the nodes have in common whose times stand in one table, of each kind; None where it was one machine."""
    nodes = described.get("nodes")
    if not (isinstance(nodes, Mapping) and nodes and all(isinstance(node, Mapping) for node in nodes.values())):
        return None
    return {key: ", ".join(sorted({str(it.get(key) or "") for it in nodes.values()})) for key in OF_ONE_KIND}


def changed_settings(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Which settings differ, each as a phrase; none where one side does not say."""
    old, new = before.get("settings"), now.get("settings")
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return []
    return [
        f"{name} was {old.get(name, 'not set')} and is {new.get(name, 'not set')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def environment_or_nothing(folder: Path) -> dict[str, Any]:
    """As `environment`; nothing where there is no such file, as in a folder that was put together by hand."""
    return environment(folder) if os.path.lexists(folder / ENVIRONMENT) else {}


def inside(folder: Path, relative: str) -> Path:
    """A path of a file that is read or written beside the records.

    Raises:
        UserError: it leads out of the folder, by its name or by a link.
    """
    path = folder / relative
    try:
        within = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a circle of links, or a name that can be none
        within = False
    if not within:
        raise UserError(f"{path} leads out of the folder: expected a file in {folder}")
    return path


def made(folder: Path, name: str) -> Path:
    """A folder for pages, tables or plots, made where it is missing.

    Raises:
        UserError: something else has its name, or it cannot be made.
    """
    path = inside(folder, name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a folder") from error
    return path


def target(folder: Path, relative: str) -> Path:
    """A path that a page, table or plot may be written to: nothing is there yet, or an ordinary file.

    Raises:
        UserError: as `inside`, or a folder, link or FIFO has its name.
    """
    path = inside(folder, relative)
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise UserError(f"{path} is no ordinary file: expected none, or one that may be written over")
    return path


def write(folder: Path, relative: str, text: str) -> Path:
    """Write a page over what was there.

    Raises:
        UserError: as `target`, or it cannot be written.
    """
    path = target(folder, relative)
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it could not be written") from error
    return path


def file_name(text: str) -> str:
    """A text as the name of a file: letters, digits and ``.+_-`` alone, never hidden and never a way up."""
    return re.sub(r"[^A-Za-z0-9.+_-]+", "-", text).strip("-.")[:_LONGEST_NAME] or "unnamed"


def _inert(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list):
        return [_inert(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {visible(key): _inert(item, depth + 1) for key, item in value.items()}
    return value
