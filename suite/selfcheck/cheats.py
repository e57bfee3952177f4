"""Cheats: variants that look fast without being better."""

import time
from collections.abc import Iterator, Sequence

import torch

from suite.bench.inputs import make_batch
from suite.bench.probes.step import running_on
from suite.core import stats
from suite.core.records import Finding, Record
from suite.core.workloads import Workload
from suite.selfcheck.bench import Bench, latencies
from suite.selfcheck.row import row
from variants import Batch, build

SHAPE = "batch=16,regions=48,words=48,width=128,question_fill=0.5,image_fill=0.5"
SAMPLING_S = 1.5
HONEST = "cheat"
CROPPING = "cheat[kind=uniform]"
DISHONEST = ("cheat[kind=last_result]", "cheat[kind=writes_input]")
ASIDE = "cheat[kind=side_stream]"


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on each planted cheat, and on its honest twin."""
    dishonest = (*DISHONEST, ASIDE) if bench.device == "cuda" else DISHONEST
    asked = bench.asked([HONEST, CROPPING, *dishonest], shape=SHAPE)
    times = bench.count(default=2, full=10)
    repeats = bench.measure(asked, label="cheats", times=times, sampling_s=SAMPLING_S)
    with running_on(bench.device):
        gain = cropping_gain(asked.workloads[0], bench.device)
    yield from judge(repeats, dishonest, gain)


def judge(repeats: Sequence[Sequence[Record]], dishonest: Sequence[str], gain: float) -> Iterator[Finding]:
    """The rows that follow from comparisons of the cheats with their honest twin.

    Args:
        repeats: the records of each comparison.
        dishonest: the variants whose dishonesty must be found.
        gain: how many times as fast cropping is where all lengths are equal: what it would have shown elsewhere.
    """
    caught = trials = accused = fooled = 0
    said: dict[str, str] = {}
    for records in repeats:
        findings = {item.variant: item for item in records if isinstance(item, Finding) and item.quantity == "honesty"}
        for name in dishonest:
            trials += 1
            if name in findings and findings[name].verdict == "broken":
                caught += 1
                said[name] = findings[name].summary
        accused += HONEST in findings and findings[HONEST].verdict != "holds"
        timed = latencies(records)
        if CROPPING in timed and HONEST in timed:
            one, other = timed[CROPPING], timed[HONEST]
            fooled += stats.ratio(one.samples, one.rounds, other.samples, other.rounds).verdict == "faster"
    yield row(
        "a cheat is caught",
        caught,
        trials,
        at_least=1.0,
        summary="; ".join(f"{name}: {text}" for name, text in said.items()),
    )
    yield row("its honest twin is accused", accused, len(repeats), at_most=0.0)
    yield row(
        "leaving out the padding of uniform inputs is called faster",
        fooled,
        len(repeats),
        at_most=0.0,
        summary=f"workloads are ragged; with equal lengths it would have been {gain:.2f} times as fast",
    )


def cropping_gain(workload: Workload, device: str) -> float:
    """How many times as fast the cropping cheat is on inputs that are uniform and half padding."""
    ragged = make_batch(workload, device=device)
    image_valid, question_valid = (torch.zeros_like(valid) for valid in (ragged.image_valid, ragged.question_valid))
    image_valid[:, : workload.regions // 2] = True
    question_valid[:, : workload.words // 2] = True
    uniform = ragged._replace(image_valid=image_valid, question_valid=question_valid)
    times = {
        name: _best(name, uniform, workload.image_width, workload.question_width, device) for name in (HONEST, CROPPING)
    }
    return times[HONEST] / times[CROPPING]


def _best(name: str, batch: Batch, image_width: int, question_width: int, device: str) -> float:
    """The fastest of some calls: the plant has to work, nothing is concluded from by how much."""
    variant = build(name, image_width=image_width, question_width=question_width, device=device)
    best = float("inf")
    with torch.no_grad():
        for _ in range(20):
            started = time.perf_counter()
            outputs = variant.call(batch)
            float(outputs.image_weights.sum())  # waits for the device
            best = min(best, time.perf_counter() - started)
    return best
