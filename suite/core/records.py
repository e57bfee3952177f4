"""Records: what a run leaves behind, as plain data in base units (seconds, bytes, 1).

One JSON object a line. This module imports neither torch nor the variants, so that records can be read anywhere. They
may come from anywhere, too: what is read here has its types, values and units checked, and holds no character that a
terminal would obey.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, Literal, NoReturn, get_args

from suite.core import devices, workloads
from suite.core.errors import UserError, inert

FORMAT = 1
"""Version of the format, named by the first line of every ``records.jsonl``."""

ANCHOR = "parallel"
"""In eager float32 it stands in every comparison, so that mechanisms can be compared through it."""

SELFCHECK = "selfcheck"
"""The quantity of a row of the self-check."""

Unit = Literal["s", "B", "1"]
Verdict = Literal["holds", "broken", "unclear", "not applicable", "not judged", "known"]
WORST_FIRST: tuple[Verdict, ...] = ("broken", "known", "unclear", "not judged", "holds", "not applicable")
"""Verdicts, the one that a person must see first."""
Severity = Literal["wrong", "fragile"]
Role = Literal["mechanism", "control", "published"]
Cause = Literal["choice", "impossible", "budget", "error", "timeout", "memory", "killed", "prerequisite"]
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
    """``cpu``, ``cpu[threads=2]``, ``cuda``, ``cuda:1``, ``mps`` or ``xpu``."""


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
    severity: Severity = "wrong"
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
    cause: Cause
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


@dataclass(frozen=True, kw_only=True)
class Description(Cell):
    """What a variant's name says, so that who reads the records need not read it, and where published code is from."""

    kind: ClassVar[str] = "description"
    mechanism: str
    parent: str
    """The same mechanism, options and parts in eager float32, which speed-ups are over."""
    role: Role = "mechanism"
    """What may be the fastest, a control that people would use instead, or what others published."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the mechanism, those that are not as usual."""
    transforms: Mapping[str, str] = field(default_factory=dict)
    """By axis, in the order in which they apply, such as ``precision: bf16``."""
    dtype: str = "float32"
    """Of its matrix products."""
    where: str = ""
    """Of published code: whose it is."""
    differs: str = ""
    """Of published code: what it does that its paper does not say."""
    ours: str = ""
    """Of published code: the variant that computes the same with its masks right."""
    nearest: str = ""
    """Of published code: the mechanism of ours that does the same job."""


Record = Measurement | Finding | Skip | Artifact | Description
FAILURES = ("error", "timeout", "memory", "killed")
_QUANTITIES: Mapping[Unit, str] = {
    "s": "latency latency_cold device device_cold launch first_call compile_time cold_start gemm_time copy_time "
    "task_time harness_time time_left run_time traced_step",
    "B": "peak_memory saved_for_backward reserved_memory graph_pool_memory least_bytes",
    "1": "matmul_flops agreement_error graphs graph_breaks recompiles largest_batch "
    "accuracy tuning_accuracy training_loss parameters ceiling",
}
UNITS: Mapping[str, Unit] = {quantity: unit for unit, words in _QUANTITIES.items() for quantity in words.split()}
"""Of the quantities that pages are made from; another quantity may have any unit."""
HARNESS = ("task_time", "harness_time", "time_left", "run_time")
"""Quantities about the run itself and not about what it measures."""
ANSWERLESS = (*HARNESS, "parameters", "ceiling", "tested_on", "tuning_accuracy")
"""These, what is known before anything is trained, and what chooses a learning rate: alone they answer nothing."""
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_KINDS: dict[str, type[Record]] = {cls.kind: cls for cls in get_args(Record)}
_FIELDS = {cls: tuple(item.name for item in fields(cls)) for cls in _KINDS.values()}
"""Looked up once: a run has a hundred thousand records."""
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


def decode(line: str | bytes, *, where: str = "record") -> Record:
    """Read one line that `encode` wrote, or that somebody else did.

    Raises:
        UserError: not JSON, an unknown kind, or a field that is missing, unknown, of the wrong type or out of its
            range; one line that starts with ``where``.
    """
    try:
        row = DECODER.decode(line.decode() if isinstance(line, bytes) else line)
        if not isinstance(row, dict):
            raise ValueError(f"expected a JSON object, found {type(row).__name__}")
        kind = row.pop("kind", None)
        cls = _KINDS.get(kind) if isinstance(kind, str) else None
        if cls is None:
            raise ValueError(f"unknown kind {shown(kind)}; expected one of {', '.join(_KINDS)}")
        return _made(cls, row)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not a line of JSON: {visible(str(error))}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8: {error.reason} at byte {error.start} of the line") from error
    except RecursionError as error:
        raise UserError(f"{where}: nested too deeply to be a record") from error
    except ValueError as error:
        raise UserError(f"{where}: {reason(error)}") from error


