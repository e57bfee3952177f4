"""The standard streams, made so that what is printed can neither fail nor mix with an answer for programs."""

import codecs
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

from suite.core.errors import inert

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_PLAIN = {
    "×": "x", "·": "|", "–": "-", "—": "-", "\u2212": "-", "±": "+-", "µ": "u", "μ": "u", "…": "...", "²": "^2",
    "→": "->", "≥": ">=", "≤": "<=", "\u2019": "'", "“": '"', "”": '"',
}  # fmt: skip
"""What stands for signs that an encoding lacks; any other is written as its number."""
_LEFT = (errno.EPIPE, errno.EIO, errno.ECONNRESET)
"""Errors that say that nobody reads any more, which is the reader's choice and worth no words."""
_LONGEST_ERROR = 1200
"""Signs of an error that are printed: what it quotes, such as a number out of a file, may be of any length."""
_kept: list[TextIO] = []
"""The real standard output, where it is kept for the answer alone."""
answered = False
"""Whether a program has got its answer."""
_refused = ""
"""Why standard output did not take all, until that was said."""


def prepare(*, keep_stdout: bool = False) -> None:
    """Make printing safe for the rest of the process: any sign, into whatever the streams are, closed ones too.

    A stream that breaks (closed pipe, full disk, lost terminal) swallows what else is printed, so that measuring goes
    on; `lost` tells whether anybody misses it.

    Args:
        keep_stdout: keep standard output for `answer`; what anybody else prints, C code too, goes to standard error.
    """
    codecs.register_error("plainly", _plainly)
    for number in (0, 1, 2):
        _occupy(number)
    if keep_stdout:
        sys.stdout = sys.stdout or _lost()
        sys.stdout.flush()
        _kept[:] = [_stream(os.dup(1), sys.stdout)]
        os.dup2(2, 1)
    sys.stdout = _stream(1, sys.stdout)
    sys.stderr = _stream(2, sys.stderr, line_buffering=True)


def answer(text: str) -> None:
    """Write a line where answers for programs go: the standard output, kept for it or not."""
    global answered
    answered = True
    out = _kept[0] if _kept else sys.stdout
    out.write(text + "\n")
    out.flush()


def lost(page: object = None) -> bool:
    """Whether the system refused to take what was printed, as a full disk does; says so in a line, once.

    A reader who leaves has read enough, and a closed stream is one that nobody wants to read.

    Args:
        page: a file in which the same stands.
    """
    global _refused
    for stream in (*_kept, sys.stdout):
        stream.flush()
    why, _refused = _refused, ""
    if why:
        error(f"standard output: {why}; what was to be printed is lost" + (f", and stands in {page}" if page else ""))
    return bool(why)


def error(message: str) -> None:
    """Print one line about what went wrong; of a very long one the beginning and the end, where the way out stands."""
    line = inert(message)
    if len(line) > _LONGEST_ERROR:
        half = _LONGEST_ERROR // 2
        line = f"{line[:half]} … ({len(line) - 2 * half} signs left out) … {line[-half:]}"
    print(f"error: {line}", file=sys.stderr)


class _Sink(io.FileIO):
    """A file descriptor that takes everything: what it cannot write any more is lost."""

    def write(self, data: "ReadableBuffer", /) -> int:
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
            while written is None:  # it does not block, and is full
                select.select([], [self], [])
                written = super().write(data)
        except OSError as failure:
            number = self.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)  # else each further line would fail again, and the interpreter's own flush too
            os.close(nowhere)
            if failure.errno not in _LEFT and number != 2:
                global _refused
                _refused = failure.strerror or str(failure)
            return size
        return written


def _stream(number: int, now: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    encoding = getattr(now, "encoding", None) or "utf-8"
    if os.name == "nt" and isinstance(now, io.TextIOWrapper):  # a console there is no file of bytes
        now.reconfigure(errors="plainly")
        return now
    raw = _Sink(number, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="plainly", line_buffering=line_buffering or raw.isatty()
    )


def _lost() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _occupy(number: int) -> None:
    """Point a closed descriptor nowhere: else the next file that is opened gets its number, and what is printed."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_RDWR)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
        os.set_inheritable(number, True)


def _plainly(failure: UnicodeError) -> tuple[str, int]:
    assert isinstance(failure, UnicodeEncodeError)
    signs = failure.object[failure.start : failure.end]
    texts = (_PLAIN.get(sign) or sign.encode("unicode_escape", "surrogatepass").decode() for sign in signs)
    return "".join(texts), failure.end
