"""CUDA graphs: the launches of a call recorded once per shape, then replayed as one."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from variants.interface import Attended, Batch, CoAttention, Skip
from variants.transforms.transform import Transform, renamed
from variants.variant import Variant

_MOST_CAPTURES = 8
"""Shapes whose graphs are kept, the latest used; the memory of a graph is its own for as long as it lives."""
_WARM_UPS = 3
"""Calls before a capture, which must not meet a first call's compilation, autotuning or handles."""


class Capture:
    """The forward pass at one shape as a graph, and where gradients are wanted its backward as another.

    The graphs read and write memory of their own. Inputs are copied in, and results copied out, so that a call's
    results stay what they are when the next call overwrites that memory.
    """

    def __init__(self, module: CoAttention, run: Callable[[Batch], Attended], batch: Batch) -> None:
        self.calls = 0
        self.batch = Batch(*(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in batch))
        self.parameters = tuple(module.parameters())
        leaves = (*self.batch, *self.parameters) if torch.is_grad_enabled() else ()
        self.wanted = tuple(leaf.requires_grad for leaf in leaves)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]

        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                outputs = run(self.batch)
                self.cotangents = tuple(torch.zeros_like(output) for output in outputs)
                _differentiate(outputs, self.cotangents, wanted)
        torch.cuda.current_stream().wait_stream(side)

        self.forward = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.forward):
            outputs = run(self.batch)
        self.gradients: tuple[Tensor | None, ...] = ()
        if wanted:
            self.backward = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.backward, pool=self.forward.pool()):
                self.gradients = _differentiate(outputs, self.cotangents, wanted)
        self.outputs = tuple(output.detach() for output in outputs)

    def replay(self, batch: Batch) -> Attended:
        outputs = _Replay.apply(self, *batch, *self.parameters)  # type: ignore[no-untyped-call]  # likewise
        return Attended(*outputs)


class _Replay(torch.autograd.Function):
    """One call of a `Capture` in autograd's eyes."""

    @staticmethod
    def forward(ctx: Any, capture: Capture, *inputs: Tensor) -> tuple[Tensor, ...]:
        for own, given in zip(capture.batch, inputs, strict=False):  # the parameters that follow are in place
            own.detach().copy_(given)
        capture.forward.replay()
        capture.calls += 1
        ctx.capture, ctx.call, ctx.done = capture, capture.calls, False
        return tuple(output.clone() for output in capture.outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        capture: Capture = ctx.capture
        if ctx.call != capture.calls:
            raise RuntimeError(
                "a +cudagraph variant was called again before this call's backward, and what that needs is "
                "overwritten: run each backward before the next forward of the same shape"
            )
        if ctx.done:
            raise RuntimeError(
                "a second backward of one call of a +cudagraph variant: the first has let go of what it needs; "
                "call the variant again instead"
            )
        ctx.done = True
        for own, given in zip(capture.cotangents, cotangents, strict=True):
            own.copy_(given)
        capture.backward.replay()
        gradients = iter(capture.gradients)
        found = (next(gradients) if wanted else None for wanted in capture.wanted)
        return (None, *(None if gradient is None else gradient.clone() for gradient in found))


def _differentiate(
    outputs: Attended, cotangents: tuple[Tensor, ...], wanted: list[Tensor]
) -> tuple[Tensor | None, ...]:
    pairs = [(output, cotangent) for output, cotangent in zip(outputs, cotangents, strict=True) if output.requires_grad]
    if not pairs or not wanted:
        return (None,) * len(wanted)
    roots, seeds = zip(*pairs, strict=True)
    return torch.autograd.grad(roots, wanted, seeds, allow_unused=True)


def _apply(variant: Variant) -> Variant:
    if variant.device.type != "cuda":
        raise Skip(f"{variant.name}+cudagraph needs a CUDA device, but the variant is on the {variant.device}")
    inner = variant.run
    captures: OrderedDict[object, Capture] = OrderedDict()

    def run(batch: Batch) -> Attended:
        key = (
            tuple((tensor.shape, tensor.dtype, tensor.requires_grad) for tensor in batch),
            torch.is_grad_enabled(),
            variant.module.training,
        )
        if key not in captures:
            while len(captures) >= _MOST_CAPTURES:  # each holds its memory for as long as it may be replayed
                captures.popitem(last=False)
            try:
                captures[key] = Capture(variant.module, inner, batch)
            except RuntimeError as error:
                # what is left of a broken capture must not meet the next call
                torch.cuda.synchronize()
                said = str(error.__context__ or error).strip().partition("\n")[0]
                raise Skip(f"{variant.name}+cudagraph cannot be captured: {said}") from error
        captures.move_to_end(key)
        return captures[key].replay(batch)

    return replace(variant, spec=renamed(variant, "cudagraph"), run=run)


TRANSFORMS = (
    Transform(
        name="cudagraph",
        axis="capture",
        summary="launches recorded once per shape as a CUDA graph, then replayed, forward and backward",
        apply=_apply,
    ),
)
