"""Properties about examples: alone or in company, in any order, with slots hidden or removed."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from suite.audit.checks.padding import masked_sides
from suite.audit.lab import (
    Lab,
    Lacking,
    Observation,
    alone,
    attempt,
    reorder,
    reorder_outputs,
    restrict,
)
from suite.audit.subject import SIDES, SLOTS, Side, slots_of, with_side
from variants import Batch


def compaction(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    for example in range(len(lab.batch.image)):
        yield from attempt("example alone", partial(as_alone, lab, lab.batch, example, "example alone"))
    if lab.subject.unmasked is not None:
        yield from attempt("example alone without a mask", partial(_without_mask, lab))


def as_alone(lab: Lab, batch: Batch, example: int, condition: str, *, twins: int = 1) -> Iterator[Observation]:
    """An example of a batch against the same one cut to its valid slots, in as many copies as twins.

    Two copies keep what a module does to a batch of one out of the comparison.
    """
    outputs = lab.reference if batch is lab.batch else lab.forward(batch)
    cut = Batch(*(tensor.expand(twins, *tensor.shape[1:]) for tensor in alone(batch, example)))
    expected = {name: value[:1] if twins > 1 else value for name, value in lab.forward(cut).items()}
    got = restrict(lab.subject, outputs, batch, example)
    for found in lab.compare(condition, expected, got, "band"):
        yield replace(found, where=(example, *found.where[1:]))


def _without_mask(lab: Lab) -> Iterator[Observation]:
    bare = lab.without_mask()
    for example in range(len(lab.batch.image)):
        cut = alone(lab.batch, example)
        yield from lab.compare("example alone without a mask", lab.forward(cut), bare.forward(cut), "band")


def batch_mates(lab: Lab) -> Iterator[Observation]:
    batch, example = lab.batch, 2
    contents = "other contents in its batch mates"
    for kept in (2, 0):
        yield from attempt(contents, partial(_among_others, lab, contents, kept))

    shorter = batch
    for side in lab.subject.masked:
        _, valid = slots_of(batch, side)
        # the others trade lengths, so that the longest row stays as long as the batch is wide
        shorter = with_side(shorter, side, valid=valid[[1, 3, 2, 0]])
    if lab.subject.masked:
        lengths = "other lengths of its batch mates"
        yield from attempt(
            lengths, lambda: lab.compare(lengths, lab.reference, lab.forward(shorter), "band", only=(example,))
        )

    turned = torch.tensor([2, 0, 3, 1], device=batch.image.device)
    permuted = "the batch in another order"
    yield from attempt(
        permuted,
        lambda: lab.compare(
            permuted,
            {name: value[turned] for name, value in lab.reference.items()},
            lab.forward(Batch(*(tensor[turned] for tensor in batch))),
            "band",
        ),
    )


def _among_others(lab: Lab, condition: str, example: int) -> Iterator[Observation]:
    others = torch.arange(len(lab.batch.image), device=lab.batch.image.device) != example
    changed = lab.batch
    for side in SIDES:
        features, _ = slots_of(changed, side)
        fresh = 3 * lab.normal(*features.shape, salt=30)
        changed = with_side(changed, side, features=torch.where(others[:, None, None], fresh, features))
    yield from lab.compare(condition, lab.reference, lab.forward(changed), lab.repeatable, only=(example,))


def permutation(lab: Lab) -> Iterator[Observation]:
    movable = [side for side in masked_sides(lab) if lab.subject.order_of(side) != "position"]
    if not movable:
        raise Lacking("where a slot stands matters on both sides, without any padding")
    for side in movable:
        slots = SLOTS[side]
        orders = {f"{slots} moved apart": _scattered(lab, side), f"padded {slots} on the left": _left(lab, side)}
        if lab.subject.order_of(side) == "free":
            orders[f"permuted {slots}"] = lab.shuffle(lab.batch, side)
        for condition, order in orders.items():
            yield from attempt(condition, partial(_moved, lab, condition, side, order))


def _moved(lab: Lab, condition: str, side: Side, order: Tensor) -> Iterator[Observation]:
    expected = reorder_outputs(lab.subject, lab.reference, side, order)
    yield from lab.compare(condition, expected, lab.forward(reorder(lab.batch, side, order)), "band")


def _scattered(lab: Lab, side: Side) -> Tensor:
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


def live_mask(lab: Lab) -> Iterator[Observation]:
    lab = lab.loose
    if not lab.subject.masked:
        yield Observation(
            condition="padding",
            output="any",
            leak=0.0,
            limit=0.0,
            rule="moves",
            note="cannot be right: it takes no mask, so nothing tells it which slots are padding; "
            "give it examples of one length only, or add a mask",
        )
        return
    example = 2
    for side in masked_sides(lab):
        word = SLOTS[side][:-1]
        _, valid = slots_of(lab.batch, side)
        last = int(valid[example].nonzero().max())
        for slot in (last,) if lab.subject.order_of(side) == "position" else (1, last):
            hidden = valid.clone()
            hidden[example, slot] = False
            batch = with_side(lab.batch, side, valid=hidden)
            removed = f"a hidden {word} against a removed one"
            yield from attempt(removed, partial(as_alone, lab, batch, example, removed, twins=2))
        matters = f"a hidden {word} must matter"
        yield from attempt(matters, partial(_matters, lab, batch, matters))
        inverted = with_side(lab.batch, side, valid=_inverted(valid))
        matters = f"an inverted mask of {SLOTS[side]} must matter"
        yield from attempt(matters, partial(_matters, lab, inverted, matters))


def _inverted(valid: Tensor) -> Tensor:
    inverted = ~valid
    inverted[:, 0] |= ~inverted.any(-1)  # no row empty: that is another property
    return inverted


def _matters(lab: Lab, batch: Batch, condition: str) -> Iterator[Observation]:
    found = list(lab.compare(condition, lab.reference, lab.forward(batch), "moves"))
    # one output that moves is enough: which ones see which side is the mechanism's own business
    yield min(found, key=lambda observation: observation.ratio)


def sides(lab: Lab) -> Iterator[Observation]:
    if len(lab.subject.masked) < 2:
        raise Lacking("it takes a mask for one side only")
    lab = lab.loose
    # as many words as regions, so that swapped masks fit; lengths differ on every row
    batch = lab.scene((7, 2, 5, 4), (3, 7, 1, 6), salt=3)
    for example in range(len(batch.image)):
        condition = "as many words as regions"
        yield from attempt(condition, partial(as_alone, lab, batch, example, condition, twins=2))
