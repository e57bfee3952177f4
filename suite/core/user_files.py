"""Files of the user's own: what one registers is told to this program, and run in processes of its own.

`load` runs a file, and belongs into such a process alone. What it registers is described there as plain data, from
which the program makes an `Introduced` for each mechanism: a name that can be asked for, with its options and parts,
and nothing that could be run.
"""

import errno
import inspect
import re
import stat
import sys
import types
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal, NoReturn, Union, get_args, get_origin

from suite.core.errors import UserError, printable, words
from variants import Attended, Batch, CoAttention, KnownDefect, mechanisms, register
from variants.build import option_types

_KINDS: dict[str, type] = {"int": int, "float": float, "bool": bool, "none": type(None)}
"""What an option's annotation may be made of, beside a literal; by the name under which it is told."""
_LARGEST_B = 16 * 2**20
"""Of a file that somebody wrote; a larger one would fill the memory before it is refused."""
_LONGEST_NAME = 100
"""With options and transforms a name still fits into a record, and into the name of a file."""
Description = dict[str, Any]
"""A mechanism as plain data."""


def load(path: Path, *, given_as: str = "--with") -> ModuleType:
    """Run a Python file in this process, so that what it registers is known here.

    Its own folder is searched first for what it imports, as Python does for a file that it runs; afterwards last, so
    that a ``random.py`` beside it takes nobody else's place.

    Args:
        path: of the file.
        given_as: where it was asked for, for the error.

    Raises:
        UserError: it is not there, or does not run to its end; says what.
    """
    check(path, given_as=given_as)
    # a name of its own: classes are found again by it, and it must not shadow a module of the same stem
    name = re.sub(r"\W", "_", f"with_{path.stem}_{_number(path)}")
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{given_as} {shown(path)}: expected a Python file, ending in .py")
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # whatever a user's file raises, an exit too, is said in one line
        del sys.modules[name]
        raise UserError(f"{given_as} {shown(path)}: {_where(error, path)}{words(error)}") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
            sys.path.append(folder)
    return module


def check(path: Path, *, given_as: str = "--with") -> None:
    """See that a file is one that can be tried, which needs no process of its own.

    Args:
        path: of the file.
        given_as: where it was asked for, for the error.

    Raises:
        UserError: it is not there, no ordinary file, or too large.
    """
    try:
        found = path.stat()
    except OSError as error:
        why = "there is no such file" if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) else error.strerror
        raise UserError(f"{given_as} {shown(path)}: {why}") from error
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{given_as} {shown(path)}: it is no ordinary file: expected a Python file")
    if found.st_size > _LARGEST_B:
        most = f"expected {_LARGEST_B // 2**20} MiB at most"
        raise UserError(f"{given_as} {shown(path)}: a Python file of {found.st_size / 2**20:.0f} MiB; {most}")


def shown(path: Path) -> str:
    """A path as it can be printed anywhere."""
    return printable(str(path).encode(errors="replace").decode(), most=1000)


def _number(path: Path) -> str:
    return f"{zlib.crc32(str(path.resolve()).encode(errors='surrogateescape')):08x}"


def _where(error: BaseException, path: Path) -> str:
    """The line of the file that an exception came through, where one is known."""
    if isinstance(error, SyntaxError):  # says so itself
        return ""
    lines = []
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == str(path):
            lines.append(step.tb_lineno)
        step = step.tb_next
    return f"line {lines[-1]}: " if lines else ""


