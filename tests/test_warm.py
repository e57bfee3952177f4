"""What begins with its libraries loaded is a process like any other."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import warm

pytestmark = pytest.mark.slow

PROGRAMS = {
    "ends": "print('said')",
    "exits": "import sys; print('said'); sys.exit(3)",
    "exits with words": "import sys; sys.exit('why')",
    "raises": "raise KeyError('why')",
    "is interrupted": "raise KeyboardInterrupt",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "tidies up": "import atexit; atexit.register(print, 'last')",
    "waits for its threads": "import threading as t; e = t.Event(); "
    "t.Thread(target=lambda: (e.wait(.1), print(1))).start()",
    "tells of itself": "import json, os, sys; print(json.dumps([sys.argv, sys.path[0], __name__, os.getcwd(), "
    "os.environ['ASKED'], sorted(os.listdir('/proc/self/fd'))[:4], sys.stdin.isatty()]))",
    "answers signals": "import signal; print([signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)])",
    "reads": "import sys; print(sys.stdin.read())",
    "has nothing of ours": "import sys; print([m for m in sys.modules if m.split('.')[0] in ('suite', 'variants')])",
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks its streams up where only Linux has them")
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_as_python_has_it(name: str, tmp_path: Path) -> None:
    command = ["-c", PROGRAMS[name], "an argument"]
    env = os.environ | {"ASKED": "ü"}
    (tmp_path / "given").write_text("given")
    with (tmp_path / "given").open() as given:
        found = warm.run(*command, cwd=tmp_path, env=env, stdin=given.fileno())
    with (tmp_path / "given").open() as given:
        expected = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, stdin=given, capture_output=True, text=True, check=False
        )
    assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout)
    assert found.stderr.splitlines()[-1:] == expected.stderr.splitlines()[-1:]


def test_a_file_and_a_module_are_run_as_such(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import sys, beside; print(__name__, __file__, sys.argv[1:], beside.VALUE)")
    (tmp_path / "beside.py").write_text("VALUE = 7")
    for arguments, file in (((tmp_path / "own.py", "x"), tmp_path / "own.py"), (("-m", "own", "x"), "own.py")):
        done = warm.run(*arguments, cwd=tmp_path)
        assert done.stdout.split() == ["__main__", str(tmp_path / file), "['x']", "7"], done.stderr


def test_a_stream_may_be_closed_and_a_signal_ends_it() -> None:
    assert json.loads(
        warm.run("-c", "import sys; sys.stderr.write(str(int(sys.stdout is None)))", stdout=warm.CLOSED).stderr
    )
    with warm.Process("-c", "import time; print(1, flush=True); time.sleep(600)", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM


GUESTS = """
import sys
from suite.execution import guest
from tests.suite.execution import houseguests
if __name__ == "__main__":
    print(list(guest.stream(houseguests.loud, 2, timeout_s=60)), flush=True)
"""


def test_its_fork_server_has_the_libraries_and_ends_with_it(tmp_path: Path) -> None:
    done = warm.run("-c", GUESTS)
    assert done.stdout.startswith("[{'row': 0"), done.stderr
