"""One subject on the bench: its scene, its noise, and comparisons that know both."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from suite.audit.calling import NotJudged, ended_inside, entered, place, refuses, told
from suite.audit.observation import ANY, Observation, Rule
from suite.audit.subject import Output, Scene, Side, SideOf, Subject, make_scene, slots_of, with_side
from variants import valid_from_lengths

Outputs = dict[str, Tensor]

LENGTHS = ((12, 5, 9, 1), (9, 1, 6, 4), (7, 3, 4, 2))
"""Of each side in turn: ragged, the first row full, one row of a single slot, and never the same count on two sides."""

FLOOR = {torch.float64: 4e-14, torch.float32: 2.4e-5, torch.bfloat16: 6e-2, torch.float16: 1.6e-2}
"""Relative noise of a correct mechanism within its dtype, from reduction order alone."""
FLOOR_TF32 = 4e-3
KINKS = 4
"""By how much a relu that flips in a narrow type may raise the floor of gradients."""
CAP = 16
"""How far above its floor a calibrated band may go before nothing can fail in it."""


class Lacking(Exception):
    """A property that a subject has nothing to be tested on; the message is the reason."""


class Raised(Exception):
    """An exception of the subject's own, on a scene that its reading promises to take."""

    def __init__(self, error: Exception, lab: "Lab", scene: Scene) -> None:
        super().__init__(told(error))
        self.error = error
        self.lab = lab
        self.scene = scene
        self.gradients = torch.is_grad_enabled()
        """Whether it was called for gradients: not every backend computes them on every device."""

    def needs_padding(self) -> bool:
        """Whether the same shapes without any padding are taken: if not, masks have nothing to do with it."""
        if self.lab.subject.exact:
            return True
        again = self.lab.train if self.gradients else self.lab.forward
        try:
            again(self.scene.map(lambda _, features, valid: (features, torch.ones_like(valid))))
        except (Raised, NotJudged):
            return False
        return True


def raised(what: str, sides: tuple[Side, ...], error: Raised) -> Observation:
    """A call that raised where it should have answered."""
    at = place(error.error)
    note = f"raises{f' at {at}' if at else ''}: {error}"
    found = Observation(what=what, sides=sides, output=ANY, leak=math.inf, limit=0.0, note=note)
    # what it refuses in so many words it does not get wrong
    return replace(found, severity="fragile") if refuses(error.error) else found


def unjudged(what: str, sides: tuple[Side, ...], why: str) -> Observation:
    """A comparison that could not be made."""
    return Observation(what=what, sides=sides, output=ANY, leak=0.0, limit=0.0, note=why, unjudged=True)


def attempt(
    what: str, sides: tuple[Side, ...], compare: Callable[[], Iterable[Observation]], *, any_shape: bool = False
) -> Iterator[Observation]:
    """The observations of one condition; what keeps it from being judged is an observation too.

    Args:
        what: as of an observation.
        sides: as of an observation.
        compare: makes the comparisons.
        any_shape: whether an exception counts even where the same shapes raise without padding.
    """
    try:
        yield from compare()
    except Lacking:
        raise
    except Raised as error:
        if any_shape or error.needs_padding():
            yield raised(what, sides, error)
        else:
            where = "where gradients are wanted" if error.gradients else "at this shape"
            yield unjudged(what, sides, f"it raises {where} without any padding too: {error}")
    except NotJudged as reason:
        yield unjudged(what, sides, str(reason))
    except Exception as error:  # of a check of ours, which says nothing about the subject
        yield unjudged(what, sides, f"the check itself failed: {told(error)}")


