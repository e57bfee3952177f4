"""A guest may do what it likes: nothing comes of it but plain data, and nothing of it stays."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from suite.core.errors import UserError
from suite.execution import guest
from tests.suite.execution import houseguests

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its starter's end")
ROOT = Path(__file__).parents[3]


def heard(function: Callable[..., Iterable[object]], *arguments: object) -> tuple[list[object], guest.Lost | None]:
    said: list[object] = []
    try:
        said += guest.stream(function, *arguments, timeout_s=600)
    except guest.Lost as error:
        return said, error
    return said, None


def gone(pid: int, within_s: float) -> bool:
    patience = time.monotonic() + within_s
    while time.monotonic() < patience:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


def test_what_it_yields_comes_back_whatever_it_prints() -> None:
    said, lost = heard(houseguests.loud, 3)
    assert lost is None
    assert said == [{"row": index, "note": "ü \ud800"} for index in range(3)]


@pytest.mark.parametrize(
    ("function", "cause", "reason"),
    [
        (houseguests.exits, "error", "SystemExit: 0"),
        (houseguests.exits_at_once, "error", "ended with exit code 0"),
        (houseguests.says_why, "error", "ended with exit code 3: the [31mreason"),
        (houseguests.crashes, "killed", "ended by SIGSEGV"),
        (houseguests.ends_its_parent, "killed", "ended by SIG"),
        # whose parent, that of all guests, has to load torch again
        pytest.param(houseguests.kills_its_parent, "killed", "ended by SIGKILL", marks=pytest.mark.slow),
        (houseguests.kills_its_group, "killed", "ended by SIGKILL"),
        (houseguests.closes_everything, "error", "ended with exit code 1"),
        (houseguests.interrupts, "error", "KeyboardInterrupt"),
        (houseguests.cannot_say_why, "error", "Mute: its message cannot be read, ZeroDivisionError"),
        (houseguests.takes_memory, "memory", "out of memory"),
        (houseguests.yields_what_is_not_plain, "error", "TypeError: Object of type object is not JSON serializable"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_way_to_end_has_its_reason_and_costs_nothing_said_before(
    function: Callable[[], Iterable[object]], cause: str, reason: str
) -> None:
    said, lost = heard(function)
    assert said == [1]
    assert lost is not None
    assert (lost.cause, str(lost)[: len(reason)]) == (cause, reason)
    assert "\n" not in str(lost)


@pytest.mark.parametrize("function", [houseguests.hangs, houseguests.floods])
def test_what_does_not_end_is_ended(function: Callable[[], Iterable[object]]) -> None:
    with pytest.raises(guest.Lost, match="no end after") as caught:
        list(guest.stream(function, timeout_s=1))
    assert caught.value.cause == "timeout"


def test_what_a_guest_has_forked_off_says_nothing_in_its_name() -> None:
    said, lost = heard(houseguests.forks_and_goes_on)
    assert said == [1, 2]
    assert str(lost) == "ValueError"


def test_a_mistake_of_the_user_is_still_the_users() -> None:
    with pytest.raises(UserError, match=r"own\.py: there is no such file"):
        list(guest.stream(houseguests.is_the_users_mistake, timeout_s=600))


@pytest.mark.parametrize("function", [houseguests.leaves_a_daemon, houseguests.leaves_a_daemon_and_hangs])
def test_a_daemon_does_not_outlive_its_guest(function: Callable[[str], Iterable[object]], tmp_path: Path) -> None:
    path = tmp_path / "pid"
    for value in guest.stream(function, str(path), timeout_s=600):
        assert value == 1
        break  # a reader that wants no more ends it, too
    assert gone(int(path.read_text()), within_s=5)


STARTER = """
import sys, time
from pathlib import Path
from suite.execution import guest
from tests.suite.execution import houseguests
if __name__ == "__main__":
    if sys.argv[1] == "loading":
        guest.warm_up()
        print("loading", flush=True)
    else:
        one = guest.Guest(houseguests.leaves_a_daemon_and_hangs, sys.argv[1], temporary=Path(sys.argv[2]))
        while not one.hear():
            time.sleep(0.01)
        print("begun", flush=True)
    time.sleep(1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
def test_a_killed_program_leaves_no_process_that_still_loads_torch(after_s: float, tmp_path: Path) -> None:
    script = tmp_path / "starter.py"
    script.write_text(STARTER)
    family = started(script, "loading")
    time.sleep(after_s)
    kill(family)


WATCHED = """
import os, signal
from multiprocessing import util
from suite.execution import guest
start, kept = util.spawnv_passfds, []
def watched(*arguments):
    kept.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    return start(*arguments)
util.spawnv_passfds = watched
guest.warm_up()
print(kept, signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_ctrl_c_is_held_back_from_each_process_that_the_fork_server_begins_with() -> None:
    ended = subprocess.run([sys.executable, "-c", WATCHED], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout.split() == ["[True,", "True]", "False"], ended.stderr


@pytest.mark.slow
def test_a_killed_program_leaves_no_guest_no_daemon_and_no_temporary_files(tmp_path: Path) -> None:
    script, temporary = tmp_path / "starter.py", tmp_path / "temporary"
    script.write_text(STARTER)
    temporary.mkdir()
    kill(started(script, tmp_path / "pid", temporary))
    assert gone(int((tmp_path / "pid").read_text()), within_s=5)
    assert not temporary.exists()


def started(script: Path, *arguments: str | Path) -> list[psutil.Process]:
    """A program that has said that it began, and all its processes."""
    process = psutil.Popen(
        [sys.executable, script, *arguments],
        cwd=script.parent,  # not of this project: the fork server has to find its own modules
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    with process.stdout:
        assert process.stdout.readline()
    return [process, *process.children(recursive=True)]


def kill(family: list[psutil.Process]) -> None:
    assert len(family) > 1
    family[0].kill()
    family[0].wait()
    assert [one.pid for one in family if not gone(one.pid, within_s=5)] == []


@pytest.mark.parametrize("ended", [True, False])
def test_a_keeper_clears_up_after_a_program_that_is_gone_and_not_after_one_that_has_let_go(
    ended: bool, tmp_path: Path
) -> None:
    program = subprocess.Popen([sys.executable, "-c", "" if ended else "import time; time.sleep(60)"])
    if ended:
        program.wait()
    (tmp_path / "kept").mkdir()
    script = (
        "import os, sys, time; from pathlib import Path; from suite.execution.keeper import keep; "
        "answers, alive = os.pipe()[1], os.open(os.devnull, os.O_RDONLY); "  # to be read at once, as after an end
        "keep(lambda: time.sleep(60), answers=answers, alive=alive, program=int(sys.argv[1]), "
        "leftovers=[Path(sys.argv[2])])"
    )
    try:
        asked = [sys.executable, "-c", script, str(program.pid), str(tmp_path / "kept")]
        subprocess.run(asked, timeout=60, check=True)
        assert (tmp_path / "kept").exists() is not ended
    finally:
        program.kill()
        program.wait()
