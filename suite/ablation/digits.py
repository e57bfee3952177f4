"""Handwritten digits as a task: the questions of the scenes, about objects that have to be recognised.

An object is a digit that somebody wrote, in one of eight colours, somewhere. A region holds its raw pixels, and its
colour and place as the scenes have them; nothing tells a model which digit it is. No image to learn from is among
those to be tested on. The images are those that scikit-learn ships (Alpaydin and Kaynak 1998, Optical Recognition of
Handwritten Digits).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, Self

import numpy as np

from suite.ablation import oracle, scenes
from suite.ablation.scene_dataset import PURPOSES, Purpose, SceneDataset
from suite.ablation.scenes import Draws, Examples, Floats, Ints, Questions, Setting
from suite.core.errors import UserError

FAMILIES = ("unary", "phrase", "pair", "count")
"""Those of the scenes that mechanisms learn within a study's epochs."""
DIGITS = tuple("0123456789")
ANSWERS = ("yes", "no", *DIGITS)
"""A digit answers what is seen, and how many there are."""
SIDE = 8
"""Pixels of an image, down and across."""
_PIXELS = SIDE * SIDE
INK = 1 / 8
"""What a black pixel counts. An image is then half as long a vector as a colour, whose object is to be found first."""
ACROSS = 1.0
"""Length of the square's side. The scenes have two: with pixels beside it so large a place hides colours for long."""
SHEETS: Mapping[Purpose, slice] = {
    "training": slice(0, 1100),
    "validation": slice(1100, 1400),
    "test": slice(1400, 1797),
}
"""Which images are for what: neighbours are of one hand, so they stay together."""
WRITTEN = replace(scenes.STANDARD, name="digits", families=FAMILIES)


class Images(NamedTuple):
    """Handwritten digits."""

    pixels: Floats  # [n, 64] from 0 to 1
    digit: Ints  # [n]


