"""Measure block sizes on this machine's GPU and enter them in the table.

    python -m variants.tune [--budget SECONDS]

First a short list is compiled, as many entries at once as there are CPUs: those that a model of resources and traffic
thinks quickest on this family of GPUs. Then each program is tuned by changing one size at a time, from the quickest of
these or from the safe entry down to where no change helps, by the time of parallel co-attention's forward and backward
passes together at the paper's shape. An entry is timed only after its results were held against the eager mechanism in
float64, and is taken only if the same holds of many words, of three levels, and of alternating attention.

What was timed is kept in a journal beside the table, so that a run that was stopped goes on where it was. A program's
entry is written as soon as its search ends, by itself or with the budget. The measuring is done by a second process,
which is started again where an entry took the device away from it.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
import triton
from torch import Tensor
from triton.runtime.errors import OutOfResources, PTXASError
from triton.testing import do_bench

from variants.build import build
from variants.interface import Batch
from variants.kernels.configurations import CHOICES, TABLE, Configuration, configuration, trying
from variants.kernels.shortlist import PROGRAMS, architecture, shortlist
from variants.masking import valid_from_lengths

T = TypeVar("T")

REGIONS, WORDS, WIDTH = 196, 26, 512
TIMED_EXAMPLES = 1200
"""Four of the paper's batches: enough that the device sets the pace and not the host, whatever the entry."""
COMPILING_B = 2**30
"""Of the device's memory, for each process that compiles: its context and a few examples."""
COMPILING_SHARE = 0.4
"""Of the time that is left, for compiling ahead."""
DEVICE_LOST = 75
"""Exit code of a process whose device no longer answers."""


def descend(
    start: Configuration, time_s: Callable[[Configuration], float], accept: Callable[[Configuration], bool]
) -> Configuration:
    """The configuration that no change of one size makes faster, from a start that runs.

    Args:
        start: where to begin.
        time_s: seconds, infinite for what does not run.
        accept: asked of what would be taken, once.
    """
    best, best_s = start, time_s(start)
    refused: set[Configuration] = set()
    improved = True
    while improved:
        improved = False
        for field, choices in CHOICES.items():
            for choice in choices:
                candidate = best._replace(**{field: choice})  # type: ignore[arg-type]  # sizes, and true or false
                if candidate == best or candidate in refused:
                    continue
                candidate_s = time_s(candidate)
                # one percent: less is noise, and would let the search wander for ever
                if candidate_s >= 0.99 * best_s:
                    continue
                if accept(candidate):
                    best, best_s, improved = candidate, candidate_s, True
                else:
                    refused.add(candidate)
    return best


