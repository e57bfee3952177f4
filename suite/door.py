"""The program's door: from its first line on, whoever asks it to end is heard, and gets no traceback.

Loading the command line takes a second, torch several more, and Python's own answer to Ctrl-C meanwhile is a traceback
from wherever the import stood. So this module imports next to nothing.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130
_WRONG_COMMAND = 2


def ready() -> None:
    """Let every asking signal end the process at once, until `suite.core.interrupts.install` knows better."""
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
    if (error.name or "").partition(".")[0] in ("", "suite", "variants"):
        raise error
    if sys.argv[1:2] == ["gpu-slot"]:
        from suite.slot.__main__ import main as slot

        sys.exit(slot(sys.argv[2:]))
    sys.stderr.write(
        f"error: {error.name} is not installed: pip install -e . brings it, and whatever else is missing\n"
    )
    sys.exit(_WRONG_COMMAND)


def _end(number: int, frame: FrameType | None) -> None:
    try:
        sys.stderr.write("error: interrupted\n")
        sys.stderr.flush()
    finally:  # nothing has been begun that would have to be ended
        os._exit(_INTERRUPTED)
