"""Ties the fork server to the program that starts it: loaded there first, before torch, which takes seconds.

Without it a program that is killed in those seconds leaves a server behind that goes on loading torch for nobody, and
Ctrl-C, which a terminal sends to every process in front of it, has the server print a traceback. It does something only
where `suite.execution.guest` has asked for it through the environment.
"""

import ctypes
import os
import signal
import sys

ASKED = "COATTENTION_STARTER"
"""In the environment of a fork server: the process that started it, and the ``PYTHONPATH`` that it had before."""


def end_with_starter() -> None:
    """Have this process killed when the thread that started it ends; Linux alone can, elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


if ASKED in os.environ:
    end_with_starter()
    # whoever sits before the terminal means the program, which ends this process; it was started with Ctrl-C held back
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _starter, _, _path = os.environ.pop(ASKED).partition(" ")
    if _path:
        os.environ["PYTHONPATH"] = _path
    else:
        os.environ.pop("PYTHONPATH", None)
    if sys.platform == "linux" and os.getppid() != int(_starter):  # it had ended before it could be asked for
        os._exit(1)
