"""Ctrl-C and its kin: the first ends the work in good order, the second ends the process, leaving nothing behind."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from suite.core import exits

ASKING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals with which a person, a scheduler and a closed terminal ask for the end."""
_LONGEST_END_S = 2.0
"""For which a child may go on, once it was asked to end."""
_last: list[Callable[[], None]] = []
"""What is done before the process ends at once, the latest first."""
_asked = False
_installed_in = 0
"""The process that was asked to heed signals so; what it forks inherits the handlers, and is to end without a word."""


def install() -> None:
    """Let every asking signal raise ``KeyboardInterrupt`` once, and end the process the second time."""
    global _installed_in
    _installed_in = os.getpid()
    for number in ASKING:
        # nohup and a shell's & have a process ignore them, which stands
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)


def ignore() -> None:
    """Once everything is done and said: nothing is left to be ended but the interpreter, which is about to be."""
    for number in ASKING:
        signal.signal(number, signal.SIG_IGN)


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

        with before_ending(clear):
            yield Path(name)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _asked
    if os.getpid() != _installed_in:
        os._exit(exits.INTERRUPTED)
    if not _asked:
        _asked = True
        raise KeyboardInterrupt
    ignore()
    for act in reversed(_last):
        with contextlib.suppress(Exception):  # the others are still to be done
            act()
    os._exit(exits.INTERRUPTED)
