"""How long things will take on this machine, about: from what it can do and what the variants ask for."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import psutil

from suite.outline import Outline, outline, plain
from suite.records import ANCHOR, Measurement, Record
from suite.workloads import WORKLOADS, Phase, Workload
from variants.spec import Spec

_START_S = 0.3
"""A worker process with its first calls."""
_PROFILE_S = 0.5
_AUDIT_S = 0.7
_UNKNOWN_FLOPS = 4
"""A mechanism that does not tell its FLOPs is taken for so many anchors."""


@dataclass(kw_only=True)
class Speed:
    """What the device does in a second; guesses where it was not measured."""

    flops_per_s: dict[str, float] = field(default_factory=lambda: {"float32": 3e10, "bfloat16": 3e10, "float16": 3e9})
    _outlines: dict[tuple[Spec, Workload], Outline] = field(default_factory=dict)

    @classmethod
    def measured(cls, records: Iterable[Record]) -> "Speed":
        """From the records of the machine task."""
        speed = cls()
        for record in records:
            if isinstance(record, Measurement) and record.quantity == "gemm_time" and record.value:
                speed.flops_per_s[str(record.details["dtype"])] = float(str(record.details["flops"])) / record.value
        return speed

    def call_s(self, spec: Spec, workload: Workload, phase: Phase) -> float:
        """A warm call."""
        words = " ".join(spec.transforms)
        dtype = "bfloat16" if "bf16" in words else "float16" if "fp16" in words else "float32"
        flops = self._flops(spec, workload)
        # what is no matrix product takes a third of the float32 products' time, and gains little from a narrow dtype
        beside_s = 0.35 * flops / self.flops_per_s["float32"]
        once = flops / self.flops_per_s.get(dtype, 1e10) + beside_s + 1e-4
        # the backward pass has two products for each
        return once * (3.4 if phase == "forward+backward" else 1)

    def compile_s(self, spec: Spec, workload: Workload, phase: Phase, *, first: bool) -> float:
        """The first call of a compiled variant, the compiler's own start included where it is the first of a run."""
        if not compiles(spec):
            return 0.0
        forward = 4 + 0.15 * self._parameters(spec, workload) + (20 if first else 0)
        return forward if phase == "forward" else 2 * forward

    def timing_s(self, specs: Iterable[Spec], workload: Workload, phase: Phase, *, first: bool) -> float:
        """A comparison without its rounds."""
        total = _START_S
        for spec in specs:
            call_s = self.call_s(spec, workload, phase)
            # the first call and the proofs, and where they are quick two more before the rounds
            calls = 8 if call_s < 0.2 or phase == "forward" else 4
            total += calls * call_s + 0.1 + self.compile_s(spec, workload, phase, first=first)
            first = first and not compiles(spec)
        return total

    def examine_s(self, spec: Spec, workload: Workload, phase: Phase) -> float:
        """Memory, cost, agreement and trace of one variant; what was compiled before comes from the cache."""
        # float64 takes twice the time of float32, and making the weights and gradients of both takes its own
        calls = 4 * (self.call_s(spec, workload, phase) + self.call_s(plain(spec), workload, phase))
        return _START_S + _PROFILE_S + calls + self.compile_s(spec, workload, phase, first=False)

    def audit_s(self, spec: Spec) -> float:
        """The masking audit of one variant."""
        parameters = self._parameters(spec, WORKLOADS["tiny"])
        return _AUDIT_S + 0.02 * parameters + (15 if compiles(spec) else 0)

    def impossible(self, spec: Spec, workload: Workload) -> str:
        """Why this variant cannot run on this workload here, as far as can be known without trying; or empty."""
        refusal = self._outline(spec, workload).refusal
        if refusal:
            return refusal
        inputs = (
            4 * workload.batch * (workload.regions * workload.image_width + workload.words * workload.question_width)
        )
        maps = 4 * workload.batch * workload.regions * workload.words
        # inputs, their gradients and one copy of each on the way; a map of scores and its gradient
        least = 4 * inputs + 2 * maps
        free = psutil.virtual_memory().available
        if least > free:
            return f"needs at least {least / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free"
        return ""

    def _flops(self, spec: Spec, workload: Workload) -> float:
        flops = self._outline(spec, workload).flops
        if flops is None and not self._outline(spec, workload).refusal:
            flops = _UNKNOWN_FLOPS * (self._outline(Spec(ANCHOR), workload).flops or 0)
        return float(flops or 0)

    def _parameters(self, spec: Spec, workload: Workload) -> int:
        return self._outline(spec, workload).parameters

    def _outline(self, spec: Spec, workload: Workload) -> Outline:
        key = (plain(spec), workload)
        if key not in self._outlines:
            self._outlines[key] = outline(*key)
        return self._outlines[key]


def compiles(spec: Spec) -> bool:
    return any(word.startswith("compile") for word in spec.transforms)
