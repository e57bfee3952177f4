"""Ctrl-C and its kin: the first ends the work in good order, the second ends the process, leaving nothing behind.

Where no work has begun that could be lost, the first one ends the process too. An exception that is raised wherever the
program stands is no way to end it then: it mostly stands within an import, and numpy or torch, half loaded, go on as if
nothing had been asked.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing import util
from pathlib import Path
from types import FrameType

from suite.core import exits

ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals with which a person, a scheduler and a closed terminal ask for the end."""
_LONGEST_END_S = 2.0
"""A child may go on for so many seconds once it was asked to end."""
_SWEEPER = """
import shutil, sys, time
if not sys.stdin.buffer.read(1):
    for _ in range(5):  # whoever still writes there is about to end, too
        for folder in sys.argv[1:]:
            shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)
"""
_last: list[Callable[[], None]] = []
"""What is done before the process ends at once, the latest first."""
_asked = False
_heeding = False
"""Whether there is work to bring to a good end."""
_installed_in = 0
"""The process that was asked to heed signals so; what it forks inherits the handlers, and is to end without a word."""


def _nothing() -> None:
    """Say nothing."""


_last_words: Callable[[], object] = _nothing


def install(last_words: Callable[[], object] = _nothing) -> None:
    """Let an asking signal end the process, but the first one `heeded` raise ``KeyboardInterrupt`` instead.

    Args:
        last_words: said where the first one ends it.
    """
    global _installed_in, _last_words
    _installed_in, _last_words = os.getpid(), last_words
    for number in ASKING:
        # nohup and a shell's & have a process ignore them, which stands
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def ignore() -> None:
    """Once everything is done and said: nothing is left to be ended but the interpreter, which is about to be."""
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def heeded() -> Iterator[None]:
    """While within, the first asking signal raises ``KeyboardInterrupt``: there is work to bring to a good end."""
    global _heeding
    before, _heeding = _heeding, True
    try:
        yield
    finally:
        _heeding = before


@contextlib.contextmanager
def before_ending(act: Callable[[], None]) -> Iterator[None]:
    """While within, have something done should the process be ended at once: a file removed, a child killed."""
    _last.append(act)
    try:
        yield
    finally:
        _last.remove(act)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, however the process ends; what still writes into it is killed first."""
    with tempfile.TemporaryDirectory(prefix="coattention-", ignore_cleanup_errors=True) as name:

        def clear() -> None:
            for child in multiprocessing.active_children():
                child.terminate()  # to its keeper, which ends what it has started first
            for child in multiprocessing.active_children():
                child.join(_LONGEST_END_S)
                child.kill()
            shutil.rmtree(name, ignore_errors=True)

        with before_ending(clear), _swept_if_killed(name, util.get_temp_dir()):
            yield Path(name)


@contextlib.contextmanager
def _swept_if_killed(*folders: str) -> Iterator[None]:
    """While within, have folders removed should this process be killed, when it can do nothing itself.

    A small process waits for that: a pipe that nobody holds any more tells it.
    """
    with contextlib.ExitStack() as stack:
        if os.name == "posix":
            with contextlib.suppress(OSError):  # then nobody sweeps, and all else goes on
                sweeper = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _SWEEPER, *folders],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,  # neither Ctrl-C nor a terminal that closes reaches it
                )
                stack.callback(_dismiss, sweeper)
        yield


def _dismiss(sweeper: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        sweeper.communicate(b"d", timeout=_LONGEST_END_S)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _asked
    if os.getpid() != _installed_in:
        os._exit(exits.INTERRUPTED)
    first, _asked = not _asked, True
    if first and _heeding:
        raise KeyboardInterrupt
    ignore()
    for act in (*reversed(_last), _clear_pipes, *([_last_words] if first else ())):
        with contextlib.suppress(Exception):  # the others are still to be done
            act()
    os._exit(exits.INTERRUPTED)


def _clear_pipes() -> None:
    """Remove the folder of the sockets to other processes, which is otherwise left to the interpreter's own end."""
    shutil.rmtree(util.get_temp_dir(), ignore_errors=True)
