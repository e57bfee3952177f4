"""Ragged scenes: a generated task in which each part of a co-attention is needed by some family of questions.

An image is a handful of objects, each of its own colour, with a shape and a position; a question names one or two of
them by colour. Every number is drawn from the raw 64-bit stream of PCG64 by integer arithmetic, so that the same seed
gives the same arrays on every platform and with every version of numpy.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)

FAMILIES = ("unary", "phrase", "pair", "nearest", "count")
SHAPES = ("circle", "square", "triangle")
ANSWERS = ("yes", "no", *SHAPES, *map(str, range(10)))
YES, NO, FIRST_SHAPE, FIRST_NUMBER = 0, 1, 2, 5

FILLERS = ("please", "now", "well")
_WORDS = "what shape is the one on left right of same as but not closest furthest to from how many others match that"
_COLOURS = "red green blue yellow purple orange cyan brown pink grey black white olive navy teal maroon"
VOCABULARY = ("<pad>", *FILLERS, *_WORDS.split(), *_COLOURS.split())
"""Words by their number; colours stand last, so that eight of them make a vocabulary of 34."""
FIRST_COLOUR = VOCABULARY.index("red")

QUESTION_WORDS = 16
"""T: the longest question, three fillers in front of thirteen words."""
SIDE = 1000
"""Length of the unit square's side in steps of the position."""
APART = 80
"""Least distance of two objects, in steps."""
MARGIN = 100
"""A question about left and right needs this difference in x, in steps: four standard deviations of the noise."""
GAP = 50
"""A question about the closest or furthest needs this lead over the next, in steps."""
NOISE = 0.05
"""Standard deviation of the noise on every feature of a region."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How large scenes are."""

    name: str
    fewest: int
    most: int
    """Objects, both ends included."""
    colours: int
    slots: int
    """N, the regions after padding."""
    noise: float = NOISE
    families: tuple[str, ...] = FAMILIES
    """Drawn uniformly."""

    @property
    def image_width(self) -> int:
        """V: one-hot colour, one-hot shape, x and y."""
        return self.colours + len(SHAPES) + 2

    @property
    def vocabulary(self) -> int:
        return FIRST_COLOUR + self.colours


STANDARD = Setting(name="standard", fewest=4, most=8, colours=8, slots=10)
SHORT_OF_16 = Setting(name="short", fewest=4, most=8, colours=16, slots=10)
LONG_OF_16 = Setting(name="long", fewest=9, most=16, colours=16, slots=18)
"""Sets longer than any of ``SHORT_OF_16``, of the same colours: can what was learnt there be used here?"""


def easy(setting: Setting) -> Setting:
    """The same regions and words with two to four objects and one referent, to begin training with."""
    return replace(setting, name=f"{setting.name}-easy", fewest=2, most=4, families=("unary",))


class Kind(NamedTuple):
    """One way to ask; ``C`` and ``D`` stand for the colours of the first and second referent."""

    family: str
    wording: str


KINDS = (
    Kind("unary", "what shape is the C one"),
    Kind("unary", "is the C one on the left"),
    Kind("unary", "is the C one on the right"),
    # one bag of words in both, and in both with C and D swapped: only order tells who is meant
    Kind("phrase", "what shape is the C one but not the D one"),
    Kind("phrase", "what shape is not the D one but the C one"),
    Kind("pair", "is the C one left of the D one"),
    Kind("pair", "is the C one right of the D one"),
    Kind("pair", "is the C one the same shape as the D one"),
    Kind("nearest", "what shape is the one that is the closest to the C one"),
    Kind("nearest", "what shape is the one that is the furthest from the C one"),
    Kind("count", "how many others match C"),
    Kind("count", "how many others match the C one"),
)
_SHAPE, _LEFT, _RIGHT, _BUT_NOT, _NOT_BUT, _LEFT_OF, _RIGHT_OF, _SAME, _CLOSEST, _FURTHEST, _COUNT, _COUNT_ONE = range(
    len(KINDS)
)
_OF_FAMILY = tuple(np.array([index for index, kind in enumerate(KINDS) if kind.family == name]) for name in FAMILIES)
_C, _D = -1, -2


