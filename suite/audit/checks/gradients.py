"""Properties about gradients: none from padding, finite beside empty rows, and those of the function itself."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from suite.audit.calling import here
from suite.audit.checks.padding import OTHERS, empty_sides, masked_sides
from suite.audit.declared import declares
from suite.audit.lab import Lab, Lacking, Outputs, attempt, of_input, unravelled
from suite.audit.observation import Observation
from suite.audit.subject import Scene, Side, slots_of

STEPS = tuple(10.0**-power for power in range(2, 11))
NARROW_STEPS = 2
"""So many of them, the longest, do for a function that rounds to float32 inside, as many softmaxes do."""
RELATIVE, ABSOLUTE = 1e-3, 1e-5
"""What torch's gradcheck allows of a finite difference in float64."""
NARROW_RELATIVE = 5e-2
DOUBTS = 10
"""How many times the disagreement of two steps a difference has to be."""


@declares(
    "P8",
    "wrong",
    "gradients apart",
    "padding gets no gradient, and gives the parameters none",
    says="{output} moved by {leak}: {condition}",
)
def isolation(lab: Lab) -> Iterator[Observation]:
    gradients = lab.gradients(lab.batch)
    for side in masked_sides(lab):
        gradient, valid = gradients[of_input(side)].double(), slots_of(lab.batch, side)[1].unsqueeze(-1)
        received = gradient.masked_fill(valid, 0).abs()
        limit = 0.0
        if not lab.subject.exact:  # up to rounding, relative to what valid slots get
            received = received / gradient.masked_fill(~valid, 0).square().mean().sqrt().clamp(min=1e-30)
            limit, _ = lab.limit("gradients", "band")
        largest = float(received.max())
        yield Observation(
            what="gradient at pads",
            sides=(side,),
            output="gradients",
            leak=largest if math.isfinite(largest) else math.inf,
            limit=limit,
            where=unravelled(int(received.argmax()), received),
        )
    yield from attempt("gradients alone", (), partial(_compacted, lab.loose))


def _compacted(lab: Lab) -> Iterator[Observation]:
    gradients = lab.gradients(lab.batch)
    inputs = {of_input(side): gradients[of_input(side)][valid] for side, (_, valid) in lab.batch.items()}
    yield from lab.compare_gradients("gradients alone", lab.gradients_alone(lab.batch), gradients | inputs)


@declares(
    "P9b",
    "fragile",
    "empty, backward",
    "a side without a valid slot leaves all gradients finite",
    says="{output} were not finite with {condition}",
)
def empty_row(lab: Lab) -> Iterator[Observation]:
    for sides, batch in empty_sides(lab):
        yield from attempt("side emptied", sides, partial(_finite_beside, lab, sides, batch))


def _finite_beside(lab: Lab, sides: tuple[Side, ...], batch: Scene) -> Iterator[Observation]:
    for examples, note in ((OTHERS, "with a loss on the other examples only"), (None, "with a loss on every example")):
        gradients = lab.gradients(batch, examples=examples)
        bad = sorted(name for name, value in gradients.items() if not bool(value.isfinite().all()))
        yield Observation(
            what="side emptied",
            sides=sides,
            output="gradients",
            leak=math.inf if bad else 0.0,
            limit=0.0,
            note=f"{note}: {', '.join(bad[:3])}" if bad else note,
        )


@declares(
    "P8g",
    "wrong",
    "gradcheck",
    "gradients are those of the function",
    says="{output} differed from finite differences by {leak}",
)
def finite_differences(lab: Lab) -> Iterator[Observation]:
    subject = lab.subject
    if subject.eager and subject.computes_in != torch.float32 and subject.computes_in != torch.float64:
        raise Lacking("finite differences need float64; its function is that of its float32 form")
    wide = Lab(subject.cast(torch.float64), lab.seed)
    lengths = [own if side.masked else (max(own),) * 2 for own, side in zip(_LENGTHS, subject.sides, strict=False)]
    batch = wide.scene(*lengths)
    with wide.entered():  # parameters stay in float64 while they are moved
        analytic = wide.gradients(batch)
        with _Watched() as watched:
            wide.train(batch)
        yield from _slopes(wide, batch, analytic, watched)


