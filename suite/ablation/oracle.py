"""What the task allows: an oracle that answers everything, and how far one side alone can get."""

from functools import cache
from itertools import product
from math import comb

import numpy as np
import numpy.typing as npt

from suite.ablation.scenes import (
    ANSWERS,
    FAMILIES,
    FIRST_COLOUR,
    KINDS,
    MARGIN,
    SHAPES,
    SIDE,
    STANDARD,
    VOCABULARY,
    Draws,
    Examples,
    Floats,
    Ints,
    Scenes,
    Setting,
    acceptance,
    answers,
    draw_scenes,
    text,
)

_AT_ONCE = 100
"""Scenes of which every question is answered together: three hundred thousand where there are sixteen objects."""


def oracle(examples: Examples, setting: Setting = STANDARD) -> Ints:
    """Answers found from what a model gets: noisy regions, words, and how many of each are real.

    Returns:
        ``[n]`` index into ANSWERS. Wrong only where noise moved an object across the line that a question asks about.
    """
    return np.array(
        [
            _answer(image[:regions], text(words[:word_count]).split(), setting)
            for image, regions, words, word_count in zip(*examples[:4], strict=True)
        ]
    )


def _answer(regions: Floats, words: list[str], setting: Setting) -> int:
    names = VOCABULARY[FIRST_COLOUR : FIRST_COLOUR + setting.colours]
    seen_colour = [names[best] for best in regions[:, : setting.colours].argmax(axis=1)]
    seen_shape = [SHAPES[best] for best in regions[:, setting.colours : -2].argmax(axis=1)]
    return ANSWERS.index(reply(seen_colour, seen_shape, regions[:, -2:].astype(np.float64), words))


def reply(seen_colour: list[str], seen_shape: list[str], place: npt.NDArray[np.float64], words: list[str]) -> str:
    """The answer to a question about objects that were recognised.

    Args:
        seen_colour: the colour of each object, in words.
        seen_shape: what each of them is: a word of its own that answers can be.
        place: ``[objects, 2]`` x and y, with zero in the middle.
        words: of the question.
    """
    names = VOCABULARY[FIRST_COLOUR:]
    referents = [word for word in words if word in names]
    if "not" in words:  # the colour after "not the" is the one that is not meant
        referents.remove(words[words.index("not") + 2])
    one, *rest = [seen_colour.index(name) for name in referents]

    if "same" in words:
        return "yes" if seen_shape[one] == seen_shape[rest[0]] else "no"
    if "many" in words:
        return str(seen_shape.count(seen_shape[one]) - 1)
    if "left" in words or "right" in words:
        middle = place[rest[0], 0] if rest else 0.0
        is_left = place[one, 0] < middle
        return "yes" if is_left == ("left" in words) else "no"
    if "closest" in words or "furthest" in words:
        others = [index for index in range(len(place)) if index != one]
        distance = [float(np.hypot(*(place[index] - place[one]))) for index in others]
        wanted = min(distance) if "closest" in words else max(distance)
        return seen_shape[others[distance.index(wanted)]]
    return seen_shape[one]


def blind_ceilings(setting: Setting = STANDARD, *, looks: int = len(SHAPES)) -> dict[str, float]:
    """The best accuracy per family without the image, in closed form.

    Yes and no are even in every question that has them, and so are the shapes. A count has no better guess than the
    likeliest number of the other objects that share a shape, each with a chance of one third. Questions about left and
    right are rarer than those about a shape, as objects near the middle are not asked about.

    Args:
        setting: how large the scenes are.
        looks: as many shapes can be the answer; a scene has three of them.
    """
    clear = sum(abs(x - SIDE // 2) >= MARGIN for x in range(SIDE + 1)) / (SIDE + 1)
    of_shape, guess = 1 / (1 + 2 * clear), 1 / looks
    others = range(setting.fewest - 1, setting.most)
    chance = 1 / len(SHAPES)
    counts = [
        sum(comb(n, k) * chance**k * (1 - chance) ** (n - k) for n in others) / len(others) for k in range(setting.most)
    ]
    return {
        "unary": of_shape * guess + (1 - of_shape) * 0.5,
        "phrase": guess,
        "pair": 0.5,
        "nearest": guess,
        "count": max(counts) / sum(counts[:10]),  # a larger number has no answer
    }


@cache
def image_only_ceilings(scenes: int = 1000, *, setting: Setting = STANDARD, seed: int = 0) -> dict[str, float]:
    """An upper bound per family for what the image gives away without the question.

    For each scene, every question of the family that could be asked is answered, and the commonest answer guessed; a
    model without the question does not even know the family, so it stays below.
    """
    draws, tally = Draws((seed, 2016)), np.zeros((0, len(FAMILIES), len(ANSWERS)))
    for start in range(0, scenes, _AT_ONCE):
        drawn = draw_scenes(draws, min(_AT_ONCE, scenes - start), setting)
        tally = np.concatenate((tally, _asked(drawn, setting)))
    asked_of = tally.sum(axis=(0, 2))
    return dict(zip(FAMILIES, (tally.max(axis=2).sum(axis=0) / asked_of).tolist(), strict=True))


def _asked(drawn: Scenes, setting: Setting) -> npt.NDArray[np.float64]:
    """How often each scene's questions have each answer, ``[n, families, answers]``; before any is refused, scenes and
    their wordings weigh alike."""
    scenes = len(drawn.objects)
    kinds, pairs = range(len(KINDS)), list(product(range(setting.most), repeat=2))
    asked = [(kind, one, other) for kind in kinds for one, other in pairs if one != other]
    rows, questions = (axis.ravel() for axis in np.indices((scenes, len(asked))))
    kind, first, second = np.array(asked)[questions].T
    found = answers(Scenes(*(field[rows] for field in drawn)), kind, first, second)
    exist = np.maximum(first, second) < drawn.objects[rows]
    # scenes are proposed equally often, then wordings, then objects; each is kept as often as `generate` keeps it
    weight = np.where(exist & (found >= 0), acceptance(kind, found), 0) / (drawn.objects * (drawn.objects - 1))[rows]
    tally = np.zeros((scenes, len(FAMILIES), len(ANSWERS)))
    family = np.array([FAMILIES.index(entry.family) for entry in KINDS])[kind]
    np.add.at(tally, (rows, family, np.maximum(found, 0)), weight)
    return tally
