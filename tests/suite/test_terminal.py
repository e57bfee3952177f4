"""What people type stands in a terminal, and what they see there differs from what a pipe gets."""

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).parents[2]


def in_terminal(*arguments: str, columns: int = 80, timeout_s: float = 200) -> tuple[int, str]:
    """Run the command line with a pseudo-terminal for all three streams; the exit code and what was on the screen."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    with subprocess.Popen(
        [sys.executable, "run_all.py", *arguments], cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # Linux says so when the last process has left the terminal
                break
            if not chunk:
                break
            seen += chunk
        os.close(ours)
        return process.wait(timeout_s), seen.decode()


def test_a_run_shows_its_progress_and_ends_well(tmp_path: Path) -> None:
    code, screen = in_terminal(
        *("run", "parallel", "--workload", "tiny", "--phase", "forward", "--probe", "timing", "--budget", "12"),
        *("--out", str(tmp_path / "run")),
    )
    assert code == 0, screen
    assert " left" in screen
    assert "Traceback" not in screen
