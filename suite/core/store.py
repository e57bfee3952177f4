"""The run folder's ``records.jsonl``: appended task by task, readable after any death."""

import errno
import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from suite.core import folders
from suite.core.errors import UserError
from suite.core.records import FAILURES, FORMAT, Description, Measurement, Record, Skip, decode, encode, shown, visible

FILE = "records.jsonl"
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How a system says that a file cannot grow."""
_HEADER = json.dumps({"format": FORMAT})
_FREE_DISK_B = 64 * 2**20
LONGEST_LINE_B = 16 * 2**20
LARGEST_B = 2**30
"""A run of a hundred thousand records takes a tenth of it."""


class DiskFull(OSError):
    """The records of a task could not be stored; those stored before are whole."""


def claim(folder: Path) -> None:
    """Make a run folder, or say why it cannot be.

    Raises:
        UserError: it holds a run already, cannot be made or written, or its disk is nearly full.
    """
    if (folder / FILE).exists():
        again = f"--resume {shlex.quote(str(folder))}"
        raise UserError(f"{folder} holds a run already: continue it with {again}, or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free_B = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder):
            pass  # it can be written to
    except OSError as error:
        raise UserError(f"--out {folder}: {error.strerror}") from error
    if free_B < _FREE_DISK_B:
        raise UserError(f"--out {folder}: the disk has {free_B // 2**20} MiB left, a run takes up to 64 MiB")


def read(folder: Path) -> list[Record]:
    """Every record of a run folder; a torn last line, as a killed run leaves, is passed over.

    Raises:
        UserError: the folder holds no records, or records of another format, or a line that is none or that stands
            there twice; says which.
    """
    path = folder / FILE
    lines = _lines(path)
    _check_header(path, lines[0] if lines else b"")
    records = []
    taken: dict[object, int] = {}
    for number, line in enumerate(lines[1:], 2):
        where = f"{path}:{number}"
        if len(line) > LONGEST_LINE_B:
            raise UserError(
                f"{where}: {len(line) / 2**20:.0f} MiB in one line; expected {LONGEST_LINE_B // 2**20} at most"
            )
        record = decode(line, where=where)
        records.append(record)
        mark = left_once(record)
        if mark is not None and taken.setdefault(mark, number) != number:
            assert isinstance(record, Measurement)
            raise UserError(
                f"{where}: {record.quantity} of {visible(record.task)!r} stands on line {taken[mark]} already"
            )
    return records


def left_once(record: Record) -> object | None:
    """What two records share that a task leaves once; None for what it may leave more often."""
    if isinstance(record, Measurement) and record.quantity in _ONCE:
        return (record.quantity, _ONCE[record.quantity](record))
    return None


def _told_by(*details: str) -> Callable[[Measurement], object]:
    """Those of its details that tell a record from others of its quantity."""
    return lambda record: tuple(repr(record.details.get(name)) for name in details)


_ONCE: Mapping[str, Callable[[Measurement], object]] = {
    "task_time": lambda record: record.task,
    "latency": lambda record: (record.task, record.variant, record.workload, record.phase, record.device),
    # of an ablation: all or nothing of a training is stored, so that none is there again from another try
    "parameters": _told_by("study", "row"),
    "accuracy": _told_by("study", "row", "family", "evaluation", "seed"),
    "training_loss": _told_by("data", "row", "seed"),
    "tuning_accuracy": _told_by("data", "row", "learning_rate", "seed"),
    "ceiling": _told_by("data", "of", "family"),
    "tested_on": _told_by("data"),
}
"""What a task leaves once, and of what: twice means that a file was put together of several, or stands in itself."""


def finished(records: Iterable[Record]) -> set[str]:
    """The tasks that ran to their end."""
    return {record.task for record in records if isinstance(record, Measurement) and record.quantity == "task_time"}


def current(records: Sequence[Record]) -> list[Record]:
    """Without what a budget left out, what was killed and what failed, where that was tried again to its end."""
    done = finished(records)
    again = ("budget", *FAILURES)
    return [
        record for record in records if not (isinstance(record, Skip) and record.cause in again and record.task in done)
    ]


def drop_unfinished(folder: Path) -> None:
    """Cut off what a task in flight had stored when its run was killed: it will be measured again.

    Tasks are stored one after another, so that only the last can be unfinished.

    Raises:
        UserError: another run is writing there, or as `read`.
    """
    path = folder / FILE
    _check_header(path, (_lines(path) or [b""])[0])
    with path.open("r+b") as file:
        _lock(path, file)
        records = read(folder)
        kept = len(records)
        while kept and not _closes(records[kept - 1]):
            kept -= 1
        lines = _lines(path)[: kept + 1]
        file.truncate(sum(len(line) + 1 for line in lines))


def _closes(record: Record) -> bool:
    match record:
        case Measurement(quantity="task_time") | Measurement(task="run"):  # what a run says of itself stands alone
            return True
        case Description():  # of the variants of a task, before it begins
            return True
        case Skip(quantity="all"):  # stored on its own: a variant left out from the start, or the end of a process
            return True
    return False


class Writer:
    """Appends records. What was written before is kept, but for a torn last line.

    Raises:
        UserError: on entering, where another run is writing there, or as `read`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._file: FileIO

    def __enter__(self) -> Self:
        self._path.touch()
        self._file = self._path.open("r+b", buffering=0)
        try:
            _lock(self._path, self._file)
            if self._path.stat().st_size > 0:
                lines = _lines(self._path)
                _check_header(self._path, lines[0] if lines else b"")
                whole = sum(len(line) + 1 for line in lines)
                self._file.truncate(whole)
                self._file.seek(whole)
            else:
                self._append(f"{_HEADER}\n".encode())
        except BaseException:
            self._file.close()
            raise
        return self

    def write(self, records: Iterable[Record]) -> None:
        """Store records together: all of them, or none.

        Raises:
            DiskFull: nothing was stored.
        """
        self._append("".join(f"{encode(record)}\n" for record in records).encode())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _append(self, data: bytes) -> None:
        start = self._file.tell()
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._file.truncate(start)
            self._file.seek(start)
            if error.errno in NO_SPACE:
                raise DiskFull(error.errno, f"{self._path}: no space left for the next records") from error
            raise


def _lock(path: Path, file: IO[bytes]) -> None:
    """Be the only one to write there for as long as the file is open: two runs would write into each other's lines."""
    import fcntl  # here alone, so that records can be read where there is none

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{path.parent}: another run is writing there; wait for it, or end it") from error


def _lines(path: Path) -> list[bytes]:
    """The whole lines of a file, without their newlines."""
    return folders.content(path, at_most=LARGEST_B).split(b"\n")[:-1]


def _check_header(path: Path, header: bytes) -> None:
    try:
        found = json.loads(header)["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}:1 names no format: expected {_HEADER}") from error
    if type(found) is not int or found != FORMAT:
        age = "an older" if type(found) is int and found < FORMAT else "another"
        raise UserError(
            f"{path}:1 is of {age} format, {shown(found)}: this program reads format {FORMAT}; measure again"
        )
