"""The generated scenes as a data set."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from suite.ablation import oracle, scenes
from suite.ablation.dataset import Dataset, Graded, Split, trimmed
from suite.ablation.scenes import Examples, Setting

Purpose = Literal["training", "validation", "test"]
PURPOSES: tuple[Purpose, ...] = ("training", "validation", "test")
EASY_SHARE = 0.2
"""The share of the epochs, from the first on, in which scenes are easy."""


@dataclass(frozen=True, kw_only=True)
class SceneDataset(Dataset):
    """Ragged scenes: fresh examples for as long as one trains, and fixed ones to be tested on."""

    epochs = 25
    batch = 64
    budget_s = 840.0
    has_longer = True
    is_drawn = True

    setting: Setting = scenes.STANDARD
    tested_on: Setting = scenes.STANDARD
    steps: int = 100
    """Batches per epoch."""
    easy_epochs: int = 0
    """Epochs at the start that show `scenes.easy` questions: given everything at once, mechanisms take long to
    find their first referent."""
    examples: int = 5000
    """How many there are in each of the two fixed sets."""

    @classmethod
    def at(cls, root: str | None) -> Self:
        return cls()

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
        examples = self.drawn("training", self.steps * batch, setting, seed, epoch)
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

    def drawn(self, purpose: Purpose, count: int, setting: Setting, *seed: int) -> Examples:
        """So many examples.

        Args:
            purpose: those of one are never those of another.
            count: n.
            setting: how large the scenes are.
            seed: what else decides them; any non-negative numbers.
        """
        return scenes.generate(count, seed=(PURPOSES.index(purpose), *seed), setting=setting)

    def _fixed(self, split: Split) -> Examples:
        return self.drawn(split, self.examples, self.tested_on)

    def to_longer(self) -> tuple["SceneDataset", "SceneDataset"]:
        short = replace(self, setting=scenes.SHORT_OF_16, tested_on=scenes.SHORT_OF_16)
        return short, replace(short, tested_on=scenes.LONG_OF_16)

    def eased(self, epochs: int) -> Self:
        return replace(self, easy_epochs=round(EASY_SHARE * epochs))

    def ceilings(self) -> dict[str, dict[str, float]]:
        examples = scenes.generate(2000, seed=(4,), setting=self.tested_on)
        right = oracle.oracle(examples, self.tested_on) == examples.answer
        return {
            "oracle": {
                family: float(right[examples.family == index].mean()) for index, family in enumerate(self.families)
            },
            "question only": oracle.blind_ceilings(self.tested_on),
            "image only": oracle.image_only_ceilings(setting=self.tested_on),
        }

    def picture(self, examples: Examples, row: int, predicted: int) -> dict[str, object]:
        colours = self.tested_on.colours
        seen = examples.image[row, : examples.regions[row]]
        return {
            "words": scenes.text(examples.words[row, : examples.word_count[row]]).split(),
            "answer": scenes.ANSWERS[examples.answer[row]],
            "predicted": scenes.ANSWERS[predicted],
            "colours": [scenes.VOCABULARY[scenes.FIRST_COLOUR + best] for best in seen[:, :colours].argmax(axis=1)],
            "shapes": [scenes.SHAPES[best] for best in seen[:, colours:-2].argmax(axis=1)],
            "places": seen[:, -2:].round(3).tolist(),
        }
