"""What is audited: a callable on a `Batch` with named outputs, and what is known of it."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from variants import Attended, Batch, CoAttention, KnownDefect, Variant
from variants.transforms import TRANSFORMS
from variants.variant import check_batch

Side = Literal["image", "question"]
SIDES: tuple[Side, Side] = ("image", "question")
SLOTS: dict[Side, str] = {"image": "regions", "question": "words"}
Order = Literal["free", "sequence", "position"]
Call = Callable[[Batch], Mapping[str, Tensor]]


def other(side: Side) -> Side:
    return "question" if side == "image" else "image"


def slots_of(batch: Batch, side: Side) -> tuple[Tensor, Tensor]:
    """Features ``[B, L, D]`` and validity ``[B, L]`` of one side."""
    return (batch.image, batch.image_valid) if side == "image" else (batch.question, batch.question_valid)


def with_side(batch: Batch, side: Side, *, features: Tensor | None = None, valid: Tensor | None = None) -> Batch:
    """The batch with one side's features or validity replaced."""
    old_features, old_valid = slots_of(batch, side)
    features = old_features if features is None else features
    valid = old_valid if valid is None else valid
    if side == "image":
        return batch._replace(image=features, image_valid=valid)
    return batch._replace(question=features, question_valid=valid)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What the axes of one output mean; its first axis is always the batch."""

    name: str
    kind: Literal["vectors", "tokens", "weights"]
    """``[B, ..., D]``; ``[B, L, D]`` with a slot axis; ``[B, ..., L]`` that is a distribution over slots."""
    side: Side
    """Whose vector it is, or whose slots the token axis or the weights run over."""
    rows: Side | None = None
    """For weights with one row per slot of a side, ``[B, ..., R, L]``: that side."""

    def slot_axes(self) -> tuple[tuple[int, Side], ...]:
        """Axes that run over slots, and whose."""
        if self.kind == "tokens":
            return ((1, self.side),)
        if self.kind == "weights":
            return ((-1, self.side),) if self.rows is None else ((-1, self.side), (-2, self.rows))
        return ()

    def judged_axis(self) -> tuple[int, Side] | None:
        """The axis on which padded slots hold nothing that anyone should read, and whose slots they are."""
        if self.kind == "tokens":
            return 1, self.side
        return None if self.rows is None else (-2, self.rows)


ATTENDED = (
    Output(name="image", kind="vectors", side="image"),
    Output(name="question", kind="vectors", side="question"),
    Output(name="image_weights", kind="weights", side="image"),
    Output(name="question_weights", kind="weights", side="question"),
)
"""The outputs of the contract."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A callable under audit."""

    name: str
    module: nn.Module
    call: Call
    """The very callable that is timed or used."""
    bind: Callable[[nn.Module], Call]
    """An eager call of a module like ``module``, without autocast: how copies of it are run."""
    image_width: int
    question_width: int
    dtype: torch.dtype
    """Dtype of parameters and features."""
    computes_in: torch.dtype
    """The narrowest dtype that it computes in: ``dtype``, or autocast's."""
    device: torch.device
    outputs: tuple[Output, ...] = ATTENDED
    static: bool = False
    """Whether each new shape costs a compilation or a capture; such a subject is run at few shapes."""
    eager: bool = True
    """Whether ``call`` is the module itself, in the parameters' dtype."""
    masked: tuple[Side, ...] = SIDES
    """The sides whose padding it can be told of."""
    order: tuple[tuple[Side, Order], ...] = (("image", "free"), ("question", "free"))
    """``free``: permuting slots with their validity changes nothing. ``sequence``: the order of the valid slots
    matters, not where they stand. ``position``: where they stand matters too."""
    guided: tuple[tuple[str, Side], ...] = (("image_weights", "question"), ("question_weights", "image"))
    """Which outputs are meant to see which other side."""
    unmasked: Call | None = None
    """The same call without masks, where it can be made."""
    by_lengths: Call | None = None
    """The same call with lengths in place of masks, where there are both."""
    zeros_when_empty: bool = True
    """Whether a side without a valid slot is promised vectors of exact zeros; its weights are zero in any case."""
    names_arguments: bool = False
    """Whether an argument that does not fit is promised an error that names it."""
    known_defects: tuple[KnownDefect, ...] = ()
    stretch: int = 1
    """How many times as long as usual its scenes are, for what goes block by block."""

    def order_of(self, side: Side) -> Order:
        return dict(self.order)[side]

    def output(self, name: str) -> Output:
        return next(output for output in self.outputs if output.name == name)

    def weights(self) -> tuple[Output, ...]:
        return tuple(output for output in self.outputs if output.kind == "weights")

    def loosened(self) -> "Subject":
        """The eager form of a static subject, which takes any shape; other subjects are their own."""
        if not self.static:
            return self
        return replace(self, call=self.eagerly(), static=False)

    def eagerly(self) -> Call:
        """The eager call of the module in the same precision: what another execution is compared with."""
        call = self.bind(self.module)
        return call if self.computes_in == self.dtype else under_autocast(call, self.device.type, self.computes_in)

    def cast(self, dtype: torch.dtype) -> "Subject":
        """An eager copy with parameters in another dtype."""
        module = copy.deepcopy(self.module).to(dtype)
        return replace(
            self,
            module=module,
            call=self.bind(module),
            dtype=dtype,
            computes_in=dtype,
            static=False,
            eager=True,
            unmasked=None,
            by_lengths=None,
        )


def attended(call: Callable[[Batch], Attended]) -> Call:
    """The named outputs of a callable that follows the contract."""
    return lambda batch: call(batch)._asdict()


def under_autocast(call: Call, device: str, dtype: torch.dtype) -> Call:
    """The same call under autocast."""

    def run(batch: Batch) -> Mapping[str, Tensor]:
        with torch.autocast(device, dtype=dtype):
            return call(batch)

    return run


def from_module(module: CoAttention, *, name: str) -> Subject:
    """A mechanism run eagerly in its parameters' dtype."""
    some = next(iter(module.parameters()), torch.empty(0))
    return Subject(
        name=name,
        module=module,
        call=_checked(module),
        bind=_checked,
        image_width=module.image_width,
        question_width=module.question_width,
        dtype=some.dtype,
        computes_in=some.dtype,
        device=some.device,
        order=(("image", "free"), ("question", "sequence" if module.word_order_matters else "free")),
        guided=tuple((weights, _GUIDE[weights]) for weights in module.guided_weights()),
        names_arguments=True,
        known_defects=module.known_defects,
    )


def from_variant(variant: Variant) -> Subject:
    """A built variant: its own callable, its dtype, and its eager form without transforms beside it."""
    precision = {"amp_fp16": torch.float16, "amp_bf16": torch.bfloat16}
    transforms = variant.spec.transforms
    narrow = [precision[word] for word in transforms if word in precision]
    axes = {TRANSFORMS[word].axis for word in transforms}
    subject = from_module(variant.module, name=variant.name)
    return replace(
        subject,
        call=attended(variant.call),
        dtype=variant.dtype,
        computes_in=narrow[0] if narrow else variant.dtype,
        static=bool(axes & {"compilation", "capture"}),
        eager=not axes - {"precision"},
    )


_GUIDE: dict[str, Side] = {"image_weights": "question", "question_weights": "image"}


def _checked(module: nn.Module) -> Call:
    def call(batch: Batch) -> Mapping[str, Tensor]:
        assert isinstance(module, CoAttention)
        check_batch(batch, image_width=module.image_width, question_width=module.question_width)
        result: Attended = module(batch)
        return result._asdict()

    return call
