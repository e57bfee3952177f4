"""VQA v2 from disk: the official questions and annotations, region features in the formats in use, official scores.

Expected in one folder, each checked before any training::

    v2_OpenEnded_mscoco_{train,val}2014_questions.json
    v2_mscoco_{train,val}2014_annotations.json
    and the regions of each of the two parts, in one of the forms that `suite.ablation.features` reads
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from suite.ablation import features
from suite.ablation.dataset import Dataset, Graded, Split
from suite.ablation.features import Regions
from suite.ablation.scenes import Draws, Examples, Ints
from suite.core.errors import UserError
from suite.core.records import shown, visible

FAMILIES = ("yes/no", "number", "other")
"""The official types of answers."""
UNKNOWN = 1
"""Number of a word that training never showed; 0 is padding."""
LONGEST_QUESTION = 20
MOST_IMAGES = 10**12
"""The names of the files have so many digits."""
_LARGEST_JSON_B = 2**31
HELD_OUT = 50
"""Training images whose number this divides are kept for choosing learning rates."""
MOST_IN_MEMORY = 128
"""Examples per evaluated batch: a hundred regions of 2048 numbers each are 100 MiB."""

_DIGITS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {word: str(digit) for digit, word in enumerate(_DIGITS.split())} | {"none": "0"}
_ARTICLES = {"a", "an", "the"}
_CONTRACTED = """
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't oughtn't
    shan't shouldn't wasn't weren't won't wouldn't
    he'd how'd it'd someone'd something'd there'd they'd where'd who'd you'd
    how'll it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll
    could've might've must've not've should've they've we've what've where've who've would've you've
    there're they're what're why're you're
    he's how's somebody's someone's that's there's what's when's where's who's why's
    ma'am o'clock 'twas y'all y'all'll y'all'd've 'ow's'at
    couldn't've hadn't've mightn't've shouldn't've wouldn't've
    he'd've it'd've she'd've somebody'd've someone'd've something'd've there'd've they'd've we'd've who'd've you'd've
"""
_CONTRACTIONS = {
    word[:index] + word[index + 1 :]: word
    for word in _CONTRACTED.split()
    for index, mark in enumerate(word)
    if mark == "'"
} | {"somebody'd": "somebodyd"}
"""From a word that lacks one apostrophe to the whole; the last is the official script's, and the wrong way round."""
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'


@cache
def normalise(answer: str) -> str:
    """A predicted answer as the official script compares it: without marks and articles, with digits and apostrophes.

    Only the words that the script knows get their apostrophe back: ``dont`` does, ``im`` does not. As ``vqaEval.py`` of
    GT-Vision-Lab/VQA, commit c4e6a0e.
    """
    text = without_marks(answer.replace("\n", " ").replace("\t", " ").strip())
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


@cache
def without_marks(answer: str) -> str:
    """An answer without punctuation, which is all that the official script does to those of annotators.

    A mark is dropped where it stands beside a space anywhere in the answer, or where a comma parts two digits;
    otherwise a space takes its place. A point stays before a digit.
    """
    text = plain = answer
    parts_digits = re.search(r"\d,\d", plain) is not None
    for mark in _PUNCTUATION:
        beside_space = f"{mark} " in plain or f" {mark}" in plain
        text = text.replace(mark, "" if beside_space or parts_digits else " ")
    return re.sub(r"\.(?!\d)", "", text)


def credit(answers: Sequence[str]) -> dict[str, float]:
    """What each normalised prediction earns: 1, 2, 3 and 4 of ten annotators who agree with it make .3, .6, .9 and 1.

    Each annotator in turn is left out, and a third of a point given for each of the others who agrees, one at most.
    As in the official script, annotators' answers lose their punctuation alone, and not even that where all ten are
    the same: ``two`` is never what a prediction, whose numbers are digits, is found equal to.
    """
    given = list(answers) if len(set(answers)) == 1 else [without_marks(answer) for answer in answers]
    return {
        answer: sum(min(1.0, (count - (other == answer)) / 3) for other in given) / len(given)
        for answer, count in Counter(given).items()
    }


def words_of(question: str) -> list[str]:
    """The words of a question in lower case, a possessive or contracted ending apart."""
    return re.findall(r"\d+(?:\.\d+)?|'?[^\W\d_]+", question.lower())


