"""How long things will take on this machine, about: from what it was measured to do and what the variants ask for."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import cast

import psutil

from suite.bench.outline import outline
from suite.core.records import ANCHOR, Measurement, Record
from suite.core.workloads import WORKLOADS, Phase, Workload, named
from variants import Skip, canonical
from variants.spec import Spec
from variants.transforms import compiles, products_in, rounds_to_tf32

_START_S = 0.3
"""A worker process with its first calls."""
_GPU_START_S = 2.5
"""The same on a GPU: its context and the first kernels (0.8 s), the libraries' handles (0.7 s), the profiler (1 s)."""
_NEXT_S = 0.15
"""What a task takes to begin in a process that another one has begun."""
_DRAWN_PER_S = 8e7
"""Numbers of the inputs that one CPU draws in a second."""
_GPU_CALL_S = 1.5e-3
"""A call of a mechanism takes a GPU's host no less, and every reading of its clock is of several calls."""
_PROFILE_S = 0.5
_UNKNOWN_FLOPS = 4
"""A mechanism that does not tell its FLOPs is taken for so many anchors."""
_AS_FAST = 0.9
"""Products of a dtype for which a machine has instructions take no longer than those in float32; this leaves noise."""
_GUESSES = {"float32": 3e10, "bfloat16": 3e10, "float16": 3e9}
TF32 = "tf32"
"""Stands among the dtypes: float32 whose products are rounded."""
COMPILER_S = 14.0
"""What the compiler takes for one small function in a process of its own where nothing is cached, until something was
compiled here: most of it loads the compiler."""

_GPU_COMPILER_S = 5.0
"""The same beside a GPU, whose host is taken for quicker, and whose processes compile one variant after another."""
_BACKWARD, _GPU_BACKWARD = 1.0, 1.6
"""Compiling forward and backward over compiling forward. On a CPU both take as long: forward comes first in a run, and
builds the compiler's own headers, which the other finds on the disk. On a GPU nobody has measured it."""
_KERNELS_S = 8.0
"""What Triton takes for the kernels of a forward pass."""

Key = tuple[Spec, Workload, Phase, str]


