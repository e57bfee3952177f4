"""Code that is not ours runs as a guest: in a process of its own, from which nothing but plain data comes back.

::

    for row in guest.stream(rows_of, "module.py", "Model", timeout_s=600):
        print(row)

``rows_of`` is a function of this program that a module defines at its top, called with arguments that pickle, and
yields plain data: ``None``, numbers, strings, lists, and mappings from strings. It may run what a user wrote. Whatever
that does (exit, crash, hang, fork, print without end, raise anything) ends as a `Lost` with the reason, and as nothing
else: what it prints goes nowhere, and nothing that it started lives on. Errors that the user can mend cross as
`UserError`; raise one in ``rows_of`` for a file that is not there.
"""

import json
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from suite.core.errors import UserError, printable
from suite.execution import keeper, tether
from suite.execution.jobs import Cause, Ending

PRELOADED = [
    "suite.execution.tether",
    *("torch", "torch.profiler", "torch.utils.flop_counter", "scipy.special", "psutil", "typer"),
]
"""Imported once, before the processes fork off; none of them starts a thread or a device."""
COMPILER = "torch._dynamo"
"""Takes longer to load than all of these: a guest that needs it and finds it missing loads it itself."""
ROOT = Path(__file__).parents[2]
LONGEST_START_S = 300.0
"""A process that has not begun after so many seconds counts as hung; the first one waits until torch is loaded."""
_LONGEST_END_S = 5.0
_WHOLE_MESSAGES = os.name == "nt"
"""Whether a pipe gives whole messages alone: on Windows a read would wait for the rest of one, which may never come."""
# as they are before a user's code can put others in their place
_ENCODER, _write, _own_number, _leave = json.JSONEncoder(), os.write, os.getpid, os._exit
_speaker = 0
"""The process that may speak: the work of a guest."""
_MOST_UNREAD_B = 2**28
"""A line that is longer is none of ours."""


class Lost(Exception):
    """A guest ended before it was done; the message is the reason, on one line."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending

    @property
    def cause(self) -> Cause:
        return self.ending.cause


def context() -> ForkServerContext | SpawnContext:
    """Processes that start in milliseconds with torch loaded, where the system can fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    return made


