"""The operations of one call, what each made, and on which line of the user's own code it stands."""

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from suite.audit.calling import NotJudged, here
from suite.audit.lab import Lab, Raised
from suite.audit.subject import Scene, Side

MOVED = 1e-4
"""Relative, what rounding does not move in float32."""

_MEANS: Mapping[str, str] = {
    "_softmax": "the softmax",
    "_safe_softmax": "the softmax",
    "bmm": "a product that sums over slots",
    "mm": "a product that sums over slots",
    "addmm": "a product that sums over slots",
    "baddbmm": "a product that sums over slots",
    "sum": "a sum over slots",
    "mean": "a mean over slots",
    "var_mean": "statistics over slots",
    "amax": "a maximum over slots",
    "max": "a maximum over slots",
    "cumsum": "a running sum over slots",
    "convolution": "a convolution over slots",
    "native_batch_norm": "a normalisation over slots",
    "native_layer_norm": "a normalisation over slots",
    "native_group_norm": "a normalisation over slots",
    "cudnn_batch_norm": "a normalisation over slots",
    "_transformer_encoder_layer_fwd": "attention",
    "lstm": "a recurrence over slots",
    "gru": "a recurrence over slots",
    "rnn": "a recurrence over slots",
    "mkldnn_rnn_layer": "a recurrence over slots",
    "sort": "a sort over slots",
    "topk": "a choice of the largest slots",
    "_fft_r2c": "a Fourier transform over slots",
    "_fft_c2c": "a Fourier transform over slots",
    "select": "a choice of one slot",
    "index": "a choice of slots",
    "gather": "a choice of slots",
    "flip": "a reversal of slots",
    "roll": "a shift of slots",
}
"""What an operation is in which padding first reaches a valid slot."""
_SHOWS = (
    "view",
    "_unsafe_view",
    "expand",
    "clone",
    "_to_copy",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "copy_",
    "cat",
    "stack",
    "constant_pad_nd",
)
"""Operations that compute nothing: what they show was made before them."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation as it ran."""

    name: str
    place: str
    """`` at file.py:12``, in the user's own code; empty where it is in none."""
    made: tuple[Tensor, ...]
    given: tuple[object, ...]
    """What it was called with, in order; tensors as they were."""
    scores: Tensor | None = None
    """Of a softmax: what it was taken of, its axis last."""
    misplaced: bool = False
    """Whether what it was handed had moved already, by no operation that computes: slots had changed places."""

    @property
    def meaning(self) -> str:
        if "attention" in self.name:
            return "attention"
        return _MEANS.get(self.name, f"the operation {self.name}")

    @property
    def multiplies(self) -> bool:
        """Whether it is a product that sums over slots, as an affinity is."""
        return self.meaning == _MEANS["bmm"]

    @property
    def remedy(self) -> str:
        """What keeps padding out of it."""
        if self.meaning == _MEANS["lstm"]:
            return "pack the rows to their lengths"
        return "choose among valid slots there" if self.meaning.startswith("a choice of") else "mask it there"

    @property
    def plainly(self) -> str:
        """What it is where slots have nothing to do with it."""
        return "the softmax" if "softmax" in self.name else _PLAINLY.get(self.name, f"the operation {self.name}")


_PLAINLY: Mapping[str, str] = {
    "div": "a division",
    "div_": "a division",
    "exp": "an exponential",
    "log": "a logarithm",
    "sqrt": "a square root",
    "rsqrt": "a square root",
    "pow": "a power",
    "add": "an addition",
    "add_": "an addition",
    "sub": "a subtraction",
    "rsub": "a subtraction",
    "mul": "a multiplication",
    "mul_": "a multiplication",
    "sum": "a sum",
    "mean": "a mean",
    "bmm": "a matrix product",
    "mm": "a matrix product",
    "addmm": "a linear layer",
    "baddbmm": "a matrix product",
    "masked_fill": "masked_fill",
    "masked_fill_": "masked_fill",
    "native_layer_norm": "a layer normalisation",
}


