"""Where jobs run: this machine, or a cluster as the command line and a small file say."""

import importlib
import pkgutil
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from suite import execution
from suite.bench import nodes
from suite.bench.nodes import Cluster
from suite.core import folders
from suite.core.errors import UserError
from suite.core.records import visible
from suite.execution.relay import Opening

_PREFIX = "on_"
CLUSTERS = tuple(
    file.name.removeprefix(_PREFIX)
    for file in pkgutil.iter_modules(execution.__path__)
    if file.name.startswith(_PREFIX)
)
"""Each a file ``on_<name>.py`` of `suite.execution`, which holds its `Table` and how it is `opened`."""
EXECUTORS = ("local", *CLUSTERS)
_LARGEST_FILE_B = 2**20
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Where:
    """What the user said of it."""

    executor: str = "local"
    at: str | None = None
    """Address of a cluster's head."""
    file: Path | None = None
    """TOML, with what does not fit a command line."""

    @property
    def here(self) -> bool:
        """Whether it is this machine."""
        return self.executor == "local"

    @property
    def options(self) -> str:
        """As they are typed, for a command that goes on; empty for this machine."""
        if self.here:
            return ""
        at = f" --at {shlex.quote(self.at)}" if self.at else ""
        file = f" --cluster {shlex.quote(str(self.file))}" if self.file else ""
        return f" --executor {self.executor}{at}{file}"


HERE = Where()


def _file(name: str) -> Any:
    """What an executor's file holds; loaded where it is asked for, and no other."""
    return importlib.import_module(f"{execution.__name__}.{_PREFIX}{name}")


def check(where: Where, device: str | None) -> None:
    """Refuse what cannot be, before anything is connected to.

    Raises:
        UserError: says which option, and what is expected.
    """
    if where.executor not in EXECUTORS:
        raise UserError(f"--executor {where.executor}: expected {', '.join(EXECUTORS[:-1])} or {EXECUTORS[-1]}")
    if where.here and (where.at or where.file):
        option = f"--at {where.at}" if where.at else f"--cluster {where.file}"
        raise UserError(f"{option} has no effect here: it goes with --executor {' or '.join(CLUSTERS)}")
    if not where.here and device is None:
        raise UserError(f"--executor {where.executor} needs --device cpu or --device cuda: nodes are asked for by it")
    if where.at and not _file(where.executor).HAS_ADDRESS:
        raise UserError(
            f"--at {where.at} has no effect here: {where.executor.capitalize()} is found by its own configuration"
        )
    if where.file is not None:
        _tables(where.file)


@contextmanager
def opened(where: Where, folder: Path, *, device: str, beside: int, files: tuple[str, ...]) -> Iterator[Cluster]:
    """A cluster, connected to; nothing of this program is left there afterwards.

    Args:
        where: not here.
        folder: the run folder.
        device: ``cpu`` or ``cuda``.
        beside: most jobs that bear company on one machine without a GPU.
        files: the user's own.

    Raises:
        UserError: it cannot be had; says why.
    """
    table = _tables(where.file).get(where.executor, {}) if where.file else {}
    file = _file(where.executor)
    opening = Opening(
        folder=folder, check=nodes.check(), gpu=device == "cuda", beside=beside, files=files, address=where.at
    )
    cluster: Cluster = file.opened(_of(file.Table, table, where), opening)
    try:
        yield cluster
    finally:
        cluster.close()


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    """What the file holds: a table for each executor that needs one, with keys that are known."""
    text = folders.content(path, at_most=_LARGEST_FILE_B)
    try:
        tables = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--cluster {path}: not TOML: {visible(str(error))}") from error
    for name, table in tables.items():
        if name not in CLUSTERS or not isinstance(table, dict):
            expected = " or ".join(f"[{it}]" for it in CLUSTERS)
            raise UserError(f"--cluster {path}: {visible(name)!r} is none of its tables: expected {expected}")
        _of(_file(name).Table, table, Where(file=path))
    return tables


def _of(kind: type[S], table: Mapping[str, Any], where: Where) -> S:
    """A table of the file, each key known and each value of its type."""
    types = {it.name: it.type for it in fields(kind)}  # type: ignore[arg-type]  # a dataclass, all of them
    for key, value in table.items():
        if key not in types:
            raise UserError(f"--cluster {where.file}: unknown key {visible(key)!r}: expected {', '.join(types)}")
        right, words = _TYPES[str(getattr(types[key], "__name__", types[key]))]
        if not right(value):
            raise UserError(f"--cluster {where.file}: {key} = {visible(str(value))}: expected {words}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()})


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


_TYPES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "int": (lambda value: _number(value) and isinstance(value, int), "a whole number above 0"),
    "float": (_number, "a number above 0"),
    "str": (lambda value: isinstance(value, str), "a text in quotes"),
    "str | tuple[str, ...]": (
        lambda value: isinstance(value, str) or (bool(value) and _TYPES["tuple"][0](value)),
        "a text in quotes, or a list of them",
    ),
    "tuple": (
        lambda value: isinstance(value, list) and all(isinstance(it, str) for it in value),
        'a list of texts, such as ["module load cuda"]',
    ),
}
"""What a value of each type has to be, and how that is said."""