def describe(files: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Load files, and tell of each mechanism that one of them registers; for a process of its own.

    Yields:
        ``{"file": path}`` before each, and then one ``{"mechanism": description}`` for each that it registers.

    Raises:
        UserError: one cannot be loaded, registers nothing, or something that is no mechanism; says what.
    """
    for text in dict.fromkeys(files):
        yield {"file": text}
        before = mechanisms()
        load(Path(text))
        new = {name: found for name, found in mechanisms().items() if before.get(name) is not found}
        if not new:
            raise UserError(
                f"--with {shown(Path(text))}: it registers no mechanism; "
                'expected @register("name") above a class that extends CoAttention'
            )
        for name, found in new.items():
            try:
                yield {"mechanism": _description(name, found) | {"file": text}}
            except Exception as error:
                raise UserError(f"--with {shown(Path(text))}: {name}: {words(error)}") from error


def _description(name: str, found: object) -> Description:
    if not isinstance(found, type) or not issubclass(found, CoAttention):
        raise TypeError("expected a class that extends CoAttention")
    if not isinstance(getattr(found, "source", None), str):
        raise TypeError("expected a class attribute 'source': what it implements, in a few words")
    if len(str(name)) > _LONGEST_NAME:
        raise ValueError(f"a name of {len(name)} characters; expected {_LONGEST_NAME} at most")
    if inspect.isabstract(found):
        raise TypeError(f"expected {', '.join(sorted(found.__abstractmethods__))} to be defined")
    options = {key: [_told(annotation), default] for key, (annotation, default) in option_types(found).items()}
    for key, (_, default) in options.items():
        if not isinstance(default, int | float | str | None):
            raise TypeError(f"expected a default for the option {key!r}, of a plain type")
    return {
        "name": name,
        "module": found.__module__,
        "qualname": found.__qualname__,
        "source": found.source,
        "parts": [str(part) for part in found.parts],
        "options": options,
        "known_defects": [asdict(defect) for defect in found.known_defects],
        "word_order_matters": bool(found.word_order_matters),
    }


def _told(annotation: object) -> list[str | list[Any]]:
    """An annotation as plain data: names of kinds, and lists of literals; others cannot be asked for."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    names = {kind: name for name, kind in _KINDS.items()}
    return [list(get_args(kind)) if get_origin(kind) is Literal else names.get(kind, str(kind)) for kind in kinds]


class Introduced(CoAttention):
    """A mechanism of a user's file, as far as this program knows it: it can be asked for, and not run here."""

    file: ClassVar[str]
    """Where it was given, as the user wrote it."""

    def forward(self, batch: Batch) -> Attended:
        raise _elsewhere(type(self))


def introduce(description: Description) -> None:
    """Make a mechanism known by what was told of it.

    Raises:
        UserError: its name is taken.
    """

    def init(self: CoAttention, **_: object) -> NoReturn:
        raise _elsewhere(type(self))

    named = inspect.Parameter
    init.__annotations__ = {key: _annotation(told) for key, (told, _) in description["options"].items()}
    init.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # which `inspect` looks for
        [
            named("self", named.POSITIONAL_OR_KEYWORD),
            *(named(key, named.KEYWORD_ONLY) for key in ("image_width", "question_width")),
            named("without", named.KEYWORD_ONLY, default=()),
            *(named(key, named.KEYWORD_ONLY, default=value) for key, (_, value) in description["options"].items()),
        ]
    )
    attributes = {
        "__init__": init,
        "__module__": description["module"],
        "__qualname__": description["qualname"],
        "file": description["file"],
        "source": description["source"],
        "parts": tuple(description["parts"]),
        "known_defects": tuple(KnownDefect(**defect) for defect in description["known_defects"]),
        "word_order_matters": description["word_order_matters"],
    }
    known = mechanisms().get(description["name"])
    place = (description["module"], description["qualname"])
    if known is not None and not issubclass(known, Introduced) and (known.__module__, known.__qualname__) == place:
        return  # it was loaded here, by somebody who trusts it
    try:
        register(description["name"])(type(description["qualname"].rpartition(".")[2], (Introduced,), attributes))
    except ValueError as error:
        raise UserError(f"--with {shown(Path(description['file']))}: {error}") from error


def _annotation(told: Sequence[str | list[Any]]) -> object:
    return Union[tuple(Literal[tuple(kind)] if isinstance(kind, list) else _KINDS.get(kind, str) for kind in told)]  # noqa: UP007


def _elsewhere(mechanism: type[CoAttention]) -> AssertionError:
    return AssertionError(f"{mechanism.__qualname__} is a user's: it runs in a process of its own")


def mechanism_file(mechanism: str) -> str | None:
    """The file that registers a mechanism, where it is a user's that was introduced here."""
    known = mechanisms().get(mechanism)
    return known.file if known is not None and issubclass(known, Introduced) else None


def needed(files: Sequence[str], used: Iterable[str]) -> tuple[str, ...]:
    """Of the files, those without which the mechanisms cannot be had: nobody else's process runs them."""
    homes = {mechanism_file(mechanism) for mechanism in used}
    introduced = {known.file for known in mechanisms().values() if issubclass(known, Introduced)}
    return tuple(path for path in files if path in homes or path not in introduced)
