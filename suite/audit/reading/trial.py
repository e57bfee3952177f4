"""Running a module under one reading of its signature, and how far its outputs move."""

import dataclasses
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from suite.audit.calling import mode, place, told
from suite.audit.reading.arguments import by_place, called
from suite.audit.reading.forms import Feature, Form
from suite.audit.subject import Scene, Side, make_scene

Outputs = dict[str, Tensor]
LENGTHS = (11, 7, 5, 13, 17, 19)
"""Slots of each side in trials: all different, and no number of examples or features, so that an axis tells its own."""
EXAMPLES = 3
SECONDS = 20.0
"""CPU time of this thread for one search, and as much again for trials of what it found."""

NOTHING = 1e-6
"""Share of an output below which a part of it counts as zero, as a weight of e^-100 does."""


class Spent(BaseException):
    """The time for one reading is over; no ``Exception``, so that no trial takes it for one of the module's."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One way to read a signature: what each argument is given."""

    features: Mapping[str, Feature]
    masks: Mapping[str, Form] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Arguments that get the same value in every call: required flags."""
    lengths: Mapping[Side, int] = field(default_factory=dict)
    """Sides that have to have that many slots."""

    @property
    def sides(self) -> tuple[Side, ...]:
        return tuple(dict.fromkeys(feature.side for feature in self.features.values()))

    def width(self, side: Side) -> int:
        owners = [feature for feature in self.features.values() if feature.side == side]
        return next((feature.width for feature in owners if feature.first), owners[0].width)

    @property
    def masked(self) -> tuple[Side, ...]:
        """Sides that some mask tells of."""
        told = {side for form in self.masks.values() for side in form.sides}
        return tuple(side for side in self.sides if side in told)

    def with_mask(self, argument: str, form: Form | None) -> "Reading":
        masks = {name: old for name, old in self.masks.items() if name != argument}
        return replace(self, masks=masks if form is None else {**masks, argument: form})

    def arguments(self, scene: Scene, dtype: torch.dtype) -> dict[str, object]:
        """What ``forward`` is called with."""
        given: dict[str, object] = {name: feature.given(scene) for name, feature in self.features.items()}
        given |= {name: form.given(scene, dtype) for name, form in self.masks.items()}
        return given | dict(self.fixed)


class Trials:
    """A module and the calls that were made of it, each seeded, in eval mode, without gradients."""

    def __init__(self, module: nn.Module, *, seconds: float = SECONDS) -> None:
        self.module = module
        some = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
        self.dtype, self.device = some.dtype, some.device
        self._by_place = by_place(module)
        self._buffers = [(part, dict(part._buffers)) for part in module.modules() if part._buffers]
        self.made = 0
        self.raised: Counter[str] = Counter()
        """What trials ended with: an exception, and where in the code of the module."""
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Start the time anew: what is left to learn of a reading that was found must not fall to the search."""
        self._until = time.thread_time() + self._seconds  # a busy machine shortens no search

    def unlimited(self) -> None:
        """What comes after the search is a few calls, and has to be made."""
        self._until = math.inf

    def call(self, arguments: Mapping[str, object]) -> Outputs:
        """Outputs by name; raises whatever the module raises."""
        if time.thread_time() > self._until:
            raise Spent
        self.made += 1
        self._seed()
        try:
            return flat(called(self.module, arguments, self._by_place))
        except Exception as error:
            at = place(error)
            self.raised[f"{told(error)}{f' at {at}' if at else ''}"] += 1
            raise
        finally:
            for part, buffers in self._buffers:  # a trial that does not fit must leave nothing of its shapes behind
                part._buffers.update(buffers)

    def _seed(self) -> None:
        """What is random is the same in every call; ``torch.manual_seed`` takes longer than a small module."""
        torch.default_generator.manual_seed(0)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(0)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Eval mode, no gradients, no warnings: all trials of a module are made within this."""
        with (
            mode(self.module, train=False),
            torch.no_grad(),
            warnings.catch_warnings(),
            torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []),
        ):
            warnings.simplefilter("ignore")
            yield

    def outputs(self, reading: Reading, scene: Scene) -> Outputs | None:
        """Outputs under a reading; None where the module raises."""
        try:
            return self.call(reading.arguments(scene, self.dtype))
        except Exception:  # a reading that does not fit may raise anything
            return None

    def scene(
        self,
        reading: Reading,
        *,
        examples: int = EXAMPLES,
        more: int = 0,
        hidden: Mapping[Side, int] | None = None,
        salt: int = 0,
    ) -> Scene:
        """Normal features; of the sides in ``hidden`` so many of the last slots are padding in every example."""
        generator = torch.Generator().manual_seed(17 + salt)
        made = {}
        for index, side in enumerate(reading.sides):
            slots = reading.lengths.get(side, LENGTHS[index % len(LENGTHS)] + more)
            features = torch.randn(examples, slots, reading.width(side), generator=generator)
            valid = torch.arange(slots) < slots - (hidden or {}).get(side, 0)
            made[side] = (
                features.to(self.device, self.dtype),
                valid.to(self.device).expand(examples, -1).contiguous(),
            )
        return make_scene(made)


def flat(result: object) -> Outputs:
    """The tensors in whatever a module returned, by name; inside tuples, lists, mappings and dataclasses too."""
    if isinstance(result, Tensor):
        return {"output": result}
    return dict(_flat(result, ""))


def _flat(result: object, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(result, Tensor):
        yield name, result
        return
    for key, value in _items(result):
        # a tuple's parts have numbers, and numbers alone are no name
        inner = f"{name}.{key}" if name else key if not key.isdigit() else f"output {key}"
        yield from _flat(value, inner)


def _items(result: object) -> list[tuple[str, object]]:
    if isinstance(result, Mapping):
        return [(str(key), value) for key, value in result.items()]
    if isinstance(result, tuple | list):
        names = getattr(result, "_fields", None) or range(len(result))
        return [(str(name), value) for name, value in zip(names, result, strict=True)]
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return [(item.name, getattr(result, item.name)) for item in dataclasses.fields(result)]
    if hasattr(result, "__dict__") and not isinstance(result, nn.Module | torch.distributions.Distribution):
        return [(key, value) for key, value in vars(result).items() if isinstance(value, Tensor | tuple | list | dict)]
    return []


def kept(value: Tensor, slots: Sequence[tuple[int, Sequence[int]]]) -> Tensor:
    """A tensor without some slots, on every axis that is as long as their side.

    Args:
        value: one output.
        slots: how long an axis of that side is, and which of its places to leave out.
    """
    for length, without in slots:
        stay = [place for place in range(length) if place not in set(without)]
        for axis, size in enumerate(value.shape):
            if size == length:
                value = value.index_select(axis, torch.tensor(stay, device=value.device))
    return value


def _size(value: Tensor) -> float:
    """The RMS of what is finite."""
    finite = value[value.isfinite()].double()
    return float(finite.square().mean().sqrt()) if finite.numel() else 0.0


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor], look: Callable[[Tensor], Tensor]) -> float:
    """How far outputs moved, RMS over RMS, the mean of all; infinite where one is not finite or changed its shape."""
    total, count = 0.0, 0
    for name, value in before.items():
        other = after.get(name)
        if other is None or other.shape != value.shape:
            return math.inf
        if not value.is_floating_point():
            value, other = value.float(), other.float()
        whole = _size(value)
        value, other = look(value).double(), look(other).double()
        if value.numel() == 0:
            continue
        scale = max(_size(value), NOTHING * whole)
        # scores of -inf that stay where they are have not moved
        apart = torch.where(value == other, torch.zeros_like(value), other - value)
        difference = float(apart.square().mean().sqrt())
        if not math.isfinite(difference):
            return math.inf
        count += 1
        total += difference / scale if scale > 0 else float(difference > 0)
    return total / count if count else 0.0
