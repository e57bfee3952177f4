"""TensorBoard as a person starts it, for tests that ask it or look at it."""

import contextlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a TensorBoard shows a folder."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen([*command, "--load_fast", "false"], stderr=subprocess.PIPE, text=True) as server:
        try:
            yield _announced(server)
        finally:
            server.terminate()


def _announced(server: "subprocess.Popen[str]") -> str:
    """Where it says that it listens."""
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        found = re.search(r"at (http://127\.0\.0\.1:\d+/)", line)
        if found:
            # whatever else it says must not fill the pipe
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return found[1]
    raise AssertionError("TensorBoard did not start:\n" + "".join(said))
