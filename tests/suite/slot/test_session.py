"""A slot: steps share the time, fail alone, and leave an archive that is whole whenever the program is ended."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import psutil
import pytest

from suite.core import exits
from suite.core.errors import UserError
from suite.report import slot as pages
from suite.slot import archive, session, steps
from suite.slot.session import ARCHIVE, Ended
from suite.slot.steps import SlotStep
from tests import warm

ROOT = Path(__file__).parents[3]


def python(program: str) -> tuple[str, ...]:
    return ("{python}", "-c", program)


def step(name: str, program: str, share: float = 1.0, **more: object) -> SlotStep:
    return SlotStep(name=name, says=f"what {name} says", command=python(program), share=share, **more)  # type: ignore[arg-type]


WRITES = "from pathlib import Path; Path(r'{folder}', 'found.txt').write_text('42'); print('wrote it')"


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as packed:
        found = {member.name: packed.extractfile(member) for member in packed.getmembers()}
        return {name: file.read() for name, file in found.items() if file is not None}


def gone(number: int) -> bool:
    """Whether a process has ended, a moment later at the latest; whoever reaps it."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if psutil.Process(number).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def done(out: Path, *chosen: SlotStep, seconds: float = 60.0) -> tuple[int, dict[str, Ended]]:
    code, ended = session.start(seconds=seconds, out=out, chosen=chosen, say=lambda line: None)
    return code, {one.name: one for one in ended}


def test_each_step_ends_in_its_own_way_and_costs_no_other(tmp_path: Path) -> None:
    code, ended = done(
        tmp_path,
        step("good", WRITES),
        step("bad", "import sys; print('it is broken'); sys.exit(3)"),
        step("dead", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
        step("poor", WRITES, needs=("no_such_module",)),
        step("untried", WRITES, skipped="it needs a device"),
        step("last", WRITES),
    )
    assert code == exits.CELLS_FAILED
    ways = {"good": "done", "bad": "failed", "dead": "failed", "poor": "skipped", "untried": "skipped", "last": "done"}
    assert {name: one.way for name, one in ended.items()} == ways
    assert ended["bad"].said == "it is broken"
    assert ended["bad"].code == 3
    assert ended["poor"].said == "no_such_module not installed here"
    found = contents(tmp_path / ARCHIVE)
    assert found["slot/good/found.txt"] == found["slot/last/found.txt"] == b"42"
    assert b"it is broken" in found["slot/bad.txt"]
    assert [one["name"] for one in json.loads(found["slot/slot.json"])["steps"]] == list(ways)
    assert sorted(path.name for path in tmp_path.iterdir()) == [pages.SUMMARY, ARCHIVE]


def test_what_a_step_does_not_use_goes_to_those_after_it(tmp_path: Path) -> None:
    tells = "from pathlib import Path; Path(r'{folder}', 'seconds').write_text('{seconds}')"
    done(tmp_path, step("quick", tells, 1), step("next", tells, 1), step("final", tells, 2), seconds=105)
    found = contents(tmp_path / ARCHIVE)
    given = [float(found[f"slot/{name}/seconds"]) for name in ("quick", "next", "final")]
    assert given[0] == pytest.approx(0.94 * 25 - 1, abs=1)  # a quarter of what is left of it beside the end
    assert given[1] > given[0] + 3
    assert given[2] > given[1] + given[0]


def test_what_takes_too_long_is_ended_with_all_that_it_has_started_and_what_it_wrote_is_kept(tmp_path: Path) -> None:
    program = (
        f"import subprocess, sys, time; {WRITES}; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
        "Path(r'{folder}', 'child').write_text(str(child.pid)); time.sleep(600)"
    )
    code, ended = done(tmp_path, step("endless", program, 1), step("after", WRITES, 4), seconds=20)
    assert code == exits.CELLS_FAILED
    assert ended["endless"].way == "cut"
    assert ended["after"].way == "done"
    found = contents(tmp_path / ARCHIVE)
    assert found["slot/endless/found.txt"] == b"42"
    assert gone(int(found["slot/endless/child"]))


def test_a_step_that_puts_off_all_of_it_for_want_of_time_is_cut_and_has_not_failed(tmp_path: Path) -> None:
    nothing = "import sys; print('put off'); sys.exit(4)"
    _, ended = done(tmp_path, step("short", nothing + "  # {seconds}"), step("bad", nothing))
    assert (ended["short"].way, ended["bad"].way) == ("cut", "failed")
    assert ended["short"].said.startswith("nothing of it fits into its ")
    assert ended["short"].said.endswith(" s; put off")


PROGRAM = '''
from pathlib import Path
from suite.slot import session
from suite.slot.steps import SlotStep
session._KEEP_EVERY_S = 0.02
write = """
import os, time
for number in range(400):
    open(r'{folder}/%d' % number, 'wb').write(os.urandom(4000))
    time.sleep(.01)
"""
chosen = [SlotStep(name=name, says="", command=("{python}", "-c", write), share=1) for name in "abc"]
session.start(seconds=60, out=Path(OUT), chosen=chosen)
'''


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed program's child goes on until its time is over")
@pytest.mark.parametrize("after_s", [0.5, 0.8, 1.1, 2.3])
def test_killed_at_any_moment_the_archive_is_whole_and_nothing_goes_on(tmp_path: Path, after_s: float) -> None:
    program = PROGRAM.replace("OUT", repr(str(tmp_path)))
    running = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / ARCHIVE).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(after_s)
    children = [child.pid for child in psutil.Process(running.pid).children()]
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert any(name.startswith("slot/a/") for name in contents(tmp_path / ARCHIVE))
    assert all(map(gone, children))


