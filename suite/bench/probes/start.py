"""How long a variant takes to give its first answer in a process that has run nothing before."""

import time
from collections.abc import Iterator

from suite.bench.probes import accelerators
from suite.bench.probes.step import prepared, running_on
from suite.bench.tasks import Target
from suite.core.records import Measurement


def measure(target: Target) -> Iterator[Measurement]:
    """Build a variant and call it once; it has to be the first thing that a process does.

    Torch is loaded before. What an earlier process has compiled or tuned for the same variant is found on the disk,
    as it is by the second process of a user's own; `first_call` has nothing to find.

    Yields:
        ``cold_start``, in seconds.
    """
    about = target.about
    with running_on(target.device) as parsed:
        started = time.perf_counter()
        step = prepared(*target.place)
        built_s = time.perf_counter() - started
        step(0)
        accelerators.synchronize(parsed.kind)
        took_s = time.perf_counter() - started
        step.clear()
    yield Measurement(quantity="cold_start", unit="s", value=took_s, details={"built_s": round(built_s, 6)}, **about)
