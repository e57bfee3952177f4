"""Trust: a machine that is not quiet is noticed, and a quiet one is not accused."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from suite.core import stats
from suite.core.records import Finding, Measurement, Record
from suite.selfcheck.bench import Bench, latencies
from suite.selfcheck.row import not_here, row
from suite.selfcheck.timing import BASE, EXTRA, SHAPE, TWIN

SAMPLING_S = 1.0
QUIET_PRESSURE = 0.01
"""Share of the time for which some task may wait for a CPU while the machine counts as quiet."""
QUIET_CPUS = 0.1
"""CPUs that other processes may keep busy: who shares a core or its caches slows work down and makes nobody wait."""
QUIET_PACE = 0.10
"""Share of the median by which all times may move together, with the machine's own pace, whoever changed it."""
LEAST_CALL_S = 5e-4
"""Calls below it spread by themselves, and say so, whatever else the machine does."""
# each ends with the process that started it
_HOG = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
_GPU_HOG = (
    "import os, torch\nparent = os.getppid()\none = torch.ones(4096, 4096, device='cuda')\nprint('ready', flush=True)\n"
    "while os.getppid() == parent:\n    one @ one\n    torch.cuda.synchronize()"
)


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on cells beside a hog, and on cells that nothing disturbed."""
    asked = bench.asked([BASE, TWIN, *EXTRA], shape=SHAPE)
    times = bench.count(default=3, full=10)
    quiet = bench.measure(asked, label="undisturbed", times=times, sampling_s=SAMPLING_S)
    with _hogs(bench.device):
        disturbed = bench.measure(asked, label="beside a hog", times=times, sampling_s=SAMPLING_S)
    yield from judge(quiet, disturbed, on_cuda=bench.device == "cuda")


def judge(
    quiet: Sequence[Sequence[Record]], disturbed: Sequence[Sequence[Record]], *, on_cuda: bool
) -> Iterator[Finding]:
    """The rows that follow from cells that were taken with and without a hog."""
    where = "a foreign process on the GPU" if on_cuda else "a hog on every core"
    cells = [record for records in disturbed for record in latencies(records).values()]
    yield row(
        f"a cell beside {where} is flagged",
        sum(bool(record.trust) for record in cells),
        len(cells),
        at_least=1.0,
        summary=_most_frequent(cells),
    )
    alone = [record for records in quiet for record in latencies(records).values()]
    judged = [record for record in alone if stats.summarise(record.samples).median >= LEAST_CALL_S]
    undisturbed = [record for record in judged if _undisturbed(record)]
    check = f"a cell of {LEAST_CALL_S * 1e3:g} ms or more that nothing disturbed is flagged"
    if undisturbed:
        yield row(
            check,
            sum(bool(record.trust) for record in undisturbed),
            len(undisturbed),
            at_most=0.02,
            summary=f"{len(judged) - len(undisturbed)} of {len(judged)} cells left out: the machine was not quiet; "
            f"{len(alone) - len(judged)} are shorter",
        )
    else:
        yield not_here(check, f"the machine was not quiet in any of {len(judged)} cells: {_most_frequent(judged)}")


def _undisturbed(record: Measurement) -> bool:
    """By what the machine says of itself, and by what the other variants met in the same rounds."""
    pressure, steal = (record.details.get(name, 0.0) for name in ("cpu_pressure", "cpu_steal"))
    foreign = record.details.get("foreign_processes", 0)
    quiet = all(isinstance(value, int | float) and value <= QUIET_PRESSURE for value in (pressure, steal))
    others, pace = (record.details.get(name, 0.0) for name in ("other_cpus", "shared_spread"))
    steady = isinstance(pace, int | float) and pace <= QUIET_PACE
    return quiet and steady and not foreign and isinstance(others, int | float) and others <= QUIET_CPUS


def _most_frequent(cells: Sequence[Measurement]) -> str:
    reasons = [reason for record in cells for reason in record.trust]
    return f"for example: {max(reasons, key=reasons.count)}" if reasons else "no reason was given"


@contextmanager
def _hogs(device: str) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(1 if device == "cuda" else os.cpu_count() or 1):
            program = _GPU_HOG if device == "cuda" else _HOG
            hog = stack.enter_context(subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE))
            stack.callback(hog.kill)
            if device == "cuda" and hog.stdout is not None:
                hog.stdout.readline()  # it has reached the GPU
        yield
