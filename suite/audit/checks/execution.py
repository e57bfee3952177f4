"""Properties about calling: encodings of validity, odd shapes, modes, ways of execution, and repetition."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from suite.audit.calling import NotJudged, here
from suite.audit.checks.padding import masked_sides
from suite.audit.checks.weights import simplex_of
from suite.audit.declared import declares
from suite.audit.lab import Lab, Lacking, Raised, alone, attempt, keep_slots, relative, restrict
from suite.audit.observation import ANY, Observation, condition
from suite.audit.subject import Scene, Side, slots_of, with_side
from variants import valid_from_lengths


@declares(
    "P12",
    "fragile",
    "one meaning",
    "a mask means one thing, or is refused",
    says="{output} moved by {leak} with validity as {condition}",
)
def encodings(lab: Lab) -> Iterator[Observation]:
    """Validity in another encoding gives the same result or is refused; it is never silently something else."""
    masked = masked_sides(lab)
    if not lab.subject.takes_encodings:
        raise Lacking("its adapter is promised boolean validity, and is handed nothing else")
    lab = lab.loose
    told = [side for side in masked if not lab.subject.side(side).counted]
    if not told and lab.subject.by_lengths is None:
        raise Lacking("it is told by lengths, which have one encoding")
    for side in told:
        _, valid = slots_of(lab.batch, side)
        hidden = torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, -math.inf)
        additive = _accepted(lab, side, hidden)
        for what, written in (
            ("integers for a mask", valid.long()),
            ("bytes for a mask", valid.to(torch.uint8)),
            ("floats for a mask", valid.to(lab.subject.dtype)),
        ):
            outputs = _accepted(lab, side, written)
            if outputs is None or (written.is_floating_point() and additive is not None and _equal(lab, additive)):
                # refused, or floats are added to the scores there, which is an encoding of its own
                yield Observation(what=what, sides=(side,), output=ANY, leak=0.0, limit=0.0, note="refused")
            else:
                yield from lab.compare(what, lab.reference, outputs, "band", sides=(side,), note=SILENT)
        if additive is not None:
            yield from lab.compare("an additive mask", lab.reference, additive, "band", sides=(side,), note=SILENT)
        lengths = valid.sum(-1)
        for what, dtype in (("int32 lengths", torch.int32), ("int64 lengths", torch.int64)):
            again = valid_from_lengths(lengths.to(dtype), valid.shape[1])
            outputs = lab.forward(with_side(lab.batch, side, valid=again))
            yield from lab.compare(what, lab.reference, outputs, "exact", sides=(side,))
    if lab.subject.by_booleans is not None:
        yield from _by_booleans(lab)
    if lab.subject.by_lengths is not None:
        by_lengths = Lab(replace(lab.subject, call=lab.subject.by_lengths), lab.seed)
        yield from attempt("lengths", (), lambda: lab.compare("lengths", lab.reference, by_lengths.reference, "exact"))


def _by_booleans(lab: Lab) -> Iterator[Observation]:
    """Where numbers are meant, a boolean mask means the same or is refused."""
    assert lab.subject.by_booleans is not None
    other, what = Lab(replace(lab.subject, call=lab.subject.by_booleans), lab.seed), "booleans for a mask"
    try:
        outputs = other.forward(lab.batch)
    except (Raised, NotJudged):
        yield Observation(what=what, sides=lab.subject.masked, output=ANY, leak=0.0, limit=0.0, note="refused")
        return
    yield from lab.compare(what, lab.reference, outputs, "band", sides=lab.subject.masked, note=SILENT)


SILENT = "accepted in silence"


def _accepted(lab: Lab, side: Side, valid: Tensor) -> dict[str, Tensor] | None:
    """Outputs for a mask of another dtype, or None where it is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning does not refuse
            return lab.forward_as_given(with_side(lab.batch, side, valid=valid))
    except (Raised, NotJudged):
        return None


def _equal(lab: Lab, outputs: Mapping[str, Tensor]) -> bool:
    return all(found.verdict == "holds" for found in lab.compare("lengths", lab.reference, outputs, "band"))


