"""Under what conditions samples were taken: what else the machine was doing, as far as it tells."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# the function itself: what is timed may put another in its place
from time import perf_counter

from suite.core import stats
from suite.core.records import Detail

MOST_SPREAD = 0.15
MOST_PRESSURE = 0.05
LEAST_CPU_SHARE = 0.95
MOST_STEAL = 0.02
MOST_SWITCHES_PER_S = 50.0
MOST_BESIDE = 0.05
"""Of the time, what other threads of this process may run."""
MOST_APART = 0.02
"""By which share two clocks of the machine may differ over one stretch of time; and by which time in seconds."""
_APART_S = 0.05
_TRIES = 3
_steady = time.clock_gettime if hasattr(time, "clock_gettime") else None
"""The function itself: what is timed may put another in its place."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The machine's counters at one moment."""

    waited_s: float | None
    """Time in which some runnable task had no CPU, since boot; None where the kernel does not say."""
    stolen_s: float | None
    """Time in which the hypervisor ran somebody else, over all CPUs, since boot."""
    busy_s: float | None = None
    """Time in which CPUs were not idle, over all CPUs, since boot."""
    own_s: float = 0.0
    """CPU time of this process."""
    thread_s: float = 0.0
    """CPU time of the thread that measures."""
    clock_s: float = 0.0
    """The clock that samples are taken with."""
    steady_s: float | None = None
    """A clock that nobody sets, read past it at the same moment."""


def mark() -> Mark:
    """Read the counters; 20 microseconds."""
    waited = stolen = busy = None
    pressure = Path("/proc/pressure/cpu")
    if pressure.exists():
        waited = int(pressure.read_text().partition("total=")[2].split()[0]) / 1e6
    ticks = Path("/proc/stat")
    if ticks.exists():
        spent = [int(count) / os.sysconf("SC_CLK_TCK") for count in ticks.read_text().split(maxsplit=9)[1:9]]
        user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = spent
        busy = user + nice + system + interrupts + soft_interrupts + stolen
    clock, steady = _both_clocks()
    return Mark(
        waited_s=waited,
        stolen_s=stolen,
        busy_s=busy,
        own_s=time.process_time(),
        thread_s=time.thread_time(),
        clock_s=clock,
        steady_s=steady,
    )


def _both_clocks() -> tuple[float, float | None]:
    """The clock that samples are taken with, and the kernel's own, which no adjustment of the time of day reaches.

    Whoever is put off the CPU between the two reads two moments, so of a few tries the closest counts.
    """
    if _steady is None or not hasattr(time, "CLOCK_MONOTONIC_RAW"):
        return perf_counter(), None
    tries = []
    for _ in range(_TRIES):
        began_s, clock_s, ended_s = _steady(time.CLOCK_MONOTONIC_RAW), perf_counter(), _steady(time.CLOCK_MONOTONIC_RAW)
        tries.append((ended_s - began_s, clock_s, began_s))
    _, clock_s, steady_s = min(tries)
    return clock_s, steady_s


def process_doubts(before: Mark, after: Mark, wall_s: float, *, threads: int) -> tuple[str, ...]:
    """Reasons against all samples of a process: somebody else's threads in it, or a clock that cannot be right.

    Args:
        before: counters when the comparison began.
        after: counters when it ended.
        wall_s: wall time in between.
        threads: with which the variants compute; only one can be told from others.
    """
    reasons = []
    beside = (after.own_s - before.own_s - (after.thread_s - before.thread_s)) / wall_s
    if threads == 1 and beside > MOST_BESIDE:
        reasons.append(f"other threads of its process had a CPU for {beside:.0%} of the time")
    if before.steady_s is not None and after.steady_s is not None:
        steady_s = after.steady_s - before.steady_s
        clock_s = after.clock_s - before.clock_s
        if abs(steady_s - clock_s) > MOST_APART * steady_s + _APART_S:
            reasons.append(f"its clock counted {clock_s:.3g} s while another clock counted {steady_s:.3g} s")
    return tuple(reasons)


def switches() -> int:
    """Involuntary context switches of this process so far."""
    import resource  # here alone, so that what does not measure runs where there is none

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def doubts(
    samples: Sequence[float],
    cpu_s: Sequence[float],
    switched: int,
    *,
    before: Mark,
    after: Mark,
    wall_s: float,
    shared_spread: float = math.nan,
) -> tuple[tuple[str, ...], dict[str, Detail]]:
    """Reasons against believing a cell's samples, and the figures behind them.

    Args:
        samples: seconds of wall time.
        cpu_s: CPU time of this process during each sample, in seconds; empty where the work is not on the CPU.
        switched: involuntary switches during the samples.
        before: counters when the comparison began.
        after: counters when it ended.
        wall_s: wall time in between.
        shared_spread: what all sides of a comparison have of their spread in common; nan where there is one side.
    """
    spread = stats.summarise(samples).spread
    reasons: list[str] = []
    details: dict[str, Detail] = {"spread": round(spread, 4), "involuntary_switches": switched}
    if len(samples) < stats.FEWEST_ROUNDS:
        reasons.append(f"{len(samples)} of the {stats.FEWEST_ROUNDS} samples that an interval takes")
    if not math.isnan(shared_spread):
        details["shared_spread"] = round(shared_spread, 4)
    if spread > MOST_SPREAD:
        shared = min(shared_spread, spread)  # what others share among each other may be more than this one has
        in_step = "" if math.isnan(shared_spread) else f", by {shared:.0%} in step with the others"
        reasons.append(f"samples spread by {spread:.0%}{in_step}")
    if cpu_s:
        share = sum(cpu_s) / sum(samples)
        details["cpu_share"] = round(share, 4)
        if share < LEAST_CPU_SHARE:
            reasons.append(f"had the CPU for only {share:.0%} of its time")
        rate = switched / sum(samples)
        if rate > MOST_SWITCHES_PER_S:
            reasons.append(f"was put off the CPU {rate:.0f} times a second")
    if before.waited_s is not None and after.waited_s is not None:
        pressure = (after.waited_s - before.waited_s) / wall_s
        details["cpu_pressure"] = round(pressure, 4)
        if pressure > MOST_PRESSURE:
            reasons.append(f"other work waited for a CPU for {pressure:.0%} of the time")
    if before.busy_s is not None and after.busy_s is not None:
        # no doubt by itself: another core may be busy and leave this one alone, or share its caches
        details["other_cpus"] = round((after.busy_s - before.busy_s - (after.own_s - before.own_s)) / wall_s, 3)
    if before.stolen_s is not None and after.stolen_s is not None:
        steal = (after.stolen_s - before.stolen_s) / wall_s / (os.cpu_count() or 1)
        details["cpu_steal"] = round(steal, 4)
        if steal > MOST_STEAL:
            reasons.append(f"the hypervisor took {steal:.0%} of the CPUs")
    return tuple(reasons), details