@dataclass(kw_only=True)
class Speed:
    """What the devices do in a second, and what calls have been seen to take; guesses where neither was measured."""

    flops_per_s: dict[str, float] = field(default_factory=lambda: dict(_GUESSES))
    """For each dtype, on a device of which nothing else is known."""
    _products: dict[tuple[str, str], float] = field(default_factory=dict)
    """Products per second by device and dtype, as measured."""
    _memory_b: dict[str, int] = field(default_factory=dict)
    """Memory of devices that have their own."""
    _calls: dict[Key, float] = field(default_factory=dict)
    """Seconds of calls that were measured."""
    _guessed: dict[Key, float] = field(default_factory=dict)
    """Seconds of calls by the model alone; asked for again and again."""
    _expected: dict[Key, float] = field(default_factory=dict)
    """The same, corrected by what was measured so far."""

    @classmethod
    def measured(cls, records: Iterable[Record]) -> "Speed":
        """From the records of a run: of its machine task, and of what has been timed."""
        speed = cls()
        speed.learn(records)
        return speed

    def learn(self, records: Iterable[Record]) -> None:
        """Take in what was measured: products per dtype, and calls."""
        for record in records:
            if not isinstance(record, Measurement):
                continue
            if record.quantity == "gemm_time" and record.value:
                dtype = str(record.details["dtype"])
                rate = float(str(record.details["flops"])) / record.value
                place = (record.device, dtype)
                self._products[place] = self.flops_per_s[dtype] = max(rate, self._products.get(place, 0.0))
                self._guessed.clear()
            elif record.quantity == "copy_time" and record.details.get("memory_B"):
                self._memory_b[record.device] = int(str(record.details["memory_B"]))
            elif record.quantity in ("latency", "first_call") and record.workload and record.phase:
                self._see(record)
        self._expected.clear()

    def _see(self, record: Measurement) -> None:
        try:
            spec, workload = canonical(record.variant), named(record.workload)
        except (Skip, ValueError):  # of a file of the user's that is not loaded here
            return
        key = (spec, workload, cast(Phase, record.phase), record.device)
        if record.samples:
            self._calls[key] = median(record.samples)
        elif record.value and not awaits_a_compiler(spec):
            self._calls.setdefault(key, record.value)

    def rate(self, dtype: str, device: str = "") -> float:
        """Floating-point operations a second in products of a dtype."""
        if dtype == TF32 and (device, dtype) not in self._products:
            dtype = "float32"
        return self._products.get((device, dtype), self.flops_per_s.get(dtype, 1e10))

    def supports(self, spec: Spec, device: str = "") -> bool:
        """Whether the products of a variant's dtype are no slower here than those of float32.

        What has no instructions for a dtype computes it in another one and converts, which takes several times as
        long. What the processor says of itself is not asked: a library may not use what it has.
        """
        return self.rate(dtype_of(spec), device) >= _AS_FAST * self.rate("float32", device)

    def call_s(self, spec: Spec, workload: Workload, phase: Phase, device: str = "cpu") -> float:
        """A warm call: as measured; else by the model, corrected by what is known of its neighbours."""
        key = (spec, workload, phase, device)
        known = self._calls.get(key)
        if known is not None:
            return known
        if key not in self._expected:
            self._expected[key] = self._model_s(key) * self._correction(key)
        return self._expected[key]

    def _model_s(self, key: Key) -> float:
        if key not in self._guessed:
            spec, workload, phase, device = key
            flops = self._flops(spec, workload)
            # what is no matrix product takes a third of the float32 products' time, and gains little from a dtype
            beside_s = 0.35 * flops / self.rate("float32", device)
            least_s = _GPU_CALL_S if _is_gpu(device) else 1e-4
            once = flops / self.rate(dtype_of(spec), device) + beside_s + least_s
            # the backward pass has two products for each
            self._guessed[key] = once * (3.4 if phase == "forward+backward" else 1)
        return self._guessed[key]

    def _correction(self, key: Key) -> float:
        """Measured over modelled time: of the same mechanism in float32, or of all; times what its dtype is off by."""
        spec, workload, phase, device = key
        own = (spec.plain, workload, phase, device)
        over = {
            other: seconds / self._model_s(other)
            for other, seconds in self._calls.items()
            if other[2:] == (phase, device)
        }
        in_float32 = [ratio for other, ratio in over.items() if other[0] == other[0].plain]
        general = median(in_float32) if in_float32 else 1.0
        correction = over.get(own, general)
        if dtype_of(spec) != "float32":
            alike = [
                ratio / over.get((other[0].plain, *other[1:]), general)
                for other, ratio in over.items()
                if dtype_of(other[0]) == dtype_of(spec)
            ]
            correction *= median(alike) if alike else 1.0
        return correction

    def compile_s(self, spec: Spec, workload: Workload, phase: Phase, device: str = "cpu") -> float:
        """What a compiled variant's first call in a process takes beyond a warm one."""
        if not awaits_a_compiler(spec):
            return 0.0
        forward = (_GPU_COMPILER_S if _is_gpu(device) else COMPILER_S) * (
            0.6 + 0.02 * outline(spec, workload).parameters
        )
        if "fused" in spec.transforms:  # the kernels' own compiler, for as many programs whatever the mechanism
            forward = _KERNELS_S
        return forward if phase == "forward" else (_GPU_BACKWARD if _is_gpu(device) else _BACKWARD) * forward

    def start_s(self, workload: Workload, device: str = "cpu", *, turns: int = 1, starts: bool = True) -> float:
        """What a task takes before its first call.

        Args:
            workload: whose inputs are made.
            device: a label.
            turns: inputs that are drawn; a task after another of the same workload finds them drawn.
            starts: whether the task begins a process.
        """
        if not _is_gpu(device):
            return _START_S
        if not starts:
            return _NEXT_S
        numbers = workload.batch * (workload.regions * workload.image_width + workload.words * workload.question_width)
        return _GPU_START_S + turns * numbers / _DRAWN_PER_S

    def timing_s(
        self, specs: Iterable[Spec], workload: Workload, phase: Phase, device: str = "cpu", *, starts: bool = True
    ) -> float:
        """A comparison without its rounds and without compilation."""
        total = self.start_s(workload, device, turns=3, starts=starts)
        for spec in specs:
            call_s = self.call_s(spec, workload, phase, device)
            # the first call and the proofs, and where they are quick two more before the rounds
            calls = 8 if call_s < 0.2 or phase == "forward" else 4
            total += calls * call_s + 0.1
        return total

    def examine_s(
        self, spec: Spec, workload: Workload, phase: Phase, device: str = "cpu", *, starts: bool = True
    ) -> float:
        """Memory, cost, agreement and trace of one variant, without compilation."""
        # float64 takes twice the time of float32, and making the weights and gradients of both takes its own
        both_s = self.call_s(spec, workload, phase, device) + self.call_s(spec.plain, workload, phase, device)
        return self.start_s(workload, device, starts=starts) + _PROFILE_S + 4 * both_s

    def audit_s(self, spec: Spec, device: str = "cpu") -> float:
        """The masking audit of one variant, without compilation."""
        return (_GPU_START_S if _is_gpu(device) else 0.0) + 0.8 + 0.04 * outline(spec, WORKLOADS["tiny"]).parameters

    def impossible(self, spec: Spec, workload: Workload, device: str = "cpu") -> str:
        """Why this variant cannot run on this workload here, as far as can be known without trying; or empty."""
        refusal = outline(spec, workload).refusal
        if refusal:
            return refusal
        inputs = (
            4 * workload.batch * (workload.regions * workload.image_width + workload.words * workload.question_width)
        )
        maps = 4 * workload.batch * workload.regions * workload.words
        # inputs, their gradients and one copy of each on the way; a map of scores and its gradient
        least = 4 * inputs + 2 * maps
        if _is_gpu(device) and device not in self._memory_b:
            return ""
        free = self._memory_b[device] if _is_gpu(device) else psutil.virtual_memory().available
        if least > free:
            return f"needs at least {least / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free"
        return ""

    def _flops(self, spec: Spec, workload: Workload) -> float:
        told = outline(spec, workload)
        flops = told.flops
        if flops is None and not told.refusal:
            flops = _UNKNOWN_FLOPS * (outline(Spec(ANCHOR), workload).flops or 0)
        return float(flops or 0)


def _is_gpu(device: str) -> bool:
    return not device.startswith("cpu")


def awaits_a_compiler(spec: Spec) -> bool:
    """Whether a compiler is at work before a variant's first call is done, be it the kernels' own."""
    return compiles(spec) or "fused" in spec.transforms


def dtype_of(spec: Spec) -> str:
    """The dtype of a variant's matrix products, or ``tf32``."""
    if rounds_to_tf32(spec):
        return TF32
    return str(products_in(spec)).removeprefix("torch.")
