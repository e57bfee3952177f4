"""The default run: how long it takes, and whether it knew."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from suite.core import store
from suite.core.records import Finding, Measurement
from suite.execution import tether
from suite.selfcheck.bench import Bench
from suite.selfcheck.row import not_here, row

PROGRAM = Path(__file__).parents[2] / "run_all.py"
SHORT_BUDGET_S = 45.0
SHORT = (
    *("parallel", "parallel+bf16", "alternating", "alternating+bf16", "cross", "pool"),
    *("--workload", "vqa-grid", "--set", "batch=2", "--budget", f"{SHORT_BUDGET_S:g}"),
)
"""What is run where the default would not leave time for the other rows."""
LIMITS_S = {"cpu": 180.0, "cuda": 300.0}
WITHIN = 0.25


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on the duration and on the estimate of it."""
    options = () if bench.full else SHORT
    limit_s = LIMITS_S[bench.device] if bench.full else SHORT_BUDGET_S + 15
    with TemporaryDirectory(prefix="coattention-default-") as temporary:
        folder = Path(temporary) / "run"
        command = [sys.executable, str(PROGRAM), "run", "--device", bench.device, *options, "--out", str(folder)]
        subprocess.run(command, capture_output=True, preexec_fn=tether.end_with_starter)
        times = {
            record.quantity: record
            for record in store.read(folder)
            if isinstance(record, Measurement) and record.task == "run"
        }
    what = "the default run" if bench.full else f"a run of six variants with a budget of {SHORT_BUDGET_S:.0f} s"
    if "run_time" not in times or "time_left" not in times:
        yield not_here(f"{what} ends in time", "it did not reach its end, or has no tenth of it on record")
        return
    took_s = times["run_time"].value or 0.0
    yield row(
        f"{what} takes under {limit_s:.0f} s",
        int(took_s < limit_s),
        1,
        at_least=1.0,
        summary=f"it took {took_s:.0f} s",
    )
    estimate_s = times["time_left"].value or 0.0
    left_s = took_s - float(str(times["time_left"].details["after_s"]))
    yield row(
        f"after a tenth of {what}, the time left is known within {WITHIN:.0%}",
        int(abs(estimate_s / left_s - 1) <= WITHIN),
        1,
        at_least=1.0,
        summary=f"it said {estimate_s:.0f} s, and {left_s:.0f} s it took",
    )