def test_whoever_asks_for_the_end_gets_what_there_is(tmp_path: Path) -> None:
    program = PROGRAM.replace("OUT", repr(str(tmp_path)))
    running = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / ARCHIVE).exists():
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    said, _ = running.communicate(timeout=60)
    assert [line.split()[0] for line in said.splitlines()] == ["cut", "skipped", "skipped"]
    assert len(json.loads(contents(tmp_path / ARCHIVE)["slot/slot.json"])["steps"]) == 3


def test_what_is_too_large_is_left_out_largest_first_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "slot"
    folder.mkdir()
    for name, size in (("small", 10_000), ("middle", 60_000), ("large", 90_000), ("huge", 300_000)):
        (folder / name).write_bytes(os.urandom(size))
    left = archive.pack(folder, tmp_path / "kept.tgz", largest_b=80_000, largest_file_b=200_000)
    assert [name.split()[0] for name in left] == ["huge", "large"]
    found = contents(tmp_path / "kept.tgz")
    assert found.keys() == {"slot/small", "slot/middle", f"slot/{archive.LEFT_OUT}"}
    assert (tmp_path / "kept.tgz").stat().st_size < 80_000


@pytest.mark.parametrize(("seconds", "said"), [(5.0, "--seconds 5"), (float("nan"), "--seconds nan")])
def test_a_time_that_is_none_is_refused(tmp_path: Path, seconds: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        session.start(seconds=seconds, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_a_slot_is_left_alone(tmp_path: Path) -> None:
    done(tmp_path, step("good", WRITES))
    before = (tmp_path / ARCHIVE).read_bytes()
    with pytest.raises(UserError, match="holds a slot already"):
        done(tmp_path, step("good", WRITES))
    assert (tmp_path / ARCHIVE).read_bytes() == before


def test_the_pages_are_made_of_the_archive_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    done(tmp_path / "there", step("good", WRITES), step("bad", "import sys; sys.exit('a <b>bold</b> | reason')"))
    (tmp_path / "here").mkdir()
    moved = (tmp_path / "there" / ARCHIVE).rename(tmp_path / "here" / "any-name.tgz")
    page = pages.write(pages.unpacked(moved)).read_text()
    assert "| good |" in page
    assert "**bad** failed" in page
    assert "<b>" not in page
    assert pages.unpacked(moved) == tmp_path / "here" / "slot"  # again, over what is there


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_what_is_no_slot_is_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "given.tgz"
    if content is None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "file").write_text("x")
        archive.pack(tmp_path / "other", path)
        (tmp_path / "other" / "file").unlink()
        (tmp_path / "other").rmdir()
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="archive of a slot"):
        pages.unpacked(path)


