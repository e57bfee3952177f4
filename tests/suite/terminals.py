"""A pseudo-terminal to run the command line in: what people sit before, where a pipe is not."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import warm

ROOT = Path(__file__).parents[2]
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Terminal:
    """A command at work in a terminal of its own, whose foreground process group it is."""

    def __init__(
        self,
        *arguments: str | Path,
        columns: int = 80,
        environment: Mapping[str, str] | None = None,
        cold: bool = False,
    ) -> None:
        """Start it.

        Args:
            arguments: of the command line.
            columns: of the terminal.
            environment: beside that of this process.
            cold: whether it loads its libraries itself, for seconds, as it does for everybody who types it.
        """
        self.columns = columns
        self._seen = b""
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, columns))
        # a size that the tests were started with comes before that of the terminal
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        env |= {"TERM": "xterm-256color"} | (environment or {})
        self.process: subprocess.Popen[bytes] | warm.Process
        if cold:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _IN_FRONT, *map(str, arguments)],
                cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=env,
            )  # fmt: skip
        else:
            self.process = warm.Process(
                "run_all.py", *arguments, stdin=theirs, stdout=theirs, stderr=theirs, terminal=True, env=env
            )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)

    def press_ctrl_c(self) -> None:
        """As the terminal does it: SIGINT to everything in the foreground."""
        os.write(self._ours, b"\x03")

    def read_for(self, seconds: float) -> bool:
        """Read on for a while; whether it is still at work."""
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0:
            if not self._read(left_s):
                return False
        return self.process.poll() is None

    def listens(self, timeout_s: float = 60) -> bool:
        """Read on until the program answers signals itself, which takes Python a moment; False if it ends before."""
        deadline = time.monotonic() + timeout_s
        while self.read_for(0.01):
            assert time.monotonic() < deadline, f"it does not listen:\n{self.screen}"
            caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{self.process.pid}/status").read_text())
            if caught and int(caught[1], 16) & 1 << signal.SIGHUP - 1:
                return True
        return False

    def wait_for(self, text: str, timeout_s: float = 200) -> None:
        """Read on until a text has been on the screen."""
        deadline = time.monotonic() + timeout_s
        while text not in self.screen:
            assert time.monotonic() < deadline, f"{text!r} never came:\n{self.screen}"
            assert self._read(1.0), f"it ended before {text!r} came:\n{self.screen}"

    def end(self, timeout_s: float = 250) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + timeout_s
        while self._read(1.0):
            assert time.monotonic() < deadline, f"it does not end:\n{self.screen}"
        return self.process.wait(30)

    @property
    def screen(self) -> str:
        """Everything that was printed, without colours and movements of the cursor."""
        return _CONTROL.sub("", self._seen.decode(errors="replace")).replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        """Every line that stood on the screen, those of a bar that were drawn over too."""
        return [line.rstrip() for line in re.split(r"[\r\n]", self.screen)]

    @property
    def shows_cursor(self) -> bool:
        """Whether the cursor was left as it was found."""
        return self._seen.rfind(b"\x1b[?25l") <= self._seen.rfind(b"\x1b[?25h")

    def _read(self, timeout_s: float) -> bool:
        """Read what there is; False at the end."""
        if not select.select([self._ours], [], [], timeout_s)[0]:
            return self.process.poll() is None
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:  # Linux says so when the last process has left the terminal
            return False
        self._seen += chunk
        return bool(chunk)


_IN_FRONT = """
import fcntl, runpy, signal, sys, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv[0] = "run_all.py"
sys.path.insert(0, "")
runpy.run_path("run_all.py", run_name="__main__")
"""
"""Makes the terminal its own, so that Ctrl-C reaches it, hears signals as under a shell, whatever started the
tests, and becomes the command line."""
