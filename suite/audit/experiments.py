"""Experiments on a subject that failed: where padding first reaches what is valid, and on which line of its code.

A cause is stated as a fact only where one of these showed it on the very module.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from suite.audit.calling import NotJudged
from suite.audit.checks.examples import scattered
from suite.audit.checks.numbers import EXTREME, NARROW, SHIFTS, emptied
from suite.audit.checks.padding import EMPTY, OTHERS, poured, widened
from suite.audit.checks.weights import scaled
from suite.audit.following import follow
from suite.audit.lab import Lab, Lacking, Raised, keep_slots, reorder
from suite.audit.scores import scaled_scores, score_handles, shifted_scores
from suite.audit.subject import Scene, Side, slots_of, with_side
from suite.audit.tracing import (
    Backward,
    Operation,
    Trace,
    first_bad_gradient,
    first_moved,
    first_not_finite,
    moved_between,
    of_example,
    trace,
)

HIDDEN = -1e3
"""Scores of padding below this are taken for hidden."""

ADDED = (22, 7)
"""How many slots are added, one number after the other, lest the new width be that of features too."""


def sides_of_softmax(scene: Scene, side: Side, operation: Operation) -> Tensor | None:
    """The scores of a softmax over a side's slots, ``[B, ..., L]``; None where it is over something else."""
    scores, width = operation.scores, scene.valid[side].shape[1]
    if scores is None or scores.shape[-1] != width or scores.dim() < 2 or scores.shape[0] % scene.size:
        return None
    return scores.reshape(scene.size, -1, width)


def never_used(lab: Lab, side: Side) -> str:
    """That outputs are the same whatever a side's mask says, and where it stops; empty where they are not."""
    own, batch = lab.subject.side(side), lab.batch
    whole = with_side(batch, side, valid=torch.ones_like(batch.valid[side]))
    with lab.entered(), torch.no_grad():  # all of the outputs: a mask may be used to blank what is padding there
        told, untold = (lab.call(scene.copied()) for scene in (batch, whole))
    if not all(torch.equal(untold[name], value) for name, value in told.items()):
        return ""
    followed = follow(lab, side)
    same = "outputs are the same whatever it says"
    advice = f"follow it to every softmax and every sum over {own.slots}"
    if followed is None:
        return f"the mask of {side} is never used: {same}; {advice}"
    last = followed.last
    if last is None:
        return f"{followed.argument} is never used: {same}, and what is computed from it reaches none of them; {advice}"
    stops = f"it gets as far as {last.function} at {last.place}"
    renamed = f", as {last.argument}" if last.argument != followed.argument else ""
    return f"{followed.argument} is never used: {same}; {stops}{renamed}, which does nothing with it; {advice}"


def facts(lab: Lab, side: Side, *, counted: bool = True, train: bool = False) -> Iterator[str]:
    """What experiments show about how a side's padding gets through, the nearest cause first.

    Each is a sentence that names the line; nothing where they show nothing.

    Args:
        lab: of the subject.
        side: whose padding gets through.
        counted: whether it may be the number of padded slots alone that gets through.
        train: whether it does so in train mode.
    """
    own, batch = lab.subject.side(side), lab.batch
    if not train and (said := never_used(lab, side)):
        yield said
        return
    how = "in train mode " if train else ""
    filled = poured(batch, side, 3 * lab.normal(*slots_of(batch, side)[0].shape, salt=20))
    moved = first_moved(lab, side, batch, filled, train=train)
    operations = trace(lab, batch, train=train)
    softmaxes = [operation for operation in operations if sides_of_softmax(batch, side, operation) is not None]
    for operation in softmaxes:
        if said := _in_other_order(lab, batch, side, operation):
            yield said
            return
    for operation in softmaxes:
        if said := _not_hidden(lab, batch, side, operation, operations, train=train):
            yield how + said
            return
    if said := next(filter(None, (_other_axis(batch, side, one) for one in operations)), ""):
        yield how + said
        return
    if moved is None:
        if counted and own.length is None and (said := _by_count(lab, side, train=train)):
            yield said
        return
    if moved.misplaced:
        yield (
            f"{how}what reaches {moved.plainly}{moved.place} has padded {own.slots} in the places of valid ones: "
            f"{own.slots} change places before it, as where a view stands for a transpose; keep them apart there"
        )
        return
    first = f"padded {own.slots} first reach valid ones in {moved.meaning}{moved.place}"
    before = (one for one in softmaxes if moved.multiplies and _stands_before(operations, moved, one))
    reached = next(before, None)
    if reached is None:
        yield f"{how}{first}; {moved.remedy}"
    else:
        yield (
            f"{how}the mask of {side} reaches the softmax{reached.place}, and not the affinity: {first}; zero them "
            f"before that"
        )


