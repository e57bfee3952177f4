"""Which slots a mask tells of, in which form and polarity: found by changing what it ought to hide.

A reading is right where what a mask hides moves nothing and what it shows moves something. All masks are judged
together, since one may hide only what another has left: each trial sums, over the sides, how far the outputs move when
padding changes, relative to how far they move when valid slots change.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from suite.audit.reading.arguments import Argument, kinship
from suite.audit.reading.forms import COUNTS, Form, forms
from suite.audit.reading.inputs import Fit, Stated, allowed, heads_of
from suite.audit.reading.trial import EXAMPLES, Outputs, Reading, Trials, kept, moved
from suite.audit.subject import Scene, Side, with_side

CLEAN = 1e-3
"""A score below which what is hidden moves nothing that counts."""
BLIND, BROKEN = 10.0, 100.0
"""The score of a side none of whose slots moves anything; and of a call that raises, or gives what is not finite."""
DEAF = 0.05
"""A score below which it is asked whether a reading hides what is real."""
DECISIVE = 2.0
"""How many times worse the opposite reading has to be for a trial to have decided."""
BETTER, AGAINST_NAMES = 0.9, 0.5
"""A form is better with less than this share of the best score so far; of another side than its name says, of that."""
STEADY = 1.25
"""The same, where it holds in more trials: something else leaks either way."""
NOISE = 5.0
LESS = 0.9
"""How much less slots have to move outputs that are beyond a length."""
MUCH_LESS = 0.5
"""The same, where its name says nothing of lengths."""
FAR = 1e-6
"""How far an output has to move, relative, for a slot to reach it."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What was found of one mask."""

    form: Form
    shown: bool
    """Whether a trial decided it; else it is assumed."""
    how: str
    effect: bool = True
    """Whether anything it may be given changes an output."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A reading with its masks, and what became of those that are not in it."""

    reading: Reading
    placed: Mapping[str, Placed] = field(default_factory=dict)
    unused: Mapping[str, Side] = field(default_factory=dict)
    """Masks that change nothing whatever they say, and the side that they would be for."""
    left: Mapping[str, str] = field(default_factory=dict)
    """Masks that were not placed, and why."""
    scores: Mapping[Side, float] = field(default_factory=dict)
    """How far padding moves outputs, relative to valid slots."""
    finite: bool = True
    """Whether some reading gave finite outputs on a padded batch."""
    reaches: frozenset[Side] = frozenset()
    """Sides whose slots change what stands elsewhere."""
    doubts: tuple[str, ...] = ()
    """Why it may be the wrong reading altogether."""

    @property
    def score(self) -> float:
        return max(self.scores.values(), default=0.0)

    @property
    def decided(self) -> bool:
        return all(mask.shown or not mask.effect for mask in self.placed.values())


def place(trials: Trials, fit: Fit, stated: Stated) -> Placement:
    """Place the masks of a fit."""
    return _Placing(trials, fit, stated).found()


