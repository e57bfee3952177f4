"""Properties about numbers at their limits: narrow types and extreme scores."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from suite.audit.calling import NotJudged
from suite.audit.checks.padding import masked_sides, poured
from suite.audit.checks.weights import attends, scaled, simplex_of
from suite.audit.declared import declares
from suite.audit.lab import Lab, Lacking, Raised, alone, attempt, raised, relative, restrict
from suite.audit.observation import Observation, condition
from suite.audit.scores import ScoreHandle, scaled_scores, score_handles, shifted_scores
from suite.audit.subject import Scene, slots_of, with_side
from suite.audit.tracing import refused

NARROW = {torch.float16: "fp16", torch.bfloat16: "bf16"}
AGAINST_FLOAT64 = {torch.float16: 4e-2, torch.bfloat16: 0.3}
"""How far a correct mechanism may be from float64, relative."""
SHIFTS = (-16.0, -1e3)
"""Added to every score: where finfo.min plus a score overflows in fp16, and far below any modest fill."""
EXTREME = 1e5
"""How far apart scores are driven: far below any fill that is not infinite in effect. A fifth of it in fp16."""


@declares(
    "P10",
    "fragile",
    "narrow types",
    "half precision and autocast neither raise nor overflow, and stay near float64",
    says="{output} was off by {leak} with {condition}",
)
def narrow_types(lab: Lab) -> Iterator[Observation]:
    subject = lab.subject
    if not subject.eager:
        raise Lacking("each precision of it is a variant of its own")
    wide = Lab(subject.cast(torch.float64), lab.seed)
    if subject.computes_in in NARROW:
        name = NARROW[subject.computes_in]
        narrow = {name if subject.dtype == subject.computes_in else f"autocast to {name}": subject}
    else:
        narrow = {name: subject.cast(dtype) for dtype, name in NARROW.items()}
        narrow |= {f"autocast to {name}": subject.autocast_to(dtype) for dtype, name in NARROW.items()}
    handles = score_handles(lab)
    for what, form in narrow.items():
        own = Lab(form, lab.seed)
        yield from _attempt(own, what, partial(_near_float64, own, wide, what))
        yield from _attempt(own, what, partial(_empty_and_shifted, own, wide, handles, what))
    if subject.computes_in not in NARROW:
        yield from attempt("scores shifted", (), partial(_empty_and_shifted, lab, wide, handles, "scores shifted"))


def _attempt(own: Lab, what: str, compare: Callable[[], Iterator[Observation]]) -> Iterator[Observation]:
    """As `attempt`, in a narrow type: what this device lacks in it is no fault of the subject, and a fill is."""
    dtype = own.subject.computes_in

    def judged() -> Iterator[Observation]:
        try:
            yield from compare()
        except Raised as error:
            operation = refused(own, error.scene)
            if operation is not None and not operation.to_be_had_in(dtype):
                has = f"{operation.name}{operation.place} is not to be had in {NARROW[dtype]} on this device"
                raise NotJudged(has) from error
            if operation is None or operation.too_large_for(dtype) is None:
                raise
            yield raised(what, (), error)

    yield from attempt(what, (), judged)


def _near_float64(own: Lab, wide: Lab, what: str) -> Iterator[Observation]:
    allowed = AGAINST_FLOAT64[own.subject.computes_in]
    for found in own.compare(what, wide.reference, own.reference, "band"):
        yield replace(found, limit=max(allowed, found.limit))


def _empty_and_shifted(own: Lab, wide: Lab, handles: tuple[ScoreHandle, ...], what: str) -> Iterator[Observation]:
    """Finite in every row, an empty one too, with all scores shifted; what fails in float64 is not counted again."""
    batch, rows = emptied(own), "an empty row and "
    try:
        in_float64 = wide.forward(replace(wide.batch, valid=batch.valid))
    except Raised:  # it takes no empty row in any type
        batch, rows, in_float64 = own.batch, "", wide.reference
    shifts = (0.0, *SHIFTS) if any(handle.shifts for handle in handles) else (0.0,)
    for shift in shifts:
        with shifted_scores(own.subject.module, handles, shift):
            outputs = own.forward(batch)
        for name, value in outputs.items():
            if not bool(in_float64[name].isfinite().all()):
                continue
            finite = bool(value.isfinite().all())
            yield Observation(
                what=what,
                output=name,
                leak=0.0 if finite else math.inf,
                limit=0.0,
                note="" if finite else f"not finite with {rows}every score shifted by {shift:g}",
            )
        yield from _as_before(own, handles, shift, what)


def emptied(lab: Lab) -> Scene:
    """The usual scene with an empty row on each side, of different examples."""
    batch = lab.batch
    for side in lab.subject.masked:
        valid = slots_of(batch, side)[1].clone()
        valid[2 if side == lab.subject.names[0] else 1] = False
        batch = with_side(batch, side, valid=valid)
    return batch


def _as_before(own: Lab, handles: tuple[ScoreHandle, ...], shift: float, what: str) -> Iterator[Observation]:
    """With shifted scores the weights are a distribution still, where they are one without the shift."""
    if not shift:
        return
    with shifted_scores(own.subject.module, handles, shift):
        shifted = own.forward(own.batch)
    for output in own.subject.weights():
        if all(f.verdict == "holds" for f in simplex_of(own, output, own.reference[output.name], own.batch)):
            for found in simplex_of(own, output, shifted[output.name], own.batch):
                seen = condition(found.what, found.sides, own.subject)
                yield replace(found, what=what, note=f"every score shifted by {shift:g}: {seen}")


@declares(
    "P17",
    "fragile",
    "extreme scores",
    "no score is so extreme that padding gets through",
    says="{output} moved by {leak} with extreme scores: {condition}",
)
def extreme_scores(lab: Lab) -> Iterator[Observation]:
    masked_sides(lab)
    handles = score_handles(lab)
    sound = _sound(lab, lab.batch)
    if not sound:
        raise Lacking("padding gets through at ordinary scores already")
    single = _single(lab)
    tried = [(lab.batch, sound), (single, sound & _sound(lab, single))]
    if not handles and lab.subject.weights() and not any(attends(lab, output) for output in lab.subject.weights()):
        raise Lacking("its weights depend on nothing")
    reach = EXTREME / 5 if lab.subject.computes_in == torch.float16 else EXTREME
    factor = reach / max((handle.spread for handle in handles), default=reach)
    for sign in (1.0, -1.0):  # a row of one slot has its score below any fill with one of them, unless it is small
        with scaled_scores(lab.subject.module, handles, sign * factor):
            for batch, held in tried:
                if held:
                    yield from _extreme(lab, held, scaled(batch, 1.0 if handles else 100.0))
    yield from attempt("features scaled", (), partial(_alone, lab, sound))


def _single(lab: Lab) -> Scene:
    """The usual scene with one valid slot in each row of the sides that have a mask: the first of those it has."""
    batch = lab.batch
    for side in lab.subject.masked:
        valid = slots_of(batch, side)[1]
        batch = with_side(batch, side, valid=valid & (valid.cumsum(dim=1) == 1))
    return batch


def _alone(lab: Lab, sound: set[str]) -> Iterator[Observation]:
    """Each example against itself alone when features are large; in float64, where rounding of scores is no matter.

    Weights that are renormalised after the softmax lose rows whose valid scores lie far below those of padding.
    """
    wide = Lab(lab.subject.cast(torch.float64), lab.seed)
    for factor in (1.0, 3.0, 10.0):
        batch = scaled(wide.batch, factor)
        outputs = wide.forward(batch)
        turned = torch.arange(batch.size - 1, -1, -1, device=batch.device)
        again = {name: value[turned] for name, value in wide.forward(batch.take(turned)).items()}
        noise = {name: relative(value, again[name])[0] for name, value in outputs.items()}
        for example in range(batch.size):
            expected = wide.forward(alone(lab.subject, batch, example, twins=2))
            got = restrict(lab.subject, outputs, batch, example)
            for found in wide.compare(
                "features scaled", {name: value[:1] for name, value in expected.items()}, got, "band"
            ):
                limit = max(FAR, 100 * noise[found.output])
                if factor == 1.0 and found.leak > limit:
                    sound = sound - {found.output}  # it differs at ordinary scores already
                elif factor > 1.0 and found.output in sound:
                    yield replace(
                        found,
                        rule="exact",
                        limit=limit,
                        where=(example, *found.where[1:]),
                        note=f"{factor:g} times as large, against the same example alone",
                    )


FAR = 1e-3
"""How far outputs may be, relative, with features so large that a softmax picks one slot."""


def _extreme(lab: Lab, sound: set[str], batch: Scene) -> Iterator[Observation]:
    reference = lab.forward(batch)
    if not all(bool(value.isfinite().all()) for value in reference.values()):
        raise Lacking("features large enough for extreme scores overflow elsewhere")
    for output in lab.subject.weights():
        if output.name in sound:
            yield from simplex_of(lab, output, reference[output.name], batch)
    for side in lab.subject.masked:
        features, _ = slots_of(batch, side)
        filling = 3 * features.abs().mean() * lab.normal(*features.shape, salt=25)
        moved = lab.forward(poured(batch, side, filling))
        kept = {name: value for name, value in moved.items() if name in sound}
        yield from lab.compare("pads filled", reference, kept, "exact", sides=(side,))


def _sound(lab: Lab, scene: Scene) -> set[str]:
    """The outputs that padding does not reach at ordinary scores; none where the scene cannot be computed."""
    try:
        reference = lab.forward(scene)
        sound = set(reference)
        for side in masked_sides(lab):
            filling = 3 * lab.normal(*slots_of(scene, side)[0].shape, salt=25)
            moved = lab.forward(poured(scene, side, filling))
            sound -= {f.output for f in lab.compare("pads filled", reference, moved, "exact") if f.verdict != "holds"}
    except (Raised, NotJudged):
        return set()
    for output in lab.subject.weights():
        if any(f.verdict != "holds" for f in simplex_of(lab, output, reference[output.name], scene)):
            sound.discard(output.name)
    return sound