def _stands_before(operations: Sequence[Operation], moved: Operation, softmax: Operation) -> bool:
    """Whether an operation, as it ran in another call, is one of those before a softmax."""
    before = operations[: next(at for at, one in enumerate(operations) if one is softmax)]
    return any((one.name, one.place) == (moved.name, moved.place) for one in before)


def _by_count(lab: Lab, side: Side, *, train: bool) -> str:
    """Where the number of padded slots enters, although what stands in them does not."""
    own = lab.subject.side(side)
    pairs = itertools.chain(
        ((lab.batch, widened(lab, lab.batch, side, count)) for count in ADDED),
        ((one, keep_slots(one, side, one.valid[side][0].nonzero().squeeze(-1))) for one in _one_by_one(lab.batch)),
    )
    moved = next((found for pair in pairs if (found := first_moved(lab, side, *pair, train=train))), None)
    if moved is None:
        return ""
    alone = f"what stands in padded {own.slots} reaches nothing, and how many there are does"
    if "attention" in moved.name:
        told = f"attention{moved.place} is not told which {own.slots} are padding, and each takes a share of it"
        return f"{alone}: {told}; hand it their mask"
    for names, where in _BY_COUNT.items():
        if moved.name in names.split():
            return f"{alone}: {where.format(place=moved.place, slots=own.slots)}"
    return (
        f"{alone}: it first shows in {moved.meaning}{moved.place}, where a size that counts padding enters; "
        f"count valid {own.slots} alone"
    )


def _one_by_one(batch: Scene) -> Iterator[Scene]:
    return (batch.take([example]) for example in range(batch.size))


_BY_COUNT: Mapping[str, str] = {
    "lstm gru rnn rnn_tanh rnn_relu mkldnn_rnn_layer": "the recurrence{place} runs through padding; "
    "pack the rows to their lengths",
    "convolution": "the convolution{place} reaches into padding and finds no zeros there; blank padded {slots} first",
    "mean": "the mean{place} divides by the padded length; divide by the number of valid {slots}",
    "sum": "the sum{place} adds what stands in padding, such as a bias on zeros; blank padded {slots} right before it",
    "amax max max_pool1d_with_indices adaptive_max_pool2d": "the maximum{place} is taken over what stands in padding "
    "too, such as zeros; fill padded {slots} with -inf before it",
    "logsumexp": "the logsumexp{place} adds the exponential of what stands in padding, such as zeros; fill padded "
    "{slots} with -inf before it",
}
"""What an operation does with the number of padded slots, by its names."""


def _in_other_order(lab: Lab, batch: Scene, side: Side, operation: Operation) -> str:
    """Whether heads and examples share an axis, scores in one order and the mask in the other."""
    scores, valid = operation.scores, batch.valid[side]
    assert scores is not None
    examples, rows = batch.size, scores.shape[0]
    if rows == examples or rows % examples:
        return ""
    heads = rows // examples
    hidden = (scores <= HIDDEN).reshape(rows, -1, scores.shape[-1])
    by_example, by_head = (~valid).repeat_interleave(heads, 0)[:, None], (~valid).repeat(heads, 1)[:, None]
    masked = [bool((hidden == pattern).all()) for pattern in (by_example, by_head)]
    if masked[0] == masked[1]:
        return ""
    # whose rows change with the features of one example tells how the scores are laid out
    features, _ = slots_of(batch, side)
    changed = features.clone()
    changed[1] = 3 * lab.normal(*features.shape, salt=27)[1]
    again = [one for one in trace(lab, with_side(batch, side, features=changed)) if one.scores is not None]
    twin = next((one for one in again if one.place == operation.place and one.made[0].shape == scores.shape), None)
    if twin is None or twin.scores is None:
        return ""
    differ = ((twin.scores - scores).nan_to_num() != 0).flatten(1).any(1).nonzero().squeeze(-1).tolist()
    laid_by_example = differ == list(range(heads, 2 * heads))
    laid_by_head = differ == list(range(1, rows, examples))
    if (laid_by_example and masked[1]) or (laid_by_head and masked[0]):
        orders = ("example by example", "head by head") if laid_by_example else ("head by head", "example by example")
        repeat = "repeat_interleave(heads, 0)" if laid_by_example else "repeat(heads, ...)"
        return (
            f"heads and examples share the first axis of the softmax{operation.place}: scores are laid out {orders[0]} "
            f"and the mask of {side} {orders[1]}, so that it hides slots of other examples; make it with {repeat}"
        )
    return ""