@dataclass(frozen=True, kw_only=True)
class Refused:
    """An operation that raised."""

    call: Callable[..., object]
    name: str
    place: str
    args: tuple[object, ...]
    """What it was called with, in order; tensors as they were."""
    kwargs: Mapping[str, object]

    def too_large_for(self, dtype: torch.dtype) -> float | None:
        """A number among its arguments that a type cannot hold, if there is one."""
        numbers = [value for value in self.args if isinstance(value, float | int) and math.isfinite(value)]
        return next((float(value) for value in numbers if abs(value) > torch.finfo(dtype).max), None)

    def to_be_had_in(self, dtype: torch.dtype) -> bool:
        """Whether this device has it in a type: it takes ordinary numbers there, or not in float32 either."""
        return self._takes(dtype) or not self._takes(torch.float32)

    def _takes(self, dtype: torch.dtype) -> bool:
        def ordinary(value: object) -> object:
            if isinstance(value, Tensor) and value.is_floating_point():
                return torch.ones_like(value, dtype=dtype)
            if isinstance(value, tuple | list):
                return [ordinary(part) for part in value]
            return 1.0 if isinstance(value, float) else dtype if isinstance(value, torch.dtype) else value

        try:
            with torch.no_grad():
                self.call(*map(ordinary, self.args), **{name: ordinary(value) for name, value in self.kwargs.items()})
        except Exception:  # whatever it says: it was asked
            return False
        return True


def refused(lab: Lab, scene: Scene) -> Refused | None:
    """The operation that raises on a scene, if it is one."""
    kept, copied = Trace(), scene.copied()
    try:
        with lab.entered(), torch.no_grad(), kept:
            lab.call(copied)
    except (Raised, NotJudged):
        return kept.refused
    return None


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it so
    """Keeps every operation that is run, and the last that raised."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.refused: Refused | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # nothing is compiled under it, and to tell the compiler so would load the compiler: seconds
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = _layer() or str(getattr(func, "overloadpacket", func)).rpartition(".")[2]
        # before the call: some operations write into what they are given
        given = tuple(value.detach().clone() if isinstance(value, Tensor) else value for value in args)
        try:
            made = func(*args, **(kwargs or {}))
        except Exception:
            self.refused = Refused(call=func, name=name, place=here(), args=given, kwargs=dict(kwargs or {}))
            raise
        tensors = tuple(value for value in (made if isinstance(made, tuple | list) else (made,)) if _counts(value))
        if tensors:
            scores = None
            if "softmax" in name and isinstance(given[0], Tensor) and isinstance(given[1], int):
                scores = given[0].movedim(given[1], -1)
            kept = tuple(_in_reals(value.detach().clone()) for value in tensors)
            self.operations.append(Operation(name=name, place=here(), made=kept, given=given, scores=scores))
        return made


_RECURRENT = str(Path("nn", "modules", "rnn.py"))


def _layer() -> str:
    """The recurrent layer of torch's own that is at work, such as ``gru``: on some devices it is many products."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and "torch" in frame.f_code.co_filename:
        if frame.f_code.co_filename.endswith(_RECURRENT):
            return type(frame.f_locals.get("self")).__name__.lower()
        frame = frame.f_back
    return ""


def _counts(value: object) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()) and not value.is_nested


def _numbers(given: Sequence[object]) -> Iterator[Tensor]:
    for value in given:
        if isinstance(value, Tensor) and _counts(value):
            yield _in_reals(value)


def _in_reals(value: Tensor) -> Tensor:
    return torch.view_as_real(value) if value.is_complex() else value


def trace(lab: Lab, scene: Scene, *, train: bool = False, statistics: bool = False) -> list[Operation]:
    """The operations of one call: in eval mode without gradients, or in train mode without dropout."""
    kept, copied = Trace(), scene.copied()
    with lab.entered(train=train, statistics=statistics), torch.set_grad_enabled(train), kept:
        lab.call(copied)
    return kept.operations


