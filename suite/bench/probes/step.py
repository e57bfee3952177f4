"""The step that is measured: one call of a variant in one phase, on inputs that rotate."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor, nn

from suite.bench.inputs import make_batch
from suite.core import devices
from suite.core.workloads import Phase, Workload
from variants import Attended, Batch, Variant, build
from variants.regions import region
from variants.transforms.precision import rounding_nothing

_INPUT_BYTES = 2**30
"""Inputs rotate as long as they take no more than this together."""


class Step:
    """A variant made ready for a phase: what is timed, what is cleared in between, and on what it runs."""

    def __init__(
        self, variant: Variant, phase: Phase, inputs: tuple[Batch, ...], *, chunk: tuple[int, int] | None = None
    ) -> None:
        """Make it ready.

        Args:
            variant: what runs.
            phase: ``forward`` or ``forward+backward``.
            inputs: to rotate through.
            chunk: where the inputs are some examples of a larger batch, the first of them and how many that has.
        """
        self._chunk = chunk
        self.variant = variant
        self.phase = phase
        self.inputs = inputs
        self.calls = 0
        """How often it has run."""
        self._cotangent: list[Tensor] = []
        variant.module.train(phase == "forward+backward")
        without_dropout(variant.module)

    @property
    def learns(self) -> bool:
        return self.phase == "forward+backward"

    def __call__(self, turn: int) -> Attended:
        """Run on the inputs of that turn; the outputs, with gradients in ``.grad`` where the phase asks for them."""
        batch = self.inputs[turn % len(self.inputs)]
        self.calls += 1
        if not self.learns:
            with torch.no_grad(), region("forward"):
                return self.variant.call(batch)
        with region("forward"):
            outputs = self.variant.call(batch)
        reached = [output for output in outputs if output.requires_grad]
        cotangents = self._cotangents(reached)
        with region("backward"):
            torch.autograd.backward(reached, cotangents)
        return outputs

    def clear(self) -> None:
        """Forget the gradients, so that the next call makes them anew instead of adding to them."""
        for parameter in self.variant.module.parameters():
            parameter.grad = None
        for batch in self.inputs:
            batch.image.grad = None
            batch.question.grad = None

    def _cotangents(self, outputs: list[Tensor]) -> list[Tensor]:
        if not self._cotangent:
            generator = torch.Generator().manual_seed(2016)
            for output in outputs:
                start, examples = self._chunk or (0, len(output))
                drawn = torch.randn(examples, *output.shape[1:], generator=generator)[start : start + len(output)]
                self._cotangent.append(drawn.to(output.device, output.dtype))
        return self._cotangent


def prepare(
    name: str, workload: Workload, phase: Phase, device: str, *, inputs: tuple[Batch, ...] | None = None, turns: int = 3
) -> Step:
    """Build a variant and its inputs.

    Args:
        name: of the variant.
        workload: shapes and lengths.
        phase: ``forward`` or ``forward+backward``.
        device: a label, such as ``cpu[threads=2]``.
        inputs: to share between variants of one dtype; made here if left out.
        turns: how many inputs to rotate through, fewer where they are large.

    Raises:
        ValueError: the name is wrong.
        Skip: the variant cannot be had here.
    """
    kind = devices.parse(device).kind
    variant = build(name, image_width=workload.image_width, question_width=workload.question_width, device=kind)
    made = inputs if inputs is not None else make_inputs(workload, phase, kind, variant.dtype, turns=turns)
    return Step(variant, phase, made)


@lru_cache(maxsize=1)
def prepared(name: str, workload: Workload, phase: Phase, device: str) -> Step:
    """As `prepare`, once for all probes that look at one variant in one process: it is compiled once."""
    return prepare(name, workload, phase, device, turns=1)


def make_inputs(
    workload: Workload, phase: Phase, kind: str, dtype: torch.dtype, *, turns: int = 3
) -> tuple[Batch, ...]:
    """Batches of the same lengths and other numbers, as leaves of a graph where the phase asks for gradients."""
    one = workload.batch * (workload.regions * workload.image_width + workload.words * workload.question_width)
    count = max(1, min(turns, _INPUT_BYTES // (one * dtype.itemsize)))
    learns = phase == "forward+backward"
    batches = []
    for seed in range(count):
        batch = make_batch(workload, dtype=dtype, device=kind, seed=seed)
        batches.append(
            batch._replace(image=batch.image.requires_grad_(learns), question=batch.question.requires_grad_(learns))
        )
    return tuple(batches)


def without_dropout(module: nn.Module) -> None:
    """Set every dropout to 0: in train mode the function stays the one of eval mode."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):  # nn.LSTM, nn.MultiheadAttention
            part.dropout = 0.0  # type: ignore[assignment]  # the attribute just found is a float


@contextmanager
def running_on(device: str) -> Iterator[devices.Device]:
    """Within, torch uses the device's number of threads, and float32 means float32: nothing rounds to TF32."""
    parsed = devices.parse(device)
    before = torch.get_num_threads()
    torch.set_num_threads(parsed.threads)
    try:
        with rounding_nothing() if parsed.kind == "cuda" else nullcontext():
            yield parsed
    finally:
        torch.set_num_threads(before)