def _not_hidden(
    lab: Lab, scene: Scene, side: Side, operation: Operation, operations: Sequence[Operation], *, train: bool
) -> str:
    """How a softmax comes to give padding a weight; empty where it gives none."""
    scores = _pad_scores(scene, side, operation)
    if scores is None or float(scores.max()) <= HIDDEN:
        return ""
    slots, at = lab.subject.side(side).slots, f"the softmax{operation.place}"
    counts = f"the softmax counts padding{operation.place}"
    fill = "fill with -inf, where the row has another entry"
    least, most = float(scores.min()), float(scores.max())
    if _one_too_many(scene, side, operation):
        return (
            f"{counts}: the first padded {lab.subject.side(side).slot} of each row is not hidden there and the others "
            f"are, as where <= stands for <, or a mask is moved by one; hide from the first one on"
        )
    if least == most == 0:
        return f"{counts}: scores of padded {slots} are 0, and each takes exp(0) of its row; {fill}"
    if least == most and _written(operations, most):
        return f"{at} has the fill {most:g} for padded {slots}, too small a number to hide them; {fill}"
    # the same softmax when the mask says that everything is real: what the mask does to these scores
    whole = with_side(scene, side, valid=torch.ones_like(scene.valid[side]))
    others = trace(lab, whole, train=train)
    before = [one for one in operations if one.scores is not None]
    index = next(index for index, one in enumerate(before) if one is operation)
    twin = [one for one in others if one.scores is not None][index:][:1]
    shown = _pad_scores(scene, side, twin[0]) if twin else None
    if shown is None or shown.shape != scores.shape:
        return ""
    if torch.equal(scores, shown):
        return f"{at} does not see the mask of {side}: scores of padded {slots} are ordinary numbers there; {fill}"
    lowered = (shown - scores).double()
    if float(lowered.max() - lowered.min()) <= 1e-3 * float(lowered.abs().max()):
        by = (
            f"by {float(lowered.mean()):.3g} only"
            if float(lowered.mean()) > 0
            else f"up by {-float(lowered.mean()):.3g}"
        )
        return f"{at} has scores of padded {slots} moved {by}, which does not hide them; {fill}"
    lie = f"are {most:.2g}" if least == most else f"lie between {least:.2g} and {most:.2g}"
    remedy = "mask them right before it" if least < HIDDEN else fill  # something has mixed what was hidden
    return f"{counts}: scores of padded {slots} {lie} there, and the mask does not hide them; {remedy}"


def _one_too_many(scene: Scene, side: Side, operation: Operation) -> bool:
    """Whether in every row that has padding the first padded slot is open to all, and the others to none."""
    scores, valid = sides_of_softmax(scene, side, operation), scene.valid[side]
    assert scores is not None
    first = (~valid).cumsum(-1) == 1
    first &= ~valid
    padded = (~valid).sum(-1) > 1
    if not bool(padded.any()):
        return False
    hidden = (scores <= HIDDEN).movedim(1, -1)  # [B, L, rows]
    return not bool(hidden[first].any()) and bool(hidden[~valid & ~first].all())


def _other_axis(scene: Scene, side: Side, operation: Operation) -> str:
    """Whether a softmax runs over another axis than that along which its scores are hidden at padding."""
    scores, valid = operation.scores, scene.valid[side]
    if scores is None or (scores.shape[0] != scene.size and scores.shape[-1] != scene.size):
        return ""
    last = scores.shape[-1]
    if scores.shape[0] != scene.size:  # the examples are what it runs over
        scores = scores.movedim(-1, 0)
    elif scores.shape[-1] == valid.shape[1]:
        return ""
    for axis in range(1, scores.dim()):
        if scores.shape[axis] == valid.shape[1]:
            hidden = (scores <= HIDDEN).movedim(axis, 1).flatten(2)
            if bool((hidden == ~valid[..., None]).all()):
                return (
                    f"the softmax{operation.place} does not run over slots of {side}, along which its scores are "
                    f"hidden, but over an axis of {last}; give it the axis of the slots"
                )
    return ""


