"""Mechanisms whose truth is known, for `python run_all.py selfcheck`: work of known size, faults, and cheats.

Loaded by path, as a user's own file is, so that nothing else ever sees them.
"""

import ctypes
import time
from collections.abc import Callable, Collection
from typing import Literal

import torch
from torch import Tensor

from variants import Attended, Batch, register
from variants.parallel import Parallel


@register("work")
class Work(Parallel):
    """Does one piece of work after another, each the same: a product and an answer made from the batch.

    ``extra`` pieces on top of ``pieces`` make the work grow by just that share; ``twin`` changes nothing.
    """

    source = "planted: work of known size"

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        pieces: int = 20,
        extra: int = 0,
        twin: int = 0,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.pieces = pieces
        self.extra = extra
        self.twin = twin

    def forward(self, batch: Batch) -> Attended:
        for _ in range(self.pieces + self.extra):
            batch.image @ batch.image.mT
            attended = _views(batch)  # in every piece, or the extra ones would weigh less than the others
        return attended


@register("length")
class Length(Parallel):
    """Takes a known time: by the raw monotonic clock on the CPU, in cycles of the GPU on CUDA."""

    source = "planted: work of known length"

    def __init__(
        self, *, image_width: int, question_width: int, without: Collection[str] = (), microseconds: int = 100
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.microseconds = microseconds

    def forward(self, batch: Batch) -> Attended:
        if batch.image.is_cuda:
            torch.cuda._sleep(1000 * self.microseconds)  # type: ignore[no-untyped-call]  # torch leaves it so
        else:
            end = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) + 1000 * self.microseconds
            while time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) < end:
                pass
        return _views(batch)


@register("graph")
class Graph(Parallel):
    """Small graphs of operations whose memory can be counted by hand; see `suite.selfcheck.memory`."""

    source = "planted: graphs of known memory"

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        kind: Literal["chain", "diamond", "product", "reduced", "in_place", "views", "squares"] = "chain",
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.kind = kind

    def forward(self, batch: Batch) -> Attended:
        image = batch.image  # no numbers beside it: each would be a tensor of some bytes itself
        match self.kind:
            case "chain":
                result = (image + image) * image  # the sum lives until the product is made
            case "diamond":
                left, right = image + image, image * image
                result = left * right
            case "product":
                result = image @ image.mT
            case "reduced":
                result = (image * image).sum(-1, keepdim=True)
            case "in_place":
                result = (image + image).tanh_()
            case "views":
                result = image.mT[:, :1]
            case "squares":
                result = image
                for _ in range(5):  # each square outlives its successor only where a gradient needs it
                    result = result * result
        return _views(batch)._replace(image=result)


@register("eager_inside")
class EagerInside(Parallel):
    """Is built where ``torch.compile`` gives back what it got: a name with ``+compile`` runs eagerly all the same."""

    source = "planted: a compiled name on eager code"

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        # for the rest of this process, which is a worker's
        torch.compile = _as_it_is  # type: ignore[assignment]  # it is overloaded


@register("fault")
class Fault(Parallel):
    """Fails in a way that a harness has to survive."""

    source = "planted: faults"

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        kind: Literal["none", "memory", "hang", "segfault", "nan", "error"] = "none",
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.kind = kind

    def forward(self, batch: Batch) -> Attended:
        match self.kind:
            case "memory":
                batch.image.new_empty(2**45)  # 128 TiB and more: no machine has them
            case "hang":
                time.sleep(3600)
            case "segfault":
                ctypes.string_at(0)
            case "error":
                raise RuntimeError("planted error")
        attended = super().forward(batch)
        return attended._replace(image=attended.image * torch.nan) if self.kind == "nan" else attended


@register("cheat")
class Cheat(Parallel):
    """Looks fast, or breaks its neighbours, without being better.

    ``last_result`` gives again what it gave for the same memory, whatever that holds now; ``uniform`` leaves out the
    padding where all lengths are equal; ``side_stream`` does its work where the clock does not look; ``writes_input``
    saves a copy by writing into its input.
    """

    source = "planted: cheats"

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        kind: Literal["none", "last_result", "uniform", "side_stream", "writes_input"] = "none",
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.kind = kind
        self.results: dict[int, Attended] = {}

    def forward(self, batch: Batch) -> Attended:
        match self.kind:
            case "last_result":
                address = batch.image.data_ptr()
                if address not in self.results or torch.is_grad_enabled():
                    self.results[address] = super().forward(batch)
                return self.results[address]
            case "uniform":
                lengths = batch.image_valid.sum(-1), batch.question_valid.sum(-1)
                if all(bool((length == length[0]).all()) for length in lengths):
                    return self._cropped(batch, *(int(length[0]) for length in lengths))
            case "side_stream":
                if batch.image.is_cuda:
                    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it so
                    with torch.cuda.stream(stream):
                        return super().forward(batch)
            case "writes_input":
                with torch.no_grad():
                    batch.image.neg_()
        return super().forward(batch)

    def _cropped(self, batch: Batch, regions: int, words: int) -> Attended:
        attended = super().forward(
            Batch(
                batch.image[:, :regions],
                batch.question[:, :words],
                batch.image_valid[:, :regions],
                batch.question_valid[:, :words],
            )
        )
        padding = batch.image.shape[1] - regions, batch.question.shape[1] - words
        return attended._replace(
            image_weights=torch.nn.functional.pad(attended.image_weights, (0, padding[0])),
            question_weights=torch.nn.functional.pad(attended.question_weights, (0, padding[1])),
        )


def _views(batch: Batch) -> Attended:
    """An answer of the right shape that takes no memory of its own."""

    def weights(features: Tensor) -> Tensor:
        return features[:, None, :, 0]  # [B, 1, slots]

    return Attended(batch.image[:, :1], batch.question[:, :1], weights(batch.image), weights(batch.question))


def _as_it_is(function: Callable[..., Attended], **options: object) -> Callable[..., Attended]:
    return function
