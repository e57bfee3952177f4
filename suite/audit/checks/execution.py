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
from suite.audit.lab import RAISES, Lab, Lacking, Observation, alone, attempt, mode, restrict
from suite.audit.subject import SIDES, SLOTS, Side, slots_of, with_side
from variants import Batch, valid_from_lengths


def encodings(lab: Lab) -> Iterator[Observation]:
    """Validity in another encoding gives the same result or is refused; it is never silently something else."""
    lab = lab.loose
    for side in masked_sides(lab):
        _, valid = slots_of(lab.batch, side)
        hidden = torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, -math.inf)
        additive = _accepted(lab, side, hidden)
        for name, written in (
            ("integers 0 and 1", valid.long()),
            ("bytes 0 and 1", valid.to(torch.uint8)),
            ("floats 0 and 1", valid.to(lab.subject.dtype)),
        ):
            outputs = _accepted(lab, side, written)
            condition = f"{name} for {SLOTS[side]}"
            if outputs is None or (written.is_floating_point() and additive is not None and _equal(lab, additive)):
                # refused, or floats are added to the scores there, which is an encoding of its own
                yield Observation(condition=condition, output="any", leak=0.0, limit=0.0, note="refused")
            else:
                yield from lab.compare(condition, lab.reference, outputs, "band", note="accepted in silence")
        if additive is not None:
            note = "accepted in silence"
            yield from lab.compare(f"an additive mask for {SLOTS[side]}", lab.reference, additive, "band", note=note)
        lengths = valid.sum(-1)
        for dtype in (torch.int32, torch.int64):
            again = valid_from_lengths(lengths.to(dtype), valid.shape[1])
            outputs = lab.forward(with_side(lab.batch, side, valid=again))
            yield from lab.compare(f"{dtype} lengths of {SLOTS[side]}", lab.reference, outputs, "exact")
    if lab.subject.by_lengths is not None:
        by_lengths = Lab(replace(lab.subject, call=lab.subject.by_lengths), lab.seed)
        yield from attempt("lengths", lambda: lab.compare("lengths", lab.reference, by_lengths.reference, "exact"))


def _accepted(lab: Lab, side: Side, valid: Tensor) -> dict[str, Tensor] | None:
    """Outputs for a mask of another dtype, or None where it is refused."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning does not refuse
            return lab.forward_as_given(with_side(lab.batch, side, valid=valid))
    except RAISES:
        return None


def _equal(lab: Lab, outputs: Mapping[str, Tensor]) -> bool:
    return all(found.verdict == "holds" for found in lab.compare("", lab.reference, outputs, "band"))


def shapes(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    for example in (0, 2):
        yield from attempt("one example", partial(_one_example, lab, example))
    for side in SIDES:
        yield from attempt(f"one {SLOTS[side][:-1]}", partial(_one_slot, lab, side))
    for side in lab.subject.masked:
        yield from attempt(f"no row of {SLOTS[side]} full", partial(_none_full, lab, side))
        yield from attempt(f"expanded mask of {SLOTS[side]}", partial(_expanded, lab, side))
        yield from _misfits(lab, side)


def _one_example(lab: Lab, example: int) -> Iterator[Observation]:
    kept = Batch(*(tensor[example : example + 1] for tensor in lab.batch))
    expected = {name: value[example : example + 1] for name, value in lab.reference.items()}
    yield from lab.compare("one example", expected, lab.forward(kept), "band")


def _one_slot(lab: Lab, side: Side) -> Iterator[Observation]:
    features, valid = slots_of(lab.batch, side)
    batch = with_side(lab.batch, side, features=features[:, :1], valid=valid[:, :1])
    outputs = lab.forward(batch)
    condition = f"one {SLOTS[side][:-1]}"
    for name, value in outputs.items():
        output = lab.subject.output(name)
        expected = list(lab.reference[name].shape)
        for axis, owner in output.slot_axes():
            if owner == side:
                expected[axis % value.dim()] = 1
        finite = bool(value.isfinite().all())
        good = finite and list(value.shape) == expected
        note = (
            "" if good else f"has shape {list(value.shape)} where {expected} was expected" if finite else "not finite"
        )
        yield Observation(condition=condition, output=name, leak=0.0 if good else math.inf, limit=0.0, note=note)
        if output.kind == "weights" and good:
            before = simplex_of(lab, output, lab.reference[name], lab.batch)
            if all(found.verdict == "holds" for found in before):
                for found in simplex_of(lab, output, value, batch):
                    yield replace(found, condition=condition, note=found.condition)


def _none_full(lab: Lab, side: Side) -> Iterator[Observation]:
    """Width above the longest length: the batch may have been cut to a bucket's width, not to its own."""
    condition = f"no row of {SLOTS[side]} full"
    features, valid = slots_of(lab.batch, side)
    shorter = valid.clone()
    shorter[:, -2:] = False
    width = valid.shape[1] - 2
    batch = with_side(lab.batch, side, valid=shorter)
    cut = with_side(lab.batch, side, features=features[:, :width], valid=shorter[:, :width])
    outputs, expected = lab.forward(batch), lab.forward(cut)
    for example in (0, 2):
        yield from lab.compare(
            condition,
            restrict(lab.subject, expected, cut, example),
            restrict(lab.subject, outputs, batch, example),
            "band",
        )