def _written(operations: Sequence[Operation], number: float) -> bool:
    """Whether a number stands in the code as what something is filled with."""
    return any(
        math.isclose(float(value), number, rel_tol=1e-6)
        for operation in operations
        if operation.name.startswith(("masked_fill", "where", "full", "fill", "index_put"))
        for value in operation.given
        if (isinstance(value, float | int) and not isinstance(value, bool))
        or (isinstance(value, Tensor) and value.dim() == 0)
    )


def _axis(operation: Operation) -> int:
    """Over which axis a softmax ran."""
    assert isinstance(operation.given[1], int)
    return operation.given[1]


def _pad_scores(scene: Scene, side: Side, operation: Operation) -> Tensor | None:
    """Scores of padding in a softmax, of rows that are not padding of another side."""
    scores = sides_of_softmax(scene, side, operation)
    if scores is None:
        return None
    for other in scene:  # rows by another side's slots, where there are as many
        width = scene.valid[other].shape[1]
        if other != side and scores.shape[1] == width:
            scores = scores.movedim(1, -1).masked_fill(~scene.valid[other][:, None], -math.inf).movedim(-1, 1)
    pads = scores.movedim(1, -1)[~scene.valid[side]]  # [pads, rows]
    pads = pads[pads != -math.inf]
    return pads if pads.numel() else None


def of_holes(lab: Lab, side: Side) -> str:
    """Where padding first gets through when it stands between valid slots."""
    scene, slots = reorder(lab.batch, side, scattered(lab, side)), lab.subject.side(side).slots
    valid = scene.valid[side]
    counted = torch.arange(valid.shape[1], device=valid.device) < valid.sum(-1, keepdim=True)
    with lab.entered(), torch.no_grad():
        told, from_the_left = (lab.call(with_side(scene, side, valid=mask).copied()) for mask in (valid, counted))
    if all(torch.equal(value, from_the_left[name]) for name, value in told.items()):
        return (
            f"the mask of {side} is read as a count: outputs are the same with as many {slots} valid from the left; "
            f"use the mask as it is"
        )
    moved = first_moved(lab, side, scene, poured(scene, side, 3 * lab.normal(*slots_of(scene, side)[0].shape, salt=20)))
    if moved is None:
        return next(facts(lab, side, counted=False), "")
    where = f"{moved.meaning}{moved.place}"
    return f"where padding stands between valid slots, padded {slots} first reach valid ones in {where}; mask it there"


def of_batch_mates(lab: Lab, *, full: bool = False) -> str:
    """Where an example first depends on what stands in the others; of a batch without padding where it is full."""
    example, before = 2, lab.full if full else lab.batch
    others = torch.arange(before.size, device=before.device) != example
    changed = before
    for side in changed:
        features, _ = slots_of(changed, side)
        fresh = 3 * lab.normal(*features.shape, salt=30)
        changed = with_side(changed, side, features=torch.where(others[:, None, None], fresh, features))
    moved = moved_between(lab, before, changed, of_example(example))
    if moved is None:
        return ""
    without = "without any padding, " if full else ""
    met = f"{moved.plainly}{moved.place}"
    return f"{without}an example first depends on its batch mates in {met}; keep examples apart there"


def of_statistics(lab: Lab, side: Side) -> str:
    """Which normalisation takes its statistics over padded slots in train mode."""
    filled = poured(lab.batch, side, 3 * lab.normal(*slots_of(lab.batch, side)[0].shape, salt=20))
    changed = [filled, *(widened(lab, lab.batch, side, count) for count in ADDED)]
    found = (first_moved(lab, side, lab.batch, scene, train=True, statistics=True) for scene in changed)
    moved = next((one for one in found if one is not None), None)
    if moved is None or "batch_norm" not in moved.name:
        return ""
    slots = lab.subject.side(side).slots
    return (
        f"the normalisation{moved.place} takes its statistics over padded {slots} too; normalise the valid ones alone"
    )


