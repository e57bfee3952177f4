"""The numbers that a slot is for, with torch alone: no statistics, no pages, no other process.

    python -m suite.slot.numbers FOLDER [--workload vqa-grid] [--seconds 80] [--only fused]

Records go into FOLDER as those of a run do, so that ``run_all.py report FOLDER`` makes its pages anywhere. What a
variant raises is a record too, and the others go on.
"""

import argparse
import json
import platform
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import FrameType

import torch

from suite.bench.probes import accelerators
from suite.bench.probes.clocks import Clock, clock_of
from suite.bench.probes.step import Step, make_inputs, prepare, running_on
from suite.bench.tasks import About
from suite.core import folders, store
from suite.core.failures import refusal
from suite.core.records import ANCHOR, Measurement, Record, Skip
from suite.core.workloads import PHASES, Phase, Workload, named
from variants import Batch

NAMES = (
    *("parallel", "parallel+bf16+fused", "published_csdn+bf16", "parallel+bf16", "parallel+bf16+compile"),
    *("parallel+bf16+fused+cudagraph", "parallel+bf16+cudagraph", "parallel+tf32", "parallel+fused"),
    *("alternating+bf16", "alternating+bf16+fused", "hierarchical+bf16", "hierarchical+bf16+fused"),
)
MOST_ROUNDS = 60
_SETTLING_CALLS = 3
DEVICE = "cuda"


@dataclass(kw_only=True)
class Lane:
    """A variant that runs, and its samples."""

    name: str
    step: Step
    samples: dict[str, list[float]] = field(default_factory=dict)
    """Seconds by quantity."""


class StopSignal:
    """Whether this process was asked to end: what it has is stored then."""

    def __init__(self) -> None:
        self.yes = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.yes = True


def measure(
    names: Sequence[str],
    workload: Workload,
    phase: Phase,
    *,
    until_s: float,
    over: Callable[[], bool],
    say: Callable[[str], None],
) -> Iterator[Record]:
    """Time variants in rounds, each once a round in random order; memory first, while nothing else was run of it.

    Args:
        names: of variants.
        workload: shapes and lengths.
        phase: of the step.
        until_s: on the clock of ``time.monotonic``, when rounds end.
        over: whether somebody asked for the end.
        say: a line for whoever watches.

    Yields:
        ``first_call`` and ``peak_memory`` as soon as they are known, then ``latency``, ``launch``, ``device`` and
        ``device_cold`` of all, and ``task_time``.
    """
    task = f"timing numbers {workload} {phase} {DEVICE}"
    began = time.monotonic()
    with running_on(DEVICE):
        clock, shared, lanes = clock_of(DEVICE), dict[torch.dtype, tuple[Batch, ...]](), list[Lane]()
        for name in names:
            if over() or (lanes and time.monotonic() > began + 0.7 * (until_s - began)):
                break  # of those that are left, nothing is known, and that is what their absence says
            about = About(task=task, variant=name, workload=str(workload), phase=phase, device=DEVICE)
            try:
                lane, found = _begun(name, workload, phase, clock, shared, about)
            except Exception as error:  # whatever a variant raises is its record
                yield Skip(quantity="latency", **refusal(error), **about)
                say(f"{name} {phase}: {refusal(error)['reason'][:120]}")
                continue
            lanes.append(lane)
            yield from found
        order, rounds = random.Random(0), 0
        while lanes and rounds < MOST_ROUNDS and not over() and (rounds == 0 or time.monotonic() < until_s):
            for lane in order.sample(lanes, len(lanes)):
                for quantity, seconds in clock.read(lane.step, rounds).seconds.items():
                    lane.samples.setdefault(quantity, []).append(seconds)
                lane.step.clear()
            rounds += 1
        for lane in lanes if rounds else ():
            about = About(task=task, variant=lane.name, workload=str(workload), phase=phase, device=DEVICE)
            for quantity, samples in lane.samples.items():
                yield Measurement(
                    quantity=quantity,
                    unit="s",
                    samples=tuple(samples),
                    rounds=tuple(range(rounds)),
                    trust=clock.doubts(),
                    details={"stopped": "budget", "every": 1, **clock.details()},
                    **about,
                )
            shown = ", ".join(f"{name} {1e6 * sorted(s)[len(s) // 2]:.0f} us" for name, s in lane.samples.items())
            say(f"{lane.name} {phase}: {shown}")
    took = time.monotonic() - began
    yield Measurement(task=task, device=DEVICE, quantity="task_time", unit="s", value=took)


def _begun(
    name: str,
    workload: Workload,
    phase: Phase,
    clock: Clock,
    shared: dict[torch.dtype, tuple[Batch, ...]],
    about: About,
) -> tuple[Lane, list[Record]]:
    """A variant after its first calls, and what these say."""
    step = prepare(name, workload, phase, DEVICE, inputs=())
    dtype = step.variant.dtype
    if dtype not in shared:
        shared[dtype] = make_inputs(workload, phase, DEVICE, dtype)
    step.inputs = shared[dtype]
    first_s = clock.wall(step, 0)
    step.clear()
    for turn in range(_SETTLING_CALLS):
        clock.wall(step, turn)
        step.clear()
    peak, _ = accelerators.peak("cuda", lambda: step(0)) or (0, 0)
    step.clear()
    return Lane(name=name, step=step), [
        Measurement(quantity="first_call", unit="s", value=first_s, **about),
        Measurement(quantity="peak_memory", unit="B", value=float(peak), **about),
    ]


def _environment() -> dict[str, object]:
    """What the numbers stand on, as a run keeps it where it can: psutil may not be there."""
    try:
        from suite.bench import environment
        from suite.bench.request import Request

        return environment.describe(Request(device=DEVICE))
    except ModuleNotFoundError as error:
        properties = torch.cuda.get_device_properties()
        return {
            "device": properties.name,
            "python": platform.python_version(),
            "torch": metadata.version("torch"),
            "not known": f"{error.name} is not installed there",
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suite.slot.numbers", description="Numbers with torch alone.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workload", type=named, default="vqa-grid")
    parser.add_argument("--seconds", type=float, default=80.0)
    parser.add_argument("--only", default="", help="a transform: the variants that have it, and the anchor")
    asked = parser.parse_args()
    started, over = time.monotonic(), StopSignal()
    names = [name for name in NAMES if not asked.only or name == ANCHOR or asked.only in name.split("+")]
    asked.folder.mkdir(parents=True, exist_ok=True)
    folders.write(asked.folder, folders.ENVIRONMENT, json.dumps(_environment(), indent=1) + "\n")
    with store.Writer(asked.folder) as writer:
        for number, phase in enumerate(PHASES):
            until_s = started + asked.seconds * (0.45 if number == 0 else 0.92)
            records = measure(
                names,
                asked.workload,
                phase,
                until_s=until_s,
                over=lambda: over.yes,
                say=lambda line: print(line, flush=True),
            )
            for record in records:
                writer.write([record])


if __name__ == "__main__":
    main()
