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

from suite.audit.checks.padding import masked_sides
from suite.audit.checks.weights import simplex_of
from suite.audit.lab import RAISES, Lab, Lacking, alone, attempt, keep_slots, mode, restrict
from suite.audit.observation import ANY, Observation, condition
from suite.audit.subject import Scene, Side, slots_of, with_side
from variants import valid_from_lengths


def encodings(lab: Lab) -> Iterator[Observation]:
    """Validity in another encoding gives the same result or is refused; it is never silently something else."""
    masked = masked_sides(lab)
    if not lab.subject.takes_encodings:
        raise Lacking("its adapter is promised boolean validity, and is handed nothing else")
    lab = lab.loose
    for side in masked:
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
    except RAISES:
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
    except RAISES:
        return None


def _equal(lab: Lab, outputs: Mapping[str, Tensor]) -> bool:
    return all(found.verdict == "holds" for found in lab.compare("lengths", lab.reference, outputs, "band"))


def shapes(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    for example in (0, 2):
        yield from attempt("one example", (), partial(_one_example, lab, example))
    for side in lab.subject.names:
        if lab.subject.side(side).length is None:
            yield from attempt("one slot", (side,), partial(_one_slot, lab, side))
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
    misfits: dict[str, Scene] = {
        "mask a slot too short": with_side(lab.batch, side, valid=valid[:, :-1]),
        "mask an example too short": with_side(lab.batch, side, valid=valid[:-1]),
    }
    if lab.subject.names_arguments:
        misfits |= {
            "mask on another device": with_side(lab.batch, side, valid=valid.to("meta")),
            "mask of floats": with_side(lab.batch, side, valid=valid.to(features.dtype)),
        }
    name = f"{side}_valid" if lab.subject.names_arguments else ""
    for what, batch in misfits.items():
        refused, note = _refused(partial(lab.forward_as_given, batch), name)
        yield Observation(what=what, sides=(side,), output=ANY, leak=0.0 if refused else math.inf, limit=0.0, note=note)


def _refused(call: Callable[[], object], name: str) -> tuple[bool, str]:
    try:
        call()
    except RAISES as error:
        named = name in str(error)
        return named, "" if named else f"refused without naming {name}: {error}"
    return False, "accepted it in silence"


def modes(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    subject, batch = lab.subject, lab.batch
    yield from attempt("train mode", (), lambda: lab.compare("train mode", lab.reference, lab.train(batch), "band"))
    with mode(subject.module, train=False), torch.enable_grad():
        with_gradients = lab.judge(subject.call(batch.copied(requires_grad=True)), batch)
    yield from lab.compare("eval mode with gradients", lab.reference, with_gradients, "band")

    def inference() -> Iterator[Observation]:
        with mode(subject.module, train=False), torch.inference_mode():
            outputs = lab.judge(subject.call(batch.copied()), batch)
            outputs = {name: value.clone() for name, value in outputs.items()}
        yield from lab.compare("inference mode", lab.reference, outputs, "band")

    yield from attempt("inference mode", (), inference)


def agreement(lab: Lab) -> Iterator[Observation]:
    if not lab.subject.eager:
        yield from _with_eager(lab)
        return
    backends = (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION)
    with _SdpaSeen() as seen:
        lab.forward(lab.batch)
    if not seen.found:
        raise Lacking("it runs eagerly and calls no fused attention: there is one execution")
    for backend in backends:
        try:
            with sdpa_kernel(backend):
                outputs, trained = lab.forward(lab.batch), lab.train(lab.batch)
        except RuntimeError as error:
            if "available kernel" in str(error):
                continue  # this backend takes no masks here
            raise
        what = f"{backend.name.lower()} backend"
        yield from lab.compare(what, lab.reference, outputs, "band")
        yield from lab.compare(what, lab.reference, trained, "band")


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
    """Notes whether scaled_dot_product_attention is called."""

    found = False

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        self.found |= func is torch.nn.functional.scaled_dot_product_attention
        return func(*args, **(kwargs or {}))


def determinism(lab: Lab) -> Iterator[Observation]:
    subject = lab.subject
    batch = lab.batch.copied()
    with mode(subject.module, train=False), torch.no_grad():
        first = dict(subject.call(batch))
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