@cache
def images(purpose: Purpose) -> Images:
    """Those that are for one purpose.

    Raises:
        UserError: scikit-learn, which has them, is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            f"--data digits needs scikit-learn, which has the images ({error}): pip install -e '.[digits]'"
        ) from error
    found = load_digits()
    part = SHEETS[purpose]
    pixels = found.images[part].reshape(-1, _PIXELS).astype(np.float32) / np.float32(16)
    return Images(pixels, found.target[part].astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class DigitDataset(SceneDataset):
    """Sets of four to eight digits and questions about them, each set drawn from the images of its purpose."""

    has_longer = False

    setting: Setting = WRITTEN
    tested_on: Setting = WRITTEN

    @classmethod
    def at(cls, root: str | None) -> Self:
        images("training")
        return cls()

    @property
    def name(self) -> str:
        return self.setting.name

    @property
    def families(self) -> tuple[str, ...]:
        return FAMILIES

    @property
    def image_width(self) -> int:
        """V: pixels, one-hot colour, x and y."""
        return _PIXELS + self.setting.colours + 2

    @property
    def classes(self) -> int:
        return len(ANSWERS)

    def drawn(self, purpose: Purpose, count: int, setting: Setting, *seed: int) -> Examples:
        own = 10 + PURPOSES.index(purpose)  # another stream than that of the scenes
        return generate(count, seed=(own, *seed), setting=setting, of=images(purpose))

    def ceilings(self) -> dict[str, dict[str, float]]:
        examples = self._fixed("test").take(slice(0, 2000))
        right = recognised(examples, self.setting) == examples.answer
        blind = oracle.blind_ceilings(self.setting, looks=len(DIGITS))
        of_image = oracle.image_only_ceilings(setting=self.setting)  # three digits in a set as there are three shapes
        return {
            "oracle": {name: float(right[examples.family == index].mean()) for index, name in enumerate(FAMILIES)},
            "question only": {name: blind[name] for name in FAMILIES},
            "image only": {name: of_image[name] for name in FAMILIES},
        }

    def picture(self, examples: Examples, row: int, predicted: int) -> dict[str, object]:
        seen = examples.image[row, : examples.regions[row]]
        colours, digits = _look(seen, self.setting)
        return {
            "words": text(examples.words[row, : examples.word_count[row]]).split(),
            "answer": ANSWERS[examples.answer[row]],
            "predicted": ANSWERS[predicted],
            "colours": colours,
            "shapes": digits,
            "places": (seen[:, -2:] * np.float32(2 / ACROSS)).round(3).tolist(),
        }


def generate(count: int, *, seed: tuple[int, ...], setting: Setting, of: Images) -> Examples:
    """Examples of the scenes' kind, where each scene has three digits in place of three shapes.

    Args:
        count: examples to make.
        seed: any non-negative numbers; the same give the same arrays.
        setting: how large the sets are, and which families are asked.
        of: the images that are shown.
    """
    draws = Draws(seed)
    asked = scenes.ask(draws, count, setting)
    digit_of = np.argsort(draws.raw(count, len(DIGITS)), axis=1, kind="stable")[:, : len(scenes.SHAPES)]  # [n, 3]
    words, word_count = scenes.write(draws, asked)
    image = _see(draws, asked, digit_of, setting, of)
    number = np.array([FAMILIES.index(name) if name in FAMILIES else -1 for name in scenes.FAMILIES])
    family = number[asked.family]
    return Examples(image, asked.scenes.objects, words, word_count, _answers(asked.answer, digit_of), family)


def _answers(answer: Ints, digit_of: Ints) -> Ints:
    """Answers of the scenes, with the digit that stands for each shape."""
    is_number = answer >= scenes.FIRST_NUMBER
    is_shape = (answer >= scenes.FIRST_SHAPE) & ~is_number
    shape = np.where(is_shape, answer - scenes.FIRST_SHAPE, 0)
    digit = digit_of[np.arange(len(answer)), shape]
    first = ANSWERS.index(DIGITS[0])
    return np.where(is_number, first + answer - scenes.FIRST_NUMBER, np.where(is_shape, first + digit, answer))


def _see(draws: Draws, asked: Questions, digit_of: Ints, setting: Setting, of: Images) -> Floats:
    """``[n, N, V]``: pixels as they were written, colours and places with noise."""
    drawn = asked.scenes
    count, objects = drawn.shape.shape
    digit = np.take_along_axis(digit_of, drawn.shape, axis=1)  # [n, M]
    by_digit = np.argsort(of.digit, kind="stable")
    how_many = np.bincount(of.digit, minlength=len(DIGITS))
    begins = np.concatenate(([0], np.cumsum(how_many)[:-1]))
    which = by_digit[begins[digit] + draws.below(how_many[digit], count, objects)]  # [n, M]
    image = np.zeros((count, setting.slots, _PIXELS + setting.colours + 2), dtype=np.float32)
    seen = image[:, :objects]
    seen[..., :_PIXELS] = of.pixels[which] * np.float32(INK)
    seen[..., _PIXELS:-2] = drawn.colour[..., None] == np.arange(setting.colours)
    seen[..., -2:] = (drawn.place - scenes.SIDE // 2).astype(np.float32) * np.float32(ACROSS / scenes.SIDE)
    noise = draws.normal(count, objects, setting.colours + 2) * np.float32(setting.noise)
    noise[..., -2:] *= np.float32(ACROSS / 2)  # as much of the square as in the scenes
    seen[..., _PIXELS:] += noise
    seen[np.arange(objects) >= drawn.objects[:, None]] = 0
    return image


def recognised(examples: Examples, setting: Setting = WRITTEN) -> Ints:
    """``[n]`` index into ANSWERS: what is answered by whoever takes a digit for the one that is written most alike
    among the images to learn from."""
    found = []
    for image, regions, words, word_count in zip(*examples[:4], strict=True):
        seen = image[:regions]
        place = seen[:, -2:].astype(np.float64)
        said = scenes.text(words[:word_count]).split()
        found.append(ANSWERS.index(oracle.reply(*_look(seen, setting), place, said)))
    return np.array(found)


def _look(seen: Floats, setting: Setting) -> tuple[list[str], list[str]]:
    """Colour and digit of each region ``[objects, V]``."""
    known = images("training")
    names = scenes.VOCABULARY[scenes.FIRST_COLOUR : scenes.FIRST_COLOUR + setting.colours]
    # the nearest has the largest product with what is seen, less half of its own square
    alike = seen[:, :_PIXELS] / np.float32(INK) @ known.pixels.T - (known.pixels**2).sum(axis=1) / 2
    digits = known.digit[alike.argmax(axis=1)]
    return [names[best] for best in seen[:, _PIXELS:-2].argmax(axis=1)], [DIGITS[best] for best in digits]


def text(words: Ints) -> str:
    """A question in words."""
    return scenes.text(words).replace("shape", "digit")
