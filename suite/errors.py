"""Whose mistake it was: what a user can mend is a ``UserError``; every other exception is ours."""

import contextlib
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
