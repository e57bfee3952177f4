"""Scale: a hundred thousand records, and what the harness costs between samples."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from suite.bench.probes import conditions
from suite.core.records import Finding, Measurement, Record
from suite.execution import tether
from suite.selfcheck.bench import Bench, latencies
from suite.selfcheck.row import row
from suite.selfcheck.timing import BASE, SHAPE

RECORDS = 100_000
LIMIT_S = 10.0
LIMIT_B = 2**30
SAMPLING_S = 1.0
MOST_BETWEEN_S = 1e-3
"""Between two samples, what the harness may take of its own."""
ROOT = Path(__file__).parents[2]


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on many records, and on the time between samples."""
    with TemporaryDirectory(prefix="coattention-scale-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "suite.selfcheck.many_records", folder, str(RECORDS)],
            cwd=ROOT, capture_output=True, text=True, check=True, preexec_fn=tether.end_with_starter,
        )  # fmt: skip
    figures = json.loads(done.stdout)
    yield judge(**figures)
    times = bench.count(default=2, full=5)
    repeats = bench.measure(bench.asked([BASE], shape=SHAPE), label="harness", times=times, sampling_s=SAMPLING_S)
    yield judge_harness(repeats)


def judge(*, wall_s: float, cpu_s: float, peak_B: int) -> Finding:
    """The row that follows from storing, resuming over and reporting many records."""
    check = f"{RECORDS} records are stored, resumed over and reported in under {LIMIT_S:.0f} s and 1 GiB"
    said = f"{wall_s:.1f} s, of which {cpu_s:.1f} s on a CPU; {peak_B / 2**20:.0f} MiB"
    if cpu_s < LIMIT_S <= wall_s and peak_B < LIMIT_B:
        return row(check, 0, 0, at_least=1.0, summary=f"{said}: the rest of the time other work had the CPUs")
    return row(check, int(wall_s < LIMIT_S and peak_B < LIMIT_B), 1, at_least=1.0, summary=said)


def judge_harness(repeats: Sequence[Sequence[Record]]) -> Finding:
    """The row that follows from comparisons; one in which other work had the CPU between samples cannot tell."""
    between: list[float] = []
    undecided = 0
    for records in repeats:
        pressed = any(_pressure(record) > conditions.MOST_PRESSURE for record in latencies(records).values())
        for record in records:
            if isinstance(record, Measurement) and record.quantity == "harness_time" and record.value is not None:
                if pressed and record.value >= MOST_BETWEEN_S:
                    undecided += 1
                else:
                    between.append(record.value)
    said = f"median {median(between) * 1e6:.0f} µs" if between else "no comparison could tell"
    return row(
        f"between two samples the harness takes less than {MOST_BETWEEN_S * 1e3:.0f} ms of its own",
        sum(value < MOST_BETWEEN_S for value in between),
        len(between),
        at_least=1.0,
        summary=said + (f"; {undecided} could not tell: other work had the CPU" if undecided else ""),
    )


def _pressure(record: Measurement) -> float:
    pressure = record.details.get("cpu_pressure", 0.0)
    return pressure if isinstance(pressure, float) else 0.0
