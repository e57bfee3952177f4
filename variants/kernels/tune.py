"""Measure block sizes on this machine's GPU and enter them in the table: ``python -m variants.kernels.tune``.

Each program is tuned by changing one size at a time, from the safe entry down to where no change helps, by the time of
parallel co-attention's forward and backward passes together at the paper's shape. What was timed is kept in a journal
beside the table, so that a run that was stopped goes on where it was.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import triton
from triton.runtime.errors import OutOfResources, PTXASError
from triton.testing import do_bench

from variants.build import build
from variants.interface import Attended, Batch
from variants.kernels.configurations import TABLE, Configuration, configuration, trying
from variants.masking import valid_from_lengths

PROGRAMS = ("scored", "scored_backward", "sum_over_regions", "image_gradient")
CHOICES: Mapping[str, tuple[int, ...]] = {
    "rows": (32, 64, 128),
    "outer": (32, 64, 128, 256, 512),
    "inner": (32, 64, 128),
    "words": (16, 32, 64),
    "warps": (4, 8),
    "stages": (1, 2, 3, 4),
}


def descend(start: Configuration, time_s: Callable[[Configuration], float]) -> Configuration:
    """The configuration that no change of one size makes faster, from a start that runs."""
    best, best_s = start, time_s(start)
    improved = True
    while improved:
        improved = False
        for field, choices in CHOICES.items():
            for choice in choices:
                candidate = best._replace(**{field: choice})
                if candidate == best:
                    continue
                candidate_s = time_s(candidate)
                # one percent: less is noise, and would let the search wander for ever
                if candidate_s < 0.99 * best_s:
                    best, best_s, improved = candidate, candidate_s, True
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
            seconds = self.times[key, tried] = measure()
            written = None if math.isinf(seconds) else seconds
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "configuration": tried, "time_s": written}) + "\n")
        return self.times[key, tried]


def enter(table: Path, device: str, found: Mapping[str, Configuration]) -> None:
    """Write what was found for a device into the table, in place of what it said."""
    content = json.loads(table.read_text())
    content["measured"][device] = {key: tuned._asdict() for key, tuned in found.items()}
    table.write_text(json.dumps(content, indent=2) + "\n")


class Step:
    """Forward and backward of ``parallel+fused`` at B 300, N 196, T 26 and D = K = 512."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.variant = build("parallel+fused", width=512, device="cuda")
        self.variant.module.to(dtype)
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(300, 196, 512, generator=generator).to("cuda", dtype).requires_grad_()
        question = torch.randn(300, 26, 512, generator=generator).to("cuda", dtype).requires_grad_()
        regions, words = torch.full((300,), 196), torch.randint(1, 27, (300,), generator=generator)
        self.batch = Batch(
            image,
            question,
            valid_from_lengths(regions, 196).to("cuda"),
            valid_from_lengths(words, 26).to("cuda"),
        )
        self.reference = self.run()

    def run(self) -> tuple[Attended, tuple[torch.Tensor, ...]]:
        found = self.variant.call(self.batch)
        leaves = (self.batch.image, self.batch.question, *self.variant.module.parameters())
        gradients = torch.autograd.grad(found, leaves, [torch.ones_like(field) for field in found])
        return found, gradients

    def time_s(self, key: str, tried: Configuration) -> float:
        """Median seconds of a step; infinite where it does not compile, does not fit, or gives another result."""
        with trying({key: tried}):
            try:
                outputs, gradients = self.run()
            except (OutOfResources, PTXASError, triton.CompilationError):
                return math.inf
            expected = (*self.reference[0], *self.reference[1])
            if not all(_close(got, want) for got, want in zip((*outputs, *gradients), expected, strict=True)):
                return math.inf
            milliseconds: float = do_bench(self.run, return_mode="median")
            return milliseconds / 1e3


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    # another order of summation may move a 16-bit result by a few of its roundings, and no more
    scale = expected.float().square().mean().sqrt()
    limit = 64 * torch.finfo(expected.dtype).eps
    return bool(((found.float() - expected.float()).abs().max() <= limit * scale).item())


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("tuning measures a CUDA device, and there is none here")
    device = torch.cuda.get_device_name()
    journal = Journal(TABLE.with_name(f"tuning-{device.replace(' ', '-')}.jsonl"))
    found: dict[str, Configuration] = {}
    for dtype in (torch.bfloat16, torch.float32):
        step = Step(dtype)
        for program in PROGRAMS:
            key = f"{program}/{8 * dtype.itemsize}"

            def time_s(tried: Configuration, key: str = key, step: Step = step) -> float:
                return journal.time_s(key, tried, lambda: step.time_s(key, tried))

            found[key] = descend(configuration(program, dtype.itemsize, "safe"), time_s)
            print(f"{key}: {found[key]}, a step in {time_s(found[key]) * 1e6:.0f} us", flush=True)
    enter(TABLE, device, found)


if __name__ == "__main__":
    main()
