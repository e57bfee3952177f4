"""How examples come to a model as batches: what loaders differ in, and what a correct mask does not see."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from suite.ablation.dataset import Graded, trimmed
from suite.ablation.scenes import Examples, Number

SORTED_TOGETHER = 10
"""Batches whose examples are sorted among each other, where examples of a length go together."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """A loader's habits. Without any, batches come as they are drawn, as wide as their longest row, pads empty."""

    by_length: bool = False
    """Batches are of examples of about one length, as where loaders save padding."""
    left_over: bool = False
    """A pad holds what the batch before had in its place, as where a loader fills one buffer again and again."""
    jitter: bool = False
    """Batches are up to twice as wide as their longest row."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What tables say of it."""
        habits = {"bucketed by length": self.by_length, "pads left over": self.left_over, "width jittered": self.jitter}
        return tuple(note for note, is_so in habits.items() if is_so)


PLAIN = Loading()


def loaded(batches: Iterable[Graded], loading: Loading, *, batch: int, seed: tuple[int, ...]) -> Iterator[Graded]:
    """The same examples in batches as a loader of those habits makes them.

    Args:
        batches: as they are drawn.
        loading: the habits.
        batch: examples of a batch, where they are put together anew.
        seed: of the order of batches and of their width; any non-negative numbers.
    """
    generator = np.random.default_rng(seed)
    before: Examples | None = None
    for graded in _by_length(batches, batch, generator) if loading.by_length else batches:
        examples = graded.examples
        if loading.jitter:
            examples = _wider(examples, generator)
        if loading.left_over:
            before = _over(examples if before is None else before, examples)
            # what a narrower or shorter batch does not reach stays in the buffer as it was
            rows, regions, words = len(examples.image), examples.image.shape[1], examples.words.shape[1]
            examples = before._replace(image=before.image[:rows, :regions], words=before.words[:rows, :words])
        yield Graded(examples, graded.credit)


def _by_length(batches: Iterable[Graded], batch: int, generator: np.random.Generator) -> Iterator[Graded]:
    left = iter(batches)
    while some := list(itertools.islice(left, SORTED_TOGETHER)):
        all_of_them = _joined(some)
        examples = all_of_them.examples
        order = np.lexsort((examples.word_count, examples.regions))
        cuts = [order[start : start + batch] for start in range(0, len(order), batch)]
        for at in generator.permutation(len(cuts)):
            yield Graded(trimmed(examples.take(cuts[at])), all_of_them.credit[cuts[at]])


def _joined(batches: Sequence[Graded]) -> Graded:
    examples = [one.examples for one in batches]
    regions, words = (max(getattr(one, name).shape[1] for one in examples) for name in ("image", "words"))
    wide = [one._replace(image=_to_width(one.image, regions), words=_to_width(one.words, words)) for one in examples]
    return Graded(
        Examples(*(np.concatenate(field) for field in zip(*wide, strict=True))),
        np.concatenate([one.credit for one in batches]),
    )


def _wider(examples: Examples, generator: np.random.Generator) -> Examples:
    regions, words = (
        width + int(generator.integers(width + 1)) for width in (examples.image.shape[1], examples.words.shape[1])
    )
    return examples._replace(image=_to_width(examples.image, regions), words=_to_width(examples.words, words))


def _over(before: Examples, examples: Examples) -> Examples:
    """A buffer after these examples were written into it, with whatever they leave of those before."""
    no_region = np.arange(examples.image.shape[1]) >= examples.regions[:, None]
    no_word = np.arange(examples.words.shape[1]) >= examples.word_count[:, None]
    return examples._replace(
        image=_written(before.image, examples.image, no_region), words=_written(before.words, examples.words, no_word)
    )


def _written(
    buffer: npt.NDArray[Number], rows: npt.NDArray[Number], pads: npt.NDArray[np.bool_]
) -> npt.NDArray[Number]:
    count, width = max(len(buffer), len(rows)), max(buffer.shape[1], rows.shape[1])
    kept = np.zeros((count, width, *rows.shape[2:]), dtype=rows.dtype)
    kept[: len(buffer), : buffer.shape[1]] = buffer
    part = kept[: len(rows), : rows.shape[1]]
    part[~pads] = rows[~pads]
    return kept


def _to_width(array: npt.NDArray[Number], width: int) -> npt.NDArray[Number]:
    """Rows with empty slots up to that many."""
    short = width - array.shape[1]
    return np.pad(array, ((0, 0), (0, short), *((0, 0),) * (array.ndim - 2)))
