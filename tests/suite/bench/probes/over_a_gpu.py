"""What the probes do where torch believes in a GPU; run in a process of its own, which prints one JSON object."""

import json
import sys
from dataclasses import replace

import torch

from suite.bench.probes import capacity, memory, mode, peaks, start, telemetry, trace
from suite.bench.probes.clocks import clock_of
from suite.bench.probes.step import prepare, running_on
from suite.core.records import Measurement
from suite.core.workloads import WORKLOADS
from variants import Skip, build
from variants.transforms.capture import _MOST_CAPTURES

TINY = replace(WORKLOADS["tiny"], batch=2)


def times(name: str, phase: str) -> dict[str, object]:
    step, clock = prepare(name, TINY, phase, "cuda"), clock_of("cuda")
    step(0)
    step.clear()
    reading = dict(clock.read(step, 0).seconds)
    return {**reading, "doubts": list(clock.doubts())}


def captured() -> dict[str, object]:
    variant = build("parallel+cudagraph", width=16, device="cuda")
    plain = build("parallel", width=16, device="cuda")
    found: dict[str, object] = {}
    largest = 0.0
    for batch in range(1, _MOST_CAPTURES + 4):
        inputs = prepare("parallel", replace(TINY, batch=batch), "forward", "cuda").inputs[0]
        inputs = type(inputs)(inputs.image[..., :16], inputs.question[..., :16], *inputs[2:])
        with torch.no_grad():
            for one, other in zip(variant.call(inputs), plain.call(inputs), strict=True):
                largest = max(largest, float((one - other).abs().max()))
    found["largest difference"] = largest
    step = prepare("parallel+cudagraph", TINY, "forward+backward", "cuda")
    outputs = step.variant.call(step.inputs[0])
    loss = sum(output.sum() for output in outputs)
    loss.backward(retain_graph=True)
    try:
        loss.backward()
    except RuntimeError as error:
        found["second backward"] = str(error)
    for name in ("published_csdn+cudagraph",):
        try:
            prepare(name, TINY, "forward", "cuda")(0)
        except Skip as skip:
            found[name] = str(skip)
    return found


def rounding() -> list[bool]:
    torch.backends.cudnn.allow_tf32 = True
    with running_on("cuda"):
        inside = torch.backends.cudnn.allow_tf32
    return [inside, torch.backends.cudnn.allow_tf32]


def seen() -> dict[str, object]:
    import pynvml  # the double

    found: dict[str, object] = {}
    for how in ("ok", "missing", "few", "denied", "container", "foreign", "throttled"):
        pynvml.HOW = how
        looking = telemetry.Telemetry()
        for _ in range(20):
            looking.look()
        found[how] = {**looking.details(), "doubts": list(looking.doubts())}
    return found


def every_probe() -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for records in (
        memory.measure("parallel+cudagraph", TINY, "forward+backward", "cuda", task="t"),
        start.measure("parallel", TINY, "forward", "cuda", task="t"),
        peaks.measure("cuda", task="t", budget_s=0.05),
    ):
        for record in records:
            if isinstance(record, Measurement):
                found[record.quantity] = record.value
    return found


ASKED = {
    "times": lambda: {
        f"{name} {phase}": times(name, phase)
        for name in ("parallel", "parallel+bf16", "parallel+cudagraph", "published_csdn")
        for phase in ("forward", "forward+backward")
    },
    "captured": captured,
    "rounding": rounding,
    "seen": seen,
    "probes": every_probe,
}

if __name__ == "__main__":
    assert {capacity, mode, trace}  # imported where a GPU is believed in, which changes nothing
    print(json.dumps({name: ASKED[name]() for name in sys.argv[1:]}))
