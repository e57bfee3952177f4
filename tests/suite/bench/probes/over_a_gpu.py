"""What the probes do where torch believes in a GPU; run in a process of its own, which prints one JSON object."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from suite.audit.lab import Lab
from suite.audit.subject import from_variant
from suite.bench import environment, request, run
from suite.bench.probes import agreement, capacity, contract, honesty, memory, mode, peaks, start, telemetry, trace
from suite.bench.probes.clocks import clock_of
from suite.bench.probes.step import prepare, running_on
from suite.bench.tasks import About, Target
from suite.core import records as records_of
from suite.core.errors import UserError
from suite.core.records import Finding, Measurement
from suite.core.workloads import WORKLOADS
from suite.execution.local import gpu_name
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


def words() -> list[object]:
    """How float32 is multiplied, in torch's older words, which it may refuse to read, and in its newer ones."""
    found: list[object] = []
    backends: Any = torch.backends
    for ask in (torch.get_float32_matmul_precision, lambda: backends.cudnn.allow_tf32):
        try:
            found.append(ask())
        except RuntimeError:
            found.append("refused")
    return [*found, *(kind.fp32_precision for kind in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn))]


def rounding() -> dict[str, object]:
    """Before, while something is measured, and after, where a program has chosen TF32 in one of torch's ways."""
    backends: Any = torch.backends
    ways: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "older": lambda: torch.set_float32_matmul_precision("high"),
        "cuDNN": lambda: setattr(backends.cudnn, "allow_tf32", False),
        "newer": lambda: setattr(backends.cudnn.conv, "fp32_precision", "ieee"),
        "products": lambda: setattr(backends.cuda.matmul, "fp32_precision", "ieee"),
        "all": lambda: setattr(backends, "fp32_precision", "tf32"),
    }
    found: dict[str, object] = {}
    for name, choose in ways.items():
        choose()
        before = words()
        with running_on("cuda"):
            inside = words()
            step = prepare("parallel+tf32", TINY, "forward+backward", "cuda")
            step(0)
            after_a_call = words()
        found[name] = [before, inside, after_a_call, words()]
    return found