class Scenes(NamedTuple):
    """What is where, in whole numbers."""

    objects: Ints  # [n] how many
    colour: Ints  # [n, M], M objects at most; the others do not exist
    shape: Ints  # [n, M]
    place: Ints  # [n, M, 2] x and y in steps from 0 to SIDE


class Examples(NamedTuple):
    """Questions about scenes, as a model gets them, and what it is not told."""

    image: Floats  # [n, N, V], zero in padded slots
    regions: Ints  # [n] real regions
    words: Ints  # [n, T] numbers of words, 0 in padded slots
    word_count: Ints  # [n] real words
    answer: Ints  # [n] index into ANSWERS
    family: Ints  # [n] index into FAMILIES

    def take(self, rows: slice | Ints) -> "Examples":
        return Examples._make(field[rows] for field in self)


class Draws:
    """Whole numbers from the raw stream of PCG64.

    The stream is the same for ever; what numpy makes of it in its own distributions may change with a version.
    """

    def __init__(self, seed: tuple[int, ...]) -> None:
        self._stream = np.random.PCG64(np.random.SeedSequence(seed))

    def raw(self, *shape: int) -> npt.NDArray[np.uint64]:
        return np.asarray(self._stream.random_raw(shape), dtype=np.uint64)

    def below(self, limit: int | Ints, *shape: int) -> Ints:
        """Numbers of that shape, uniform from 0 to ``limit - 1`` with a bias under 2^-28.

        Args:
            limit: one for all, or ``[*shape]`` one for each.
            shape: as many are drawn, each by itself.
        """
        assert np.shape(limit) in ((), shape), "fewer draws than limits would be the same draw for several"
        high = self.raw(*shape) >> np.uint64(32)
        return ((high * np.asarray(limit, dtype=np.uint64)) >> np.uint64(32)).astype(np.int64)

    def normal(self, *shape: int) -> Floats:
        """Nearly standard normal, and never above 6: the sum of twelve bytes has a variance of 2^16 - 1."""
        size = int(np.prod(shape))
        quads = self.raw(-(-size * 12 // 8)).astype("<u8").view("<u4")[: size * 3].reshape(size, 3)
        low = np.uint32(0x00FF00FF)
        pairs = (quads & low) + (quads >> np.uint32(8) & low)  # two bytes summed in each half, without a carry
        halves = pairs[:, 0] + pairs[:, 1] + pairs[:, 2]
        total = ((halves & np.uint32(0xFFFF)) + (halves >> np.uint32(16))).astype(np.int32).reshape(shape)
        scaled: Floats = (total - 1530).astype(np.float32) / np.float32(65535**0.5)
        return scaled


class Questions(NamedTuple):
    """Scenes and a question about each, before anybody has seen or written anything."""

    scenes: Scenes
    kind: Ints  # [n] index into KINDS
    first: Ints  # [n] the object that C names
    second: Ints  # [n] the object that D names
    answer: Ints  # [n] index into ANSWERS
    family: Ints  # [n] index into FAMILIES


def generate(count: int, *, seed: tuple[int, ...], setting: Setting = STANDARD) -> Examples:
    """Examples with their families drawn uniformly.

    Args:
        count: examples to make.
        seed: any non-negative numbers; the same give the same arrays.
        setting: how large the scenes are.
    """
    draws = Draws(seed)
    asked = ask(draws, count, setting)
    words, word_count = write(draws, asked)
    image = _see(draws, asked.scenes, setting)
    return Examples(image, asked.scenes.objects, words, word_count, asked.answer, asked.family)


def ask(draws: Draws, count: int, setting: Setting) -> Questions:
    """Scenes and questions that fit.

    What does not (no clear answer, or a phrase whose two objects look alike) is drawn again inside its family.
    """
    families = np.array([FAMILIES.index(name) for name in setting.families])
    family = families[draws.below(families.size, count)]
    scenes = Scenes(*(np.zeros((count, *shape), dtype=np.int64) for shape in _scene_shapes(setting)))
    kind, first, second, answer = (np.zeros(count, dtype=np.int64) for _ in range(4))
    pending = np.arange(count)
    while pending.size:
        drawn = draw_scenes(draws, pending.size, setting)
        asked = _draw_kinds(draws, family[pending])
        one = draws.below(drawn.objects, pending.size)
        other = (one + 1 + draws.below(drawn.objects - 1, pending.size)) % drawn.objects
        found = answers(drawn, asked, one, other)
        accepted = (found >= 0) & (draws.below(2, pending.size) < acceptance(asked, found))
        rows = pending[accepted]
        for whole, part in zip((*scenes, kind, first, second, answer), (*drawn, asked, one, other, found), strict=True):
            whole[rows] = part[accepted]
        pending = pending[~accepted]
    return Questions(scenes, kind, first, second, answer, family)


def answers(scenes: Scenes, kind: Ints, first: Ints, second: Ints) -> Ints:
    """Index into ANSWERS of the answer to each scene's question, -1 where it has none that is clear.

    Args:
        scenes: n of them.
        kind: ``[n]`` index into KINDS.
        first: ``[n]`` the object that C names.
        second: ``[n]`` the object that D names.
    """
    shape, other_shape = _take(scenes.shape, first), _take(scenes.shape, second)
    x, other_x = _take(scenes.place[..., 0], first), _take(scenes.place[..., 0], second)
    real = np.arange(scenes.shape.shape[1]) < scenes.objects[:, None]
    answer = np.full(len(kind), -1, dtype=np.int64)

    rows = kind == _SHAPE
    answer[rows] = FIRST_SHAPE + shape[rows]
    for side, middle, sign in (
        (_LEFT, np.full_like(x, SIDE // 2), 1),
        (_RIGHT, np.full_like(x, SIDE // 2), -1),
        (_LEFT_OF, other_x, 1),
        (_RIGHT_OF, other_x, -1),
    ):
        lead = sign * (middle - x)
        rows = (kind == side) & (np.abs(lead) >= MARGIN)
        answer[rows] = np.where(lead[rows] > 0, YES, NO)
    rows = ((kind == _BUT_NOT) | (kind == _NOT_BUT)) & (shape != other_shape)
    answer[rows] = FIRST_SHAPE + shape[rows]
    rows = kind == _SAME
    answer[rows] = np.where(shape[rows] == other_shape[rows], YES, NO)
    rows = (kind == _COUNT) | (kind == _COUNT_ONE)
    alike = (real & (scenes.shape == shape[:, None])).sum(axis=1)
    answer[rows] = np.where(alike[rows] <= 10, FIRST_NUMBER + alike[rows] - 1, -1)  # 9 is the largest number

    rows = np.flatnonzero((kind == _CLOSEST) | (kind == _FURTHEST))
    steps = scenes.place[rows] - scenes.place[rows, first[rows]][:, None]
    distance = np.sqrt((steps * steps).sum(axis=-1).astype(np.float64))  # [n, M], correctly rounded everywhere
    distance *= np.where(kind[rows] == _CLOSEST, 1, -1)[:, None]
    distance[~real[rows]] = np.inf
    distance[np.arange(rows.size), first[rows]] = np.inf  # nobody is closest to itself, and no number says so but this
    order = np.argsort(distance, axis=1, kind="stable")
    best, next_best = (np.take_along_axis(distance, order[:, [rank]], axis=1)[:, 0] for rank in (0, 1))
    clear = next_best - best >= GAP
    answer[rows[clear]] = FIRST_SHAPE + scenes.shape[rows[clear], order[clear, 0]]
    return answer


def acceptance(kind: Ints, answer: Ints) -> Ints:
    """Halves in which a question with that answer is kept: one of two makes yes and no of ``same shape`` even."""
    return np.where((kind == _SAME) & (answer == NO), 1, 2)


def digest(examples: Examples) -> str:
    """SHA-256 of the arrays in little-endian order."""
    total = hashlib.sha256()
    for array in examples:
        total.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes())
    return total.hexdigest()


def text(words: Ints) -> str:
    """A question in words."""
    return " ".join(VOCABULARY[word] for word in words)


def _scene_shapes(setting: Setting) -> tuple[tuple[int, ...], ...]:
    return (), (setting.most,), (setting.most,), (setting.most, 2)


def draw_scenes(draws: Draws, count: int, setting: Setting) -> Scenes:
    objects = setting.fewest + draws.below(setting.most - setting.fewest + 1, count)
    colour = np.argsort(draws.raw(count, setting.colours), axis=1, kind="stable")[:, : setting.most]
    shape = draws.below(len(SHAPES), count, setting.most)
    place = draws.below(SIDE + 1, count, setting.most, 2)
    earlier = np.tri(setting.most, k=-1, dtype=np.bool_)
    rows = np.arange(count)
    while rows.size:
        x, y = (place[rows, :, None, axis] - place[rows, None, :, axis] for axis in (0, 1))  # [n, M, M]
        clash = ((x * x + y * y < APART * APART) & earlier).any(axis=2)  # [n, M]
        where, which = np.nonzero(clash)
        place[rows[where], which] = draws.below(SIDE + 1, where.size, 2)
        rows = rows[np.unique(where)]
    return Scenes(objects, colour.astype(np.int64), shape, place)


def _draw_kinds(draws: Draws, family: Ints) -> Ints:
    sizes = np.array([len(kinds) for kinds in _OF_FAMILY])
    starts = np.array([kinds[0] for kinds in _OF_FAMILY])
    return starts[family] + draws.below(sizes[family], family.size)


def _templates() -> tuple[Ints, Ints]:
    numbers = {word: number for number, word in enumerate(VOCABULARY)} | {"C": _C, "D": _D}
    rows = [[numbers[word] for word in kind.wording.split()] for kind in KINDS]
    table = np.zeros((len(rows), QUESTION_WORDS), dtype=np.int64)
    for row, written in zip(table, rows, strict=True):
        row[: len(written)] = written
    return table, np.array([len(row) for row in rows])


_TEMPLATE, _LENGTH = _templates()


def write(draws: Draws, asked: Questions) -> tuple[Ints, Ints]:
    """The questions in words, and how many words each has."""
    kind, colours = asked.kind, asked.scenes.colour
    colour, other_colour = _take(colours, asked.first), _take(colours, asked.second)
    fillers = draws.below(4, kind.size)
    filling = 1 + draws.below(len(FILLERS), kind.size, 3)
    slot = np.arange(QUESTION_WORDS) - fillers[:, None]  # [n, T] place in the template
    words = np.where(slot >= 0, np.take_along_axis(_TEMPLATE[kind], np.maximum(slot, 0), axis=1), 0)
    words = np.where(words == _C, FIRST_COLOUR + colour[:, None], words)
    words = np.where(words == _D, FIRST_COLOUR + other_colour[:, None], words)
    in_front = np.arange(3) < fillers[:, None]
    words[:, :3] = np.where(in_front, filling, words[:, :3])
    return words, _LENGTH[kind] + fillers


def _see(draws: Draws, scenes: Scenes, setting: Setting) -> Floats:
    count, objects = scenes.shape.shape
    image = np.zeros((count, setting.slots, setting.image_width), dtype=np.float32)
    seen = image[:, :objects]
    seen[..., : setting.colours] = scenes.colour[..., None] == np.arange(setting.colours)
    seen[..., setting.colours : -2] = scenes.shape[..., None] == np.arange(len(SHAPES))
    seen[..., -2:] = (scenes.place - SIDE // 2).astype(np.float32) / np.float32(SIDE // 2)
    if setting.noise:
        seen += draws.normal(*seen.shape) * np.float32(setting.noise)
    seen[np.arange(objects) >= scenes.objects[:, None]] = 0
    return image


def _take(table: npt.NDArray[Number], column: Ints) -> npt.NDArray[Number]:
    return table[np.arange(len(table)), column]