class Lab:
    """A subject with a padded batch, what it gives on it, and how far its numbers scatter by themselves."""

    def __init__(self, subject: Subject, seed: int = 0) -> None:
        self.subject = subject
        self.seed = seed

    def generator(self, salt: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed << 16) + salt)

    def normal(self, *shape: int, salt: int) -> Tensor:
        """Standard normal numbers in the subject's dtype; the same in every dtype but for rounding."""
        numbers = torch.randn(shape, generator=self.generator(salt), dtype=torch.float64)
        return numbers.to(self.subject.device, self.subject.dtype)

    def scene(self, *lengths: Sequence[int], salt: int = 1) -> Scene:
        """A padded batch of normal features; padded slots hold ordinary numbers, not zeros.

        Args:
            lengths: of each side in turn, one number an example; multiplied by the subject's stretch.
            salt: another one gives other numbers.
        """
        device, made = self.subject.device, {}
        for index, (side, own) in enumerate(zip(self.subject.sides, lengths, strict=True)):
            stretched = [self.subject.stretch * length for length in own]
            if side.length is not None:
                stretched = [min(length, side.length) for length in stretched]
            width = side.length or max(stretched)
            valid = valid_from_lengths(torch.tensor(stretched), width).to(device)
            made[side.name] = (
                self.normal(len(own), width, side.width, salt=2 * salt + index if index < 2 else 1000 + salt),
                valid,
            )
        return make_scene(made)

    def lengths(self, side: SideOf) -> tuple[int, ...]:
        """Of the examples on one side of the scene; a side that cannot be masked has no padding in it."""
        own: tuple[int, ...] = LENGTHS[self.subject.names.index(side.name)]
        if side.length is not None:
            own = tuple(max(1, length * side.length // max(own)) for length in own)
        return own if side.masked else (max(own),) * len(own)

    @cached_property
    def batch(self) -> Scene:
        """The scene on which most properties are examined."""
        return self.scene(*(self.lengths(side) for side in self.subject.sides))

    @cached_property
    def full(self) -> Scene:
        """The same shape without padding."""
        return self.scene(*((max(self.lengths(side)),) * 4 for side in self.subject.sides), salt=2)

    @cached_property
    def loose(self) -> "Lab":
        """The lab for checks that change shapes: of the eager form where the subject is static."""
        return Lab(self.subject.loosened(), self.seed) if self.subject.static else self

    @cached_property
    def reference(self) -> Outputs:
        """What the scene gives in eval mode without gradients."""
        return self.forward(self.batch)

    @contextmanager
    def entered(self, *, train: bool = False, statistics: bool = False, seed: int = 0) -> Iterator[None]:
        """The subject's module in a mode, seeded, and in the subject's dtype where that is not its own."""
        subject = self.subject
        quiet = subject.eager and train
        with entered(subject.module, dtype=subject.recast, train=train, statistics=statistics, quiet=quiet, seed=seed):
            yield

    def call(self, scene: Scene) -> Mapping[str, Tensor]:
        """What the subject gives for a scene, in whatever mode it is.

        Raises:
            Raised: its own code raised.
            NotJudged: what stands between the audit and its code did.
        """
        try:
            return self.subject.call(scene)
        except Exception as error:
            if self.subject.exact or ended_inside(error, self.subject.module):
                raise Raised(error, self, scene) from error
            shapes = ", ".join(f"{side} {list(features.shape)}" for side, (features, _) in scene.items())
            raise NotJudged(
                f"what calls it raises at {place(error) or 'its call'} for {shapes}: {told(error)}"
            ) from error

    @cached_property
    def trains(self) -> bool:
        """Whether train mode can stand for the function: not where it is random even without dropout."""
        if not self.subject.eager:
            return True
        first, second = self._trained(seed=1), self._trained(seed=2)
        return all(torch.equal(torch.nan_to_num(first[name]), torch.nan_to_num(second[name])) for name in first)

    def _trained(self, seed: int) -> Outputs:
        with self.entered(train=True, seed=seed), torch.no_grad():
            return self.judge(self.call(self.batch.copied()), self.batch)

    def forward(self, batch: Scene) -> Outputs:
        """Judged outputs in eval mode without gradients: rows that stand on padding are zero."""
        with self.entered(), torch.no_grad():
            return self.judge(self.call(batch.copied()), batch)

    def forward_as_given(self, batch: Scene) -> Outputs:
        """As `forward`, with the very masks: their strides, shapes and dtypes matter."""
        copied = replace(batch.copied(), valid=batch.valid)
        with self.entered(), torch.no_grad():
            odd = any(mask.dtype != torch.bool or mask.is_meta for mask in batch.valid.values())
            return self.judge(self.call(copied), self.batch if odd else batch)

    def without_mask(self) -> "Lab":
        """The lab of the same subject called without masks."""
        assert self.subject.unmasked is not None
        return Lab(replace(self.subject, call=self.subject.unmasked), self.seed)

    def train(self, batch: Scene, *, statistics: bool = False) -> Outputs:
        """Judged outputs in train mode with gradients and without dropout.

        Normalisation layers keep to their running statistics unless asked, since those of a batch depend on all of it.
        Where train mode is random all the same, as stochastic depth is, it is eval mode with gradients.
        """
        train = statistics or self.trains
        with self.entered(train=train, statistics=statistics), torch.enable_grad():
            return self.judge(self.call(batch.copied(requires_grad=True)), batch)

    def gradients(self, batch: Scene, *, examples: Sequence[int] | None = None) -> Outputs:
        """Gradients of a fixed random projection of the outputs, by parameter name, and of the inputs: see `of_input`.

        Args:
            batch: any batch.
            examples: which examples the loss is made of; all of them unless given.
        """
        copied = batch.copied(requires_grad=True)
        with self.entered(train=self.trains), torch.enable_grad():
            outputs = self.judge(self.call(copied), batch)
            loss = self._loss(outputs, batch, examples)
            named: Outputs = dict(self.subject.module.named_parameters())
            named |= {of_input(side): copied.features[side] for side in copied}
            named = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
            if not loss.requires_grad:
                raise NotJudged("its outputs carry no gradient")
            try:
                values = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            except Exception as error:
                raise NotJudged(f"its backward raises: {told(error)}") from error
        return {
            name: torch.zeros_like(tensor) if value is None else value.detach()
            for (name, tensor), value in zip(named.items(), values, strict=True)
        }

    def gradients_alone(self, batch: Scene) -> Outputs:
        """What `gradients` ought to be: of each example alone, cut to its valid slots; summed for parameters.

        Those of the inputs are of the valid slots only, one after another.
        """
        total: Outputs = {}
        inputs: dict[str, list[Tensor]] = {of_input(side): [] for side in batch}
        for example in range(batch.size):
            cut = alone(self.subject, batch, example)
            own = self.gradients(cut)
            for side in batch:
                inputs[of_input(side)].append(own.pop(of_input(side))[cut.valid[side]])
            total = {name: total.get(name, 0) + value.double() for name, value in own.items()}
        summed = {name: value.to(self.subject.dtype) for name, value in total.items()}
        return summed | {name: torch.cat(parts) for name, parts in inputs.items()}

    def loss(self, batch: Scene) -> float:
        """The random projection whose gradients `gradients` gives."""
        return float(self._loss(self.train(batch), batch, None).detach())

    def _loss(self, outputs: Outputs, batch: Scene, examples: Sequence[int] | None) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=self.subject.device)
        for output in self.subject.judged:
            value = outputs[output.name].double()
            salt = sum(map(ord, output.name))
            if -1 % value.dim() not in [axis % value.dim() for axis, _ in output.slot_axes()]:
                value = value * _factors(value.shape[-1], salt, value)
            for axis, sides in output.slot_axes():
                # by rank among the valid slots, so that the loss does not depend on where padding stands
                parts = []
                for index, side in enumerate(sides):
                    valid = slots_of(batch, side)[1]
                    rank = (valid.cumsum(-1) - 1).clamp(min=0)
                    parts.append(_factors(valid.shape[1], salt + 1 + index, value)[rank] * valid)  # [B, L]
                factors = torch.cat(parts, dim=1)
                value = value * factors.view(_along(value, axis, factors))
            total = total + (value if examples is None else value[list(examples)]).sum()
        return total

    def judge(self, outputs: Mapping[str, Tensor], batch: Scene) -> Outputs:
        """Outputs with what stands on padded rows blanked: nobody should read it, so nobody judges it."""
        judged = {}
        for output in self.subject.judged:
            value = outputs[output.name]
            if output.cut:
                value = _filled_up(value, output, batch)
            for axis, sides in output.blanked_axes():
                valid = valid_along(batch, sides)
                if value.shape[axis] != valid.shape[1]:
                    slots = f"{valid.shape[1]} slots of {' and '.join(sides)}"
                    raise NotJudged(f"{output.name} has shape {list(value.shape)} where {slots} were expected")
                value = value.masked_fill(~valid.view(_along(value, axis, valid)), 0)
            judged[output.name] = value
        return judged

    @cached_property
    def floor(self) -> float:
        narrow = FLOOR[self.subject.computes_in]
        allowed = self.subject.device.type == "cuda" and torch.backends.cuda.matmul.fp32_precision == "tf32"
        tf32 = allowed or self.subject.rounds_to_tf32
        return max(narrow, FLOOR_TF32) if tf32 and self.subject.computes_in == torch.float32 else narrow

    @property
    def narrow(self) -> bool:
        return self.subject.computes_in not in (torch.float32, torch.float64)

    @cached_property
    def noise(self) -> dict[str, float]:
        """How far each output moves when slots and examples of a batch without padding are permuted."""
        noise = dict.fromkeys((output.name for output in self.subject.judged), 0.0)
        try:
            reference = self.forward(self.full)
            for batch, expected in self._permutations(reference):
                for name, value in self.forward(batch).items():
                    noise[name] = max(noise[name], _finite(relative(expected[name], value)[0]))
        except (Raised, NotJudged):
            return noise
        return noise

    @cached_property
    def gradient_noise(self) -> float:
        """How far gradients move on a batch without padding: examples reversed, and each of them alone."""
        noise = 0.0
        try:
            reference = self.gradients(self.full)
            inputs = [of_input(side) for side in self.full]
            moved = self.gradients(self.full.take(range(self.full.size)[::-1]))
            moved |= {name: moved[name].flip(0) for name in inputs}
            noise = max(
                (_finite(leak) for leak, _, _ in compare_gradients(reference, moved, means=self.narrow)), default=0.0
            )
            if not self.subject.static:  # in narrow types another shape rounds otherwise, and a relu flips
                flat = reference | {name: reference[name].flatten(0, 1) for name in inputs}
                found = compare_gradients(self.gradients_alone(self.full), flat, means=self.narrow)
                noise = max(noise, *(_finite(leak) for leak, _, _ in found))
        except (Raised, NotJudged):
            return noise
        return noise

    @cached_property
    def repeats(self) -> float:
        """How far two equal calls differ: 0 where arithmetic is deterministic, as on the CPU."""
        if self.subject.device.type == "cpu":
            return 0.0
        again = self.forward(self.batch)
        return max(_finite(relative(self.reference[name], value)[0]) for name, value in again.items())

    @property
    def repeatable(self) -> Rule:
        """How equal calls compare: bit for bit on the CPU."""
        return "exact" if self.subject.device.type == "cpu" else "band"

    def _permutations(self, reference: Outputs) -> Iterator[tuple[Scene, Outputs]]:
        examples = torch.randperm(self.full.size, generator=self.generator(7))
        yield self.full.take(examples), {name: value[examples] for name, value in reference.items()}
        for side in self.full:
            if self.subject.order_of(side) == "free":
                order = self.shuffle(self.full, side)
                yield reorder(self.full, side, order), reorder_outputs(self.subject, reference, self.full, side, order)

    def shuffle(self, batch: Scene, side: Side) -> Tensor:
        """A random order of one side's slots for each example, ``[B, L]``."""
        examples, slots = slots_of(batch, side)[1].shape
        generator = self.generator(8)
        return torch.stack([torch.randperm(slots, generator=generator) for _ in range(examples)])

    def limit(self, name: str, rule: Rule) -> tuple[float, float]:
        """What a difference in an output may be under a rule, and the noise it is judged against."""
        gradients = name == "gradients"
        noise = self.gradient_noise if gradients else self.noise[name]
        if rule == "exact" and self.subject.exact:
            return 4 * self.repeats, self.repeats
        floor = self.floor * (KINKS if gradients and self.narrow else 1)
        band = min(max(floor, 4 * noise), CAP * self.floor)
        if rule != "moves":
            return band, noise
        # a narrow type's band is of the size of what a weak guide moves; the float32 form is held to the wide margin
        return (max(self.floor / 2, 4 * noise) if self.narrow else max(band, 100 * noise)), noise

    def compare(
        self,
        what: str,
        expected: Mapping[str, Tensor],
        got: Mapping[str, Tensor],
        rule: Rule,
        *,
        sides: tuple[Side, ...] = (),
        note: str = "",
        only: Sequence[int] | None = None,
    ) -> Iterator[Observation]:
        """One observation per output that both have, over all examples or only some."""
        for name, value in got.items():
            if name not in expected:
                continue
            limit, noise = self.limit(name, rule)
            found = Observation(
                what=what, sides=sides, output=name, leak=math.inf, limit=limit, noise=noise, rule=rule, note=note
            )
            reference = expected[name]
            if value.shape != reference.shape:
                shapes = f"has shape {list(value.shape)} where {list(reference.shape)} was expected"
                yield replace(found, note=shapes)
                continue
            if only is not None:
                reference, value = reference[list(only)], value[list(only)]
            leak, where = relative(reference, value)
            if only is not None and where:
                where = (only[where[0]], *where[1:])
            yield replace(found, leak=_finite(leak) if rule == "moves" else leak, where=where)

    def compare_gradients(
        self, what: str, expected: Outputs, got: Outputs, rule: Rule = "band", *, sides: tuple[Side, ...] = ()
    ) -> Iterator[Observation]:
        """One observation for all gradients: the worst of them."""
        limit, noise = self.limit("gradients", rule)
        means = self.narrow and rule == "band"
        worst = max(compare_gradients(expected, got, means=means), key=lambda found: found[0], default=(0.0, "", ()))
        yield Observation(
            what=what,
            sides=sides,
            output="gradients",
            leak=worst[0],
            limit=limit,
            noise=noise,
            rule=rule,
            where=worst[2],
            note=f"of {worst[1]}" if worst[1] else "",
        )


def relative(expected: Tensor, got: Tensor) -> tuple[float, tuple[int, ...]]:
    """Largest difference over the RMS of what was expected, and where it is; infinite where one is not finite."""
    if expected.numel() == 0:
        return 0.0, ()
    expected, got = expected.detach().double(), got.detach().double()
    difference = (got - expected).abs()
    difference = torch.where(difference.isfinite(), difference, torch.full_like(difference, math.inf))
    index = int(difference.argmax())
    where = unravelled(index, difference)
    largest = float(difference.flatten()[index])
    scale = float(expected.square().mean().sqrt())
    if largest == 0:
        return 0.0, where
    return (largest / scale if scale > 0 and math.isfinite(scale) else math.inf), where


def unravelled(index: int, tensor: Tensor) -> tuple[int, ...]:
    """The place of a flat index; by numpy, since torch's own loads a computer algebra system for it."""
    return tuple(int(at) for at in np.unravel_index(index, tuple(tensor.shape)))


def compare_gradients(
    expected: Outputs, got: Outputs, *, means: bool = False
) -> Iterator[tuple[float, str, tuple[int, ...]]]:
    """Leak, name and position per gradient: the largest difference over the RMS, or the RMS of both.

    In narrow types rounding switches a relu on or off, which moves all of one unit's gradient and is no leak; the RMS
    of the difference tells the two apart.

    A gradient that is zero but for rounding, such as that of a bias in front of a softmax, is judged against the
    others: its scale is at least a tenth of the largest RMS among them.
    """
    scales = {
        name: float(value.detach().double().square().mean().sqrt()) if value.numel() else 0.0
        for name, value in expected.items()
    }
    common = max((scale for scale in scales.values() if math.isfinite(scale)), default=0.0) / 10
    for name, value in got.items():
        leak, where = relative(expected[name], value)
        if value.numel() and (means or scales[name] < common):
            moved = (expected[name].double() - value.double()).abs()
            difference = float(moved.square().mean().sqrt() if means else moved.max())
            scale = max(scales[name], common)
            leak = (difference / scale if difference else 0.0) if math.isfinite(difference) else math.inf
        yield leak, name, where


def _along(value: Tensor, axis: int, per_slot: Tensor) -> list[int]:
    """The shape that lays ``[B, L]`` along the first axis and another one of a tensor."""
    shape = [1] * value.dim()
    shape[0], shape[axis % value.dim()] = per_slot.shape
    return shape


def slot_index(order: Tensor, features: Tensor) -> Tensor:
    return order.to(features.device).unsqueeze(-1).expand(-1, -1, features.shape[-1])


def reorder(batch: Scene, side: Side, order: Tensor) -> Scene:
    """One side's slots, validity with them, in another order: slot i becomes what ``order[b, i]`` was."""
    features, valid = slots_of(batch, side)
    order = order.to(valid.device)
    moved = with_side(
        batch, side, features=features.gather(1, slot_index(order, features)), valid=valid.gather(1, order)
    )
    return replace(moved, places={**moved.places, side: batch.places[side].gather(1, order)})


def reorder_outputs(subject: Subject, outputs: Outputs, batch: Scene, side: Side, order: Tensor) -> Outputs:
    """What the outputs of a batch become when one side's slots are reordered and nothing else changes."""
    result = {}
    for output in subject.judged:
        value = outputs[output.name]
        for axis, owners in output.slot_axes():
            if side in owners:
                parts, offset = [], 0
                for owner in owners:
                    own = batch.valid[owner].shape[1]
                    stay = torch.arange(own).expand(len(order), -1)
                    parts.append(offset + (order.cpu() if owner == side else stay))
                    offset += own
                whole = torch.cat(parts, 1).to(value.device)
                value = value.gather(axis % value.dim(), whole.view(_along(value, axis, whole)).expand(value.shape))
        result[output.name] = value
    return result


def alone(subject: Subject, batch: Scene, example: int, *, twins: int = 1) -> Scene:
    """One example, cut to its own valid slots, once or in several copies.

    A side of fixed length cannot be cut, and keeps its padding.
    """
    cut = batch.take([example] * twins)
    for side in batch:
        if subject.side(side).length is None:
            cut = keep_slots(cut, side, batch.valid[side][example].nonzero().squeeze(-1))
    return cut


def keep_slots(batch: Scene, side: Side, index: Tensor) -> Scene:
    """Only those slots of one side, the same in every example."""
    features, valid = slots_of(batch, side)
    return replace(
        batch,
        features={**batch.features, side: features[:, index]},
        valid={**batch.valid, side: valid[:, index]},
        places={**batch.places, side: batch.places[side][:, index]},
    )


def restrict(subject: Subject, outputs: Outputs, batch: Scene, example: int) -> Outputs:
    """What one example has in the outputs of a batch, cut to its own valid slots as `alone` cuts it."""
    result = {}
    for output in subject.judged:
        value = outputs[output.name][example : example + 1]
        for axis, owners in output.slot_axes():
            kept = [
                batch.valid[side][example]
                if subject.side(side).length is None
                else torch.ones_like(batch.valid[side][example])
                for side in owners
            ]
            value = value.index_select(axis % value.dim(), torch.cat(kept).nonzero().squeeze(-1))
        result[output.name] = value
    return result


def narrowed(subject: Subject, outputs: Outputs, wide: Scene, batch: Scene) -> Outputs:
    """Outputs of a scene with slots added at the right, cut back to the slots of the original."""
    result = {}
    for output in subject.judged:
        value = outputs[output.name]
        for axis, owners in output.slot_axes():
            kept = []
            for side in owners:
                width = batch.valid[side].shape[1]
                kept.append(torch.arange(wide.valid[side].shape[1], device=value.device) < width)
            index = torch.cat(kept)
            if value.shape[axis] == len(index):  # else it has a wrong shape, which is for the comparison to say
                value = value.index_select(axis % value.dim(), index.nonzero().squeeze(-1))
        result[output.name] = value
    return result


def valid_along(batch: Scene, sides: Sequence[Side]) -> Tensor:
    """The validity of sides one after another, ``[B, L1 + L2]``."""
    return torch.cat([batch.valid[side] for side in sides], dim=1)


def of_input(side: Side) -> str:
    """The name of the gradient at a side's features; no parameter has a space in its name."""
    return f"the {side}"


def _filled_up(value: Tensor, output: Output, batch: Scene) -> Tensor:
    """An output that was cut to the longest row, with zeros up to the scene's width."""
    for axis, owners in output.slot_axes():
        axis %= value.dim()
        missing = sum(batch.valid[side].shape[1] for side in owners) - value.shape[axis]
        if missing > 0 and len(owners) == 1:
            value = nn.functional.pad(value, (0, 0) * (value.dim() - 1 - axis) + (0, missing))
    return value


def _finite(number: float) -> float:
    return number if math.isfinite(number) else 0.0


def _factors(count: int, salt: int, like: Tensor) -> Tensor:
    # drawn whole and cut, so that a slot's factor does not depend on how many there are
    return _drawn(salt)[:count].to(like.device)


@lru_cache(maxsize=256)
def _drawn(salt: int) -> Tensor:
    return torch.randn(4096, generator=torch.Generator().manual_seed(salt), dtype=torch.float64)
