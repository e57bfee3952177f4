"""FLOPs: every mechanism's closed form against torch's counter."""

from collections.abc import Iterator
from typing import get_args

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from suite.bench.inputs import make_batch
from suite.bench.probes.cost import IN_PLACE, flop_counter
from suite.core.records import Finding
from suite.core.workloads import custom
from suite.selfcheck.bench import Bench
from suite.selfcheck.row import row
from variants import Skip, build, mechanisms
from variants.build import option_types
from variants.registry import is_ours

_SHAPE = {"batch": "3", "regions": "7", "words": "5", "width": "16", "fill": "0.7"}
"""Odd sizes, so that two axes that were mixed up show."""
_MULTIPLYING = ("mv", "dot", "vdot", "lstm", "gru", "rnn", "attention", "conv", "einsum", "bilinear", "outer")
"""Words in the names of operations that multiply, by which those are found that the counter passes over."""


def check(bench: Bench) -> Iterator[Finding]:
    """One row over every mechanism, option and part."""
    workload = custom(_SHAPE)
    batch = make_batch(workload, device=bench.device)
    shape = (workload.batch, workload.regions, workload.words)
    wrong, unknown, trials = [], [], 0
    unseen: set[str] = set()
    for name in _names():
        try:
            module = build(name, width=workload.image_width, device=bench.device).module.eval()
        except (Skip, ValueError):
            continue  # an option that does not stand alone, or that cannot be had here
        expected = module.matmul_flops(*shape)
        if expected is None:
            unknown.append(name)
            continue
        trials += 1
        with torch.no_grad(), flop_counter() as counter, _Unseen() as watched:
            module.written_out()(batch)
        unseen |= watched.names
        if counter.get_total_flops() != expected:
            wrong.append(f"{name}: {expected} in closed form, {counter.get_total_flops()} counted")
        with torch.no_grad(), _Unseen() as watched:
            module(batch)
        unseen |= watched.names
    yield row(
        "the closed form of a mechanism's FLOPs equals the counter's",
        trials - len(wrong),
        trials,
        at_least=1.0,
        summary="; ".join(wrong)
        or f"operations that the counter passes over: {', '.join(sorted(unseen)) or 'none met here'}"
        + (f"; without a closed form: {', '.join(dict.fromkeys(map(_mechanism, unknown)))}" if unknown else ""),
        details={"unseen": sorted(unseen), "without_closed_form": unknown},
    )


def _mechanism(name: str) -> str:
    return name.partition("[")[0].partition("-")[0]


def _names() -> Iterator[str]:
    """Every mechanism, with each of its options changed and each of its parts removed, one at a time."""
    for name, mechanism in mechanisms().items():
        if not is_ours(mechanism):
            continue
        yield name
        for option, (annotation, default) in option_types(mechanism).items():
            choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
            if annotation is bool:
                choices = ["true", "false"]
            elif int in (annotation, *get_args(annotation)):
                choices = ["2", "8"]
            yield from (f"{name}[{option}={choice}]" for choice in choices if choice != str(default).lower())
        yield from (f"{name}-{part}" for part in mechanism.parts)


class _Unseen(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """Notes operations that multiply and that the counter has no formula for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # torch's own
        name = str(func._schema.name)
        counted = func._overloadpacket in flop_registry or func._overloadpacket in IN_PLACE
        if not counted and any(word in name.partition("::")[2].lower() for word in _MULTIPLYING):
            self.names.add(name)
        return func(*args, **(kwargs or {}))
