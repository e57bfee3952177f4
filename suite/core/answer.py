"""What a command comes to in the end: words for a person, or one JSON object for a program."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from rich.console import Console, RenderableType

from suite.core import exits, streams

WIDTH = 150
"""Columns where the output is no terminal and so has no width of its own."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a command speaks."""

    json: bool = False
    """The answer alone, as one JSON object on standard output."""
    quiet: bool = False
    """Nothing but errors and the last line of the answer."""

    def console(self) -> Console:
        """Where progress is told meanwhile: standard error, or nowhere."""
        # no markup: it would take the [options] of a variant for its own
        console = Console(stderr=True, markup=False, highlight=False, quiet=self.quiet)
        console.soft_wrap = not console.is_terminal  # a terminal would cut words
        return console


SPOKEN = Manner()
"""As a person is told who asked for nothing else."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command found out, for whoever asked."""

    code: int
    """The exit code."""
    words: Sequence[RenderableType] = ()
    """What is printed."""
    last: str = ""
    """The line below it, what a person needs most: the page's path, or the verdict. ``--quiet`` leaves it alone."""
    data: Mapping[str, object] = field(default_factory=dict)
    """What a program gets: base units, plain values."""

    @property
    def file(self) -> object:
        """The file that was written before, and says the same to a person; None where there is none."""
        return next((self.data[name] for name in ("page", "archive", "readme") if self.data.get(name)), None)


def give(answer: Answer, manner: Manner = SPOKEN) -> int:
    """Print an answer as it was asked for, and return its exit code.

    Everything measured has to be on disk before: whoever reads may leave at any line. Where the system refuses to take
    it, a command that was to answer a program, or has left no file that says the same, has not done what it was asked.
    """
    if manner.json:
        streams.answer(as_json({"exit_code": answer.code} | dict(answer.data)))
    else:
        if not manner.quiet:
            console = screen()
            for part in answer.words:
                console.print(part)
        if answer.last and answer.file is None and screen().is_terminal:
            screen().print(answer.last)  # a sentence is folded between words
        elif answer.last:
            print(answer.last)  # a path stays whole, to be copied, and a script gets one line
    missed = streams.lost(answer.file) and (manner.json or not answer.file)
    return answer.code or (exits.WRONG_COMMAND if missed else exits.DONE)


def fail(
    message: str,
    code: int,
    manner: Manner,
    *,
    data: Mapping[str, object] | None = None,
    aloud: bool = True,
) -> int:
    """Say in one line what went wrong, to a program too where it asked for JSON, and return the exit code."""
    if aloud:
        streams.error(message)
    if manner.json:
        streams.answer(as_json({"exit_code": code, "error": message} | dict(data or {})))
    return code


def screen() -> Console:
    """Standard output, as wide as its terminal, and wide where it is none."""
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def as_json(value: object) -> str:
    """One line of JSON in ASCII; numbers that are not finite become null, and what JSON does not know becomes text."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: object) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case PurePath():
            return str(value)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case Sequence() | set() | frozenset():
            return [_plain(item) for item in value]
    item = getattr(value, "item", None)  # numpy's and pandas' single values
    return _plain(item()) if callable(item) else str(value)
