"""Properties about examples: alone or in company, in any order, with slots hidden or removed."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from suite.audit.calling import NotJudged
from suite.audit.checks.padding import masked_sides
from suite.audit.declared import declares
from suite.audit.lab import (
    Lab,
    Lacking,
    alone,
    attempt,
    reorder,
    reorder_outputs,
    restrict,
)
from suite.audit.observation import ANY, Observation
from suite.audit.subject import Scene, Side, slots_of, with_side


@declares(
    "P3",
    "wrong",
    "compaction",
    "an example in a padded batch equals the same example alone",
    says="{output} differed by {leak} from the same {condition}",
)
def compaction(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    for example in range(lab.batch.size):
        yield from attempt("alone", (), partial(as_alone, lab, lab.batch, example, "alone"))
    if lab.subject.unmasked is not None:
        yield from attempt("alone without a mask", (), partial(_without_mask, lab))


def as_alone(
    lab: Lab, batch: Scene, example: int, what: str, *, sides: tuple[Side, ...] = (), twins: int = 1
) -> Iterator[Observation]:
    """An example of a batch against the same one cut to its valid slots, in as many copies as twins.

    Two copies keep what a module does to a batch of one out of the comparison.
    """
    outputs = lab.reference if batch is lab.batch else lab.forward(batch)
    cut = alone(lab.subject, batch, example, twins=twins)
    expected = {name: value[:1] if twins > 1 else value for name, value in lab.forward(cut).items()}
    got = restrict(lab.subject, outputs, batch, example)
    for found in lab.compare(what, expected, got, "band", sides=sides):
        yield replace(found, where=(example, *found.where[1:]))


def _without_mask(lab: Lab) -> Iterator[Observation]:
    bare = lab.without_mask()
    for example in range(lab.batch.size):
        cut = alone(lab.subject, lab.batch, example)
        yield from lab.compare("alone without a mask", lab.forward(cut), bare.forward(cut), "band")


@declares(
    "P3o",
    "wrong",
    "batch mates",
    "an example does not depend on its batch mates",
    says="{output} moved by {leak} with {condition}",
)
def batch_mates(lab: Lab) -> Iterator[Observation]:
    batch, example = lab.batch, 2
    for kept in (2, 0):
        yield from attempt("mates' contents", (), partial(_among_others, lab, kept))

    shorter = batch
    for side in lab.subject.masked:
        _, valid = slots_of(batch, side)
        # the others trade lengths, so that the longest row stays as long as the batch is wide
        shorter = with_side(shorter, side, valid=valid[[1, 3, 2, 0]])
    if lab.subject.masked:
        what = "mates' lengths"
        yield from attempt(
            what, (), lambda: lab.compare(what, lab.reference, lab.forward(shorter), "band", only=(example,))
        )

    turned = torch.tensor([2, 0, 3, 1], device=batch.device)
    yield from attempt(
        "batch reordered",
        (),
        lambda: lab.compare(
            "batch reordered",
            {name: value[turned] for name, value in lab.reference.items()},
            lab.forward(batch.take(turned)),
            "band",
        ),
    )


def _among_others(lab: Lab, example: int) -> Iterator[Observation]:
    others = torch.arange(lab.batch.size, device=lab.batch.device) != example
    changed = lab.batch
    for side in changed:
        features, _ = slots_of(changed, side)
        fresh = 3 * lab.normal(*features.shape, salt=30)
        changed = with_side(changed, side, features=torch.where(others[:, None, None], fresh, features))
    yield from lab.compare("mates' contents", lab.reference, lab.forward(changed), lab.repeatable, only=(example,))


@declares(
    "P5",
    "wrong",
    "permutation",
    "permuting slots with their validity permutes the weights and leaves the vectors",
    says="{output} moved by {leak} with {condition}",
)
def permutation(lab: Lab) -> Iterator[Observation]:
    movable = [side for side in masked_sides(lab) if lab.subject.order_of(side) != "position"]
    if not movable:
        raise Lacking("where a slot stands matters on every side, without any padding")
    for side in movable:
        orders = {"slots moved apart": scattered(lab, side), "pads on the left": _left(lab, side)}
        if lab.subject.order_of(side) == "free":
            orders["slots permuted"] = lab.shuffle(lab.batch, side)
        for what, order in orders.items():
            yield from attempt(what, (side,), partial(_moved, lab, what, side, order))


def _moved(lab: Lab, what: str, side: Side, order: Tensor) -> Iterator[Observation]:
    expected = reorder_outputs(lab.subject, lab.reference, lab.batch, side, order)
    yield from lab.compare(what, expected, lab.forward(reorder(lab.batch, side, order)), "band", sides=(side,))


def scattered(lab: Lab, side: Side) -> Tensor:
    """An order that leaves holes: valid slots keep their order and stand at random places."""
    _, valid = slots_of(lab.batch, side)
    generator = lab.generator(31)
    order = torch.empty(valid.shape, dtype=torch.long)
    for row, mask in enumerate(valid.cpu()):
        places = torch.randperm(len(mask), generator=generator)
        count = int(mask.sum())
        order[row, places[:count].sort().values] = mask.nonzero().squeeze(-1)
        order[row, places[count:]] = (~mask).nonzero().squeeze(-1)
    return order


def _left(lab: Lab, side: Side) -> Tensor:
    """The order that puts padding on the left."""
    return torch.argsort(slots_of(lab.batch, side)[1].cpu().long(), dim=-1, stable=True)


@declares(
    "P6",
    "wrong",
    "live mask",
    "hiding a slot through the mask equals removing it, and matters",
    says="{output} differed by {leak}: {condition}",
)
def live_mask(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    if not lab.subject.masked:
        if lab.subject.ignored:
            left = " and ".join(lab.subject.ignored)
            raise NotJudged(f"nothing tells it which slots are padding without {left}, left out as asked")
        yield Observation(
            what="no mask",
            output=ANY,
            leak=0.0,
            limit=0.0,
            rule="moves",
            note="cannot be right: it takes no mask, so nothing tells it which slots are padding; "
            "give it examples of one length only, or add a mask",
        )
        return
    example = 2
    for side in masked_sides(lab):
        _, valid = slots_of(lab.batch, side)
        last = int(valid[example].nonzero().max())
        for slot in (last,) if lab.subject.order_of(side) == "position" else (1, last):
            hidden = valid.clone()
            hidden[example, slot] = False
            batch = with_side(lab.batch, side, valid=hidden)
            what = "hidden or removed"
            compare = partial(as_alone, lab, batch, example, what, sides=(side,), twins=2)
            yield from attempt(what, (side,), compare)
        yield from attempt("hidden", (side,), partial(_matters, lab, batch, "hidden", side))
        inverted = with_side(lab.batch, side, valid=_inverted(valid))
        yield from attempt("mask inverted", (side,), partial(_matters, lab, inverted, "mask inverted", side))


def _inverted(valid: Tensor) -> Tensor:
    inverted = ~valid
    inverted[:, 0] |= ~inverted.any(-1)  # no row empty: that is another property
    return inverted


def _matters(lab: Lab, batch: Scene, what: str, side: Side) -> Iterator[Observation]:
    found = list(lab.compare(what, lab.reference, lab.forward(batch), "moves", sides=(side,)))
    # one output that moves is enough: which ones see which side is the mechanism's own business
    most = min(found, key=lambda observation: observation.ratio)
    zeros = [name for name, parameter in lab.subject.module.named_parameters() if not bool(parameter.any())]
    if most.verdict == "broken" and zeros and not _reaches(lab, side):
        why = f"nothing in {side} reaches an output, valid or not, and {', '.join(zeros[:3])} is 0: there is no telling"
        most = replace(most, output=ANY, unjudged=True, note=why)
    yield most


def _reaches(lab: Lab, side: Side) -> bool:
    """Whether what stands in valid slots of a side moves an output."""
    features, valid = slots_of(lab.batch, side)
    fresh = 3 * lab.normal(*features.shape, salt=29)
    changed = with_side(lab.batch, side, features=torch.where(valid[..., None], fresh, features))
    return any(not torch.equal(lab.reference[name], value) for name, value in lab.forward(changed).items())


@declares(
    "P11",
    "wrong",
    "sides apart",
    "the two validities are not swapped",
    says="{output} differed by {leak} with {condition}",
)
def sides(lab: Lab) -> Iterator[Observation]:
    if len(masked_sides(lab)) < 2:
        raise Lacking("it is told of the padding of one side only")
    lab = lab.loose
    # as many slots on every side, so that swapped masks fit; lengths differ on every row
    lengths = [own if side.masked else (7,) * 4 for own, side in zip(_SWAPPABLE, lab.subject.sides, strict=False)]
    batch = lab.scene(*lengths, salt=3)
    for example in range(batch.size):
        what = "sides of one width"
        yield from attempt(what, (), partial(as_alone, lab, batch, example, what, twins=2))


_SWAPPABLE = ((7, 2, 5, 4), (3, 7, 1, 6), (5, 4, 7, 1))