def warm_up(*, compiler: bool = False) -> None:
    """Begin to load torch for the guests, beside whatever the caller does next.

    Args:
        compiler: whether several of them will need it: ``torch.compile``, and every optimizer of ``torch.optim``.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    if compiler and COMPILER not in PRELOADED:
        PRELOADED.append(COMPILER)
    context()
    path = os.environ.get("PYTHONPATH", "")
    asked = {
        # OpenMP reads it when torch is loaded: threads that wait must not spin on a core that somebody else could use
        "OMP_WAIT_POLICY": "PASSIVE",
        # the server would find nothing of ours where the program was started from another folder
        "PYTHONPATH": os.pathsep.join([str(ROOT), *([path] if path else [])]),
        tether.ASKED: f"{os.getpid()} {path}",
    }
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update(asked)
    # first, since it lets Ctrl-C through once it has started, and then the server would begin without what follows
    resource_tracker.ensure_running()
    # until the server ignores Ctrl-C, which is not meant for it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class Guest:
    """A function at work in a process of its own."""

    def __init__(self, function: Callable[..., Iterable[object]], *arguments: object, temporary: Path | None = None):
        """Start it.

        Args:
            function: of this program, defined at the top of a module; yields plain data.
            arguments: of the function; they must pickle.
            temporary: a folder that is removed where this program is killed while the guest is at work.
        """
        warm_up()  # a server that has ended is started again
        made = context()
        self.ending: Ending | None = None
        """How it ended, once that is known."""
        self._asked_for = time.monotonic()
        self._began: float | None = None
        self._ended: float | None = None
        self._unread = b""
        self._exit: tuple[int | None, str] | None = None
        self._receiving, sending = made.Pipe(duplex=False)
        if not _WHOLE_MESSAGES:
            os.set_blocking(self._receiving.fileno(), False)
        leftovers = tuple(path for path in (temporary, Path(util.get_temp_dir())) if path is not None)
        self._process: BaseProcess = made.Process(
            target=_live, args=(function, arguments, sending, leftovers), daemon=True
        )
        self._process.start()
        sending.close()

    @property
    def waitables(self) -> tuple[Connection | int, ...]:
        """What `multiprocessing.connection.wait` takes: one is ready when there is something to hear."""
        return (self._receiving, self._process.sentinel)

    @property
    def elapsed_s(self) -> float:
        """From when the process began until it was closed; the first one waits for torch to be loaded."""
        now = time.monotonic() if self._ended is None else self._ended
        return now - self._began if self._began is not None else 0.0

    @property
    def waited_s(self) -> float:
        """How long the process has been waited for, 0 once it began."""
        return time.monotonic() - self._asked_for if self._began is None else 0.0

    def hear(self) -> list[Any]:
        """What the function has yielded since, without waiting; `ending` is known when it has ended."""
        gone = self._process.exitcode is not None  # looked at first: what was sent before is there by now
        closed = self._read()
        said = []
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            said += self._take(line)
        if len(self._unread) > _MOST_UNREAD_B:
            self.ending = self.ending or Ending(way="raised", reason="its process wrote into the pipe of its answers")
        if self.ending is None and (gone or closed):
            self.ending = self._death()
        return said

    def close(self) -> None:
        """End the process and everything that it has started."""
        if self._receiving.closed:
            return
        self._ended = time.monotonic()
        with suppress(OSError):
            self._process.terminate()  # to the keeper, which ends the others first
        patience = time.monotonic() + _LONGEST_END_S
        # what it still has to say would hold it up
        while not self._read() and self._process.exitcode is None and time.monotonic() < patience:
            wait(self.waitables, 0.1)
        for line in self._unread.split(b"\n"):
            self._take(line)
        self._unread = b""
        self._process.join(max(0.0, patience - time.monotonic()))
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join(1)
        self._receiving.close()

    @property
    def last_words(self) -> str:
        """The last line that the process has printed, once it has ended; or empty."""
        return self._exit[1] if self._exit is not None else ""

    def _read(self) -> bool:
        """Take what has arrived; whether no more can come."""
        while len(self._unread) <= _MOST_UNREAD_B:
            try:
                if _WHOLE_MESSAGES:
                    if not self._receiving.poll():
                        return False
                    arrived = self._receiving.recv_bytes()
                else:
                    arrived = os.read(self._receiving.fileno(), 2**20)
            except BlockingIOError:
                return False
            except (OSError, EOFError):
                return True
            if not arrived:
                return True
            self._unread += arrived
        return False

    def _take(self, line: bytes) -> list[Any]:
        """What one line holds; a torn one, as a process leaves that is ended midway, holds nothing."""
        try:
            message = json.loads(line)
            ((kind, value),) = message.items()
        except (ValueError, AttributeError, RecursionError):
            return []
        match kind:
            case "said":
                return [value]
            case "begun":
                self._began = time.monotonic()
            case "done":
                self.ending = self.ending or Ending(way="done")
            case "refused" | "raised" if self.ending is None:
                with suppress(TypeError):
                    self.ending = Ending(way=kind, **value)
            case "ended":
                with suppress(TypeError, KeyError):
                    self._exit = value["code"], _last_line(value["words"])
        return []

    def _death(self) -> Ending:
        """How a process ended that did not say so itself."""
        if self._exit is None:
            self._process.join(1)
        code = self._exit[0] if self._exit is not None else self._process.exitcode
        printed = f": {self.last_words}" if self.last_words else ""
        if code is not None and code < 0:
            name = _signal_name(-code)
            hint = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
            return Ending(way="killed", reason=f"ended by {name}{hint}{printed}", cause="killed")
        return Ending(way="exited", reason=f"ended with exit code {code}{printed}")


def stream(function: Callable[..., Iterable[object]], *arguments: object, timeout_s: float) -> Iterator[Any]:
    """Run a function as a guest and yield what it yields, as soon as it does.

    Args:
        function: of this program, defined at the top of a module; yields plain data.
        arguments: of the function; they must pickle.
        timeout_s: after so many seconds, counted from when the process began, it counts as hung.

    Raises:
        UserError: the function raised one.
        Lost: it ended in any other way before it was done.
    """
    one = Guest(function, *arguments)
    try:
        while one.ending is None:
            wait(one.waitables, 0.25)
            yield from one.hear()
            if one.ending is None and one.elapsed_s > timeout_s:
                raise Lost(Ending(way="killed", reason=f"no end after {one.elapsed_s:.0f} s", cause="timeout"))
            if one.ending is None and one.waited_s > LONGEST_START_S:
                reason = f"its process did not begin within {one.waited_s:.0f} s"
                raise Lost(Ending(way="killed", reason=reason, cause="timeout"))
    finally:
        one.close()
    if one.ending.way == "refused":
        raise UserError(one.ending.reason)
    if one.ending.way != "done":
        raise Lost(one.ending)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return printable(lines[-1]) if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _live(
    function: Callable[..., Iterable[object]],
    arguments: Sequence[object],
    sending: Connection,
    leftovers: tuple[Path, ...],
) -> None:
    """The life of a guest: runs in the new process."""

    def work() -> None:
        global _speaker
        _speaker = os.getpid()
        _say(sending, "begun", None)
        _say(sending, *_worked(function, arguments, sending))

    program = multiprocessing.parent_process()
    assert program is not None
    if hasattr(os, "fork"):
        keeper.keep(
            work, answers=sending.fileno(), alive=program.sentinel, program=program.pid or 0, leftovers=leftovers
        )
    with open(os.devnull, "wb") as nowhere:
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
    work()


def _worked(
    function: Callable[..., Iterable[object]], arguments: Sequence[object], sending: Connection
) -> tuple[str, dict[str, str] | None]:
    try:
        for value in function(*arguments):
            _say(sending, "said", value)
    except UserError as error:
        return "refused", {"reason": str(error)}
    except BaseException as error:  # a user's code may raise anything, and here it all is the same
        from suite.core.failures import refusal

        sorted_out = refusal(error)
        cause = "memory" if sorted_out["cause"] == "memory" else "error"
        return "raised", {"reason": sorted_out["reason"], "cause": cause, "trace": _trace(error)}
    return "done", None


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-20))[-8000:]
    except BaseException as second:  # it is a user's class
        return f"its traceback cannot be read: {type(second).__name__}"


def _say(sending: Connection, kind: str, value: object) -> None:
    if _own_number() != _speaker:  # a user's code has forked, and its child goes on as if it were this one
        _leave(0)
    line = _ENCODER.encode({kind: value}).encode() + b"\n"
    if _WHOLE_MESSAGES:
        sending.send_bytes(line)
        return
    rest = memoryview(line)
    while rest:
        rest = rest[_write(sending.fileno(), rest) :]
