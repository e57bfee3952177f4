"""Where jobs run: this machine, or a cluster as the command line and a small file say."""

import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from suite.bench import nodes
from suite.bench.nodes import Cluster
from suite.core import folders
from suite.core.errors import UserError
from suite.core.records import visible

EXECUTORS = ("local", "ray", "slurm")
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
        at = f" --at {self.at}" if self.at else ""
        return f" --executor {self.executor}{at}" + (f" --cluster {self.file}" if self.file else "")


HERE = Where()


@dataclass(frozen=True, kw_only=True)
class OfRay:
    """The table ``[ray]`` of the file."""

    beside: int = 8
    """Jobs that bear company on one machine without a GPU."""
    kind: str = ""
    """Of accelerator, as Ray calls it: machines with others are left alone."""
    wait_s: float = 600.0
    """How long a job may be waited for until it begins."""


@dataclass(frozen=True, kw_only=True)
class OfSlurm:
    """The table ``[slurm]`` of the file: what each job asks for, in the words of sbatch."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    time: int = 60
    """Minutes that Slurm gives a job."""
    gres: str = ""
    """Such as ``gpu:h100:1``; of a GPU of any kind where ``--device cuda`` is given without it."""
    constraint: str = ""
    cpus: int = 2
    memory: str = ""
    """Such as ``16G``; the partition's own if left out."""
    at_once: int = 100
    """Jobs that may be in the queue at the same time."""
    wait_s: float = math.inf
    """How long a job may stay pending; however long it takes if left out."""
    setup: tuple[str, ...] = ()
    """Lines of shell before each job, such as ``module load cuda``."""


_TABLES: Mapping[str, type] = {"ray": OfRay, "slurm": OfSlurm}


def check(where: Where, device: str | None) -> None:
    """Refuse what cannot be, before anything is connected to.

    Raises:
        UserError: says which option, and what is expected.
    """
    if where.executor not in EXECUTORS:
        raise UserError(f"--executor {where.executor}: expected {', '.join(EXECUTORS[:-1])} or {EXECUTORS[-1]}")
    if where.here and (where.at or where.file):
        option = f"--at {where.at}" if where.at else f"--cluster {where.file}"
        raise UserError(f"{option} has no effect here: it goes with --executor {' or '.join(EXECUTORS[1:])}")
    if not where.here and device is None:
        raise UserError(f"--executor {where.executor} needs --device cpu or --device cuda: nodes are asked for by it")
    if where.executor == "slurm" and where.at:
        raise UserError(f"--at {where.at} has no effect here: Slurm is found by its own configuration")
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
    cluster = (
        _ray(where, table, folder, device, beside, files)
        if where.executor == "ray"
        else _slurm(where, table, folder, device)
    )
    try:
        yield cluster
    finally:
        cluster.close()


def _ray(
    where: Where, table: Mapping[str, Any], folder: Path, device: str, beside: int, files: tuple[str, ...]
) -> Cluster:
    from suite.execution.on_ray import Ray  # here alone, as the next: they are loaded where they are used

    given = _of(OfRay, table, where)
    return Ray(
        folder,
        check=nodes.check(),
        address=where.at or "auto",
        gpu=device == "cuda",
        beside=min(beside, given.beside),
        kind=given.kind,
        files=files,
        wait_s=given.wait_s,
    )


def _slurm(where: Where, table: Mapping[str, Any], folder: Path, device: str) -> Cluster:
    from suite.execution.on_slurm import Slurm

    given = _of(OfSlurm, table, where)
    gpu = device == "cuda"
    asked = {
        "partition": given.partition,
        "account": given.account,
        "qos": given.qos,
        "gres": given.gres or ("gpu:1" if gpu else ""),
        "constraint": given.constraint,
        "mem": given.memory,
    }
    parameters: dict[str, Any] = {name: value for name, value in asked.items() if value}
    parameters |= {"time": given.time, "cpus_per_task": given.cpus, "setup": list(given.setup)}
    return Slurm(
        folder,
        check=nodes.check(),
        gpu=gpu,
        at_once=given.at_once,
        wait_s=given.wait_s,
        parameters=parameters,
    )


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    """What the file holds: a table for each executor that needs one, with keys that are known."""
    text = folders.content(path, at_most=_LARGEST_FILE_B)
    try:
        tables = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--cluster {path}: not TOML: {visible(str(error))}") from error
    for name, table in tables.items():
        if name not in _TABLES or not isinstance(table, dict):
            expected = " or ".join(f"[{it}]" for it in _TABLES)
            raise UserError(f"--cluster {path}: {visible(name)!r} is none of its tables: expected {expected}")
        _of(_TABLES[name], table, Where(file=path))
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
    "tuple": (
        lambda value: isinstance(value, list) and all(isinstance(it, str) for it in value),
        'a list of texts, such as ["module load cuda"]',
    ),
}
"""What a value of each type has to be, and how that is said."""