def _expanded(lab: Lab, side: Side) -> Iterator[Observation]:
    _, valid = slots_of(lab.batch, side)
    condition = f"expanded mask of {SLOTS[side]}"
    spread = valid[2:3].expand(len(valid), -1)  # no memory of its own per example
    with_spread = lab.forward_as_given(with_side(lab.batch, side, valid=spread))
    expected = lab.forward(with_side(lab.batch, side, valid=spread.contiguous()))
    yield from lab.compare(condition, expected, with_spread, "exact")
    strided = valid.t().contiguous().t()  # columns first in memory
    yield from lab.compare(
        condition, lab.reference, lab.forward_as_given(with_side(lab.batch, side, valid=strided)), "exact"
    )


def _misfits(lab: Lab, side: Side) -> Iterator[Observation]:
    """A mask that does not fit is refused, by name where that is promised."""
    features, valid = slots_of(lab.batch, side)
    field = f"{side}_valid"
    misfits: dict[str, Batch] = {
        "a slot too few": with_side(lab.batch, side, valid=valid[:, :-1]),
        "an example too few": with_side(lab.batch, side, valid=valid[:-1]),
    }
    if lab.subject.names_arguments:
        misfits |= {
            "another device": with_side(lab.batch, side, valid=valid.to("meta")),
            "floats": with_side(lab.batch, side, valid=valid.to(features.dtype)),
        }
    for what, batch in misfits.items():
        condition = f"{field} of {what}"
        refused, note = _refused(partial(lab.forward_as_given, batch), field if lab.subject.names_arguments else "")
        yield Observation(condition=condition, output="any", leak=0.0 if refused else math.inf, limit=0.0, note=note)


def _refused(call: Callable[[], object], name: str) -> tuple[bool, str]:
    try:
        call()
    except RAISES as error:
        named = name in str(error)
        return named, "" if named else f"refused without naming {name}: {error}"
    return False, "accepted in silence"


def modes(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    subject, batch = lab.subject, lab.batch
    yield from attempt("train mode", lambda: lab.compare("train mode", lab.reference, lab.train(batch), "band"))
    with mode(subject.module, train=False), torch.enable_grad():
        copied = Batch(*(tensor.clone() for tensor in batch))
        with_gradients = lab.judge(subject.call(copied._replace(image=copied.image.requires_grad_())), batch)
    yield from lab.compare("eval mode with gradients", lab.reference, with_gradients, "band")

    def inference() -> Iterator[Observation]:
        with mode(subject.module, train=False), torch.inference_mode():
            outputs = lab.judge(subject.call(Batch(*(tensor.clone() for tensor in batch))), batch)
            outputs = {name: value.clone() for name, value in outputs.items()}
        yield from lab.compare("inference mode", lab.reference, outputs, "band")

    yield from attempt("inference mode", inference)


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
        condition = f"{backend.name.lower()} backend"
        yield from lab.compare(condition, lab.reference, outputs, "band")
        yield from lab.compare(condition, lab.reference, trained, "band")


def _with_eager(lab: Lab) -> Iterator[Observation]:
    eager = Lab(replace(lab.subject, call=lab.subject.eagerly(), static=False), lab.seed)
    second = lab.scene((6, 3, 8, 1, 2), (2, 7, 5, 1, 4), salt=4) if len(lab.subject.masked) == 2 else lab.full
    for condition, batch in (("first shape", lab.batch), ("second shape", second), ("first shape again", lab.batch)):
        yield from attempt(condition, partial(_same_as, lab, eager, condition, batch))
    trained = "first shape, in train mode"
    yield from attempt(trained, lambda: lab.compare(trained, eager.train(lab.batch), lab.train(lab.batch), "band"))
    yield from attempt(
        trained,
        lambda: lab.compare_gradients(trained, eager.gradients(lab.batch), lab.gradients(lab.batch)),
    )


def _same_as(lab: Lab, eager: Lab, condition: str, batch: Batch) -> Iterator[Observation]:
    yield from lab.compare(condition, eager.forward(batch), lab.forward(batch), "band")


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
    batch = Batch(*(tensor.clone() for tensor in lab.batch))
    with mode(subject.module, train=False), torch.no_grad():
        first = dict(subject.call(batch))
        kept = {name: value.clone() for name, value in first.items()}
        for field, now, was in zip(Batch._fields, batch, lab.batch, strict=True):
            same = torch.equal(now, was)
            yield Observation(
                condition="an input was written to", output=field, leak=0.0 if same else math.inf, limit=0.0
            )
    loose = lab.loose
    loose.forward(
        loose.scene((20, 3, 11, 6, 2), (15, 1, 8, 5, 2), salt=5) if len(subject.masked) == 2 else alone(lab.batch, 0)
    )
    turned = Batch(*(tensor.flip(0) for tensor in lab.batch))
    lab.forward(turned)
    yield from lab.compare(
        "an earlier result changed after other calls", kept, {n: first[n] for n in lab.reference}, "exact"
    )
    yield from lab.compare("the same call after others", lab.reference, lab.forward(lab.batch), lab.repeatable)