class _Placing:
    def __init__(self, trials: Trials, fit: Fit, stated: Stated) -> None:
        self.trials, self.stated = trials, stated
        self.base = fit.reading
        self.sides = [side for side in self.base.sides if self.base.lengths.get(side, 2) > 1]
        self.arguments = {a.name: a for a in fit.masks if a.name not in stated.ignore}
        self.heads = heads_of(trials.module)
        self.kept: dict[object, dict[Side, float]] = {}
        plain = trials.outputs(self.base, trials.scene(self.base)) or {}
        self.axes = {name: value.dim() for name, value in plain.items()}
        """How many axes each output has: a mask of a wrong form may spread it over one more."""
        self.finite = False
        self.reach: dict[object, float] = {}
        self.finite_whole: dict[object, bool] = {}
        self.never: set[str] = set()
        """Arguments that may be anything at all."""

    def found(self) -> Placement:
        if not self.arguments or not self.sides:
            nothing = dict.fromkeys(self.arguments, "no side has slots that it could hide")
            return Placement(reading=self.base, reaches=self._reaching(self.base), left=nothing)
        first = [
            a for a in self.arguments.values() if a.guess != "structure" or a.required or a.name in self.stated.masks
        ]
        reading, left = self._jointly(first or list(self.arguments.values()))
        if reading.masks and self._runs(reading) and not self.finite:  # no form will mend that
            return self._told(reading, left)
        reading = self._refined(reading, [a for a in self.arguments.values() if a in first or not first])
        open_sides = [side for side in self.sides if self._scores(reading, self.sides)[side] > CLEAN]
        late = [a for a in self.arguments.values() if a not in first and first]
        if open_sides and late:
            reading = self._refined(reading, late)
        reading, left = self._pruned(reading, left)
        return self._told(reading, left)

    # --- trials

    def _scores(self, reading: Reading, sides: Sequence[Side], salt: int = 0) -> dict[Side, float]:
        key = (tuple(reading.masks.items()), tuple(sides), salt)
        if key not in self.kept:
            self.kept[key] = {side: self._score(reading, side, salt) for side in sides}
        return self.kept[key]

    def _score(self, reading: Reading, side: Side, salt: int) -> float:
        """How far hidden slots move outputs, over how far valid ones do."""
        slots = self._slots(reading, side)
        count = max(slots // 2, 1)
        hidden = range(slots - count, slots)
        scene = self.trials.scene(reading, hidden={side: count}, salt=salt)
        before = self.trials.outputs(reading, scene)
        if before is None:
            return BROKEN
        leak = self._moved(reading, before, scene, side, hidden, salt)
        live = self._moved(reading, before, scene, side, range(max((slots - count) // 2, 1)), salt, without=hidden)
        if not math.isfinite(leak) or not math.isfinite(live):
            return BROKEN
        self.finite = True
        if live < 1e-9:
            return BLIND
        score = min(leak / live, BLIND)
        # what hides everything lets nothing through either, and a slot still moves itself by a residual
        return BLIND if score < DEAF and self._hides_all(reading, side) else score

    def _hides_all(self, reading: Reading, side: Side) -> bool:
        """Whether without padding no slot of a side reaches another output, though it does under other readings."""
        return self._far(reading, side) < FAR <= self._furthest(side)

    def _far(self, reading: Reading, side: Side) -> float:
        """How far slots of a side move, without padding, what is not their own."""
        key = (tuple(reading.masks.items()), side)
        if key not in self.reach:
            slots = self._slots(reading, side)
            scene = self.trials.scene(reading)
            before = self.trials.outputs(reading, scene)
            # the last ones may reach nothing where only what comes before is heard
            start = min(
                max(slots // 3, 2), slots - 1
            )  # nor may the first ones tell: a count taken for a share shows them
            middle = range(start, max(slots // 2, start + 1))
            last = range(slots - max(slots // 2, 1), slots)
            self.reach[key] = (
                math.inf
                if before is None
                else max(self._moved(reading, before, scene, side, changed, 0) for changed in (middle, last))
            )
        return self.reach[key]

    def _furthest(self, side: Side) -> float:
        """The most that is known of how far a side's slots reach: without masks, or with those that must be passed."""
        flipped = replace(self.base, masks={name: form.flipped for name, form in self.base.masks.items()})
        found = [self._far(reading, side) for reading in (self.base, flipped)]
        return max((far for far in found if math.isfinite(far)), default=0.0)

    def _whole(self, reading: Reading) -> bool:
        """Whether a batch without padding gives finite outputs under a reading."""
        key = tuple(reading.masks.items())
        if key not in self.finite_whole:
            outputs = self.trials.outputs(reading, self.trials.scene(reading))
            numbers = [value for value in (outputs or {}).values() if value.is_floating_point()]
            # -inf is what a causal mask leaves in scores; +inf is a number that was taken for something else
            self.finite_whole[key] = outputs is not None and not any(
                bool((value.isnan() | value.isposinf()).any()) for value in numbers
            )
        return self.finite_whole[key]

    def _moved(
        self,
        reading: Reading,
        before: Outputs,
        scene: Scene,
        side: Side,
        changed: range,
        salt: int,
        *,
        without: range | None = None,
    ) -> float:
        """How far outputs move when some slots of a side change, those of the slots left out not counted."""
        features = scene.features[side].clone()
        generator = torch.Generator().manual_seed(99 + salt)
        noise = NOISE * torch.randn(features[:, list(changed)].shape, generator=generator)
        features[:, list(changed)] = noise.to(features)
        after = self.trials.outputs(reading, replace(scene, features={**scene.features, side: features}))
        if after is None:
            return math.inf
        out = self._places(reading, side, without or changed)
        return moved(before, after, lambda value: kept(value, out))

    def _slots(self, reading: Reading, side: Side) -> int:
        return self.trials.scene(reading, examples=1).features[side].shape[1]

    def _places(self, reading: Reading, side: Side, slots: range) -> list[tuple[int, list[int]]]:
        """Axes along which these slots may lie, alone or joined with other sides, and their places there."""
        own = self._slots(reading, side)
        found = {own: list(slots)}
        others = [self._slots(reading, other) for other in reading.sides if other != side]
        for size in range(1, len(others) + 1):
            for chosen in itertools.combinations(others, size):
                before = {0, *chosen, sum(chosen)}
                places = sorted({offset + slot for offset in before for slot in slots})
                found.setdefault(own + sum(chosen), places)
        return list(found.items())

    def _reaching(self, reading: Reading) -> frozenset[Side]:
        """Sides whose slots change what stands elsewhere."""
        return frozenset(side for side in self.sides if self._reaches(reading, side))

    def _reaches(self, reading: Reading, side: Side) -> bool:
        return not self._far(reading, side) < FAR

    def _runs(self, reading: Reading) -> bool:
        """Whether a reading runs and no mask spreads examples over a second axis."""
        return self._spread(reading) == 0

    def _spread(self, reading: Reading) -> float:
        """How many outputs a mask of a wrong form spreads over one more axis; infinite where the call raises."""
        outputs = self.trials.outputs(reading, self.trials.scene(reading))
        if outputs is None:
            return math.inf
        wider = {name for name, value in outputs.items() if value.dim() > self.axes.get(name, 99)}
        if any(sum(size == EXAMPLES for size in value.shape) > 1 for value in outputs.values()):
            others = self.trials.outputs(reading, self.trials.scene(reading, examples=EXAMPLES - 1))
            if others is None:
                return math.inf
            wider |= {
                name
                for name, value in outputs.items()
                if name in others
                and sum(pair == (EXAMPLES, EXAMPLES - 1) for pair in zip(value.shape, others[name].shape, strict=False))
                > 1
            }
        return len(wider)

    # --- the search

    def _forms(self, argument: Argument, side: Side) -> Iterator[Form]:
        said = self.stated.masks.get(argument.name)
        for form in forms(side, self.sides, counts=argument.counts, heads=self.heads):
            if not allowed(form, said):
                continue
            yield replace(form, real=said != "padding" and not (said is None and argument.says_padding is True))

    def _owners(self, argument: Argument) -> list[Side]:
        return sorted(self.sides, key=lambda side: -kinship(argument.name, side))

    def _jointly(self, arguments: Sequence[Argument]) -> tuple[Reading, dict[str, str]]:
        """All masks in one form, over sides and polarities; those that no form lets run are left."""
        able = [a for a in arguments if a.required or self._runs_alone(a)]
        left = {a.name: "the call raises with every form that was tried" for a in arguments if a not in able}
        self.never |= {a.name for a in able if self._never_read(a, able)}
        able = [a for a in able if a.required or a.name not in self.never]
        best, lowest = self.base, self._total(self.base) if self._runs(self.base) else math.inf
        if not able:
            return best, left
        owners, ran = itertools.islice(self._assignments(able), 4), 0
        for index, chosen in enumerate(owners):  # what the names suggest in every form before anything else
            for pattern in self._patterns(able):
                masks = {}
                for argument, side in zip(able, chosen, strict=True):
                    form = next((f for f in self._forms(argument, side) if _alike(f, pattern)), None)
                    if form is None:
                        break
                    masks[argument.name] = form
                if len(masks) < len(able):
                    continue
                tried = replace(self.base, masks=masks)
                if not self._runs(tried) or self._counts_none(tried, masks):
                    continue
                ran += 1
                if ran > 3 and not self.finite:  # nothing that is passed will mend that
                    return best, left
                for polar in self._polarities(tried, able):
                    total = self._total(polar)
                    # a form that comes later has to be better by what counts, and another side by much
                    better = total < (AGAINST_NAMES if index else BETTER) * lowest - CLEAN
                    if better or not best.masks or self._cleaner(polar, best):
                        best, lowest = polar, total
                if lowest < CLEAN * len(self.sides):
                    return best, left
        return best, left

    def _never_read(self, argument: Argument, beside: Sequence[Argument]) -> bool:
        """Whether an argument may be anything at all: it is passed beside the others what no operation takes."""
        for chosen in itertools.islice(self._assignments(beside), 2):
            for pattern in self._patterns(beside):
                masks = {}
                for other, side in zip(beside, chosen, strict=True):
                    form = next((f for f in self._forms(other, side) if _alike(f, pattern)), None)
                    if form is not None:
                        masks[other.name] = form
                tried = replace(self.base, masks=masks)
                scene = self.trials.scene(tried)
                before = self.trials.outputs(tried, scene)
                if before is None or len(masks) < len(beside):
                    continue
                try:
                    after = self.trials.call(tried.arguments(scene, self.trials.dtype) | {argument.name: object()})
                except Exception:  # it looks at what it is given
                    return False
                return _same(before, after)
        return False

    def _runs_alone(self, argument: Argument) -> bool:
        for side in self.sides:
            for form in self._forms(argument, side):
                tried = self.base.with_mask(argument.name, form)
                if self.trials.outputs(tried, self.trials.scene(tried)) is not None:
                    return True
        return False

    def _patterns(self, arguments: Sequence[Argument]) -> Iterator[Form]:
        counts = all(a.counts for a in arguments)
        yield from forms(self.sides[0], self.sides, counts=counts, heads=self.heads)

    def _assignments(self, arguments: Sequence[Argument]) -> Iterator[tuple[Side, ...]]:
        """Sides for the masks: by names first, every side told of before one is told of twice."""
        options = [self._owners(a) for a in arguments]
        ranked = sorted(
            itertools.product(*options),
            key=lambda chosen: (
                len(set(chosen)) < min(len(chosen), len(self.sides)) and len(chosen) <= len(self.sides),
                -sum(kinship(a.name, side) for a, side in zip(arguments, chosen, strict=True)),
            ),
        )
        yield from ranked

    def _polarities(self, reading: Reading, arguments: Sequence[Argument]) -> Iterator[Reading]:
        """The reading with each mask either way round, and pairs that hide rows too."""
        free = [
            a.name
            for a in arguments
            if a.name in reading.masks
            and a.name not in self.stated.masks
            and a.name not in self.never
            and reading.masks[a.name].values not in (*COUNTS, "additive")
        ]
        paired = [name for name, form in reading.masks.items() if form.rows not in (None, form.side)]
        variants = [reading]
        if paired:
            both = {
                name: replace(form, hides="pairs") if name in paired else form for name, form in reading.masks.items()
            }
            variants.append(replace(reading, masks=both))
        for variant in variants:
            flips: list[tuple[str, ...]] = [(), tuple(free)]
            if len(free) <= 3:
                flips += [c for size in range(1, len(free)) for c in itertools.combinations(free, size)]
            else:
                flips += [(name,) for name in free]
            for flip in dict.fromkeys(flips):
                masks = {n: form.flipped if n in flip else form for n, form in variant.masks.items()}
                yield replace(variant, masks=masks)

    def _clean(self, reading: Reading) -> bool:
        """Whether nothing gets through of the sides that masks tell of."""
        scores = self._scores(reading, self.sides)
        return all(scores[side] < CLEAN for side in reading.masked)

    def _cleaner(self, reading: Reading, other: Reading) -> bool:
        """Whether under one reading nothing gets through of more sides than under another, and no more in all."""

        def clean(one: Reading) -> set[Side]:
            return {side for side, score in self._scores(one, self.sides).items() if score < CLEAN}

        return self._total(reading) < min(self._total(other), BLIND) and clean(reading) > clean(other)

    def _total(self, reading: Reading) -> float:
        total = sum(self._scores(reading, self.sides).values())
        # what makes NaN of a batch without padding hides all of it
        return total if total < BLIND or self._whole(reading) else total + BROKEN * len(self.sides)

    def _refined(self, reading: Reading, arguments: Sequence[Argument]) -> Reading:
        """The reading after each mask was tried in every form, the others kept."""
        arguments = [a for a in arguments if a.name not in self.never]
        only = arguments[0].name if arguments else ""
        if len(self.arguments) == 1 and self._runs(reading) and self._matters(reading, only):
            return reading  # every form of it was tried already
        for _ in range(2):
            before, spread = self._total(reading), self._spread(reading)
            if not spread and self._clean(reading) and all(self._matters(reading, a.name) for a in arguments):
                return reading
            for argument in arguments:
                reading = self._best(reading, argument)
            if self._total(reading) > BETTER * before - CLEAN and self._spread(reading) == spread:
                break
        return reading

    def _best(self, reading: Reading, argument: Argument) -> Reading:
        lowest, least, best = self._total(reading), self._spread(reading), reading
        dull = argument.name not in reading.masks or not self._matters(reading, argument.name)
        for index, side in enumerate(self._owners(argument)):
            for form in self._forms(argument, side):
                tried = reading.with_mask(argument.name, form)
                spread = self._spread(tried)
                if spread > least or (dull and not self._matters(tried, argument.name)):
                    continue
                if self._counts_none(tried, [argument.name]):
                    continue
                for polar in self._polarities(tried, [argument]):
                    total = self._total(polar)
                    # another mask's form may spread outputs still: fewer of them is better whatever gets through
                    better = spread < least or total < (AGAINST_NAMES if index else BETTER) * lowest - CLEAN
                    better = better or self._cleaner(polar, best)
                    if better or (dull and total <= lowest + CLEAN and self._matters(polar, argument.name)):
                        lowest, least, best, dull = total, spread, polar, False
        return best

    def _counts_none(self, reading: Reading, names: Iterable[str]) -> bool:
        """Whether one of these is read as a share and is none: 1 and a half are the same count to it."""
        return any(reading.masks[name].values == "shares" and not self._matters(reading, name) for name in names)

    def _matters(self, reading: Reading, name: str) -> bool:
        """Whether what a mask says changes an output: hiding some slots, all of them, or the others."""
        form = reading.masks.get(name)
        if form is None:
            return False
        slots = {side: self._slots(reading, side) for side in form.sides}
        scene = self.trials.scene(reading, hidden={side: max(count // 2, 1) for side, count in slots.items()})
        full = self.trials.scene(reading)
        seen: list[Outputs] = []
        ways: Sequence[Form] = (form, form.flipped)
        scenes: Sequence[Scene] = (scene, full)
        if form.values in COUNTS:  # a length of 0 may have nothing to do with padding
            ways = (form,)
            scenes = (scene, full, self.trials.scene(reading, hidden={side: c - 1 for side, c in slots.items()}))
        for told in scenes:
            for way in ways:
                given = reading.arguments(full, self.trials.dtype)
                try:
                    given[name] = way.given(told, self.trials.dtype)
                    seen.append(self.trials.call(given))
                except Exception:  # what it refuses to be told, it looks at
                    if way is form:
                        return True
        return any(not _same(seen[0], other) for other in seen[1:])

    def _matters_elsewhere(self, reading: Reading, name: str) -> bool:
        """Whether a mask changes an output where the other masks are taken the other way round."""
        if name in self.never:
            return False
        turned = {n: form if n == name else form.flipped for n, form in reading.masks.items()}
        return len(turned) > 1 and self._matters(replace(reading, masks=turned), name)

    def _pruned(self, reading: Reading, left: dict[str, str]) -> tuple[Reading, dict[str, str]]:
        """The reading without optional masks that another one makes needless."""
        order = sorted(reading.masks, key=lambda name: self.arguments[name].guess != "structure")
        for name in order:
            if self.arguments[name].required or name in self.stated.masks:
                continue
            form = reading.masks[name]
            others = {side for n, f in reading.masks.items() if n != name for side in f.sides}
            if not set(form.sides) <= others or not self._matters(reading, name):
                continue
            without = reading.with_mask(name, None)
            before, after = self._scores(reading, self.sides), self._scores(without, self.sides)
            same = all(after[side] <= before[side] + CLEAN / 10 for side in self.sides)
            if same and self._counted(without) <= self._counted(reading) + CLEAN / 10:
                told = next(n for n, f in reading.masks.items() if n != name and set(f.sides) & set(form.sides))
                reading, left = without, {**left, name: f"{told} tells of the same padding, and it can do without"}
        return reading, left

    def _counted(self, reading: Reading) -> float:
        """How far outputs move when padded slots are cut off: their number may matter where their contents do not."""
        furthest = 0.0
        for side in self.sides:
            if side in reading.lengths:
                continue
            slots = self._slots(reading, side)
            hidden = range(slots - max(slots // 2, 1), slots)
            padded = self.trials.scene(reading, hidden={side: len(hidden)})
            features, valid = padded[side]
            trimmed = with_side(padded, side, features=features[:, : hidden.start], valid=valid[:, : hidden.start])
            before, after = self.trials.outputs(reading, padded), self.trials.outputs(reading, trimmed)
            for name, value in (before or {}).items():
                one, other = kept(value, [(slots, hidden)]), (after or {}).get(name)
                if other is not None and other.shape == one.shape and one.is_floating_point() and one.numel():
                    apart = (one - other).double().square().mean().sqrt()
                    furthest = max(furthest, float(apart / one.double().square().mean().sqrt().clamp_min(1e-12)))
        return furthest

    def _told(self, reading: Reading, left: dict[str, str]) -> Placement:
        placed: dict[str, Placed] = {}
        reaches = self._reaching(reading)
        unused: dict[str, Side] = {}
        told = {side for n, f in reading.masks.items() if self._matters(reading, n) for side in f.sides}
        for name, argument in self.arguments.items():
            form = reading.masks.get(name)
            if form is None:
                if name not in left and not self._ever_matters(reading, argument):
                    unused[name] = self._owner(argument, told, reaches)
                else:
                    covered = next((n for n in reading.masks if argument.guess == "structure"), None)
                    left.setdefault(
                        name,
                        f"{covered} tells of the padding" if covered else "in no form that ran did it hide a slot",
                    )
                continue
            if not self._matters(reading, name) and self._matters_elsewhere(reading, name):
                placed[name] = Placed(form=form, shown=False, how="assumed: another mask hides what it tells of")
                continue
            if not self._matters(reading, name):
                owner = self._owner(argument, told, reaches) if set(self.sides) - told else form.side
                unused[name] = owner
                form = replace(form, side=owner) if form.rows is None and not form.joined else form
                others = self._forms(argument, owner) if form.side == owner != reading.masks[name].side else ()
                for other in (form, *others):
                    fits = reading.with_mask(name, other)
                    if self.trials.outputs(fits, self.trials.scene(fits)) is not None:
                        reading = fits
                        break
                placed[name] = Placed(
                    form=reading.masks[name], shown=True, effect=False, how="nothing changes whatever it says"
                )
                continue
            placed[name] = self._shown(reading, argument)
        for name, mask in placed.items():
            reading = reading.with_mask(name, mask.form)
        reading = replace(reading, masks={n: reading.masks[n] for n in self.arguments if n in reading.masks})
        return Placement(
            reading=reading,
            placed=placed,
            unused=unused,
            left=left,
            scores=self._scores(reading, self.sides),
            finite=self.finite,
            reaches=self._reaching(reading),
        )

    def _owner(self, argument: Argument, told: set[Side], reaches: Collection[Side]) -> Side:
        """Whose padding an unused mask was meant to tell of: what no other mask tells of, and what needs one first."""
        owners = self._owners(argument)
        return min(owners, key=lambda side: (side in told, side not in reaches, owners.index(side)))

    def _ever_matters(self, reading: Reading, argument: Argument) -> bool:
        """Whether a mask that is not in a reading changes an output, or is looked at, in any form."""
        if argument.name in self.never:
            return False
        return any(
            self._matters(reading.with_mask(argument.name, form), argument.name)
            for side in self.sides
            for form in self._forms(argument, side)
        )

    def _shown(self, reading: Reading, argument: Argument) -> Placed:
        """The mask with how its polarity was found: by trial, or from its name and its neighbours."""
        name, form = argument.name, reading.masks[argument.name]
        if name in self.stated.masks:
            return Placed(form=form, shown=True, how="as stated")
        opposite = reading.with_mask(name, form.flipped)
        # of its own sides alone too: a leak of another side must not drown what this mask shows
        for sides in (self.sides, form.sides) if form.values not in COUNTS else ():  # nobody counts padding
            if self._worse(opposite, reading, sides, DECISIVE, 2) or self._worse(opposite, reading, sides, STEADY, 5):
                return Placed(form=form, shown=True, how="found by trial")
        alone = [sum(self._scores(reading, form.sides, salt).values()) for salt in (0, 1)]
        finite = max(sum(self._scores(reading, self.sides, salt).values()) for salt in (0, 1)) < BROKEN
        if finite and form.values in COUNTS and (max(alone) < CLEAN or self._fewer_move_less(reading, argument)):
            return Placed(form=form, shown=True, how="found by trial")
        if not finite and self._whole(reading) and not self._whole(opposite):
            return Placed(form=form, shown=True, how="found by trial")
        if form.values not in (*COUNTS, "additive"):
            deaf, deaf_turned = self._deaf(reading, form.sides), self._deaf(opposite, form.sides)
            if deaf < deaf_turned or deaf_turned < deaf:
                return Placed(form=form if deaf < deaf_turned else form.flipped, shown=True, how="found by trial")
        if form.values in (*COUNTS, "additive"):
            return Placed(form=form, shown=False, how="assumed: no trial decides")
        said = argument.says_padding
        neighbours = {f.real for n, f in reading.masks.items() if n != name and f.values == form.values}
        if said is not None:
            return Placed(form=replace(form, real=not said), shown=False, how="assumed from its name: no trial decides")
        if len(neighbours) == 1:
            form = replace(form, real=neighbours.pop())
            return Placed(form=form, shown=False, how="assumed to be like the other: no trial decides")
        return Placed(form=replace(form, real=True), shown=False, how="assumed: no trial decides")

    def _deaf(self, reading: Reading, sides: Sequence[Side]) -> set[tuple[Side, Side, str]]:
        """Outputs that nothing real reaches where half of a side is hidden: its rows, or all of it, are blanked.

        Returns:
            The side that is half hidden, the side whose real slots were changed, and the output.
        """
        found: set[tuple[Side, Side, str]] = set()
        for side in sides:
            slots = self._slots(reading, side)
            hidden = range(slots - max(slots // 2, 1), slots)
            scene = self.trials.scene(reading, hidden={side: len(hidden)})
            before = self.trials.outputs(reading, scene)
            out = self._places(reading, side, hidden)
            if before is None:
                continue
            for other in reading.sides:
                features = scene.features[other].clone()
                real = features[:, : hidden.start] if other == side else features
                real.mul_(-2).add_(1)
                after = self.trials.outputs(reading, replace(scene, features={**scene.features, other: features})) or {}
                look = partial(kept, slots=out)
                found |= {(side, other, name) for name in before if moved({name: before[name]}, after, look) < FAR}
        return found

    def _worse(self, one: Reading, other: Reading, sides: Sequence[Side], times: float, trials: int) -> bool:
        """Whether padding moves outputs so many times as much under one reading as under another, in every trial."""
        for salt in range(trials):
            low = sum(self._scores(other, sides, salt).values())
            if low >= BROKEN or not sum(self._scores(one, sides, salt).values()) > times * low + 10 * CLEAN:
                return False
        return True

    def _fewer_move_less(self, reading: Reading, argument: Argument) -> bool:
        """Whether slots beyond a length move outputs less than they do within it, though something else leaks."""
        form = reading.masks[argument.name]
        slots = self._slots(reading, form.side)
        last = range(slots - max(slots // 3, 1), slots)
        moves, still = [], []
        for salt in (0, 1):
            for hidden in (len(last), 0):
                scene = self.trials.scene(reading, hidden={form.side: hidden}, salt=salt)
                before = self.trials.outputs(reading, scene)
                if before is None:
                    return False
                moves.append(self._moved(reading, before, scene, form.side, last, salt))
                still.append(self._still(reading, before, scene, form.side, last))
        less = LESS if argument.counts else MUCH_LESS
        if moves[0] < less * moves[1] and moves[2] < less * moves[3]:
            return True
        # one part of an output may heed it, and another not
        return all(here > there for here, there in (still[:2], still[2:]))

    def _still(self, reading: Reading, before: Outputs, scene: Scene, side: Side, changed: range) -> int:
        """How many numbers of the outputs that are not 0 stay the same when some slots of a side change."""
        features = scene.features[side].clone()
        features[:, list(changed)] = features[:, list(changed)] * -NOISE + 1
        after = self.trials.outputs(reading, replace(scene, features={**scene.features, side: features})) or {}
        out = self._places(reading, side, changed)
        return sum(
            int(((kept(value, out) == kept(after[name], out)) & (kept(value, out) != 0)).sum())
            for name, value in before.items()
            if name in after and after[name].shape == value.shape
        )


def _alike(form: Form, pattern: Form) -> bool:
    if (form.values, form.shape, form.heads) != (pattern.values, pattern.shape, pattern.heads):
        return False
    if form.joined != pattern.joined:
        return False
    return (form.rows == form.side) == (pattern.rows == pattern.side)


def _same(one: Outputs, two: Outputs) -> bool:
    return one.keys() == two.keys() and all(
        value.shape == two[name].shape and bool(torch.equal(value.nan_to_num(nan=7e7), two[name].nan_to_num(nan=7e7)))
        for name, value in one.items()
    )
