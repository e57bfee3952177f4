"""Records survive whatever happens to the run that writes them."""

import cProfile
import pstats
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from suite.core import store
from suite.core.records import FORMAT, Artifact, Finding, Measurement, Record, Skip

ROOT = Path(__file__).parents[3]
RECORDS: list[Record] = [
    Measurement(task="a", variant="parallel", quantity="latency", unit="s", samples=(1e-3, 2e-3), rounds=(0, 1)),
    Finding(task="a", variant="parallel", quantity="P1", verdict="holds", value=0.0, limit=0.0),
    Artifact(task="a", quantity="trace", path="traces/parallel/a.json"),
    Measurement(task="a", quantity="task_time", unit="s", value=1.5),
]


def written(folder: Path, records: list[Record]) -> Path:
    with store.Writer(folder) as writer:
        writer.write(records)
    return folder / store.FILE


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written(tmp_path, RECORDS)
    assert store.read(tmp_path) == RECORDS


def test_a_second_writer_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    written(tmp_path, RECORDS[:2])
    written(tmp_path, RECORDS[2:])
    assert store.read(tmp_path) == RECORDS


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_last_line_is_passed_over_and_written_over(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path, RECORDS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    assert store.read(tmp_path) == RECORDS[:-1]
    written(tmp_path, RECORDS[-1:])
    assert path.read_bytes() == whole


def test_what_was_in_flight_is_dropped_before_a_run_goes_on(tmp_path: Path) -> None:
    in_flight = [Measurement(task="b", quantity="first_call", unit="s", value=1.0)]
    path = written(tmp_path, [*RECORDS, *in_flight])
    path.write_bytes(path.read_bytes() + b'{"kind":"measu')
    store.drop_unfinished(tmp_path)
    assert store.read(tmp_path) == RECORDS
    assert store.finished(store.read(tmp_path)) == {"a"}


def test_a_failure_is_kept_although_its_task_did_not_end(tmp_path: Path) -> None:
    failure = Skip(task="b", variant="x", quantity="all", reason="ended by SIGSEGV", cause="killed")
    written(tmp_path, [*RECORDS, failure, Measurement(task="b", quantity="first_call", unit="s", value=1.0)])
    store.drop_unfinished(tmp_path)
    assert store.read(tmp_path) == [*RECORDS, failure]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 0}\n', "is of an older format, 0: this program reads format"),
        (f'{{"format": {FORMAT + 1}}}\n', "is of another format"),
        ('{"kind": "finding"}\n', "names no format"),
        ("", "names no format"),
        (f'{{"format": {FORMAT}}}\n{{"kind":"timing"}}\n', r"records\.jsonl:2: unknown kind 'timing'"),
    ],
)
def test_another_format_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / store.FILE).write_text(content)
    with pytest.raises(ValueError, match=message):
        store.read(tmp_path)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no records\.jsonl"):
        store.read(tmp_path)


def test_a_full_disk_loses_the_records_of_one_task_and_no_line_of_another(tmp_path: Path) -> None:
    # a limit on the size of files stands in for the disk
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with store.Writer(tmp_path) as writer:
            writer.write(RECORDS)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
            with pytest.raises(store.DiskFull, match="no space left"):
                writer.write([*RECORDS * 20])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.read(tmp_path) == RECORDS


@pytest.mark.slow
def test_a_hundred_thousand_records_are_stored_and_read_in_a_gibibyte(tmp_path: Path) -> None:
    program = f"""
import re
from pathlib import Path
from suite.core import store
from suite.core.records import Measurement
folder = Path({str(tmp_path)!r})
with store.Writer(folder) as writer:
    for task in range(5000):
        writer.write(
            Measurement(task=f"t{{task}}", variant="parallel+bf16", workload="tiny", phase="forward", device="cpu",
                        quantity=quantity, unit="s", value=1.0, samples=(1e-3,) * 20, rounds=tuple(range(20)))
            for quantity in ["first_call"] * 19 + ["task_time"]
        )
store.drop_unfinished(folder)
assert len(store.finished(store.read(folder))) == 5000
status = Path("/proc/self/status").read_text()  # getrusage counts the process that started this one, too
print(int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024)
"""
    output = subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True, text=True)
    assert int(output.stdout) < 2**30


def calls_to_keep(folder: Path, *, tasks: int) -> int:
    """Calls, of Python and of C functions, that storing so many tasks of sixteen records and opening them takes."""
    folder.mkdir()
    profile = cProfile.Profile()
    profile.enable()
    with store.Writer(folder) as writer:
        for task in range(tasks):
            variants = [f"parallel[hidden={number}]" for number in range(1, 6)]
            found = [replace(record, task=f"t{task}", variant=name) for record in RECORDS[:-1] for name in variants]
            writer.write([*found, replace(RECORDS[-1], task=f"t{task}")])
    store.drop_unfinished(folder)
    store.finished(store.read(folder))
    profile.disable()
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined,no-any-return]  # it is there


@pytest.mark.slow
def test_twice_the_records_take_twice_the_work(tmp_path: Path) -> None:
    once, twice = (calls_to_keep(tmp_path / str(tasks), tasks=tasks) for tasks in (200, 400))
    assert 1.8 < twice / once < 2.2


def test_what_a_run_foretold_of_itself_is_no_task_in_flight(tmp_path: Path) -> None:
    foretold = Measurement(task="run", quantity="time_left", unit="s", value=60.0)
    written(tmp_path, [*RECORDS, foretold])
    store.drop_unfinished(tmp_path)
    assert store.read(tmp_path) == [*RECORDS, foretold]


def test_two_runs_never_write_into_one_folder(tmp_path: Path) -> None:
    made = Measurement(task="t", quantity="first_call", unit="s", value=1.0)
    with store.Writer(tmp_path) as writer:
        writer.write([made])
        for enter in (store.Writer(tmp_path).__enter__, lambda: store.drop_unfinished(tmp_path)):
            with pytest.raises(ValueError, match="another run is writing there; wait for it, or end it"):
                enter()
        writer.write([made])
    with store.Writer(tmp_path) as writer:
        writer.write([made])
    assert store.read(tmp_path) == [made] * 3
