"""Printing can neither fail nor mix with an answer for programs; Ctrl-C and its kin leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from suite.core import answer, streams

ROOT = Path(__file__).parents[3]
SIGNS = "×2.31 (2.20–2.42), 12 µs, ± 1 …, \N{SNOWMAN}, \udcff"
PROGRAM = f"""
from suite.core import streams
streams.prepare(keep_stdout=KEEP)
from suite.core.answer import Answer, Manner, give
import contextlib, os, sys
for _ in range(3):
    print({SIGNS!r})
print("to standard error", file=sys.stderr)
with contextlib.suppress(OSError):
    os.write(1, b"from C\\n")
sys.exit(give(Answer(code=3, words=["a", "[b]"], last="the end", data={{"value": float("nan")}}), Manner(json=KEEP)))
"""


def run(redirections: str = "", *, keep: bool = False, **environment: str) -> subprocess.CompletedProcess[bytes]:
    program = PROGRAM.replace("KEEP", str(keep))
    return subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {redirections}', sys.executable, program],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_every_sign_can_be_printed_in_any_encoding(encoding: str) -> None:
    done = run(PYTHONIOENCODING=encoding)
    assert done.returncode == 3, done.stderr
    text = done.stdout.decode(encoding)
    assert "2.31 (2.20" in text
    assert "[b]\n" in text
    assert text.endswith("the end\n")
    assert b"Traceback" not in done.stderr
    if encoding == "ascii":
        assert "x2.31 (2.20-2.42), 12 us, +- 1 ..., \\u2603, \\udcff" in text


@pytest.mark.parametrize(
    "redirections",
    [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", ">/dev/full 2>/dev/full", "2>/dev/full"],
)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
def test_a_stream_that_takes_nothing_changes_no_exit_code(redirections: str, keep: bool) -> None:
    done = run(redirections, keep=keep)
    assert done.returncode == 3, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    if ">/dev/full" in redirections.split() or redirections.startswith(">/dev/full"):
        assert done.stderr.count(b"No space left on device") == ("2>" not in redirections)


ANSWERS = """
import json, os, sys, tempfile
from suite.core import exits, streams
from suite.core.answer import Answer, Manner, give

def answer(code, json, data, quiet):
    streams.prepare(keep_stdout=json)
    code = give(Answer(code=code, words=["a"] * 9, last="the end", data=data), Manner(json=json, quiet=quiet))
    print("said after it")
    assert not streams.lost()
    sys.exit(code)

def ended(asked, out):
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            if out == "left":
                reading, writing = os.pipe()
                os.close(reading)
                os.dup2(writing, 1)
            elif out == "closed":
                os.close(1)
            else:
                os.dup2(os.open(out, os.O_WRONLY), 1)
            answer(*asked)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return code, said.read()

found = []
for asked in json.load(sys.stdin):
    found.append({out: ended(asked, out) for out in ("/dev/full", "left", "closed", "/dev/null")})
print(json.dumps(found))
"""
"""Each answer in a process of its own for each standard output, forked off one that has loaded what they need."""
ANSWERED: list[tuple[int, bool, dict[str, str | None], int]] = [
    (0, False, {}, 2),
    (0, False, {"page": None}, 2),
    (0, False, {"page": "a page"}, 0),
    (0, False, {"archive": "a page"}, 0),
    (0, True, {}, 2),
    (0, True, {"page": "a page"}, 2),
    (1, False, {}, 1),
    (5, True, {"page": "a page"}, 5),
]


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
def test_an_answer_that_a_full_disk_lost_is_no_success_unless_a_page_says_the_same(quiet: bool) -> None:
    asked = json.dumps([(code, as_json, data, quiet) for code, as_json, data, _ in ANSWERED])
    command = [sys.executable, "-c", ANSWERS]
    done = subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, text=True, timeout=60, check=True)
    for (code, _, data, expected), found in zip(ANSWERED, json.loads(done.stdout.splitlines()[-1]), strict=True):
        ended, said = found.pop("/dev/full")
        assert ended == expected, said
        (line,) = (line for line in said.splitlines() if not line.startswith("said after"))
        assert line.startswith("error: standard output: No space left on device; what was to be printed is lost")
        assert line.endswith("and stands in a page") == ("a page" in data.values())
        assert {out: ended for out, (ended, _) in found.items()} == dict.fromkeys(("left", "closed", "/dev/null"), code)


def test_a_reader_may_leave_at_any_line() -> None:
    done = run("| head -1; exit ${PIPESTATUS[0]}")
    assert done.returncode == 3
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b"to standard error\n"


def test_an_answer_for_programs_stands_alone_on_standard_output() -> None:
    done = run(keep=True)
    assert json.loads(done.stdout) == {"exit_code": 3, "value": None}
    assert done.stdout.count(b"\n") == 1
    assert b"from C" in done.stderr


def test_a_file_that_is_opened_later_does_not_take_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    program = f"""
from suite.core import streams
streams.prepare()
import sys
with open({str(tmp_path / "records")!r}, "w") as file:
    assert file.fileno() > 2
    print("nowhere", flush=True)
