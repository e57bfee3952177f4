"""The search over readings of one signature: the first that trials confirm, else the best of a few."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch

from suite.audit.reading.arguments import Argument
from suite.audit.reading.inputs import Stated, fits, independent, seen, spread
from suite.audit.reading.masks import Placement, place
from suite.audit.reading.trial import SECONDS, Reading, Spent, Trials
from suite.audit.subject import Side

MOST = 3
"""How many readings that run are tried further where none is confirmed."""


def search(trials: Trials, arguments: Sequence[Argument], stated: Stated) -> Placement | None:
    """The likeliest reading under which the module runs; None where there is none."""
    best: tuple[tuple[float, ...], Placement] | None = None
    tried: list[Placement] = []
    doubts: tuple[str, ...] = ()
    try:
        for fit in itertools.islice(fits(trials, arguments, stated), MOST):
            found = place(trials, fit, stated)
            if any(_explains(earlier, found) for earlier in tried) or _absurd(found, arguments):
                continue
            tried.append(found)
            mixes = not independent(trials, found.reading)
            twice = spread(trials, found.reading)
            idle = _needless(trials, arguments, found)
            turned = _turned(found.reading)
            if not mixes and not twice and not idle and not turned and found.decided and not found.left:
                return found
            key = (float(mixes), float(twice), float(bool(turned)), float(len(idle)), float(len(found.left)))
            if best is None or key < best[0]:
                best = key, found
    except Spent:
        doubts = (f"no reading of its signature convinced, and the search for another took over {SECONDS:g} s",)
    finally:
        trials.unlimited()
    if best is None:
        return None
    if best[0][1]:
        doubts = ("under the best reading of its signature that was found, examples meet as if they were slots",)
    if best[0][0] and len({form.shape for form in best[1].reading.masks.values()}) > 1:
        doubts += ("examples meet in it, without any padding, under the only forms of masks that were found to run",)
    doubts += tuple(
        f"{side} runs as [B, D, L] with as many slots as another side is wide, and may be [B, L, D] with a mask of a "
        "form that was not tried"
        for side in _turned(best[1].reading)
    )
    doubts += tuple(
        f"{name} may be left out by its signature, had to be passed, and changes nothing as a feature input"
        for name in _needless(trials, arguments, best[1])
    )
    return replace(best[1], doubts=doubts)


def _turned(reading: Reading) -> list[Side]:
    """Sides that were taken for channels first beside ones that are not, with as many slots as those are wide."""
    plain = {reading.width(f.side) for f in reading.features.values() if f.layout == "[B, L, D]"}
    return [
        f.side for f in reading.features.values() if f.layout == "[B, D, L]" and reading.lengths.get(f.side) in plain
    ]


def _needless(trials: Trials, arguments: Sequence[Argument], found: Placement) -> list[str]:
    """Arguments that may be left out by the signature, were taken for feature inputs, and reach no output as such."""
    features = found.reading.features
    owned = {
        side: [a for a in arguments if a.name in features and features[a.name].side == side]
        for side in found.reading.sides
    }
    return [
        owners[0].name
        for side, owners in owned.items()
        if owners and not any(a.required for a in owners) and not seen(trials, found.reading, side)
    ]


def search_awake(
    trials: Trials, arguments: Sequence[Argument], stated: Stated
) -> tuple[Placement | None, tuple[str, ...]]:
    """As `search`; where a side reaches nothing, once more with parameters that start at zero given other numbers.

    A gate, a scale or a last projection that starts at zero hides a side whatever its mask does.

    Returns:
        The placement, and the parameters that keep those numbers: none where they show no side more.
    """
    found = search(trials, arguments, stated)
    zeros = {n: p for n, p in trials.module.named_parameters() if p.is_floating_point() and not bool(p.any())}
    if found is None or not zeros or not _idle(trials, arguments, found):
        return found, ()
    before = _reach(trials, found)
    generator = torch.Generator().manual_seed(5)
    for parameter in zeros.values():
        parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    trials.renew()
    again = search(trials, arguments, stated)
    if again is not None and _reach(trials, again) > before:
        return again, tuple(zeros)
    for parameter in zeros.values():
        parameter.zero_()
    return found, ()


def _reach(trials: Trials, found: Placement) -> int:
    """How many sides reach an output."""
    return sum(seen(trials, found.reading, side) for side in found.reading.sides)


def _idle(trials: Trials, arguments: Sequence[Argument], found: Placement) -> bool:
    """Whether a side reaches no output, or an argument that may be another side was left out."""
    left = any(a.guess == "features" and a.name not in found.reading.features for a in arguments)
    return left or _reach(trials, found) < len(found.reading.sides)


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
