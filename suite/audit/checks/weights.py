"""Properties about weights: a distribution over valid slots that follows the scores and the other side."""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from suite.audit.declared import declares
from suite.audit.lab import Lab, Lacking, Raised
from suite.audit.observation import Observation
from suite.audit.scores import ScoreHandle, scaled_scores, score_handles
from suite.audit.subject import Output, Scene, Side, slots_of, with_side

SUM_EPS = 8
"""How many rounding steps of the dtype a row of weights may sum to beside 1."""
CONTRAST = 10.0
"""Weights of a row must be able to differ by more; a second softmax keeps them within a factor e."""
EVEN = 1.6
"""What keeps them within less may be that the network's scores are small, and shows nothing of a second softmax."""


def weight_outputs(lab: Lab) -> tuple[Output, ...]:
    """The outputs that are weights.

    Raises:
        Lacking: there are none.
    """
    if not lab.subject.weights():
        raise Lacking("it returns no weights")
    return lab.subject.weights()


def rows(weights: Tensor, output: Output, batch: Scene) -> tuple[Tensor, Tensor]:
    """Weights as rows, ``[R, L]`` in float64, and the validity of each row's slots; rows of padded slots left out.

    Joint weights are one row for all pairs, ``[R, N T]``.
    """
    valid = slots_of(batch, output.side)[1]
    if output.kind == "joint_weights" and output.rows is not None:
        pairs = (slots_of(batch, output.rows)[1].unsqueeze(-1) & valid.unsqueeze(1)).flatten(1)  # [B, N T]
        flat = weights.flatten(-2)
        spread = pairs.view(len(pairs), *(1,) * (flat.dim() - 2), -1).expand(flat.shape)
        return flat.reshape(-1, flat.shape[-1]).double(), spread.reshape(-1, flat.shape[-1])
    kept = torch.ones(weights.shape[:-1], dtype=torch.bool, device=weights.device)
    if output.rows is not None:
        owner = slots_of(batch, output.rows)[1]
        kept &= owner.view(owner.shape[0], *(1,) * (weights.dim() - 3), owner.shape[1])
    spread = valid.view(valid.shape[0], *(1,) * (weights.dim() - 2), valid.shape[1]).expand(weights.shape)
    return weights[kept].double(), spread[kept]


@declares(
    "P4",
    "wrong",
    "simplex",
    "weights are at least 0, exactly 0 on padding, and sum to 1 over valid slots",
    says="{output} broke the simplex by {leak}: {condition}",
)
def simplex(lab: Lab) -> Iterator[Observation]:
    outputs = weight_outputs(lab)
    for factor in (1.0, 10.0):
        batch = scaled(lab.batch, factor)
        results = lab.forward(batch)
        for output in outputs:
            for found in simplex_of(lab, output, results[output.name], batch):
                if factor > 1 and not lab.subject.exact:  # what extreme scores alone bring about, as in P17
                    found = replace(found, severity="fragile", note=found.note or "with features ten times as large")
                yield found


def simplex_of(lab: Lab, output: Output, weights: Tensor, batch: Scene) -> Iterator[Observation]:
    """Whether one weights output is a distribution over the valid slots of each row."""
    slots = slots_of(batch, output.side)[1].shape[1]
    if weights.shape[-1] != slots:
        yield Observation(
            what="shape of weights",
            sides=(output.side,),
            output=output.name,
            leak=math.inf,
            limit=0.0,
            note=f"has {weights.shape[-1]} entries for {slots} {lab.subject.side(output.side).slots}",
        )
        return
    values, valid = rows(weights, output, batch)
    some = valid.any(-1)
    padding = values.abs().masked_fill(valid, 0)
    sums = (values.masked_fill(~valid, 0).sum(-1) - 1).abs()[some]
    # autocast may round weights to the narrow type and hand them on in the wide one
    unit = max(torch.finfo(weights.dtype).eps, torch.finfo(lab.subject.computes_in).eps)
    for what, leak, limit in (
        ("weight on pads", padding.max(), 0.0 if lab.subject.exact else unit),  # of another it is rounding
        ("negative weights", (-values).clamp(min=0).max(), 0.0),
        ("sum of weights", sums.max() if len(sums) else sums.sum(), SUM_EPS * unit),
    ):
        number = float(leak)
        yield Observation(
            what=what,
            sides=(output.side,),
            output=output.name,
            leak=math.inf if math.isnan(number) else number,
            limit=limit,
        )


def scaled(batch: Scene, factor: float) -> Scene:
    """The batch with all features multiplied."""
    return batch.map(lambda _, features, valid: (features * factor, valid))