class Part(NamedTuple):
    """Questions of the training or the validation part, in the order of their file."""

    image_id: Ints  # [n]
    words: Ints  # [n, T] numbers of words, 0 in padded slots
    word_count: Ints  # [n]
    answer: Ints  # [n] class of the commonest answer, -1 where it is none
    family: Ints  # [n]
    earned: tuple[Mapping[int, float], ...]
    """Per question, class to credit."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Everything but the features."""

    train: Part
    held_out: Part
    val: Part
    vocabulary: tuple[str, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Vqa2Dataset(Dataset):
    """Training on the train part, learning rates chosen on images held out of it, tests on the val part."""

    epochs = 10
    batch = 128
    scale = 8  # 512 for most rows, as in the paper
    files = "the official files and the features"

    root: str
    most_answers: int = 3000
    """Classes: the commonest answers of the training part."""

    @classmethod
    def at(cls, root: str | None) -> Self:
        assert root is not None
        return cls(root=root)

    @property
    def name(self) -> str:
        return "vqa2"

    @property
    def families(self) -> tuple[str, ...]:
        return FAMILIES

    @property
    def image_width(self) -> int:
        return self.regions("train").width

    @property
    def vocabulary(self) -> int:
        return len(self.corpus.vocabulary)

    @property
    def classes(self) -> int:
        return len(self.corpus.answers)

    @property
    def corpus(self) -> Corpus:
        return _corpus(self.root, self.most_answers)

    def regions(self, part: str) -> Regions:
        """Features of the train or val part.

        Raises:
            UserError: they are missing or cannot be read.
        """
        return _regions(self.root, part)

    def check(self) -> str:
        """Read everything but the features, and find the features of every image.

        Raises:
            UserError: naming the file, and the record in it, that is missing, torn or does not fit.
        """
        corpus = self.corpus
        for name, part in (("train", corpus.train), ("train", corpus.held_out), ("val", corpus.val)):
            self.regions(name).check(np.unique(part.image_id))
        if self.regions("train").width != self.regions("val").width:
            raise UserError(
                f"regions of train are {self.regions('train').width} wide, of val {self.regions('val').width}: "
                "expected the same extractor for both"
            )
        return (
            f"{len(corpus.train.answer)} questions to learn from, {len(corpus.val.answer)} to be tested on, "
            f"{self.vocabulary} words, {self.classes} answers, regions of {self.image_width} numbers read from disk by "
            "the batch"
        )

    def training(self, seed: int, epoch: int, batch: int) -> Iterator[Examples]:
        part = self.corpus.train
        usable = np.flatnonzero(part.answer >= 0)
        order = usable[np.argsort(Draws((3, seed, epoch)).raw(usable.size), kind="stable")]
        for start in range(0, order.size, batch):
            yield _examples(part, order[start : start + batch], self.regions("train"))

    def batches(self, batch: int) -> int:
        return -(-int((self.corpus.train.answer >= 0).sum()) // batch)

    def evaluation(self, split: Split, batch: int) -> Iterator[Graded]:
        name, part = ("train", self.corpus.held_out) if split == "validation" else ("val", self.corpus.val)
        step = min(batch, MOST_IN_MEMORY)
        # the files hold questions of one image together, where "the image of another example" would be the same
        order = np.argsort(Draws((4,)).raw(len(part.answer)), kind="stable")
        for start in range(0, order.size, step):
            rows = order[start : start + step]
            earned = np.zeros((rows.size, self.classes), dtype=np.float32)
            for row, index in enumerate(rows):
                for answer, value in part.earned[index].items():
                    earned[row, answer] = value
            yield Graded(_examples(part, rows, self.regions(name)), earned)

    def digest(self) -> str:
        total = hashlib.sha256()
        val = self.corpus.val
        for array in (val.image_id, val.words, val.answer):
            total.update(np.ascontiguousarray(array.astype("<i8")).tobytes())
        return total.hexdigest()


def _examples(part: Part, rows: Ints, regions: Regions) -> Examples:
    image, count = regions.read(part.image_id[rows])
    longest = int(part.word_count[rows].max())
    return Examples(
        image, count, part.words[rows, :longest], part.word_count[rows], part.answer[rows], part.family[rows]
    )


@cache
def _regions(root: str, part: str) -> Regions:
    return features.find(Path(root), part)


@cache
def _corpus(root: str, most_answers: int) -> Corpus:
    train, val = (_questions(Path(root), part) for part in ("train", "val"))
    seen = Counter(word for row in train for word in words_of(row.question))
    vocabulary = ("<pad>", "<unknown>", *sorted(seen))
    common = Counter(normalise(row.commonest) for row in train).most_common(most_answers)
    answers = tuple(answer for answer, _ in common)
    held = [row.image_id % HELD_OUT == 0 for row in train]
    numbers = {word: number for number, word in enumerate(vocabulary)}
    classes = {answer: index for index, answer in enumerate(answers)}
    kept = [row for row, out in zip(train, held, strict=True) if not out]
    if not kept:
        raise UserError(
            f"{root}: every training image is held out; expected images whose number {HELD_OUT} divides not"
        )
    return Corpus(
        train=_part(kept, numbers, classes),
        held_out=_part([row for row, out in zip(train, held, strict=True) if out] or kept[:1], numbers, classes),
        val=_part(val, numbers, classes),
        vocabulary=vocabulary,
        answers=answers,
    )


class _Question(NamedTuple):
    image_id: int
    question: str
    family: int
    commonest: str
    earned: dict[str, float]


def _part(rows: Sequence[_Question], numbers: Mapping[str, int], classes: Mapping[str, int]) -> Part:
    words = np.zeros((len(rows), LONGEST_QUESTION), dtype=np.int64)
    counts = np.zeros(len(rows), dtype=np.int64)
    for index, row in enumerate(rows):
        # something was asked, if only "?": no row is empty, and no batch without a column of words
        said = [numbers.get(word, UNKNOWN) for word in words_of(row.question)][:LONGEST_QUESTION] or [UNKNOWN]
        words[index, : len(said)] = said
        counts[index] = len(said)
    return Part(
        np.array([row.image_id for row in rows], dtype=np.int64),
        words,
        counts,
        np.array([classes.get(normalise(row.commonest), -1) for row in rows], dtype=np.int64),
        np.array([row.family for row in rows], dtype=np.int64),
        tuple({classes[answer]: value for answer, value in row.earned.items() if answer in classes} for row in rows),
    )


def _questions(root: Path, part: str) -> list[_Question]:
    questions_file = root / f"v2_OpenEnded_mscoco_{part}2014_questions.json"
    annotations_file = root / f"v2_mscoco_{part}2014_annotations.json"
    asked: dict[int, tuple[int, str]] = {}
    for where, row in _rows(questions_file, "questions"):
        number = _field(row, "question_id", int, where)
        if number in asked:
            raise UserError(f"{where}: question_id {number} is there twice")
        image = _field(row, "image_id", int, where)
        if not (0 <= image < MOST_IMAGES and abs(number) < 2**63):
            raise UserError(
                f"{where}: image_id {shown(image)}, question_id {shown(number)}; expected 12 digits at most"
            )
        asked[number] = image, _field(row, "question", str, where)
    found, answered = [], set()
    for where, row in _rows(annotations_file, "annotations"):
        number = _field(row, "question_id", int, where)
        if number not in asked:
            raise UserError(f"{where}: question_id {number} is not in {questions_file.name}")
        image, question = asked[number]
        if _field(row, "image_id", int, where) != image:
            raise UserError(f"{where}: image_id {row['image_id']}, but {questions_file.name} asks about image {image}")
        if number in answered:
            raise UserError(f"{where}: question_id {number} is there twice")
        answered.add(number)
        kind = _field(row, "answer_type", str, where)
        if kind not in FAMILIES:
            raise UserError(f"{where}: answer_type {kind!r}; expected one of {', '.join(FAMILIES)}")
        answers = [_field(answer, "answer", str, where) for answer in _field(row, "answers", list, where)]
        if len(answers) != 10:
            raise UserError(f"{where}: {len(answers)} answers; expected 10")
        commonest = _field(row, "multiple_choice_answer", str, where)
        found.append(_Question(image, question, FAMILIES.index(kind), commonest, credit(answers)))
    if len(found) != len(asked):
        missing = next(number for number in asked if number not in answered)
        raise UserError(f"{annotations_file}: no annotation for question_id {missing} of {questions_file.name}")
    return found


def _rows(path: Path, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of the list under the key, with words for where it stands."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no ordinary file: --root has to hold the official VQA v2 files")
        if path.stat().st_size > _LARGEST_JSON_B:
            raise UserError(f"{path} is far larger than the official file")
        with path.open(encoding="utf-8") as file:
            whole = json.load(file)
    except OSError as error:
        there = "cannot be read" if path.exists() else "is not there"
        raise UserError(f"{path} {there}: --root has to hold the official VQA v2 files") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not whole JSON: {visible(str(error))}") from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: nested too deeply, or a number too long, to be the official file") from error
    rows = whole.get(key) if isinstance(whole, dict) else None
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: no list under {key!r}; expected the official file")
    for index, row in enumerate(rows):
        where = f"{path}: {key}[{index}]"
        if not isinstance(row, dict):
            raise UserError(f"{where}: {type(row).__name__}; expected an object")
        yield where, row


def _field(row: Any, key: str, kind: type, where: str) -> Any:
    value = row.get(key) if isinstance(row, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise UserError(f"{where}: {key!r} is {shown(value)}; expected {kind.__name__}")
    return value