Cuts = Callable[[Scene, Tensor], Iterable[Tensor]]
"""What ought to be equal in an intermediate result of a scene, in each way in which its axes may be meant."""


def moved_between(
    lab: Lab, before: Scene, after: Scene, cuts: Cuts, *, train: bool = False, statistics: bool = False
) -> Operation | None:
    """The first operation whose result differs between two scenes, in that part of it which ought to be equal.

    Args:
        lab: of the subject.
        before: a scene.
        after: another.
        cuts: what ought to be equal; it has to differ in every way in which the axes may be meant.
        train: whether it is called in train mode.
        statistics: whether layers that take statistics over the batch are in train mode too.
    """
    first, second = (trace(lab, scene, train=train, statistics=statistics) for scene in (before, after))
    left_keys, right_keys = ([f"{one.name}{one.place}" for one in operations] for operations in (first, second))
    # one of them may have to fill up to a block where the other need not
    for match in SequenceMatcher(None, left_keys, right_keys, autojunk=False).get_matching_blocks():
        for offset in range(match.size):
            one, two = first[match.a + offset], second[match.b + offset]
            if one.name not in _SHOWS and any(
                _differ(cuts(before, left), cuts(after, right)) for left, right in zip(one.made, two.made, strict=False)
            ):
                handed = zip(_numbers(one.given), _numbers(two.given), strict=False)
                return replace(one, misplaced=any(_differ(cuts(before, a), cuts(after, b)) for a, b in handed))
    return None


def _differ(left: Iterable[Tensor], right: Iterable[Tensor]) -> bool:
    differs = False
    for one, two in zip(left, right, strict=False):
        if one.shape == two.shape and one.numel():
            if not _moved(one, two):
                return False
            differs = True
    return differs


def _moved(left: Tensor, right: Tensor) -> bool:
    scale = float(torch.nan_to_num(left.double()).square().mean().sqrt())
    difference = torch.nan_to_num((left.double() - right.double()).abs(), nan=math.inf)
    return float(difference.max()) > MOVED * max(scale, 1e-12)


def first_moved(
    lab: Lab, side: Side, before: Scene, after: Scene, *, train: bool = False, statistics: bool = False
) -> Operation | None:
    """The first operation whose result differs between two scenes where every slot of that side is valid."""

    def cuts(scene: Scene, value: Tensor) -> Iterator[Tensor]:
        every = range(value.dim())
        # an axis of heads or features may be as long as the slots are many
        ways = [every, *([axis] for axis in every), *([other for other in every if other != axis] for axis in every)]
        for axes in ways:
            own = _where_valid(scene.valid[side], value, axes)
            yield own
            for valid in _joined(scene, side):
                yield _where_valid(valid, own, axes)

    return moved_between(lab, before, after, cuts, train=train, statistics=statistics)


OF_ITS_OWN = 16
"""How many slots of its own a module may put before or behind those of its sides."""


def _joined(scene: Scene, side: Side) -> Iterator[Tensor]:
    """The validity of one side among the slots of all, in every order, with slots of the module's own beside them."""
    examples = scene.size
    whole = {other: torch.ones_like(valid) for other, valid in scene.valid.items()} | {side: scene.valid[side]}
    for order in itertools.permutations(whole):
        row = torch.cat([whole[other] for other in order], 1)
        if len(order) > 1:
            yield row
        for count in range(1, OF_ITS_OWN + 1):
            own = row.new_ones(examples, count)
            yield torch.cat([own, row], 1)
            yield torch.cat([row, own], 1)


