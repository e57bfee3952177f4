"""What a study needs of a data set, be it generated or read from disk."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np

from suite.ablation.scenes import Examples, Floats

Split = Literal["validation", "test"]
Sight = Literal["both", "question_only", "image_only", "other_image"]
"""What a model is shown; all but ``both`` are controls."""


class Graded(NamedTuple):
    """Examples, and what each answer to each of them would earn."""

    examples: Examples
    credit: Floats  # [n, answers] from 0 to 1


class Dataset(ABC):
    """Examples to learn from, examples to be tested on, how answers are scored, and how long it takes to learn them."""

    epochs: ClassVar[int]
    """The epochs of a training, unless the user chooses others."""
    batch: ClassVar[int]
    """Examples of a step."""
    scale: ClassVar[int] = 1
    """Widths are as many times those of the generated scenes."""
    files: ClassVar[str] = ""
    """What the folder of ``--root`` has to hold; empty where the data set makes its own examples."""
    budget_s: ClassVar[float | None] = None
    """Seconds that the default study has, unless the user chooses; None where it takes as long as it takes."""
    has_longer: ClassVar[bool] = False
    """Whether there are sets longer than any to learn from, on which studies of that are tested."""
    is_drawn: ClassVar[bool] = False
    """Whether `picture` draws its examples."""

    @classmethod
    @abstractmethod
    def at(cls, root: str | None) -> Self:
        """The data set as its studies learn it.

        Args:
            root: folder with the files, where it needs any.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """What records call it."""

    @property
    @abstractmethod
    def families(self) -> tuple[str, ...]:
        """Groups of questions whose accuracy is told apart."""

    @property
    @abstractmethod
    def image_width(self) -> int:
        """V: numbers of a region."""

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Numbers of words, padding included."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Answers to choose from."""

    @abstractmethod
    def training(self, seed: int, epoch: int, batch: int) -> Iterator[Examples]:
        """The batches of one epoch, one after another; the same seed and epoch give the same ones."""

    @abstractmethod
    def batches(self, batch: int) -> int:
        """How many of them there are."""

    @abstractmethod
    def evaluation(self, split: Split, batch: int) -> Iterator[Graded]:
        """A fixed set in batches."""

    @abstractmethod
    def digest(self) -> str:
        """Hash of what is tested on."""

    def to_longer(self) -> tuple["Dataset", "Dataset"]:
        """Sets to learn from, and longer ones of the same kind to be tested on as well, where it `has_longer`."""
        raise NotImplementedError

    def eased(self, epochs: int) -> "Dataset":
        """With an easy beginning in proportion to the epochs, where it has one."""
        return self

    def ceilings(self) -> Mapping[str, Mapping[str, float]]:
        """What an oracle, the question alone and the image alone can reach, per family; empty where nobody knows."""
        return {}

    def check(self) -> str:
        """Look at every file before training, and say what was found; empty where there is none.

        Raises:
            UserError: naming the file that is missing, torn or does not fit.
        """
        return ""

    def picture(self, examples: Examples, row: int, predicted: int) -> Mapping[str, object]:
        """What a drawing of an example needs, as plain data, where it `is_drawn`."""
        raise NotImplementedError


def trimmed(examples: Examples) -> Examples:
    """Examples padded to the longest among them, as batches commonly are."""
    regions, words = int(examples.regions.max()), int(examples.word_count.max())
    return examples._replace(image=examples.image[:, :regions], words=examples.words[:, :words])


def show(examples: Examples, sight: Sight) -> Examples:
    """The examples with one side hidden, or with the image of the next one."""
    match sight:
        case "question_only":
            return examples._replace(image=np.zeros_like(examples.image), regions=np.zeros_like(examples.regions))
        case "image_only":
            return examples._replace(words=np.zeros_like(examples.words), word_count=np.zeros_like(examples.word_count))
        case "other_image":
            return examples._replace(image=np.roll(examples.image, 1, axis=0), regions=np.roll(examples.regions, 1))
        case "both":
            return examples
