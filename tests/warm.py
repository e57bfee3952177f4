"""Processes that have the libraries loaded when they begin, which is most of what starting the program takes.

::

    done = warm.run("run_all.py", "list", "--json")
    done = warm.run("-c", "from suite.core import streams; ...", stdout=warm.CLOSED)

Each is a process like any that a shell starts: with streams, a folder, an environment, signals and an end of its own,
and with none of this project's modules loaded. It is forked off a server that has loaded the libraries, which this
process of tests starts with the first of them; the program's own fork server is forked off the program. Where it
matters how the program is loaded, or what Python or a library reads of its environment meanwhile, tests start
``sys.executable``; so do those of the quick lane, which the server would take longer than they do.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

ROOT = Path(__file__).parents[1]
LIBRARIES = (
    "torch", "torch.profiler", "torch.utils.flop_counter", "torch._dynamo", "numpy", "pandas", "psutil",
    "scipy.special", "scipy.stats", "matplotlib.pyplot", "seaborn", "jinja2", "typer", "typer.rich_utils",
    "rich.progress",
)  # fmt: skip
OURS = ("suite", "variants", "tests", "run_all")
"""Modules that a fork server does not have from the program that it was forked off."""
CLOSED = -4
"""A stream that the process does not have; beside it there are `subprocess.PIPE` and `subprocess.DEVNULL`."""


class Process:
    """A process at work, much as `subprocess.Popen` has it."""

    def __init__(
        self,
        *arguments: str | Path,
        cwd: str | Path = ROOT,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        session: bool = False,
        terminal: bool = False,
    ) -> None:
        """Start it.

        Args:
            arguments: of Python: a file, ``-c`` and a program, or ``-m`` and a module, and what these are given.
            cwd: its folder.
            env: its environment; that of this process if left out.
            stdin: a file descriptor; that of this process if left out.
            stdout: as ``stdin``.
            stderr: as ``stdin``.
            session: whether it leads a session of its own.
            terminal: whether ``stdin`` is the terminal of that session.
        """
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = self._pipes = [None, None, None]  # type: list[IO[str] | None]
        asked = {
            "arguments": [*map(str, arguments)],
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "closed": [number for number, given in enumerate((stdin, stdout, stderr)) if given == CLOSED],
            "session": session or terminal,
            "terminal": terminal,
        }
        heard, told = os.pipe()
        self._heard = os.fdopen(heard, "rb", buffering=0)
        with ExitStack() as stack:
            stack.callback(os.close, told)
            request = stack.enter_context(tempfile.TemporaryFile())
            request.write(json.dumps(asked).encode())
            request.seek(0)
            nowhere = stack.enter_context(open(os.devnull, "r+b", buffering=0)).fileno()
            streams = []
            for number, given in enumerate((stdin, stdout, stderr)):
                if given == subprocess.PIPE:
                    ends = os.pipe()
                    theirs, ours = ends if number == 0 else ends[::-1]
                    stack.callback(os.close, theirs)
                    self._pipes[number] = os.fdopen(ours, "w" if number == 0 else "r")
                    given = theirs
                streams.append(number if given is None else given if given >= 0 else nowhere)
            socket.send_fds(_server(), [b"?"], [request.fileno(), told, *streams])
        self.stdin, self.stdout, self.stderr = self._pipes
        self.pid = int(self._heard.readline())

    def poll(self) -> int | None:
        """The exit code, negative where a signal ended it; None while it is at work."""
        if self.returncode is None and select.select([self._heard], [], [], 0)[0]:
            with self._heard:
                self.returncode = int(self._heard.readline())
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not after so many seconds.
        """
        if self.returncode is None:
            select.select([self._heard], [], [], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for its end, the ways to it closed."""
        for pipe in self._pipes:
            if pipe is not None:
                pipe.close()
        self.wait()


def run(
    *arguments: str | Path,
    cwd: str | Path = ROOT,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    timeout: float = 300.0,
) -> "subprocess.CompletedProcess[str]":
    """What `subprocess.run` gives of ``python ARGUMENTS``; what it prints is kept where no other stream is given."""
    with ExitStack() as stack:
        kept = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)]
        out, err = (
            file.fileno() if given is None else given for file, given in zip(kept, (stdout, stderr), strict=True)
        )
        process = Process(*arguments, cwd=cwd, env=env, stdin=stdin, stdout=out, stderr=err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        for file in kept:
            file.seek(0)
        return subprocess.CompletedProcess([*arguments], code, *(file.read() for file in kept))


_started: list[tuple[int, socket.socket]] = []


def _server() -> socket.socket:
    """The way to ask the server of this process, which ends with it."""
    if not _started or _started[0][0] != os.getpid():
        ours, theirs = socket.socketpair()
        with theirs:
            server = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        _started[:] = [(os.getpid(), ours)]
        atexit.register(_end, os.getpid(), ours, server)
    return _started[0][1]


def _end(owner: int, asking: socket.socket, server: "subprocess.Popen[bytes]") -> None:
    if owner == os.getpid():
        asking.close()
        server.wait()


def _serve(asking: socket.socket) -> tuple[dict[str, Any], Sequence[int]]:
    """Fork a child for each request, and tell how it ended; returns in the child, with what it is to become."""
    waking, wake = os.pipe()
    for end in (waking, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    told: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([asking, waking], [], [])
        if waking in ready:
            os.read(waking, 4096)
            with suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    pid, status = ended
                    _tell(told[pid], os.waitstatus_to_exitcode(status))
                    os.close(told.pop(pid))
        if asking not in ready:
            continue
        _, given, _, _ = socket.recv_fds(asking, 1, 5)
        if not given:  # whom it worked for has ended
            for pid in told:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        request, tell, *streams = given
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number in (waking, wake, tell, *told.values()):
                os.close(number)
            asking.close()
            with os.fdopen(request) as file:
                return json.load(file), streams
        for number in (request, *streams):
            os.close(number)
        told[pid] = tell
        _tell(tell, pid)


def _tell(whom: int, number: int) -> None:
    with suppress(BrokenPipeError):
        os.write(whom, b"%d\n" % number)


def _become(asked: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Be what was asked for, from its streams to its end."""
    if asked["session"]:
        os.setsid()
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        os.dup2(streams[number], number)
        os.close(streams[number])
        before = getattr(sys, name)
        stream = open(number, mode, encoding=before.encoding, errors=before.errors, closefd=False)  # noqa: SIM115
        if number in asked["closed"]:
            os.close(number)
            stream = None
        elif number == 2:
            stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if asked["terminal"]:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        _as_at_first(number)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    _spread()
    first, *rest = asked["arguments"]
    if first == "-m":
        sys.argv, sys.path[0] = rest, os.getcwd()
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = ModuleType("__main__")
    if first == "-c":
        program, file, sys.path[0] = rest.pop(0), "<string>", ""
    else:
        program, file, sys.path[0] = Path(first).read_text(), first, str(Path(first).resolve().parent)
        main.__file__ = file
    sys.argv = [first, *rest]
    exec(compile(program, file, "exec"), main.__dict__)


def _live(asked: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be what was asked for, and end as Python does; what the libraries hold is left to the system, which is quick."""
    code = 0
    try:
        _become(asked, streams)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else error.code is not None
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    except BaseException as error:
        code = 1
        sys.excepthook(type(error), error, error.__traceback__)
        if isinstance(error, KeyboardInterrupt):
            code = -signal.SIGINT
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except OSError as error:
            print(f"Exception ignored in: {stream!r}\n{type(error).__name__}: {error}", file=sys.__stderr__)
            code = 120  # as the interpreter has it
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 255)


def _as_at_first(number: int) -> None:
    """Answer a signal as Python does when it begins."""
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _spread() -> None:
    """Have a fork server forked off the program: started anew it would load the libraries once more."""
    from multiprocessing import process, util

    process.ORIGINAL_DIR = os.getcwd()  # which guests have on their path, and which was looked up by the server
    start = util.spawnv_passfds

    def fork_off(path: bytes, arguments: Sequence[Any], kept: Sequence[int]) -> int:
        program = os.fsdecode(arguments[-1])
        if "forkserver" not in program:
            return start(path, arguments, kept)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        pid = os.fork()
        if pid == 0:
            try:
                _serve_forks(program, kept)
            finally:
                os._exit(1)
        return pid

    util.spawnv_passfds = fork_off


def _serve_forks(program: str, kept: Sequence[int]) -> None:
    """Be a fork server that has the libraries, and of the program that it was forked off what it was given."""
    last = 2
    for number in sorted(kept):
        os.closerange(last + 1, number)
        last = number
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        _as_at_first(number)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    path = os.environ.get("PYTHONPATH", "")
    sys.path[:0] = path.split(os.pathsep) if path else []
    main = sys.modules["__main__"] = ModuleType("__main__")
    with suppress(SystemExit):
        exec(program, main.__dict__)
    os._exit(0)


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # which the children need not look through
    _live(*_serve(socket.socket(fileno=int(sys.argv[1]))))
