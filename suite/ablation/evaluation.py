"""Accuracy, four ways: as is, and with the padding or the batch changed in ways that must change nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from suite.ablation.dataset import Dataset, Graded, Sight, Split, show
from suite.ablation.loading import PLAIN, Loading, loaded
from suite.ablation.model import Classifier, inputs
from suite.ablation.scenes import Examples, Number

Way = Literal["as_is", "noise_in_pads", "twice_the_width", "alone", "in_eights"]
WAYS: tuple[Way, ...] = get_args(Way)
BATCH = 500
SERVED = 64
"""Examples of a batch where it matters with whom they are in it."""
FEW = 8
"""Examples of a small batch."""
ALONE = 1000
"""Examples that are evaluated one by one; the cost of being alone is taken on these."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Mean credit over a set of questions."""

    family: str
    """``all`` for every family together."""
    value: float
    examples: int


def evaluate(
    model: Classifier,
    dataset: Dataset,
    split: Split,
    *,
    way: Way = "as_is",
    sight: Sight = "both",
    most: int | None = None,
    loading: Loading = PLAIN,
) -> list[Accuracy]:
    """Accuracy over all questions and over each family.

    Args:
        model: in its own state of training; it is put in eval mode.
        dataset: gives the examples and their credit.
        split: which fixed set.
        way: what is done to padding or batch.
        sight: what of each example the model is shown.
        most: only the first so many examples.
        loading: how batches come; by itself `BATCH` as they are drawn.
    """
    model.eval()
    earned, families = [], []
    left = most
    batch = BATCH if loading == PLAIN else SERVED
    for graded in loaded(dataset.evaluation(split, batch), loading, batch=batch, seed=(0,)):
        examples, credit = (
            graded if left is None else Graded(graded.examples.take(slice(0, left)), graded.credit[:left])
        )
        shown = show(examples, sight)
        with torch.no_grad():
            predicted = np.concatenate(
                [model(inputs(part, model.device)).argmax(dim=-1).cpu().numpy() for part in changed(shown, way)]
            )
        earned.append(credit[np.arange(len(predicted)), predicted])
        families.append(examples.family)
        if left is not None:
            left -= len(predicted)
            if left <= 0:
                break
    credits, family = np.concatenate(earned), np.concatenate(families)
    of_family = [(name, family == index) for index, name in enumerate(dataset.families)]
    return [
        Accuracy(family=name, value=float(credits[rows].mean(dtype=np.float64)), examples=int(rows.sum()))
        for name, rows in (("all", np.ones(len(family), dtype=np.bool_)), *of_family)
        if rows.any()
    ]


def changed(examples: Examples, way: Way) -> Iterator[Examples]:
    """The examples in batches, with what the way does to them."""
    match way:
        case "as_is":
            yield examples
        case "noise_in_pads":
            yield _noisy(examples)
        case "twice_the_width":
            yield examples._replace(image=_widened(examples.image), words=_widened(examples.words))
        case "alone" | "in_eights":
            size = 1 if way == "alone" else FEW
            for start in range(0, len(examples.answer), size):
                some = examples.take(slice(start, start + size))
                regions, words = max(int(some.regions.max()), 1), max(int(some.word_count.max()), 1)
                yield some._replace(image=some.image[:, :regions], words=some.words[:, :words])


def _noisy(examples: Examples) -> Examples:
    """Standard normal numbers in padded regions, and words of other questions in padded words."""
    generator = np.random.default_rng(2016)
    image, words = examples.image.copy(), examples.words.copy()
    no_region = np.arange(image.shape[1]) >= examples.regions[:, None]
    no_word = np.arange(words.shape[1]) >= examples.word_count[:, None]
    image[no_region] = generator.standard_normal((int(no_region.sum()), image.shape[-1]))
    said = examples.words[~no_word]
    if said.size:
        words[no_word] = generator.choice(said, int(no_word.sum()))
    return examples._replace(image=image, words=words)


def _widened(array: npt.NDArray[Number]) -> npt.NDArray[Number]:
    return np.concatenate((array, np.zeros_like(array)), axis=1)