def reason(error: ValueError) -> str:
    """Why a text is no JSON that can be read, on one line."""
    # of a number with too many digits Python tells how a program could allow them, which no reader of a page can
    return visible(str(error).partition("; use sys.")[0])


def visible(text: str) -> str:
    """A text from elsewhere, `inert` and cut where it is long."""
    line = inert(text[: _LONGEST_TEXT + 1])
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]} …"


def shown(value: object) -> str:
    """A value from elsewhere as an error quotes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _made(cls: type[Record], row: dict[str, Any]) -> Record:
    """A record of what was read, each field checked."""
    checks = _CHECKS[cls]
    for name, value in row.items():
        check = checks.get(name)
        if check is None:
            raise ValueError(f"a {cls.kind} has no field {shown(name)}; it has {', '.join(sorted(checks))}")
        row[name] = check(name, value)
    if not row.keys() >= _REQUIRED[cls]:
        missing = min(_REQUIRED[cls] - row.keys())
        raise ValueError(f"a {cls.kind} without {missing!r}")
    record = cls(**row)
    if isinstance(record, Measurement):
        _check_numbers(record)
        _check_details(record)
    return record


def _check_numbers(record: Measurement) -> None:
    quantity, unit = record.quantity, record.unit
    if UNITS.get(quantity, unit) != unit:
        raise ValueError(f"{quantity} in {unit!r}; expected {UNITS[quantity]!r}")
    if len(record.rounds) != len(record.samples) and (record.rounds or quantity in _BY_ROUND):
        raise ValueError(f"{len(record.samples)} samples, but {len(record.rounds)} rounds; expected one for each")
    if unit == "1" and quantity not in UNITS:
        return
    numbers = record.samples if record.value is None else (*record.samples, record.value)
    if not numbers:
        return
    least, most = min(numbers), max(numbers)
    floor, ceiling = (0.0, 1.0) if quantity in _SHARES else (_SHORTEST_S if quantity == "latency" else 0.0, _MOST[unit])
    if least < floor:
        raise ValueError(f"{quantity} of {least} {unit}; expected at least {floor:g}")
    if most > ceiling:
        raise ValueError(f"{quantity} of {most} {unit}; expected at most {ceiling:g}")


def _check_details(record: Measurement) -> None:
    """What a page looks for beside a quantity has to be there."""
    for name, check in _DETAILS.get(record.quantity, {}).items():
        if name not in record.details:
            raise ValueError(f"{record.quantity} without {name!r} among its details")
        check(f"its detail {name!r}", record.details[name])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {shown(next(name for name in names if names.count(name) > 1))} is there twice")
    return row


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number; expected a finite one, or null")


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "a text")
    return visible(value)


def _matching(pattern: str, expected: str) -> Callable[[str, object], str]:
    matches = re.compile(pattern).fullmatch

    @lru_cache(maxsize=4096)
    def fits(value: str) -> bool:
        return matches(value) is not None

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or not fits(value):
            raise _wrong(name, value, expected)
        return value

    return check


def _workload(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(name, value, "a workload's name")
    if value:
        workloads.named(value)
    return value


def _one_of(words: Sequence[str]) -> Callable[[str, object], object]:
    def check(name: str, value: object) -> object:
        if value not in words:
            raise _wrong(name, value, f"one of {', '.join(words)}")
        return value

    return check


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    if type(value) in (float, int) and -_ANY < value < _ANY:  # type: ignore[operator]  # what is neither was left out
        return value  # type: ignore[return-value]
    raise _wrong(name, value, "a finite number or null")


def _samples(name: str, value: object) -> tuple[float, ...]:
    if isinstance(value, list) and set(map(type, value)) <= {float, int}:
        least, most = (min(value), max(value)) if value else (0, 0)
        if least > -_ANY and most < _ANY:
            return tuple(value)
    raise _wrong(name, value, "a list of finite numbers")


def _rounds(name: str, value: object) -> tuple[int, ...]:
    if (
        isinstance(value, list)
        and set(map(type, value)) <= {int}
        and (not value or 0 <= min(value) <= max(value) < _ANY)
    ):
        return tuple(value)
    raise _wrong(name, value, "a list of whole numbers from 0")


def _trust(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list) and set(map(type, value)) <= {str}:
        return tuple(map(visible, value))
    raise _wrong(name, value, "a list of texts")


def _details(name: str, value: object) -> dict[str, Detail]:
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    return {visible(key): _detail(key, item) for key, item in value.items()}


def _words(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    return {_word(name, key): _word(key, item) for key, item in value.items()}


def _detail(name: str, value: object, depth: int = 2) -> Any:
    if isinstance(value, str):
        return visible(value)
    if value is None or type(value) is bool:
        return value
    if isinstance(value, list) and depth:
        return [_detail(name, item, depth - 1) for item in value]
    if isinstance(value, int | float):
        return _number(name, value)
    raise _wrong(name, value, "a text, a number, or a list or table of them")


def _path(name: str, value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= 500 and value.isprintable():
        for flavour in (PurePosixPath(value), PureWindowsPath(value)):
            if flavour.anchor or ".." in flavour.parts:
                break
        else:
            return value
    raise _wrong(name, value, "a path within the run folder")


def _wrong(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name} is {shown(value)}; expected {expected}")


_ANY = 1e300
"""Beyond it a sum of numbers may no longer be one."""
_LONGEST_TEXT = 4000
_MOST = {"s": 1e10, "B": 2.0**60, "1": 1e30}
"""Three centuries, an exbibyte, and more than any count."""
_SHORTEST_S = 1e-12
"""No clock tells less."""
_SHARES = ("accuracy", "tuning_accuracy", "ceiling")
_BY_ROUND = ("latency", "latency_cold", "launch")
"""Of whose samples ratios are taken round by round."""
DECODER = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_once)
"""Of JSON without the constants that are none, and without a name that stands there twice."""
_VARIANT = r"[\w .,=+()\[\]'-]{0,300}"
_QUANTITY = r"[A-Za-z][\w-]{0,99}"


def _whole(name: str, value: object) -> int:
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise _wrong(name, value, "a whole number from 0")


def _above_0(name: str, value: object) -> float:
    if type(value) in (int, float) and 0 < value < _ANY:  # type: ignore[operator]  # what is neither was left out
        return value  # type: ignore[return-value]
    raise _wrong(name, value, "a number above 0")


_DETAILS: Mapping[str, Mapping[str, Callable[[str, Any], object]]] = {
    "accuracy": dict.fromkeys(("study", "row", "family", "evaluation"), _text) | {"seed": _whole},
    "parameters": dict.fromkeys(("study", "question", "data", "row", "parent", "sight"), _text) | {"width": _above_0},
    "ceiling": dict.fromkeys(("data", "of", "family"), _text),
    "tuning_accuracy": dict.fromkeys(("data", "row"), _text) | {"learning_rate": _above_0},
    "training_loss": dict.fromkeys(("data", "row"), _text) | {"seed": _whole, "learning_rate": _above_0},
    "tested_on": dict.fromkeys(("data", "sha256"), _text),
    "deviation_from_corrected": {"unpadded": _number},
}
"""Details without which there is no page, by quantity."""
_word = _matching(r"[\w.+-]{1,100}", "a word of a variant's name")
_VARIANT_NAME = _matching(_VARIANT, "a variant's name, such as parallel+bf16")
_CELL: dict[str, Callable[[str, Any], object]] = {
    "task": _text,
    "variant": _VARIANT_NAME,
    "workload": _workload,
    "phase": _one_of(("", *workloads.PHASES)),
    "device": _matching(f"({devices.LABEL})?", devices.EXPECTED),
    "quantity": _matching(_QUANTITY, "a name, such as latency"),
}
_CHECKS: dict[type[Record], Mapping[str, Callable[[str, Any], object]]] = {
    Measurement: _CELL
    | {
        "unit": _one_of(get_args(Unit)),
        "value": _number,
        "samples": _samples,
        "rounds": _rounds,
        "trust": _trust,
        "details": _details,
    },
    Finding: _CELL
    | {
        "verdict": _one_of(get_args(Verdict)),
        "severity": _one_of(get_args(Severity)),
        "value": _number,
        "limit": _number,
        "summary": _text,
        "details": _details,
    },
    Skip: _CELL
    | {
        "quantity": _matching(f"({_QUANTITY})?", "a name, such as latency, or nothing"),
        "reason": _text,
        "cause": _one_of(get_args(Cause)),
        "remedy": _text,
        "details": _details,
    },
    Artifact: _CELL | {"path": _path},
    Description: {name: check for name, check in _CELL.items() if name != "quantity"}
    | {"mechanism": _VARIANT_NAME, "parent": _VARIANT_NAME, "ours": _VARIANT_NAME, "nearest": _VARIANT_NAME}
    | {"role": _one_of(get_args(Role)), "options": _words, "transforms": _words}
    | {"dtype": _text, "where": _text, "differs": _text},
}
_REQUIRED = {
    cls: {item.name for item in fields(cls) if item.default is MISSING and item.default_factory is MISSING}
    for cls in _KINDS.values()
}


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
