"""Part files: what a job leaves for a head that may be gone, whole or not at all.

A job on a shared file system writes one file of its own in the folder ``parts`` of the run, under another name until it
is complete. The head takes it in and removes it; after the loss of the head it is taken when the run is resumed.
"""

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from suite.core import folders
from suite.core.errors import UserError
from suite.execution.jobs import Ending, News
from suite.execution.relay import Message

FOLDER = "parts"
_LARGEST_B = 2**30
_WHOLE, _TORN, _AT = ".jsonl", ".torn", ".at"


def stem(folder: Path, name: str) -> Path:
    """The path of a job's files, without their endings: readable, and another one for each name."""
    return folder / FOLDER / f"{folders.file_name(name)[:100]}-{zlib.crc32(name.encode()):08x}"


def tell(at: Path, told: Message) -> None:
    """Write how far a job is, or with its ending all that it has left."""
    if told.news.ending is None:
        _replace(at.with_name(at.name + _AT), json.dumps({"at": told.news.at, "node": told.news.node}))
        return
    news = asdict(replace(told.news, lines=()))
    head = json.dumps({"news": news, "identity": told.identity})
    _replace(at.with_name(at.name + _WHOLE), "\n".join([head, *told.news.lines]) + "\n")


def heard(at: Path) -> Message | None:
    """What a job has left; None where it has not come to its end."""
    path = at.with_name(at.name + _WHOLE)
    if not path.exists():
        return None
    try:
        first, *lines = folders.content(path, at_most=_LARGEST_B).decode().splitlines()
        read = json.loads(first)
        news: dict[str, Any] = read["news"]
        ending = Ending(**news["ending"])
        return Message(news=News(**(news | {"ending": ending, "lines": tuple(lines)})), identity=read["identity"])
    except (UserError, ValueError, TypeError, KeyError) as error:
        ending = Ending(way="lost", reason=f"{path.name} cannot be read: {error}", cause="error")
        return Message(news=News(ticket="", ending=ending))


def progress(at: Path) -> Mapping[str, Any]:
    """How far a job is; nothing where it has not said so."""
    try:
        found = json.loads(at.with_name(at.name + _AT).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def remove(at: Path) -> None:
    """What a job has left is stored elsewhere, or is not wanted."""
    for ending in (_WHOLE, _TORN, _AT):
        with suppress(FileNotFoundError):
            at.with_name(at.name + ending).unlink()


def _replace(path: Path, text: str) -> None:
    torn = path.with_name(path.name.removesuffix(path.suffix) + _TORN)
    with torn.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(torn, path)
