"""Records: what a run leaves behind, as plain data in base units (seconds, bytes, 1).

One JSON object a line. This module imports neither torch nor the variants, so that records can be read anywhere.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, get_args

from suite.errors import UserError

FORMAT = 1
"""Version of the format, named by the first line of every ``records.jsonl``."""

ANCHOR = "parallel"
"""In eager float32 it stands in every comparison, so that mechanisms can be compared through it."""

Unit = Literal["s", "B", "1"]
Verdict = Literal["holds", "broken", "unclear", "not applicable", "not judged", "known"]
Scalar = str | int | float | bool | None
Detail = Scalar | Sequence[Scalar] | Sequence[Sequence[Scalar]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What every record is about. An empty field means that the record is about all of them."""

    task: str
    """The unit of loss and of resume that made it."""
    variant: str = ""
    """Canonical name."""
    workload: str = ""
    phase: str = ""
    """``forward``, ``forward+backward`` or empty."""
    device: str = ""
    """``cpu``, ``cpu[threads=2]`` or ``cuda``."""


@dataclass(frozen=True, kw_only=True)
class Measurement(Cell):
    """A number, or the raw samples behind one."""

    kind: ClassVar[str] = "measurement"
    quantity: str
    unit: Unit
    value: float | None = None
    samples: tuple[float, ...] = ()
    rounds: tuple[int, ...] = ()
    """The round of each sample: samples of one task in the same round were taken side by side."""
    trust: tuple[str, ...] = ()
    """Reasons against believing it; empty where there are none."""
    details: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Finding(Cell):
    """A property that was examined: its verdict and the evidence."""

    kind: ClassVar[str] = "finding"
    quantity: str
    """The property, such as ``P1`` or ``agreement``."""
    verdict: Verdict
    """``known`` is a break that the variant declares among its known defects; why something is not judged or does not
    apply stands in ``summary``."""
    severity: Literal["wrong", "fragile"] = "wrong"
    value: float | None = None
    """The leak, relative; what was compared with ``limit``."""
    limit: float | None = None
    summary: str = ""
    """One sentence for a person: what moved, by how much, where, and what usually causes it."""
    details: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Skip(Cell):
    """Something that was not measured, why, and what would measure it."""

    kind: ClassVar[str] = "skip"
    quantity: str
    reason: str
    cause: Literal["choice", "impossible", "budget", "error", "timeout", "memory", "killed", "prerequisite"]
    """``error``, ``timeout``, ``memory`` and ``killed`` are failures; the others are not."""
    remedy: str = ""
    """A command that measures it, or what to change."""
    details: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Artifact(Cell):
    """A file beside the records, such as a trace."""

    kind: ClassVar[str] = "artifact"
    quantity: str
    path: str
    """Relative to the run folder."""


Record = Measurement | Finding | Skip | Artifact
FAILURES = ("error", "timeout", "memory", "killed")
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_KINDS: dict[str, type[Record]] = {cls.kind: cls for cls in get_args(Record)}
_FIELDS = {cls: tuple(item.name for item in fields(cls)) for cls in _KINDS.values()}
"""Looked up once: a run has a hundred thousand records."""
_KNOWN = {cls: frozenset(names) for cls, names in _FIELDS.items()}
_ALWAYS = ("quantity", "task")


def encode(record: Record) -> str:
    """One line of JSON without a newline; defaults are left out, non-finite floats become null."""
    row = {"kind": record.kind} | {
        name: value
        for name in _FIELDS[type(record)]
        if (value := getattr(record, name)) not in ("", (), None, {}) or name in _ALWAYS
    }
    try:
        return _ENCODER.encode(row)
    except ValueError:  # a float is not finite, which is rare enough to be looked for only then
        return _ENCODER.encode(_finite(row))


def decode(line: str, *, where: str = "record") -> Record:
    """Read one line that `encode` wrote.

    Raises:
        UserError: not JSON, an unknown kind, or a field missing, unknown or of the wrong type; starts with ``where``.
    """
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not a line of JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}")
    cls = _KINDS.get(row.pop("kind", None))
    if cls is None:
        raise UserError(f"{where}: unknown kind {json.loads(line).get('kind')!r}; expected one of {', '.join(_KINDS)}")
    if not _KNOWN[cls].issuperset(row):
        unknown = min(row.keys() - _KNOWN[cls])
        raise UserError(f"{where}: a {cls.kind} has no field {unknown!r}; it has {', '.join(sorted(_KNOWN[cls]))}")
    for name in ("samples", "rounds", "trust"):
        if name in row:
            row[name] = tuple(row[name])
    try:
        return cls(**row)
    except TypeError as error:
        raise UserError(f"{where}: {str(error).partition('()')[2].strip()}") from error


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
