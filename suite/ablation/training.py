"""Training, plain and seeded: the same seed gives the same weights to the last bit on the CPU, interrupted or not."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suite.ablation.dataset import Dataset, Graded, Sight, show
from suite.ablation.loading import PLAIN, Loading, loaded
from suite.ablation.model import Classifier, inputs
from suite.ablation.scenes import Examples

WARM_UP_STEPS = 50
LARGEST_NORM = 1.0
MOMENTS = (0.9, 0.95)
"""Adam's decay rates; the second is short enough to forget the easy beginning."""
LOSS_SCALE = 1024.0
"""Keeps small gradients of a half-precision mechanism above zero; undone before the step."""


class Diverged(ArithmeticError):
    """The loss is no longer finite."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a classifier is trained."""

    epochs: int
    batch: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands after an epoch."""

    epoch: int
    epochs: int
    loss: float
    """Mean over the epoch."""


def fit(
    model: Classifier,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    sight: Sight = "both",
    loading: Loading = PLAIN,
    checkpoint: Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> list[float]:
    """Train with Adam: a linear warm-up, then half a cosine down to zero; gradients clipped to a norm of one.

    Args:
        model: trained in place; parameters in half precision are trained through float32 copies.
        dataset: gives the batches; the same seed gives every model the same ones.
        recipe: how long, and how fast.
        seed: of the batches.
        sight: what of each batch the model is shown.
        loading: how examples come in batches.
        checkpoint: written after every epoch and, where it exists, continued from.
        progress: told after every epoch.

    Returns:
        The mean loss of each epoch.

    Raises:
        Diverged: the loss became infinite or not a number.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = list(model.buffers())
    masters = [_master(parameter) for parameter in parameters]
    optimiser = torch.optim.Adam(masters, lr=recipe.learning_rate, betas=MOMENTS, fused=True)
    scale = 1.0 if all(parameter.dtype == torch.float32 for parameter in parameters) else LOSS_SCALE
    losses: list[float] = []
    if checkpoint is not None and checkpoint.exists():
        losses = _restore(checkpoint, parameters, masters, buffers, optimiser)
    model.train()
    steps = dataset.batches(recipe.batch)
    for epoch in range(len(losses), recipe.epochs):
        total = torch.zeros((), dtype=torch.float64)
        drawn = (_ungraded(examples) for examples in dataset.training(seed, epoch, recipe.batch))
        for step, (examples, _) in enumerate(loaded(drawn, loading, batch=recipe.batch, seed=(seed, epoch))):
            done = (epoch + step / steps) / recipe.epochs
            optimiser.param_groups[0]["lr"] = recipe.learning_rate * _pace(done, epoch * steps + step)
            shown = inputs(show(examples, sight), model.device)
            loss = cross_entropy(model(shown), torch.from_numpy(examples.answer).to(model.device))
            for parameter in parameters:
                parameter.grad = None
            (loss * scale).backward()  # type: ignore[no-untyped-call]
            _step(optimiser, parameters, masters, scale)
            total += loss.detach().double().cpu()
        losses.append(float(total) / steps)
        if not torch.isfinite(total):
            raise Diverged(
                f"the loss was {losses[-1]} in epoch {epoch + 1} at a learning rate of {recipe.learning_rate}"
            )
        if checkpoint is not None:
            _save(checkpoint, masters, buffers, optimiser, losses)
        progress(Progress(epoch=epoch + 1, epochs=recipe.epochs, loss=losses[-1]))
    return losses


def _ungraded(examples: Examples) -> Graded:
    """Training asks for the answer alone."""
    return Graded(examples, np.zeros((len(examples.answer), 0), dtype=np.float32))


def _pace(done: float, step: int) -> float:
    cosine = 0.5 + 0.5 * float(torch.cos(torch.tensor(done * torch.pi, dtype=torch.float64)))
    return min(1.0, (step + 1) / WARM_UP_STEPS) * cosine


def _master(parameter: nn.Parameter) -> Tensor:
    return parameter if parameter.dtype == torch.float32 else nn.Parameter(parameter.detach().float())


def _step(optimiser: torch.optim.Adam, parameters: list[nn.Parameter], masters: list[Tensor], scale: float) -> None:
    if scale != 1.0:  # otherwise every parameter is its own master
        for parameter, master in zip(parameters, masters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float() / scale
    norm = nn.utils.clip_grad_norm_(masters, LARGEST_NORM)
    if not torch.isfinite(norm):
        return  # a step that overflowed in half precision is left out, as loss scaling does
    optimiser.step()
    with torch.no_grad():
        for parameter, master in zip(parameters, masters, strict=True):
            if parameter is not master:
                parameter.copy_(master)


def _save(
    path: Path, masters: list[Tensor], buffers: list[Tensor], optimiser: torch.optim.Adam, losses: list[float]
) -> None:
    weights = [master.detach() for master in masters]
    state = {"weights": weights, "buffers": buffers, "adam": optimiser.state_dict(), "losses": losses}
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)  # a reader finds the old state or the new one, never half of one


def _restore(
    path: Path,
    parameters: list[nn.Parameter],
    masters: list[Tensor],
    buffers: list[Tensor],
    optimiser: torch.optim.Adam,
) -> list[float]:
    state = torch.load(path, map_location=masters[0].device, weights_only=True)
    with torch.no_grad():
        for parameter, master, weights in zip(parameters, masters, state["weights"], strict=True):
            master.copy_(weights)
            parameter.copy_(weights)
        for buffer, kept in zip(buffers, state["buffers"], strict=True):
            buffer.copy_(kept)
    optimiser.load_state_dict(state["adam"])
    losses: list[float] = state["losses"]
    return losses