@declares(
    "P13",
    "fragile",
    "shapes",
    "odd shapes work, and shapes, dtypes and devices that do not fit are refused",
    says="{output} was off by {leak} with {condition}",
)
def shapes(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    for example in (0, 2):
        yield from attempt("one example", (), partial(_one_example, lab, example), any_shape=True)
    for side in lab.subject.names:
        if lab.subject.side(side).length is None:
            yield from attempt("one slot", (side,), partial(_one_slot, lab, side), any_shape=True)
    for side in lab.subject.masked:
        if lab.subject.side(side).length is None:
            yield from attempt("no row full", (side,), partial(_none_full, lab, side))
        yield from attempt("mask expanded", (side,), partial(_expanded, lab, side))
        yield from _misfits(lab, side)


def _one_example(lab: Lab, example: int) -> Iterator[Observation]:
    expected = {name: value[example : example + 1] for name, value in lab.reference.items()}
    yield from lab.compare("one example", expected, lab.forward(lab.batch.take([example])), "band")


def _one_slot(lab: Lab, side: Side) -> Iterator[Observation]:
    batch = keep_slots(lab.batch, side, torch.tensor([0], device=lab.batch.device))
    outputs = lab.forward(batch)
    for name, value in outputs.items():
        output = lab.subject.output(name)
        expected = list(lab.reference[name].shape)
        for axis, owners in output.slot_axes():
            if side in owners and value.dim() == len(expected):
                expected[axis] -= lab.batch.valid[side].shape[1] - 1
        finite = bool(value.isfinite().all())
        good = finite and list(value.shape) == expected
        note = (
            "" if good else f"has shape {list(value.shape)} where {expected} was expected" if finite else "not finite"
        )
        yield Observation(
            what="one slot", sides=(side,), output=name, leak=0.0 if good else math.inf, limit=0.0, note=note
        )
        if output in lab.subject.weights() and good:
            before = simplex_of(lab, output, lab.reference[name], lab.batch)
            if all(found.verdict == "holds" for found in before):
                for found in simplex_of(lab, output, value, batch):
                    note = condition(found.what, found.sides, lab.subject)
                    yield replace(found, what="one slot", sides=(side,), note=note)


def _none_full(lab: Lab, side: Side) -> Iterator[Observation]:
    """Width above the longest length: the batch may have been cut to a bucket's width, not to its own."""
    _, valid = slots_of(lab.batch, side)
    shorter = valid.clone()
    shorter[:, -2:] = False
    batch = with_side(lab.batch, side, valid=shorter)
    cut = keep_slots(batch, side, torch.arange(valid.shape[1] - 2, device=valid.device))
    outputs, expected = lab.forward(batch), lab.forward(cut)
    for example in (0, 2):
        yield from lab.compare(
            "no row full",
            restrict(lab.subject, expected, cut, example),
            restrict(lab.subject, outputs, batch, example),
            "band",
            sides=(side,),
        )


def _expanded(lab: Lab, side: Side) -> Iterator[Observation]:
    _, valid = slots_of(lab.batch, side)
    what = "mask expanded"
    spread = valid[2:3].expand(len(valid), -1)  # no memory of its own per example
    with_spread = lab.forward_as_given(with_side(lab.batch, side, valid=spread))
    expected = lab.forward(with_side(lab.batch, side, valid=spread.contiguous()))
    yield from lab.compare(what, expected, with_spread, "exact", sides=(side,))
    strided = valid.t().contiguous().t()  # columns first in memory
    outputs = lab.forward_as_given(with_side(lab.batch, side, valid=strided))
    yield from lab.compare(what, lab.reference, outputs, "exact", sides=(side,))


def _misfits(lab: Lab, side: Side) -> Iterator[Observation]:
    """A mask that does not fit is refused, by name where that is promised."""
    features, valid = slots_of(lab.batch, side)
    misfits: dict[str, Scene] = {"mask an example too short": with_side(lab.batch, side, valid=valid[:-1])}
    if not lab.subject.side(side).counted:
        misfits["mask a slot too short"] = with_side(lab.batch, side, valid=valid[:, :-1])
    if lab.subject.names_arguments:
        misfits |= {
            "mask on another device": with_side(lab.batch, side, valid=valid.to("meta")),
            "mask of floats": with_side(lab.batch, side, valid=valid.to(features.dtype)),
        }
    name = f"{side}_valid" if lab.subject.names_arguments else ""
    for what, batch in misfits.items():
        refused, note = _refused(partial(_called, lab, batch), name)
        yield Observation(what=what, sides=(side,), output=ANY, leak=0.0 if refused else math.inf, limit=0.0, note=note)


def _called(lab: Lab, batch: Scene) -> None:
    """Call with the very masks; what comes back may have any shape."""
    with lab.entered(), torch.no_grad():
        lab.call(replace(batch.copied(), valid=batch.valid))


def _refused(call: Callable[[], object], name: str) -> tuple[bool, str]:
    try:
        call()
    except (Raised, NotJudged) as error:
        named = name in str(error)
        return named, "" if named else f"refused without naming {name}: {error}"
    return False, "accepted it in silence"


@declares(
    "P14",
    "wrong",
    "train and eval",
    "modes agree: eval and train without dropout, with and without gradients",
    says="{output} moved by {leak} in {condition}",
)
def modes(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    batch = lab.batch
    if lab.trains:  # else train mode is random, as stochastic depth is
        yield from attempt("train mode", (), lambda: lab.compare("train mode", lab.reference, lab.train(batch), "band"))

    def with_gradients() -> Iterator[Observation]:
        with lab.entered(), torch.enable_grad():
            outputs = lab.judge(lab.call(batch.copied(requires_grad=True)), batch)
        yield from lab.compare("eval mode with gradients", lab.reference, outputs, "band")

    def inference() -> Iterator[Observation]:
        with lab.entered(), torch.inference_mode():
            outputs = lab.judge(lab.call(batch.copied()), batch)
            outputs = {name: value.clone() for name, value in outputs.items()}
        yield from lab.compare("inference mode", lab.reference, outputs, "band")

    yield from attempt("eval mode with gradients", (), with_gradients)
    yield from attempt("inference mode", (), inference)


@declares(
    "P15",
    "wrong",
    "execution",
    "however it is executed, it is the same function",
    says="{output} differed by {leak} from eager execution: {condition}",
)
def agreement(lab: Lab) -> Iterator[Observation]:
    if not lab.subject.eager:
        yield from _with_eager(lab)
        return
    with _SdpaSeen() as seen:
        lab.forward(lab.batch)
    if not seen.calls:
        raise Lacking("it runs eagerly and calls no fused attention: there is one execution")
    backends = (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION)
    for backend in backends:
        what = f"{backend.name.lower()} backend"
        if seen.takes(backend, grad=False):
            yield from attempt(what, (), partial(_through, lab, what, backend, train=False))
        if seen.takes(backend, grad=True):
            yield from attempt(what, (), partial(_through, lab, what, backend, train=True))


def _through(lab: Lab, what: str, backend: SDPBackend, *, train: bool) -> Iterator[Observation]:
    with sdpa_kernel(backend):
        outputs = lab.train(lab.batch) if train else lab.forward(lab.batch)
    yield from lab.compare(what, lab.reference, outputs, "band")


def _with_eager(lab: Lab) -> Iterator[Observation]:
    eager = Lab(replace(lab.subject, call=lab.subject.eagerly(), static=False), lab.seed)
    second = (
        lab.scene(*_SECOND[: len(lab.subject.sides)], salt=4) if lab.subject.masked == lab.subject.names else lab.full
    )
    for what, batch in (("first shape", lab.batch), ("second shape", second), ("first shape again", lab.batch)):
        yield from attempt(what, (), partial(_same_as, lab, eager, what, batch))
    trained = "first shape in train mode"
    yield from attempt(trained, (), lambda: lab.compare(trained, eager.train(lab.batch), lab.train(lab.batch), "band"))
    yield from attempt(
        trained,
        (),
        lambda: lab.compare_gradients(trained, eager.gradients(lab.batch), lab.gradients(lab.batch)),
    )


_SECOND = ((6, 3, 8, 1, 2), (2, 7, 5, 1, 4), (4, 1, 3, 6, 2))


def _same_as(lab: Lab, eager: Lab, what: str, batch: Scene) -> Iterator[Observation]:
    yield from lab.compare(what, eager.forward(batch), lab.forward(batch), "band")


class _SdpaSeen(TorchFunctionMode):
    """Keeps the calls of scaled_dot_product_attention, so that a backend can be asked whether it takes them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[tuple[object, ...], dict[str, object]]] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            self.calls.append((args, given))
        return func(*args, **given)

    def takes(self, backend: SDPBackend, *, grad: bool) -> bool:
        """Whether a backend is to be had here for each of the very calls; whatever keeps it from that is not the
        subject's."""

        def copied(value: object) -> object:
            if not isinstance(value, Tensor):
                return value
            return value.detach().clone().requires_grad_(grad and value.is_floating_point())

        call: Callable[..., object] = torch.nn.functional.scaled_dot_product_attention
        with sdpa_kernel(backend), torch.set_grad_enabled(grad):
            for args, given in self.calls:
                try:
                    call(*map(copied, args), **{name: copied(value) for name, value in given.items()})
                except Exception:
                    return False
        return True


def randomness(lab: Lab) -> Observation | None:
    """How far equal calls in eval mode differ when randomness starts elsewhere; None where they do not."""
    name, leak = "", 0.0
    where: tuple[int, ...] = ()
    with torch.no_grad():
        for seed in (1, 2):
            with lab.entered(seed=seed):
                again = lab.judge(lab.call(lab.batch.copied()), lab.batch)
            for output, value in again.items():
                expected = torch.nan_to_num(lab.reference[output])
                moved, at = relative(expected, torch.nan_to_num(value))
                if moved > leak:
                    name, leak, where = output, moved, at
    if leak <= lab.floor:
        return None
    changing = _changing(lab)
    with _RandomSeen() as seen, torch.no_grad(), lab.entered(seed=1):
        lab.call(lab.batch.copied())
    return Observation(
        what="call with other randomness",
        output=name,
        leak=leak,
        limit=lab.floor,
        where=where,
        severity="wrong",
        note=changing or seen.said(),
    )


def _changing(lab: Lab) -> str:
    """What a call leaves changed, if calls with the same randomness differ by it; empty where they do not."""

    def once() -> Mapping[str, Tensor]:
        with torch.no_grad(), lab.entered(seed=1):
            return lab.judge(lab.call(lab.batch.copied()), lab.batch)

    def state() -> dict[str, Tensor]:
        held = {f"{name}." if name else "": vars(part) for name, part in lab.subject.module.named_modules()}
        own = {f"{at}{key}": value for at, some in held.items() for key, value in some.items()}
        tensors = {name: value for name, value in own.items() if isinstance(value, Tensor)}
        return {name: value.clone() for name, value in (tensors | dict(lab.subject.module.named_buffers())).items()}

    before, first, second, after = state(), once(), once(), state()
    if all(relative(first[name], value)[0] <= lab.floor for name, value in second.items()):
        return ""
    names = [name for name, value in after.items() if name not in before or not _identical(before[name], value)]
    what = f"{', '.join(names)} changes" if names else "something changes"
    return (
        f"it depends on earlier calls: {what} with each, in eval mode too; change it where self.training is True alone"
    )


def _identical(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and bool(torch.equal(one, two))


class _RandomSeen(TorchFunctionMode):
    """Notes which dropout is on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, None] = {}

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        if func is torch.nn.functional.scaled_dot_product_attention:
            if rate := given.get("dropout_p", args[4] if len(args) > 4 else 0.0):
                self.seen[f"scaled_dot_product_attention(dropout_p={rate:g}){here()}"] = None
        elif func is torch.nn.functional.dropout:
            rate = given.get("p", args[1] if len(args) > 1 else 0.5)
            if rate and given.get("training", args[2] if len(args) > 2 else True):
                self.seen[f"dropout(p={rate:g}){here()}"] = None
        return func(*args, **given)

    def said(self) -> str:
        if not self.seen:
            return "it is random, and no dropout function that is known is on"
        calls = ", ".join(self.seen)
        return (
            f"dropout is on in eval mode: {calls}; pass training=self.training, or a rate of 0 where it is not training"
        )


@declares(
    "P16",
    "fragile",
    "determinism",
    "equal calls give equal results, and leave inputs and earlier results alone",
    says="{output} moved by {leak}: {condition}",
)
def determinism(lab: Lab) -> Iterator[Observation]:
    subject = lab.subject
    batch = lab.batch.copied()
    with lab.entered(), torch.no_grad():
        first = dict(lab.call(batch))
        kept = {name: value.clone() for name, value in first.items()}
        for side in batch:
            for field, now, was in zip(("", "_valid"), batch[side], lab.batch[side], strict=True):
                same = torch.equal(now, was)
                leak = 0.0 if same else math.inf
                yield Observation(what="input written to", sides=(side,), output=f"{side}{field}", leak=leak, limit=0.0)
    loose = lab.loose
    loose.forward(
        loose.scene(*_LARGER[: len(subject.sides)], salt=5)
        if subject.masked == subject.names
        else alone(subject, lab.batch, 0)
    )
    lab.forward(lab.batch.take(range(lab.batch.size)[::-1]))
    yield from lab.compare("earlier result changed", kept, {n: first[n] for n in lab.reference}, "exact")
    yield from lab.compare("call repeated", lab.reference, lab.forward(lab.batch), lab.repeatable)


_LARGER = ((20, 3, 11, 6, 2), (15, 1, 8, 5, 2), (10, 2, 4, 1, 3))
