"""Kills: `kill -9` at random moments, a torn last line, and then --resume."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from suite.bench import environment
from suite.core import store
from suite.core.records import Description, Finding, Measurement, Record
from suite.execution import tether
from suite.selfcheck.bench import Bench
from suite.selfcheck.row import row

PROGRAM = Path(__file__).parents[2] / "run_all.py"
ARGUMENTS = (
    *("run", "parallel", "pool"),
    *("--shape", "batch=2,regions=6,words=4,width=16", "--phase", "forward"),
    *("--probe", "timing", "--probe", "memory", "--budget", "16"),
)
"""Four tasks of about a second."""
_TORN = b'{"kind":"measurement","task":"timing pa'
_END_S = 5.0
"""After the kill, how long whatever the run has started may take to be gone."""


@dataclass(kw_only=True)
class Outcome:
    """What a series of kills left behind."""

    kills: int = 0
    orphans: int = 0
    """Kills after which a worker was still there."""
    longest_s: float = 0.0
    """After a kill, until the last worker was gone."""
    lost: int = 0
    """Kills after which a record that was stored before was gone, or that could not be resumed."""
    repeated: int = 0
    """Tasks on record more than once."""
    chains: int = 0
    different: int = 0
    """Runs that ended with other cells than an unbroken one."""
    remarks: list[str] = field(default_factory=list)


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on what survives."""
    arguments = (*ARGUMENTS, "--device", bench.device)
    outcome = Outcome()
    wanted = bench.count(default=3, full=20)
    with TemporaryDirectory(prefix="coattention-kills-") as temporary:
        folder = Path(temporary)
        started = time.monotonic()
        command = [sys.executable, str(PROGRAM), *arguments, "--out", str(folder / "unbroken")]
        subprocess.run(command, capture_output=True, preexec_fn=tether.end_with_starter)
        whole_s = time.monotonic() - started
        unbroken = cells(store.read(folder / "unbroken"))
        while outcome.kills < wanted:
            _chain(arguments, folder / f"chain-{outcome.chains}", whole_s, wanted, unbroken, outcome)
    remarks = "; ".join(dict.fromkeys(outcome.remarks))
    yield row(
        "a worker outlives its killed parent",
        outcome.orphans,
        outcome.kills,
        at_most=0.0,
        summary=f"the last was gone {outcome.longest_s:.1f} s after the kill",
    )
    yield row(
        "a kill -9, every other one with a torn last line, loses a stored record or cannot be resumed",
        outcome.lost,
        outcome.kills,
        at_most=0.0,
        summary=f"what was in flight is measured again, and nothing else: {outcome.repeated} tasks on record twice"
        + (f"; {remarks}" if remarks else ""),
    )
    yield row(
        "a killed and resumed run ends with the cells of an unbroken one, each task once",
        outcome.chains - outcome.different,
        outcome.chains,
        at_least=1.0,
        summary=remarks,
    )


def cells(records: Sequence[Record]) -> Counter[tuple[str, ...]]:
    """What a run has measured, without the figures."""
    return Counter(
        (record.kind, record.task, record.variant, record.workload, record.phase, record.device, record.quantity)
        for record in records
        if not isinstance(record, Description) and record.task != "run"
    )


def _chain(
    arguments: Sequence[str],
    folder: Path,
    whole_s: float,
    wanted: int,
    unbroken: Counter[tuple[str, ...]],
    outcome: Outcome,
) -> None:
    """One run, killed and resumed until it has ended or there were enough kills."""
    outcome.chains += 1
    while True:
        resumable = (folder / environment.FILE).exists() and (folder / store.FILE).exists()
        before = _stored(folder) if resumable else []
        options = ("run", "--resume", str(folder)) if resumable else (*arguments, "--out", str(folder))
        log = folder.with_suffix(".log")  # no pipe: an orphan would hold it open, and us with it
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), *options],
                stdout=output,
                stderr=output,
                preexec_fn=tether.end_with_starter,
            )
        kill_after_s = random.uniform(0.2, whole_s) if outcome.kills < wanted else None
        try:
            process.wait(timeout=kill_after_s)
            break
        except subprocess.TimeoutExpired:
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGKILL)
            process.wait()
        outcome.kills += 1
        killed = time.monotonic()
        if psutil.wait_procs(family, timeout=_END_S)[1]:
            outcome.orphans += 1
        outcome.longest_s = max(outcome.longest_s, time.monotonic() - killed)
        after = _stored(folder)
        if after and outcome.kills % 2:
            with (folder / store.FILE).open("ab") as file:
                file.write(_TORN)
            after = _stored(folder)
        if after[: len(before)] != before:
            outcome.lost += 1
            outcome.remarks.append("records that were stored are gone")
    found = cells(store.read(folder)) if (folder / store.FILE).exists() else Counter()
    if process.returncode not in (0, 1):
        outcome.lost += 1
        outcome.remarks.append(f"ended with {process.returncode}: {log.read_text().strip().rpartition(chr(10))[2]}")
    outcome.repeated += sum(
        count - 1 for key, count in found.items() if key[-1] == "task_time" and key[0] == Measurement.kind
    )
    if found != unbroken:
        outcome.different += 1
        odd = [" ".join(filter(None, key)) for key in (found - unbroken) + (unbroken - found)]
        outcome.remarks.append(f"{len(odd)} cells differ, such as {odd[0]}")


def _stored(folder: Path) -> list[Record]:
    """The records so far; a header that is torn itself leaves none."""
    try:
        return store.read(folder)
    except ValueError:
        return []