def of_nan_pads(lab: Lab, side: Side) -> str:
    """Where NaN in padding first gets through, forwards or else backwards."""
    poisoned = poured(lab.batch, side, math.nan)
    moved = first_moved(lab, side, lab.batch, poisoned)
    if moved is None:
        found = first_bad_gradient(lab, poisoned, None)
        if found is None:
            return ""
        return (
            f"{_step(found)[0]} gives the first gradient that is not finite: NaN in padding is kept there for the "
            f"backward pass, and 0 * NaN is NaN; blank padding with where or masked_fill before that"
        )
    meets = ("bmm", "mm", "addmm", "baddbmm", "mul", "mul_")
    why = ", where a weight or a mask of 0 meets it, and 0 * NaN is NaN" if moved.name in meets else ""
    return (
        f"NaN in padding first gets through in {moved.meaning}{moved.place}{why}; blank padding with where or "
        f"masked_fill before that"
    )


def with_empty_row(lab: Lab, sides: Sequence[Side]) -> Scene:
    """The usual scene, one example of it without a valid slot on those sides."""
    batch = lab.batch
    for side in sides:
        valid = batch.valid[side].clone()
        valid[EMPTY] = False
        batch = with_side(batch, side, valid=valid)
    return batch


def of_empty_row(lab: Lab, sides: Sequence[Side]) -> str:
    """Which operation first makes a NaN of a row without a valid slot."""
    slots = " and ".join(lab.subject.side(side).slots for side in sides)
    return _first_nan(lab, with_empty_row(lab, sides), f"of a row without valid {slots}")


def of_equal_weights(lab: Lab, sides: Sequence[Side]) -> str:
    """Which softmax gives weights to padding where a row has nothing else."""
    scene = with_empty_row(lab, sides)
    for operation in trace(lab, scene):
        for side in sides:
            scores = sides_of_softmax(scene, side, operation)
            if scores is None:
                continue
            weights = operation.made[0].movedim(_axis(operation), -1).reshape(scores.shape)[EMPTY]
            if not bool(weights.isfinite().all()) or not float(weights.max()):
                continue
            slots, fill = lab.subject.side(side).slots, float(scores[EMPTY].max())
            equal = bool((scores[EMPTY] == fill).all())
            what = f"every score is the fill, {fill:.3g}" if equal or fill < HIDDEN else f"scores are up to {fill:.3g}"
            return (
                f"the softmax{operation.place} gives padding {'equal ' if equal else ''}weights in a row without valid "
                f"{slots}, where {what}: a softmax always sums to 1; multiply the weights by the mask there"
            )
    return ""


def of_mates_of_empty_row(lab: Lab, sides: Sequence[Side], example: int) -> str:
    """Where another example first depends on a row without a valid slot."""
    moved = moved_between(lab, lab.batch, with_empty_row(lab, sides), of_example(example))
    if moved is None:
        return ""
    slots = " and ".join(lab.subject.side(side).slots for side in sides)
    return (
        f"an example first depends on another's row without valid {slots} in {moved.plainly}{moved.place}; keep "
        f"examples apart there"
    )


def of_extreme_scores(lab: Lab) -> str:
    """Which softmax has scores of valid slots that fall below those of padding, in a row that has valid slots."""
    handles = score_handles(lab)
    factor = EXTREME / max((handle.spread for handle in handles), default=EXTREME)
    for scene in (scaled(lab.batch, 3.0), scaled(lab.batch, 10.0), scaled(lab.batch, 100.0)):
        if said := _outweighed(lab, scene):
            return said
    for sign in (1.0, -1.0) if handles else ():
        with scaled_scores(lab.subject.module, handles, sign * factor):
            if said := _outweighed(lab, lab.batch):
                return said
    return ""


NEAR = 12.0
"""Scores of padding that are not this far below the largest valid one of their row take a share of it that shows."""


def _outweighed(lab: Lab, scene: Scene) -> str:
    operations = trace(lab, scene)
    for operation in operations:
        for side in lab.subject.masked:
            scores, valid = sides_of_softmax(scene, side, operation), scene.valid[side][:, None]
            if scores is None:
                continue
            real = scores.masked_fill(~valid, -math.inf).amax(-1)
            pads = scores.masked_fill(valid, -math.inf).amax(-1)
            bad = real.isfinite() & pads.isfinite() & (pads > real - NEAR)
            for other in scene:  # rows of padded slots are nobody's
                if other != side and scene.valid[other].shape[1] == bad.shape[1]:
                    bad = bad & scene.valid[other]
            if not bool(bad.any()):
                continue
            least, most, slots = float(real[bad].min()), float(pads[bad].max()), lab.subject.side(side).slots
            told = "the fill" if _written(operations, most) else "scores up to"
            return (
                f"the softmax{operation.place} has {told} {most:.3g} for padded {slots}, and those of valid ones fall "
                f"to {least:.3g} in a row: padding takes their share; fill with -inf, where the row has another entry"
            )
    return ""


