"""What was started does not outlive who started it."""

import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.slow

STARTER = """
import subprocess, sys
from suite.execution.tether import end_with_starter
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], preexec_fn=end_with_starter)
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its starter's end")
def test_a_child_ends_with_a_starter_that_was_killed() -> None:
    starter = subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    with starter.stdout:
        child = psutil.Process(int(starter.stdout.readline()))
    assert child.is_running()
    starter.kill()
    starter.wait()
    patience = time.monotonic() + 30
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < patience:
        time.sleep(0.05)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