"""
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" >&-', sys.executable, program], cwd=ROOT, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "records").read_text() == ""


INTERRUPTED = """
import contextlib, multiprocessing, sys, time
from suite.core import interrupts
def child():
    time.sleep(600)
def main():
    interrupts.install(lambda: print("the last words", flush=True))
    try:
        with WITHIN(), interrupts.temporary_folder() as folder:
            (folder / "kernel.so").write_text("x")
            process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
            process.start()
            try:
                print("ready", process.pid, folder, flush=True)
                time.sleep(600)
            finally:
                print("tidying", flush=True)
                time.sleep(SLOW)
                process.kill()
    except KeyboardInterrupt:
        print("in good order", flush=True)
        interrupts.ignore()
        sys.exit(130)
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("times", [1, 2])
def test_the_first_signal_ends_in_good_order_and_the_second_at_once(number: signal.Signals, times: int) -> None:
    assert ended(INTERRUPTED.replace("SLOW", "600" if times == 2 else "0"), number, times) == (
        "tidying\n" + ("in good order\n" if times == 1 else "")
    )


def test_where_no_work_has_begun_the_first_signal_ends_it_whatever_the_program_is_in_the_middle_of() -> None:
    program = INTERRUPTED.replace("WITHIN", "contextlib.nullcontext")
    assert ended(program, signal.SIGINT, 1) == "the last words\n"


@pytest.mark.skipif(os.name != "posix", reason="nobody sweeps there")
def test_a_program_that_is_killed_leaves_no_temporary_folder(tmp_path: Path) -> None:
    program = INTERRUPTED.replace("WITHIN", "contextlib.nullcontext")
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=-1, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    ) as process:
        assert process.stdout is not None
        _, child, folder = process.stdout.readline().split()
        assert Path(folder).parent == tmp_path
        process.kill()
        os.kill(int(child), signal.SIGKILL)  # forked, it holds whatever its parent held
    deadline = time.monotonic() + 20
    while any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def ended(program: str, number: signal.Signals, times: int) -> str:
    """What a program prints that gets a signal so many times, and leaves nothing behind."""
    program = program.replace("WITHIN", "interrupts.heeded")
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        _, child, folder = process.stdout.readline().split()
        process.send_signal(number)
        printed = process.stdout.readline()
        if times == 2:
            process.send_signal(number)
        assert process.wait(60) == 130
        printed += process.stdout.read()
        assert process.stderr.read() == ""
    assert not Path(folder).exists()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
    return printed


def test_a_signal_that_was_ignored_stays_so() -> None:
    lines = ("import signal", "from suite.core import interrupts", "interrupts.install()")
    program = "; ".join((*lines, "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"))
    done = subprocess.run(["nohup", sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=60)
    assert done.stdout == b"True\n"


def test_of_a_very_long_error_the_beginning_and_the_end_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    streams.error(f"--shape batch={'9' * 100_000}: expected a whole number")
    streams.error("short")
    long, short = capsys.readouterr().err.splitlines()
    assert long.startswith("error: --shape batch=999")
    assert long.endswith("99: expected a whole number")
    assert len(long) < 1400
    assert short == "error: short"


def test_a_sentence_at_the_end_is_folded_in_a_terminal_and_a_path_stays_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = Console(width=20, force_terminal=True, markup=False, highlight=False)
    monkeypatch.setattr(answer, "screen", lambda: narrow)
    lines = ["this one takes", "[half] of the time", "of that one"]
    answer.give(answer.Answer(code=0, last="this one takes [half] of the time of that one"))
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == lines
    path = "/a/place/with spaces/in it/report.html"
    answer.give(answer.Answer(code=0, last=path, data={"page": path}))
    assert capsys.readouterr().out.splitlines() == [path]
