"""The program's door: from its first line on, whoever asks it to end is heard, and gets no traceback.

Loading the command line takes a second, torch several more, and Python's own answer to Ctrl-C meanwhile is a traceback
from wherever the import stood. So this module imports next to nothing, and
is written so that a Python that is too old for the rest can read it, and say so.
"""

import os
import signal
import sys
from typing import NoReturn

_OLDEST = (3, 11)  # as in pyproject.toml, which nobody has installed yet who types run_all.py first
_INTERRUPTED = 130
_WRONG_COMMAND = 2


def ready() -> None:
    """Refuse a Python that is too old, and let every asking signal end the process at once.

    The signals are `suite.core.interrupts.install`'s once that is loaded.
    """
    if sys.version_info[:2] < _OLDEST:
        oldest, this = (".".join(map(str, version[:3])) for version in (_OLDEST, sys.version_info))
        _refuse(f"this is Python {this}: expected {oldest} or newer, such as a venv of python{oldest}")
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # nohup and a shell's & have a process ignore them, which stands
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def main() -> None:
    """What the console script ``coattention`` runs."""
    ready()
    try:
        from suite.cli import main as command
    except ModuleNotFoundError as error:
        without(error)
    command()


def without(error: ModuleNotFoundError) -> NoReturn:
    """End in one line, since the command line cannot be loaded; but a slot on a GPU, which needs none of it, begins."""
    from suite.core import errors

    missing = errors.not_installed(error)
    if missing is None:
        raise error
    if sys.argv[1:2] == ["gpu-slot"]:
        from suite.slot.__main__ import main as slot

        sys.exit(slot(sys.argv[2:]))
    _refuse(missing)


def _refuse(what: str) -> NoReturn:
    sys.stderr.write(f"error: {what}\n")
    sys.exit(_WRONG_COMMAND)


def _end(number: int, frame: object) -> None:
    try:
        sys.stderr.write("error: interrupted\n")
        sys.stderr.flush()
    finally:  # nothing has been begun that would have to be ended
        os._exit(_INTERRUPTED)
