"""The program's door: from its first line on, whoever asks it to end is heard, and gets no traceback.

Loading the command line takes a second, torch several more, and Python's own answer to Ctrl-C meanwhile is a traceback
from wherever the import stood. So this module imports next to nothing.
"""

import os
import signal
import sys
from types import FrameType

_INTERRUPTED = 130


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
    from suite.cli import main as command

    command()


def _end(number: int, frame: FrameType | None) -> None:
    try:
        sys.stderr.write("error: interrupted\n")
        sys.stderr.flush()
    finally:  # nothing has been begun that would have to be ended
        os._exit(_INTERRUPTED)
