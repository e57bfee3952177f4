"""A process that keeps another one: it hears what that prints, sees how it ends, and ends whatever it leaves behind.

Code that is not ours may fork, leave a daemon, hold our pipes open, print without end, or kill its parent. So between
this program and such code stands a process that runs none of it. Whatever the code starts becomes a child of the keeper
when its own parent ends (on Linux), and nothing of it lives longer than the keeper does.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

from suite.execution.tether import end_with_starter

_LAST_WORDS_B = 4096
_SWEEP_S = 3.0
"""A process that has not died after so many seconds is left to the system."""
_FAREWELL_S = 1.0
"""A program that has closed its files may still be there for so many seconds."""


def keep(
    work: Callable[[], None], *, answers: int, alive: int, program: int, leftovers: Sequence[Path] = ()
) -> NoReturn:
    """Run ``work`` in a child of this process, and end with it and all that it started.

    It ends early on SIGTERM, and when the program that it works for has ended. The last line that it writes is
    ``{"ended": {"code": ..., "words": ...}}``: the exit code of the work, negative where a signal ended it, and the end
    of what was printed.

    Args:
        work: does not return before it is done; whatever it prints is heard here and goes nowhere else.
        answers: a file descriptor that the work writes lines to; the last is the keeper's.
        alive: a file descriptor that becomes readable when the program that this works for has ended, or wants no more.
        program: the process of that program.
        leftovers: folders that nobody removes where that program was killed; the keeper does then.
    """
    os.setsid()  # neither Ctrl-C nor a terminal that closes reaches it: its program decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans come to this process
    waking, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for noticed in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(noticed, lambda *_: None)
    printed, printing = os.pipe()
    keeper = os.getpid()
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        for noticed in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(noticed, signal.SIG_DFL)
        os.setsid()  # a module that kills its own group kills nobody else
        end_with_starter()
        if os.getppid() != keeper:
            os._exit(1)
        for number in (1, 2):
            os.dup2(printing, number)
        for number in (waking, wake, printed, printing):
            os.close(number)
        _do(work)
    os.close(printing)
    words = b""
    code: int | None = None
    orphaned = False
    listened = [alive, waking, printed]
    while code is None:
        ready, _, _ = select.select(listened, [], [])
        if printed in ready:
            heard = os.read(printed, 65536)
            words = (words + heard)[-_LAST_WORDS_B:]
            if not heard:
                listened.remove(printed)
        if alive in ready:
            orphaned = True
            break
        if waking in ready:
            came = os.read(waking, 4096)
            code = _reap(child)
            if code is None and signal.SIGTERM in came:  # which its program sends, or the work itself
                code = -signal.SIGTERM
    _sweep(child)
    os.set_blocking(printed, False)
    with suppress(OSError):
        while heard := os.read(printed, 65536):
            words = (words + heard)[-_LAST_WORDS_B:]
    if orphaned and _has_ended(program):
        for folder in leftovers:
            shutil.rmtree(folder, ignore_errors=True)
    ended = {"ended": {"code": code, "words": words.decode(errors="replace")}}
    with suppress(OSError):  # nobody listens any more
        # on a line of its own, whatever the work was in the middle of
        os.write(answers, f"\n{json.dumps(ended)}\n".encode())
    os._exit(0)


def _has_ended(program: int) -> bool:
    """Whether a process is gone, for good: what it had open is closed a moment before."""
    patience = time.monotonic() + _FAREWELL_S
    while time.monotonic() < patience:
        try:
            if psutil.Process(program).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def _do(work: Callable[[], None]) -> NoReturn:
    """Do the work and end: whatever it raises, it must not go on as a second keeper."""
    code = 1
    with suppress(BaseException):
        work()
        code = 0
    with suppress(BaseException):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _reap(child: int) -> int | None:
    """Take the exit codes of children that have ended; the child's own, where it is among them."""
    code = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
    return code


def _sweep(child: int) -> None:
    """End everything that is left of the child and of what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    patience = time.monotonic() + _SWEEP_S
    while time.monotonic() < patience:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:  # there is nobody left
            break
        if pid == 0:
            for one in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    one.kill()
            time.sleep(0.005)