def _slopes(wide: Lab, batch: Scene, analytic: Outputs, watched: "_Watched") -> Iterator[Observation]:
    inputs = {of_input(side): features for side, (features, _) in batch.items()}
    parameters = dict(wide.subject.module.named_parameters())
    named = inputs | parameters
    for group in (*((name,) for name in inputs), tuple(sorted(set(analytic) - set(inputs)))):
        directions = {name: wide.normal(*named[name].shape, salt=40 + index) for index, name in enumerate(group)}
        for name in directions.keys() & parameters.keys():
            if (row := watched.frozen.get(id(parameters[name]))) is not None:
                directions[name][row] = 0  # of an embedding, on purpose without a gradient
        if not directions:
            continue
        slope = sum(float((analytic[name] * direction).sum()) for name, direction in directions.items())
        measured, doubt = _measured(wide, batch, directions, STEPS[:NARROW_STEPS] if watched.narrowed else STEPS)
        limit = NARROW_RELATIVE if watched.narrowed else RELATIVE
        scale = abs(measured) + ABSOLUTE / RELATIVE
        leak = max(0.0, abs(measured - slope) - DOUBTS * doubt) / scale
        whose = f"of {group[0]}" if group[0] in inputs else "of the parameters"
        found = Observation(
            what="differences",
            output="gradients",
            leak=leak if math.isfinite(leak) else math.inf,
            limit=limit,
            note=whose,
        )
        if found.verdict != "holds" and not doubt <= limit * scale:
            why = "differences do not settle at any step: it is not smooth here"
            found = replace(found, unjudged=True, note=f"{whose}: {why}")
        elif found.verdict == "broken" and (places := _detached(wide, batch, directions, slope, limit)):
            why = f"what is detached{' and'.join(places)} carries none, which is right where it is meant"
            found = replace(found, severity="fragile", note=f"{whose}: {why}")
        yield found


def _detached(wide: Lab, batch: Scene, directions: Outputs, slope: float, limit: float) -> tuple[str, ...]:
    """Where tensors are detached, if gradients are right once these are held at their values; else nothing."""
    held = _Held()
    with held:
        wide.loss(batch)
    if not held.places:
        return ()
    held.recorded = True
    measured, doubt = _measured(wide, batch, directions, STEPS, held)
    scale = abs(measured) + ABSOLUTE / RELATIVE
    agrees = max(0.0, abs(measured - slope) - DOUBTS * doubt) / scale <= limit and doubt <= limit * scale
    return tuple(held.places) if agrees else ()


class _Held(TorchFunctionMode):
    """Keeps what the subject's own code detaches in one call, and gives the same in later ones."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, None] = {}
        self.recorded = False
        self._values: list[Tensor] = []
        self._at = 0

    def __enter__(self) -> Self:
        self._at = 0
        super().__enter__()  # type: ignore[no-untyped-call]  # torch leaves it so
        return self

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        made = func(*args, **(kwargs or {}))
        if func not in (Tensor.detach, torch.detach) or not isinstance(made, Tensor) or not (place := here()):
            return made
        if not self.recorded:
            self.places[place] = None
            self._values.append(made.clone())
            return made
        self._at += 1
        return self._values[self._at - 1] if self._at <= len(self._values) else made


class _Watched(TorchFunctionMode):
    """Notes which rows of which tables are frozen on purpose, and whether float64 is left for something narrower."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen: dict[int, int] = {}
        self.narrowed = False

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        given = kwargs or {}
        if func is torch.nn.functional.embedding:
            row = given.get("padding_idx", args[2] if len(args) > 2 else None)
            if isinstance(row, int):
                self.frozen[id(given.get("weight", args[1] if len(args) > 1 else None))] = row
        made = func(*args, **given)
        narrow = isinstance(made, Tensor) and made.is_floating_point() and made.dtype != torch.float64
        if narrow and any(isinstance(value, Tensor) and value.dtype == torch.float64 for value in args):
            self.narrowed = True
        return made


def _measured(
    lab: Lab,
    batch: Scene,
    directions: Outputs,
    steps: Sequence[float],
    within: AbstractContextManager[object] | None = None,
) -> tuple[float, float]:
    """The slope of the loss along a direction by differences of fourth order, and how far two steps disagree on it.

    The step is the one that agrees best with its neighbour: a function may bend at 1e-6, as a LayerNorm of a zero does.
    """
    within = within or nullcontext()
    best, doubt = math.nan, math.inf
    last = math.nan
    for step in steps:
        four = (_projected(lab, batch, directions, k * step, within) for k in (-2, -1, 1, 2))
        two_behind, behind, ahead, two_ahead = four
        slope = (8 * (ahead - behind) - (two_ahead - two_behind)) / (12 * step)
        if abs(slope - last) < doubt:
            best, doubt = slope, abs(slope - last)
        last = slope
        if doubt <= 1e-7 * abs(best):
            break
    return best, doubt


_LENGTHS = ((4, 1), (2, 3), (3, 2))
"""Of the sides of a small scene."""


def _projected(
    lab: Lab, batch: Scene, directions: Outputs, step: float, within: AbstractContextManager[object]
) -> float:
    """The loss at a step along a direction in the inputs or the parameters."""
    parameters = dict(lab.subject.module.named_parameters())
    moved = {name: step * direction for name, direction in directions.items()}
    batch = batch.map(lambda side, features, valid: (features + moved.pop(of_input(side), 0), valid))
    kept = {name: parameters[name].detach().clone() for name in moved}
    try:
        with torch.no_grad():
            for name, change in moved.items():
                parameters[name].add_(change)
        with within:
            return lab.loss(batch)
    finally:
        with torch.no_grad():
            for name, value in kept.items():
                parameters[name].copy_(value)