def of_ordinary_batch(lab: Lab) -> str:
    """Which operation first makes a NaN of an ordinary padded batch."""
    return _first_nan(lab, lab.batch, "of rows that are padding alone")


def of_empty_gradient(lab: Lab, sides: Sequence[Side]) -> str:
    """Which step of the backward pass first gives a gradient that is not finite, beside a row without a valid slot."""
    scene = with_empty_row(lab, sides)
    what = f"of a row without valid {' and '.join(lab.subject.side(side).slots for side in sides)}"
    return _first_bad_gradient(lab, scene, OTHERS, what) or _first_bad_gradient(lab, scene, None, what)


def of_gradient(lab: Lab) -> str:
    """Which step of the backward pass first gives a gradient that is not finite, on the usual scene."""
    return _first_bad_gradient(lab, lab.batch, None, "of rows that are padding alone")


_STEPS: Mapping[str, tuple[str, str]] = {
    "Sqrt": ("the square root", "its slope at 0 is infinite; add the epsilon under the root"),
    "Rsqrt": ("the square root", "its slope at 0 is infinite; add the epsilon under the root"),
    "Pow": ("the power", "its slope at 0 is infinite; keep what it is taken of above 0"),
    "Log": ("the logarithm", "its slope at 0 is infinite; keep what it is taken of above 0"),
    "Div": ("the division", "its divisor is 0 there; replace that by 1 where nothing is divided"),
    "LinalgVectorNorm": ("the norm", "it has no slope at 0; add the epsilon under the root"),
    "Softmax": ("the softmax", ""),
    "LogSoftmax": ("the softmax", ""),
    "SafeSoftmax": ("the softmax", ""),
    "ScaledDotProduct": ("attention", ""),
}
"""Steps of the backward pass by the beginning of torch's name: what they are of, and what to change."""


def _first_bad_gradient(lab: Lab, scene: Scene, examples: Sequence[int] | None, what: str) -> str:
    found = first_bad_gradient(lab, scene, examples)
    if found is None:
        return ""
    step, remedy = _step(found)
    if not found.finite and (said := _first_nan(lab, scene, what)):
        return f"{said}; what hides that NaN afterwards hides it from no gradient"
    first = f"{step} gives the first gradient that is not finite"
    return f"{first}: {remedy}" if remedy else first


def _step(found: Backward) -> tuple[str, str]:
    """What a step of the backward pass is of and where, and what to change."""
    what, remedy = next(
        (said for name, said in _STEPS.items() if found.name.lstrip("_").startswith(name)),
        (f"the step {found.name} of the backward pass", ""),
    )
    return f"{what}{found.place}", remedy


def _first_nan(lab: Lab, scene: Scene, what: str) -> str:
    bad = first_not_finite(trace(lab, scene))
    if bad is None:
        return ""
    if "softmax" in bad.name and bad.scores is not None and bool((bad.scores == -math.inf).all(-1).any()):
        return (
            f"the softmax{bad.place} makes the first NaN, {what}: all its scores are -inf; "
            f"fill with -inf only where the row has another entry"
        )
    if bad.name in ("div", "div_") and (divisor := _divisor(bad)) is not None and bool((divisor == 0).any()):
        return f"the division{bad.place} makes the first NaN, {what}: it divides by 0"
    return f"{bad.plainly}{bad.place} makes the first NaN, {what}"


def _divisor(operation: Operation) -> Tensor | None:
    divisor = operation.given[1] if len(operation.given) > 1 else None
    return divisor if isinstance(divisor, Tensor) else None


