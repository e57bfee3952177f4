"""Whose mistake it was: what a user can mend is a ``UserError``; every other exception is ours."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator


class UserError(ValueError):
    """Something asked for cannot be done as asked; the message is one line that names it and shows a way out.

    Raised at the edges: where arguments, files and folders are first looked at. It ends a command with exit code 2 and
    that line alone. Any other exception, a plain ``ValueError`` too, counts as a mistake of this program: exit code 70
    and a traceback.
    """


@contextlib.contextmanager
def as_users(subject: str = "") -> Iterator[None]:
    """Take a ``ValueError`` from within as the user's: for checks of names in packages that do not know of this one.

    Args:
        subject: what was looked at, such as ``--shape``; stands before the message.

    Raises:
        UserError: instead of a ``ValueError``, with its message.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{subject}: {error}" if subject else str(error)) from error


def check_seconds(option: str, seconds: float | None, *, zero: bool = False) -> None:
    """Refuse a duration that no clock can count.

    Args:
        option: that it was given by, such as ``--timeout``.
        seconds: as they were given; None where they were not.
        zero: whether 0 means something.

    Raises:
        UserError: they are negative, endless or no number, or 0 where that means nothing.
    """
    if seconds is not None and not (0 < seconds < float("inf") or (zero and seconds == 0)):
        raise UserError(f"{option} {seconds:g}: expected seconds {'of at least' if zero else 'above'} 0")


_NAME = vars(type)["__name__"]


def words(error: BaseException) -> str:
    """An exception on one line, its type first, whatever its own ``__str__`` does."""
    try:
        text = str(error)
    except BaseException as second:  # it is a user's class
        text = f"its message cannot be read, {type(second).__name__}"
    kind = printable(_NAME.__get__(type(error)), most=80)  # a metaclass may answer anything else
    return f"{kind}: {printable(text)}" if text.strip() else kind


def printable(text: str, most: int = 300) -> str:
    """The beginning of a text on one line, without what moves a cursor or changes a colour."""
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * most])
    return " ".join(shown.split())[:most]


def inert(text: str) -> str:
    """A text as one line of which a terminal, editor or page shows every sign and obeys none: others are spelt out."""
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() else " " if sign.isspace() else sign.encode("unicode_escape").decode()
        for sign in text
    )


_SCARCE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EROFS)
"""What a system lacks, whatever it was asked to do."""
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # os.path alone, for the sake of a quick start


def of_the_system(error: OSError, place: object = "") -> str | None:
    """What the file system or the machine refused, in one line; None where the mistake can only be this program's.

    Args:
        error: as it was raised.
        place: what was being written or read, where the error does not say.
    """
    path = error.filename if error.filename is not None else place
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(path, int) or (path == "" and error.errno not in _SCARCE and "temporary directory" not in str(error)):
        return None
    if os.path.abspath(str(path)).startswith(_OURS + os.sep):
        return None
    where = f"{path}: " if path != "" else ""
    return f"{where}{error.strerror or error}"


def not_installed(error: ModuleNotFoundError) -> str | None:
    """Which package is missing, in one line; None where it is there without such a part, which only we can mend."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "suite", "variants") or sys.modules.get(package) is not None:
        return None
    return f"{package} is not installed: pip install -e . brings it, and whatever else is missing"