def attends(lab: Lab, output: Output) -> bool:
    """Whether these weights depend on anything; a mean's do not."""
    values, valid = rows(lab.reference[output.name], output, lab.batch)
    uniform = valid / valid.sum(-1, keepdim=True).clamp(min=1)
    again, _ = rows(lab.forward(scaled(lab.batch, 3.0))[output.name], output, lab.batch)
    return not (torch.equal(values, again) and bool(((values - uniform).abs() < 1e-3).all()))


@declares(
    "P4c",
    "wrong",
    "contrast",
    "weights can differ within a row by more than a factor e",
    says="{output} stayed within a factor {leak} in every row, however large the scores",
)
def contrast(lab: Lab) -> Iterator[Observation]:
    outputs = [output for output in weight_outputs(lab) if attends(lab, output)]
    if not outputs:
        raise Lacking("its weights depend on nothing")
    largest = {output.name: [1.0] for output in outputs}
    handles = score_handles(lab)
    for factor in (1.0, 10.0, 100.0, 1e3, 1e4, 1e6, 1e8):
        try:
            tried = (lab.forward(scaled(lab.batch, factor)), _sharpened(lab, handles, factor))
        except Raised:
            if factor > 100:  # beyond what anybody feeds
                break
            raise
        for output in outputs:
            found = [_contrast(results[output.name], output, lab.batch) for results in tried]
            largest[output.name].append(max(largest[output.name][-1], *found))
        if all(ratios[-1] > CONTRAST for ratios in largest.values()):
            break
    for name, (*_, before, ratio) in largest.items():
        # scores that the largest features leave small show nothing of what bounds them
        small = 1 < ratio < EVEN or (1 < ratio <= CONTRAST and math.log(ratio) >= 2 * math.log(before))
        yield Observation(
            what="scores scaled",
            output=name,
            leak=ratio,
            limit=CONTRAST,
            rule="moves",
            unjudged=small,
            note=f"the scores of {name} stay too small to show it, however large the features" if small else "",
        )


def _sharpened(lab: Lab, handles: tuple[ScoreHandle, ...], factor: float) -> dict[str, Tensor]:
    with scaled_scores(lab.subject.module, handles, factor):
        return lab.forward(lab.batch)


def _contrast(weights: Tensor, output: Output, batch: Scene) -> float:
    values, valid = rows(weights, output, batch)
    several = valid.sum(-1) > 1
    if not bool(several.any()) or not bool(values.isfinite().all()):
        return 1.0
    high = values.masked_fill(~valid, 0).amax(-1)[several]
    low = values.masked_fill(~valid, math.inf).amin(-1)[several]
    ratio = high / low.clamp(min=torch.finfo(torch.float32).tiny)
    return float(ratio.max())


@declares(
    "P7",
    "wrong",
    "not from values",
    "validity is not inferred from the features",
    says="{output} took a valid {condition} for padding",
)
def not_from_values(lab: Lab) -> Iterator[Observation]:
    example, slot = 2, 1
    outputs = weight_outputs(lab)
    for output in outputs:
        features, _ = slots_of(lab.batch, output.side)
        zeroed = features.clone()
        zeroed[example, slot] = 0
        batch = with_side(lab.batch, output.side, features=zeroed)
        weights = lab.forward(batch)[output.name][example : example + 1]
        values, _ = rows(weights, output, batch.take([example]))
        lowest = float(values[:, slot].min())
        yield Observation(
            what="slot zeroed",
            sides=(output.side,),
            output=output.name,
            leak=lowest if math.isfinite(lowest) else 0.0,
            limit=0.0,
            rule="moves",
            note=f"its weight is {lowest:.3g}",
        )


@declares(
    "P19",
    "wrong",
    "other side seen",
    "each side's weights see the other side",
    says="{output} moved by only {leak} when every {condition} changed",
)
def other_side_seen(lab: Lab) -> Iterator[Observation]:
    guided = lab.subject.guided
    if not guided:
        raise Lacking("no output of it is meant to see the other side")
    for name, side in guided:
        output = lab.subject.output(name)
        yield _seen(lab, output, side)


def _seen(lab: Lab, output: Output, side: Side) -> Observation:
    best: Observation | None = None
    features, valid = slots_of(lab.batch, side)
    for scale in (1.0, 3.0, 10.0):  # a guide may be weak; one that cancels is seen at no scale
        start = with_side(lab.batch, side, features=features * scale)
        fresh = scale * lab.normal(*features.shape, salt=24)
        moved = lab.forward(with_side(lab.batch, side, features=torch.where(valid[..., None], fresh, features)))
        expected = {output.name: lab.forward(start)[output.name]}
        got = {output.name: moved[output.name]}
        found = next(iter(lab.compare("valid slots changed", expected, got, "moves", sides=(side,))))
        if best is None or found.leak > best.leak:
            best = found
        if best.verdict == "holds":
            break
    assert best is not None
    return best