def of_narrow_type(lab: Lab, dtype: torch.dtype, *, autocast: bool) -> str:
    """Which operation first meets a number that a narrow type cannot hold, and which number that is."""
    wide = Lab(lab.subject.cast(torch.float32), lab.seed)
    subject = lab.subject.autocast_to(dtype) if autocast else lab.subject.cast(dtype)
    own, handles = Lab(subject, lab.seed), score_handles(lab)
    shifts = (0.0, *SHIFTS) if any(handle.shifts for handle in handles) else (0.0,)
    for shift in shifts:
        for scenes in ((own.batch, wide.batch), (emptied(own), emptied(wide))):
            with shifted_scores(lab.subject.module, handles, shift):
                if said := _of_narrow_type(own, wide, *scenes, dtype):
                    return said
    return ""


def _of_narrow_type(own: Lab, lab: Lab, narrow: Scene, wide: Scene, dtype: torch.dtype) -> str:
    name, kept, copied = NARROW[dtype], Trace(), narrow.copied()
    try:
        with own.entered(), torch.no_grad(), kept:
            own.call(copied)
    except (Raised, NotJudged):
        refused = kept.refused
        fill = refused.too_large_for(dtype) if refused is not None else None
        if refused is None or fill is None:
            return ""
        return (
            f"{refused.name}{refused.place} has the fill {fill:g}, and the largest number that {name} can hold is "
            f"{torch.finfo(dtype).max:g}; fill with -inf, where the row has another entry, or with "
            f"torch.finfo(x.dtype).min"
        )
    operations, reference = kept.operations, trace(lab, wide)
    for index, operation in enumerate(operations):
        if all(bool((value.isfinite() | (value == -math.inf)).all()) for value in operation.made):
            continue
        twin = _twin(operations, reference, index)
        return _named(operation, twin, name, dtype, _sank(operations[:index], reference))
    return ""


def _twin(operations: Sequence[Operation], reference: Sequence[Operation], index: int) -> Operation | None:
    """The same operation in the wider type: that of its line and name, counted from the start."""
    one = operations[index]
    count = sum((other.name, other.place) == (one.name, one.place) for other in operations[:index])
    same = [other for other in reference if (other.name, other.place) == (one.name, one.place)]
    return same[count] if count < len(same) else None


def _sank(operations: Sequence[Operation], reference: Sequence[Operation]) -> Operation | None:
    """The first operation that made -inf where the wider type has a number."""
    for index, operation in enumerate(operations):
        twin = _twin(operations, reference, index)
        for value, wide in zip(operation.made, twin.made if twin is not None else (), strict=False):
            if value.shape == wide.shape and bool(((value == -math.inf) & wide.isfinite()).any()):
                return operation
    return None


def _named(operation: Operation, twin: Operation | None, name: str, dtype: torch.dtype, sank: Operation | None) -> str:
    """What a narrow type could not hold, in words."""
    at = f"{operation.plainly}{operation.place}"
    first = f"{at} gives the first number that is not finite in {name}"
    divisor = _divisor(operation) if operation.name in ("div", "div_") else None
    if divisor is not None and bool((divisor == 0).any()):
        wide = _divisor(twin) if twin is not None else None
        if wide is not None and wide.shape == divisor.shape and bool((wide[divisor == 0] != 0).all()):
            least = float(wide[divisor == 0].abs().min())
            smallest = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
            return (
                f"{first}: its divisor is {least:.1g} in float32, an epsilon that is 0 in {name}, whose smallest "
                f"number is {smallest:.1g}; use a larger one, or compute this in float32"
            )
        return f"{first}: it divides by 0"
    if "softmax" in operation.name and operation.scores is not None:
        rows = (operation.scores == -math.inf).all(-1)
        if bool(rows.any()) and sank is not None:
            return (
                f"{first}: all scores of a row are -inf; {sank.plainly}{sank.place} makes them so, of numbers below "
                f"{torch.finfo(dtype).min:g}; fill instead of adding, or compute the softmax in float32"
            )
    if twin is not None:
        wide_value = max(
            (float(value.abs().nan_to_num(0, 0, 0).max()) for value in twin.made if value.numel()), default=0
        )
        if wide_value > torch.finfo(dtype).max:
            return (
                f"{first}: it is as large as {wide_value:.2g} in float32, and {name} ends at {torch.finfo(dtype).max:g}"
            )
    return first


def safely(experiment: Callable[[], str]) -> str:
    """An experiment's sentence; empty where it could not be made."""
    try:
        return experiment()
    except (Lacking, Raised, NotJudged, RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError):
        return ""