def test_an_archive_that_leads_out_of_its_folder_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "slot.json").write_text("{}")
    with tarfile.open(tmp_path / "given.tgz", "w:gz") as packed:
        packed.add(tmp_path / "slot.json", arcname="../evil/slot.json")
    with pytest.raises(UserError):
        pages.unpacked(tmp_path / "given.tgz")
    assert not (tmp_path.parent / "evil").exists()


def test_every_step_has_its_own_name_and_knows_what_it_needs() -> None:
    for rehearse in (False, True):
        chosen = steps.steps(rehearse=rehearse)
        assert len({one.name for one in chosen}) == len(chosen)
        assert chosen[0].name == "look"
        for one in chosen:
            words = {"python": "p", "root": str(ROOT), "folder": "f", "seconds": "60"}
            assert not any("{" in part for part in (text.format_map(words) for text in one.command))
            assert one.skipped or one.share > 0


BARE = """
import sys
KEPT = {"torch", "triton", "numpy", "pandas", "seaborn", "matplotlib", "jinja2"}
class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("scipy", "typer", "rich", "psutil", "pynvml", "tensorboard", "click"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuses())
"""


def bare_door(*arguments: str) -> str:
    return (
        f"{BARE}\nimport runpy\nsys.argv = {['run_all.py', *arguments]}\n"
        "runpy.run_path('run_all.py', run_name='__main__')\n"
    )


@pytest.mark.slow
def test_nothing_beside_torch_is_needed_to_begin_and_to_take_numbers(tmp_path: Path) -> None:
    arguments = ("--workload", "tiny[batch=2]", "--seconds", "1", "--only", "tf32")
    program = (
        f"{BARE}\nimport suite.slot.session, suite.slot.gpu_tests, suite.slot.look, suite.slot.numbers\n"
        f"sys.argv = ['numbers', {str(tmp_path)!r}, *{arguments!r}]\n"
        "suite.slot.numbers.main()\n"
    )
    double = os.environ | steps.double() | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=double, check=True, timeout=120)
    records = (tmp_path / "records.jsonl").read_text()
    assert all(f'"{word}"' in records for word in ("device", "peak_memory", "no_nvml"))
    door = bare_door("gpu-slot", "--seconds", "3")
    ended = subprocess.run([sys.executable, "-c", door], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == exits.WRONG_COMMAND
    assert ended.stderr == "error: --seconds 3: expected at least 10\n"


@pytest.mark.slow
def test_without_a_device_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    ended = warm.run("run_all.py", "gpu-slot", "--out", tmp_path / "out", env=env)
    assert ended.returncode == exits.WRONG_COMMAND
    assert "--rehearse" in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "out" / ARCHIVE).exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rehearsal_goes_through_every_step_and_its_pages_are_made_elsewhere(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "run_all.py", "gpu-slot", "--rehearse", "--seconds", "180", "--out", str(tmp_path / "out")],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    found = contents(tmp_path / "out" / ARCHIVE)
    ended = {one["name"]: one for one in json.loads(found["slot/slot.json"])["steps"]}
    # the last two wait for time that a slow machine may not have; what is slow may be ended, and nothing may break
    assert {name for name, one in ended.items() if one["way"] == "skipped"} <= {"tune", "traces"}
    assert not [one for one in ended.values() if one["way"] == "failed"], ended
    page = pages.write(pages.unpacked(tmp_path / "out" / ARCHIVE)).read_text()
    assert "A rehearsal" in page
    assert all(f"| {name} |" in page for name in ended)
    if ended["numbers"]["way"] == "done":
        records = found["slot/numbers/records.jsonl"].decode()
        assert all(f'"{name}"' in records for name in ("latency", "launch", "device", "device_cold", "peak_memory"))
        assert "[numbers](numbers/report.html)" in page
