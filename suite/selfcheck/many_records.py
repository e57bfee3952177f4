"""Stores, reads and reports many records, and says what it took: a program, so that its memory is its own."""

import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from suite.core import memory, store
from suite.core.records import Finding, Measurement, Record
from suite.report import page

MECHANISMS = ("parallel", "alternating", "hierarchical", "dense", "cross")
TRANSFORMS = ("", "+bf16", "+fp16", "+amp_bf16", "+amp_fp16", "+compile", "+bf16+compile", "+fp16+compile")
PHASES = ("forward", "forward+backward")
ROUNDS = 30


def records() -> Iterator[Record]:
    """Ten of each cell, in sweeps of the batch: without end."""
    generator = random.Random(2016)
    batch = 0
    while True:
        batch += 1
        for phase in PHASES:
            for variant in (f"{mechanism}{transform}" for mechanism in MECHANISMS for transform in TRANSFORMS):
                yield from _cell(generator, variant, f"vqa-grid[batch={batch}]", phase)


def _cell(generator: random.Random, variant: str, workload: str, phase: str) -> Iterator[Record]:
    task = f"timing {variant.partition('+')[0]} {workload} {phase}"
    times = tuple(generator.uniform(1e-3, 2e-3) for _ in range(ROUNDS))

    def number(quantity: str, unit: str, value: float) -> Measurement:
        return Measurement(
            task=task, variant=variant, workload=workload, phase=phase, device="cpu",
            quantity=quantity, unit=unit, value=value,  # type: ignore[arg-type]  # one of the units
        )  # fmt: skip

    yield Measurement(
        task=task, variant=variant, workload=workload, phase=phase, device="cpu",
        quantity="latency", unit="s", samples=times, rounds=tuple(range(ROUNDS)),
    )  # fmt: skip
    for quantity, unit in (
        ("first_call", "s"),
        ("peak_memory", "B"),
        ("saved_for_backward", "B"),
        ("least_bytes", "B"),
    ):
        yield number(quantity, unit, generator.uniform(1e-3, 1e6))
    yield number("matmul_flops", "1", 1e9)
    yield number("agreement_error", "1", 1e-7)
    for quantity in ("mode", "honesty", "agreement"):
        yield Finding(
            task=task, variant=variant, workload=workload, phase=phase, device="cpu", quantity=quantity, verdict="holds"
        )


def main(folder: Path, wanted: int) -> None:
    """Store so many records task by task, open them again as a resumed run does, and make the report."""
    source = records()
    made = [next(source) for _ in range(wanted)]
    started, cpu = time.perf_counter(), time.process_time()
    with store.Writer(folder) as writer:
        for start in range(0, wanted, 100):
            writer.write(made[start : start + 100])
    del made
    store.finished(store.read(folder))
    with store.Writer(folder):
        pass
    page.write(folder)
    figures = {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "peak_B": memory.peak_B(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