def _where_valid(valid: Tensor, value: Tensor, axes: Iterable[int]) -> Tensor:
    """An intermediate result without what has the place of a padded slot.

    Of the axes that are given, one as long as the validity is taken for its slots. Padding is blanked where examples
    are told apart by the first axis; else slots are cut that are padding in any example.
    """
    examples, width = valid.shape
    if width not in value.shape and examples * width not in value.shape:
        return value
    by_example = value.dim() > 1 and value.shape[0] == examples
    kept = (valid.any(0) if by_example else valid.all(0)).nonzero().squeeze(-1)
    for axis in axes:
        size = value.shape[axis]
        if size == examples * width:
            value = value.index_select(axis, valid.flatten().nonzero().squeeze(-1))
        elif size == width:
            if by_example and axis:
                shape = [examples if at == 0 else width if at == axis else 1 for at in range(value.dim())]
                value = value.masked_fill(~valid.view(shape), 0)
            value = value.index_select(axis, kept)
    return value


def of_example(example: int) -> Cuts:
    """What in an intermediate result belongs to one example; all of it where it is no example's."""

    def cuts(scene: Scene, value: Tensor) -> Sequence[Tensor]:
        size, found = scene.size, []
        for axis, length in enumerate(value.shape):
            if length == size:
                found.append(value.select(axis, example))
            elif length and length % size == 0:  # heads or slots beside the examples, in either order
                parts = value.movedim(axis, 0)
                found.append(parts.reshape(size, length // size, -1)[example])
                found.append(parts.reshape(length // size, size, -1)[:, example])
        return found or [value]

    return cuts


def first_not_finite(operations: Sequence[Operation]) -> Operation | None:
    """The first operation that made a NaN."""
    for operation in operations:
        if any(bool(value.isnan().any()) for value in operation.made):
            return operation
    return None


@dataclass(frozen=True, kw_only=True)
class Backward:
    """A step of the backward pass that was handed finite gradients and gave some that are not."""

    name: str
    """Of torch's node, such as ``SqrtBackward0``."""
    place: str
    """Where its forward operation stands."""
    finite: bool
    """Whether the forward operation's result was finite."""


class _Nodes(TorchFunctionMode):
    """Notes for each step of the backward pass where its forward operation stands, and watches it."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Node, None] = {}
        self.found: Backward | None = None

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        made = func(*args, **(kwargs or {}))
        place = ""
        for value in made if isinstance(made, tuple | list) else (made,):
            if isinstance(value, Tensor) and value.grad_fn is not None and value.grad_fn not in self._known:
                place = place or here()
                finite = bool(value.detach().isfinite().all()) if value.is_floating_point() else True
                for node in self._new(value.grad_fn):
                    self._watch(node, _of_their_own(node) or place, finite)
        return made

    def _new(self, node: Node) -> Iterator[Node]:
        """The node and those behind it that belong to the same operation: all that are not known yet."""
        stack = [node]
        while stack:
            node = stack.pop()
            if node in self._known or node.name().endswith("AccumulateGrad"):
                continue
            self._known[node] = None
            yield node
            stack.extend(behind for behind, _ in node.next_functions if behind is not None)

    def _watch(self, node: Node, place: str, finite: bool) -> None:
        def seen(made: Sequence[Tensor | None], given: Sequence[Tensor | None]) -> None:
            if self.found is None and _finite(given) and not _finite(made):
                self.found = Backward(name=node.name(), place=place, finite=finite)

        node.register_hook(seen)


def _of_their_own(node: Node) -> str:
    """Where a hand-written backward stands; empty where the node is torch's."""
    written = getattr(getattr(node, "_forward_cls", None), "backward", None)
    code = getattr(written, "__code__", None)
    return f" at {Path(code.co_filename).name}:{code.co_firstlineno}" if code is not None else ""


def _finite(values: Sequence[Tensor | None]) -> bool:
    return all(value is None or bool(value.isfinite().all()) for value in values)


def first_bad_gradient(lab: Lab, scene: Scene, examples: Sequence[int] | None) -> Backward | None:
    """The step of the backward pass that gives the first gradient that is not finite."""
    nodes = _Nodes()
    with nodes:
        lab.gradients(scene, examples=examples)
    return nodes.found