class Journal:
    """Times already taken, one JSON line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.times: dict[tuple[str, Configuration], float] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the last line of a run that was stopped
                continue
            seconds = math.inf if entry["time_s"] is None else entry["time_s"]
            self.times[entry["key"], Configuration(*entry["configuration"])] = seconds

    def time_s(self, key: str, tried: Configuration, measure: Callable[[], float]) -> float:
        """What the journal knows, or else what ``measure`` finds; infinite for what does not run."""
        if (key, tried) not in self.times:
            self.write(key, tried, measure())
        return self.times[key, tried]

    def write(self, key: str, tried: Configuration, seconds: float) -> None:
        self.times[key, tried] = seconds
        written = None if math.isinf(seconds) else seconds
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "configuration": tried, "time_s": written}) + "\n")


def enter(table: Path, device: str, found: Mapping[str, Configuration]) -> None:
    """Write what was found for programs on a device into the table, in place of what it said; whole or not at all."""
    content = json.loads(table.read_text())
    content["measured"].setdefault(device, {}).update({key: tuned._asdict() for key, tuned in found.items()})
    unfinished = table.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(unfinished, table)


class Case:
    """Forward and backward of a fused mechanism, and what they ought to give."""

    def __init__(
        self, name: str, dtype: torch.dtype, *, examples: int, regions: int, words: int, width: int, device: str
    ) -> None:
        self.name = name
        self.fused = build(f"{name}+fused", width=width, device=device)
        self.fused.module.to(dtype)
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(1, words + 1, (examples,), generator=generator)
        lengths[0] = words
        self.batch = Batch(
            torch.randn(examples, regions, width, generator=generator).to(device, dtype).requires_grad_(),
            torch.randn(examples, words, width, generator=generator).to(device, dtype).requires_grad_(),
            valid_from_lengths(torch.full((examples,), regions), regions).to(device),
            valid_from_lengths(lengths, words).to(device),
        )

    def run(self) -> tuple[Tensor, ...]:
        """Outputs, and gradients of inputs and parameters."""
        return _step(self.fused.call, self.fused.module, self.batch)

    def expect(self) -> bool:
        """Learn from the eager mechanism in float64 what `right` compares with; whether the entry at hand is right.

        Over all tensors it may err three times as much as the eager mechanism in its type, since small sums scatter
        that far; another order of sums then may double a tensor's error, and no more.
        """
        dtype, device = self.batch.image.dtype, str(self.batch.image.device)
        exact = build(self.name, width=self.batch.image.shape[2], device=device).module.double()
        exact.load_state_dict(self.fused.module.state_dict())
        image, question = (features.detach().double().requires_grad_() for features in self.batch[:2])
        self.expected = _step(exact, exact, self.batch._replace(image=image, question=question))
        eager = self._errors(_step(self.fused.module, self.fused.module, self.batch))
        ours = self._errors(self.run())
        floor = 16 * torch.finfo(torch.promote_types(dtype, torch.float32)).eps  # what is exact in eager mode alone
        self.allowed = [2 * error + floor for error in ours]
        return math.hypot(*ours) <= 3 * math.hypot(*eager) + floor

    def _errors(self, found: tuple[Tensor, ...]) -> list[float]:
        return [_error(tensor, want) for tensor, want in zip(found, self.expected, strict=True)]

    def right(self) -> bool:
        errors = self._errors(self.run())
        return all(error <= allowed for error, allowed in zip(errors, self.allowed, strict=True))


def _step(call: Callable[[Batch], tuple[Tensor, ...]], module: torch.nn.Module, batch: Batch) -> tuple[Tensor, ...]:
    found = call(batch)
    leaves = (batch.image, batch.question, *module.parameters())
    gradients = torch.autograd.grad(found, leaves, [torch.ones_like(field) for field in found])
    return (*(field.detach() for field in found), *gradients)


def _error(found: Tensor, expected: Tensor) -> float:
    """Of the whole tensor, over its size; NaN, which no limit allows, where anything is."""
    # a gradient that is zero but for rounding is held against an absolute size
    return float((found.double() - expected).norm() / expected.norm().clamp(min=1e-3 * expected.numel() ** 0.5))


class Bench:
    """Judges entries of one type on the device at hand."""

    def __init__(self, dtype: torch.dtype) -> None:
        def case(name: str, examples: int, words: int) -> Case:
            return Case(name, dtype, examples=examples, regions=REGIONS, words=words, width=WIDTH, device="cuda")

        self.timed = case("parallel", TIMED_EXAMPLES, WORDS)
        self.first = case("parallel", 48, WORDS)
        self.others = (
            case("parallel", 16, 80),
            case("hierarchical", 16, WORDS),
            case("hierarchical[inner=alternating]", 16, WORDS),
        )
        for checked in (self.first, *self.others):
            if not checked.expect():
                raise SystemExit(f"{checked.name} is wrong here with the safe entry, in {dtype}: nothing to tune yet")

    def time_s(self, key: str, tried: Configuration) -> float:
        """Median seconds of a step; infinite where it does not compile, does not launch, or is wrong."""
        with trying({key: tried}):
            if not works(self.first):
                return math.inf
            milliseconds: float = do_bench(self.timed.run, return_mode="median")
            return milliseconds / 1e3

    def accepts(self, key: str, tried: Configuration) -> bool:
        with trying({key: tried}):
            return all(map(works, self.others))


def works(case: Case) -> bool:
    try:
        return case.right()
    except (OutOfResources, PTXASError, triton.CompilationError) as error:
        print(f"    {case.name}: {_first_line(error)}", flush=True)
    except RuntimeError as error:  # of the launch: the device may be fit for the next, or lost to this process
        print(f"    {case.name}: {_first_line(error)}", flush=True)
        torch.cuda.synchronize()
    return False


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


class Tuning:
    """One program's search: what it does next is told, and what took the device away is not tried again.

    Once the budget is spent, what the journal does not know counts as what does not run, so that the search ends with
    the best that any run has found. The first entry is measured whatever the time.
    """

    def __init__(self, key: str, bench: Bench, journal: Journal, spent: Callable[[], bool] = lambda: False) -> None:
        self.key, self.bench, self.journal, self.spent = key, bench, journal, spent
        self.tried: set[Configuration] = set()

    def time_s(self, entry: Configuration) -> float:
        known = (self.key, entry) in self.journal.times
        if not known and self.tried and self.spent():
            return math.inf
        seconds = self.journal.time_s(
            self.key, entry, lambda: self._surviving(entry, lambda: self.bench.time_s(self.key, entry))
        )
        self.tried.add(entry)
        took = "passed over" if math.isinf(seconds) else f"{seconds * 1e6:.0f} us"
        print(f"  {self.key} {len(self.tried)}: {entry} {took}{' (journal)' if known else ''}", flush=True)
        return seconds

    def accepts(self, entry: Configuration) -> bool:
        return self._surviving(entry, lambda: self.bench.accepts(self.key, entry))

    def _surviving(self, entry: Configuration, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except RuntimeError as error:  # the device no longer answers this process
            print(f"    {_first_line(error)}", flush=True)
            self.journal.write(self.key, entry, math.inf)
            sys.exit(DEVICE_LOST)


def measure(deadline: float) -> None:
    """Tune every program for 16-bit and 32-bit types and enter what was found.

    Args:
        deadline: on the system's clock, in seconds, after which nothing new is tried.
    """
    device = torch.cuda.get_device_name()
    family = architecture(*torch.cuda.get_device_capability())
    if family:
        compile_ahead(family, deadline)
    journal = Journal(TABLE.with_name(f"tuning-{device.replace(' ', '-')}.jsonl"))

    def spent() -> bool:
        return time.time() >= deadline

    for dtype in (torch.bfloat16, torch.float32):
        if spent():
            break
        bench = Bench(dtype)
        for program in PROGRAMS:
            key = f"{program}/{8 * dtype.itemsize}"
            tuning = Tuning(key, bench, journal, spent)
            started, start = time.monotonic(), configuration(program, dtype.itemsize, "safe")
            start_s = tuning.time_s(start)
            if math.isinf(start_s):
                raise SystemExit(f"{key}: the safe entry {start} does not run here; see {journal.path}")
            best = first_of(shortlist(program, dtype.itemsize, family), start, tuning) if family else start
            found = descend(best, tuning.time_s, tuning.accepts)
            enter(TABLE, device, {key: found})
            gain, spent_s = start_s / journal.times[key, found], time.monotonic() - started
            print(f"{key}: {found}, a step {gain:.2f} x as fast as with the safe entry, in {spent_s:.0f} s")
            if spent():
                break
    if spent():
        print(f"the budget is spent; what was found is in {TABLE} for {device}: run the same again to go on")
    else:
        print(f"entered in {TABLE} for {device}: commit it, and delete {journal.path.name}")


def first_of(entries: Sequence[Configuration], start: Configuration, tuning: Tuning) -> Configuration:
    """The quickest of entries that are tried before a search begins, or its start: what was compiled costs little."""
    best = start
    for entry in sorted(entries, key=tuning.time_s):
        if tuning.time_s(entry) >= 0.99 * tuning.time_s(best):
            break
        if tuning.accepts(entry):
            return entry
    return best


def compile_ahead(family: str, deadline: float) -> None:
    """Compile what will be tried first, in as many processes as there are CPUs and room on the device.

    They leave it in Triton's cache on disk, where the process that measures finds it. What does not compile, or takes
    its process along, is met again when it is measured, and not here.

    Args:
        family: of the device.
        deadline: on the system's clock, after which the rest is left to the measuring.
    """
    asked = [
        (program, bits, entry)
        for bits in (16, 32)
        for program in PROGRAMS
        for entry in shortlist(program, bits // 8, family)
    ]
    free_b, _ = torch.cuda.mem_get_info()
    count = max(1, min(os.cpu_count() or 1, free_b // COMPILING_B, len(asked)))
    print(f"compiling {len(asked)} entries in {count} processes", flush=True)
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "variants.tune", "--compile", json.dumps(asked[number::count])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in range(count)
    ]
    ends = time.time() + COMPILING_SHARE * (deadline - time.time())
    for process in running:
        try:
            process.wait(max(0.1, ends - time.time()) if math.isfinite(ends) else None)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def compile_only(asked: Sequence[tuple[str, int, Sequence[int]]], device: str = "cuda") -> int:
    """Run each entry once on a few examples, which compiles it; how many ran."""
    ran = 0
    for program, bits, entry in asked:
        dtype = torch.bfloat16 if bits == 16 else torch.float32
        few = Case("parallel", dtype, examples=16, regions=REGIONS, words=WORDS, width=WIDTH, device=device)
        with trying({f"{program}/{bits}": Configuration(*entry)}):  # type: ignore[arg-type]  # sizes, and true or false
            try:
                few.run()
                ran += 1
            except Exception as error:  # whatever it is, measuring meets it again, and says so
                print(f"    {program}/{bits}: {_first_line(error)}", flush=True)
    return ran


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m variants.tune", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--budget", type=float, default=math.inf, metavar="SECONDS", help="seconds after which nothing new is tried"
    )
    parser.add_argument("--measure-until", type=float, help=argparse.SUPPRESS)  # how the second process is started
    parser.add_argument("--compile", type=json.loads, help=argparse.SUPPRESS)  # and those that compile
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("tuning measures a CUDA device, and there is none here")
    if asked.compile is not None:
        compile_only(asked.compile)
        return
    if asked.measure_until is not None:
        measure(asked.measure_until)
        return
    command = [sys.executable, "-m", "variants.tune", "--measure-until", str(time.time() + asked.budget)]
    while True:
        ended = subprocess.run(command, check=False)
        if ended.returncode != DEVICE_LOST:
            sys.exit(ended.returncode)
        print("the device was lost to an entry that is now passed over; going on", flush=True)


if __name__ == "__main__":
    main()
