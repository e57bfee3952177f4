"""`python run_all.py selfcheck`: topics, one after the other, into a results folder."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from suite.bench.request import kind_of
from suite.core import exits, store
from suite.core.answer import SPOKEN, Answer, Manner, give
from suite.core.errors import UserError
from suite.core.records import Finding, Measurement
from suite.execution import guest
from suite.report import selfcheck as page
from suite.report.html import checked
from suite.selfcheck import bench as benches
from suite.selfcheck.bench import Bench

DEVICE = "device"
TOPICS = {
    DEVICE: "each path of a GPU once, a line each",
    "flops": "closed forms against torch's counter",
    "memory": "graphs counted by hand, to the byte",
    "mode": "names that say more than the code does",
    "cheats": "variants that look fast without being better",
    "faults": "crashes, hangs and exhausted memory, beside healthy cells",
    "kills": "kill -9 at random moments, then --resume",
    "scale": "a hundred thousand records, and the time between samples",
    "conditions": "a machine that is not quiet is noticed",
    "clocks": "other clocks, and work of known length",
    "estimate": "how long a run takes, and whether it knew",
    "timing": "the same twice, work of known size, and the naive rule beside it",
}
"""Each a module of this package with a function `check` that yields rows; quick ones first."""
UNCOUNTED = (DEVICE, "flops", "estimate")
"""Those in which nothing is tried several times."""


def start(
    topics: tuple[str, ...],
    *,
    device: str | None,
    full: bool,
    trials: int | None,
    out: Path | None,
    manner: Manner = SPOKEN,
) -> int:
    """Check what was asked, and return the exit code: 1 where a row fails.

    Raises:
        UserError: a topic or device is unknown, or the folder holds a run already.
    """
    for topic in topics:
        if topic not in TOPICS:
            raise UserError(f"selfcheck {topic}: expected one of {', '.join(TOPICS)}; or masking, by itself")
    if trials is not None and topics and set(topics) <= set(UNCOUNTED):
        raise UserError(f"--trials has no effect here: {' and '.join(topics)} tries nothing several times")
    if full and topics == ("flops",):
        raise UserError("--full has no effect here: flops compares all that there is to compare")
    if DEVICE in topics and device == "cpu":
        raise UserError("selfcheck device looks at a GPU: expected --device cuda, or another topic")
    chosen = kind_of("cuda" if DEVICE in topics else device)
    folder = out or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-selfcheck-{chosen}"
    if (folder / store.FILE).exists():
        raise UserError(f"{folder} holds a run already: choose another folder")
    guest.warm_up(compiler="mode" in (topics or TOPICS))
    console = manner.console()
    started = time.monotonic()
    with benches.opened(folder, chosen, full=full, trials=trials, console=console) as bench:
        for topic in topics or (topic for topic in TOPICS if topic != DEVICE or chosen == "cuda"):
            _check(topic, bench)
        took = time.monotonic() - started
        bench.writer.write([Measurement(task="selfcheck", quantity="run_time", unit="s", value=took)])
    page.write(folder)
    path = checked.write(folder).resolve()
    rows = page.data(store.read(folder))
    code = exits.INCORRECT if any(row["verdict"] == "broken" for row in rows) else exits.DONE
    return give(Answer(code=code, last=str(path), data={"page": path, "rows": rows}), manner)


def _check(topic: str, bench: Bench) -> None:
    bench.console.print(f"{topic}: {TOPICS[topic]}", style="bold", highlight=False)
    check: Callable[[Bench], Iterator[Finding]] = import_module(f"suite.selfcheck.{topic}").check
    started = time.monotonic()
    for finding in check(bench):
        bench.keep(finding)
    took = time.monotonic() - started
    bench.writer.write([Measurement(task=f"selfcheck {topic}", quantity="task_time", unit="s", value=took)])
