"""What the study needs of a task, be it generated or read from disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from suite.ablation import scenes
from suite.ablation.scenes import Examples, Floats, Setting

Split = Literal["validation", "test"]
Sight = Literal["both", "question_only", "image_only", "other_image"]
"""What a model is shown; all but ``both`` are controls."""


class Graded(NamedTuple):
    """Examples, and what each answer to each of them would earn."""

    examples: Examples
    credit: Floats  # [n, answers] from 0 to 1


class Task(Protocol):
    """Examples to learn from, examples to be tested on, and how answers are scored."""

    @property
    def name(self) -> str: ...

    @property
    def families(self) -> tuple[str, ...]:
        """Groups of questions whose accuracy is told apart."""

    @property
    def image_width(self) -> int: ...

    @property
    def vocabulary(self) -> int: ...

    @property
    def classes(self) -> int: ...

    def training(self, seed: int, epoch: int, batch: int) -> Iterator[Examples]:
        """The batches of one epoch, one after another; the same seed and epoch give the same ones."""

    def batches(self, batch: int) -> int:
        """How many of them there are."""

    def evaluation(self, split: Split, batch: int) -> Iterator[Graded]:
        """A fixed set in batches."""

    def digest(self) -> str:
        """Hash of what is tested on."""


@dataclass(frozen=True, kw_only=True)
class SceneTask:
    """Ragged scenes: fresh examples for as long as one trains, and fixed ones to be tested on."""

    setting: Setting = scenes.STANDARD
    tested_on: Setting = scenes.STANDARD
    steps: int = 100
    """Batches per epoch."""
    easy_epochs: int = 0
    """Epochs at the start that show `scenes.easy` questions: given everything at once, mechanisms take long to
    find their first referent."""
    examples: int = 5000
    """In each of the two fixed sets."""

    @property
    def name(self) -> str:
        return f"scenes-{self.setting.name}" + ("" if self.tested_on == self.setting else f"-to-{self.tested_on.name}")

    @property
    def families(self) -> tuple[str, ...]:
        return scenes.FAMILIES

    @property
    def image_width(self) -> int:
        return self.setting.image_width

    @property
    def vocabulary(self) -> int:
        return self.setting.vocabulary

    @property
    def classes(self) -> int:
        return len(scenes.ANSWERS)

    def training(self, seed: int, epoch: int, batch: int) -> Iterator[Examples]:
        setting = scenes.easy(self.setting) if epoch < self.easy_epochs else self.setting
        examples = scenes.generate(self.steps * batch, seed=(0, seed, epoch), setting=setting)
        for step in range(self.steps):
            yield trimmed(examples.take(slice(step * batch, (step + 1) * batch)))

    def batches(self, batch: int) -> int:
        return self.steps

    def evaluation(self, split: Split, batch: int) -> Iterator[Graded]:
        examples = self._fixed(split)
        for start in range(0, self.examples, batch):
            part = trimmed(examples.take(slice(start, start + batch)))
            yield Graded(part, np.eye(self.classes, dtype=np.float32)[part.answer])

    def digest(self) -> str:
        return scenes.digest(self._fixed("test"))

    def _fixed(self, split: Split) -> Examples:
        return scenes.generate(self.examples, seed=(1 if split == "validation" else 2,), setting=self.tested_on)


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