class Products(TorchDispatchMode):
    """How every matrix product is computed, as torch is set when it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, bool]] = set()

    def __torch_dispatch__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.partition(".")[0] in ("mm", "bmm", "addmm"):
            self.seen.add((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return func(*args, **(kwargs or {}))


def rounded() -> dict[str, object]:
    found: dict[str, object] = {}
    with running_on("cuda"):
        for name in ("parallel", "parallel+tf32", "parallel+tf32+compile", "parallel+chunked+tf32"):
            step = prepare(name, TINY, "forward+backward", "cuda")
            with Products() as forward:
                outputs = step.variant.call(step.inputs[0])
            between = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
            with Products() as backward:
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
            after = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
            found[name] = [sorted(forward.seen), between, sorted(backward.seen), after]
        for name in ("parallel+fused+tf32", "parallel+fast+tf32"):
            try:
                build(name, width=16, device="cuda")
            except Skip as skip:
                found[name] = str(skip)
    for name in ("parallel", "parallel+tf32"):
        (limit,) = {
            record.details["limit"]
            for record in agreement.check(Target(name, TINY, "forward", "cuda", task="t"))
            if isinstance(record, Measurement)
        }
        found[f"limit of {name}"] = limit
        found[f"floor of {name}"] = Lab(from_variant(build(name, width=16, device="cuda")), 0).floor
    return found


def seen() -> dict[str, object]:
    import pynvml  # the double

    found: dict[str, object] = {}
    for how in ("ok", "missing", "few", "denied", "container", "foreign", "throttled"):
        pynvml.HOW = how
        looking = telemetry.Telemetry()
        for _ in range(20):
            looking.look()
        found[how] = {**looking.details(), "doubts": list(looking.doubts())}
    sys.modules["pynvml"] = None  # type: ignore[assignment]  # how Python keeps that there is none
    looking = telemetry.Telemetry()
    looking.look()
    found["uninstalled"] = {**looking.details(), "doubts": list(looking.doubts())}
    sys.modules["pynvml"] = pynvml
    return found


def every_probe() -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for records in (
        memory.measure(Target("parallel+cudagraph", TINY, "forward+backward", "cuda", task="t")),
        start.measure(Target("parallel", TINY, "forward", "cuda", task="t")),
        peaks.measure("cuda", task="t", budget_s=0.05),
    ):
        for record in records:
            if isinstance(record, Measurement):
                found[record.quantity] = record.value
    return found


def tried(name: str, kind: str) -> str:
    """What becomes of a variant: done, or why not."""
    try:
        step = prepare(name, TINY, "forward+backward", kind)
        step(0)
        step.clear()
    except Skip as skip:
        return str(skip)
    return "done"


def accelerated() -> dict[str, object]:
    """What the probes do with whatever torch's own accelerator is here."""
    kind = request.accelerator()
    found: dict[str, object] = {"kind": kind, "machine": environment.machine(kind)}
    found["variants"] = {
        name: tried(name, kind)
        for name in (
            *("parallel", "hierarchical+bf16", "cross+amp_bf16", "parallel+compile", "parallel+fast"),
            *("parallel+fused", "parallel+cudagraph", "parallel+tf32"),
        )
    }
    step, clock = prepare("parallel", TINY, "forward+backward", kind), clock_of(kind)
    clock.wall(step, 0)
    step.clear()
    found["times"], found["clock"] = dict(clock.read(step, 0).seconds), dict(clock.details())
    said: dict[str, object] = {}
    for records in (
        memory.measure(Target("parallel", TINY, "forward+backward", kind, task="t")),
        start.measure(Target("parallel", TINY, "forward", kind, task="t")),
        peaks.measure(kind, task="t", budget_s=0.02),
        agreement.check(Target("parallel", TINY, "forward+backward", kind, task="t")),
        mode.prove(step, mode.compilation(*[mode.compilations()] * 3), about(kind)),
        iter([honesty.examine(step, about(kind)), contract.examine(step, about(kind))]),
    ):
        for record in records:
            match record:
                case Measurement(quantity=name, value=value):
                    said[name] = value
                case Finding(quantity=name, verdict=verdict):
                    said[name] = verdict
                case records_of.Skip(quantity=name, reason=reason):
                    said[name] = reason
    found["said"] = said
    capacity._LARGEST = 64  # the double has memory for more than a CPU computes soon
    try:
        found["largest"] = [
            record.quantity for record in capacity.largest(Target("parallel", TINY, "forward", kind, task="t"))
        ]
    except Skip as skip:
        found["largest"] = str(skip)
    return found


def about(kind: str) -> About:
    return About(task="t", variant="parallel", workload=str(TINY), phase="forward+backward", device=kind)


def chosen() -> dict[str, object]:
    """Which devices may be asked for, and where their jobs go."""
    found: dict[str, object] = {}
    for label in (None, "cuda", "cuda:0", "cuda:1", "cuda:2", "cuda:x", "mps", "xpu", "tpu"):
        try:
            found[str(label)] = str(request.device_of(label))
        except UserError as error:
            found[str(label)] = f"refused: {error}"
    for label in ("cuda", "cuda:1"):
        asked = request.understand(request.Request(variants=("parallel",), device=label))
        found[f"nodes of {label}"] = [node.name for node in run._here(asked, Path(), Path()).nodes()]
        found[f"idle beside {label}"] = run.idle(asked.devices)
    found["idle beside cpu"] = run.idle([request.device_of("cpu")])
    os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-aa,GPU-bb"
    found["named"] = gpu_name(1)
    return found


ASKED = {
    "times": lambda: {
        f"{name} {phase}": times(name, phase)
        for name in ("parallel", "parallel+bf16", "parallel+cudagraph", "published_csdn")
        for phase in ("forward", "forward+backward")
    },
    "captured": captured,
    "rounding": rounding,
    "rounded": rounded,
    "accelerated": accelerated,
    "chosen": chosen,
    "seen": seen,
    "probes": every_probe,
}

if __name__ == "__main__":
    assert {capacity, mode, trace}  # imported where a GPU is believed in, which changes nothing
    print(json.dumps({name: ASKED[name]() for name in sys.argv[1:]}))
