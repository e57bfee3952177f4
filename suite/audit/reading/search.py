"""The search over readings of one signature: the first that trials confirm, else the best of a few."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch

from suite.audit.reading.arguments import Argument
from suite.audit.reading.inputs import Stated, fits, spread
from suite.audit.reading.masks import Placement, place
from suite.audit.reading.trial import EXAMPLES, Reading, Spent, Trials

MOST = 3
"""How many readings that run are tried further where none is confirmed."""


def search(trials: Trials, arguments: Sequence[Argument], stated: Stated) -> Placement | None:
    """The likeliest reading under which the module runs; None where there is none."""
    best: tuple[tuple[float, ...], Placement] | None = None
    tried: list[Placement] = []
    try:
        for fit in itertools.islice(fits(trials, arguments, stated), MOST):
            found = place(trials, fit, stated)
            if any(_explains(earlier, found) for earlier in tried) or _absurd(found, arguments):
                continue
            tried.append(found)
            mixes = not independent(trials, found.reading)
            twice = spread(trials, found.reading)
            if not mixes and not twice and found.decided and not found.left:
                return found
            key = (float(mixes), float(twice), float(len(found.left)))
            if best is None or key < best[0]:
                best = key, found
    except Spent:
        pass
    finally:
        trials.unlimited()
    return best[1] if best else None


def _explains(wider: Placement, narrower: Placement) -> bool:
    """Whether a reading leaves out an input for whose unused mask another reading has the input."""
    more = set(wider.reading.sides) - set(narrower.reading.sides)
    used = {name for name, mask in narrower.placed.items() if mask.effect}
    return (
        more > set()
        and set(narrower.reading.features) < set(wider.reading.features)
        and used <= {name for name, mask in wider.placed.items() if mask.effect}
        and any(side in more for side in wider.unused.values())
    )


def _absurd(found: Placement, arguments: Sequence[Argument]) -> bool:
    """Whether all that is read as features is named like masks, and what is named like features does nothing."""
    guessed = {a.name: a.guess for a in arguments}
    idle = any(guessed[name] == "features" for name in found.unused)
    return idle and not any(guessed[name] == "features" for name in found.reading.features)


def independent(trials: Trials, reading: Reading) -> bool:
    """Whether examples keep to themselves: what tells the axis of examples from that of slots."""
    scene = trials.scene(reading)
    features = {side: tensor.clone() for side, tensor in scene.features.items()}
    for tensor in features.values():
        tensor[0] = 2 * tensor[0].flip(-1) + 1
    before, after = trials.outputs(reading, scene), trials.outputs(reading, replace(scene, features=features))
    if before is None or after is None:
        return False
    for name, value in before.items():
        other = after.get(name)
        if other is None or other.shape != value.shape or not value.is_floating_point():
            continue
        axes = [axis for axis, size in enumerate(value.shape) if size == EXAMPLES]
        if not axes:
            # one number for the batch is a loss; a table without an axis over examples has mixed them
            folded = any(size % EXAMPLES == 0 for size in value.shape)
            if value.dim() > 1 and not folded and not torch.equal(value, other):
                return False
            continue
        rest = torch.arange(1, EXAMPLES, device=value.device)
        still = []
        for axis in axes:
            one, two = value.index_select(axis, rest).double(), other.index_select(axis, rest).double()
            if not one.numel():
                continue
            scale = float(one.nan_to_num().square().mean().sqrt()) or 1.0
            still.append(float((one - two).nan_to_num().abs().max()) <= 1e-4 * scale)
        if still and not any(still):
            return False
    return True
