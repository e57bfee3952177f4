"""The questions about handwritten digits are right: balanced, answerable from the pixels, and not from one side."""

import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from suite.ablation import datasets, digits, oracle, scenes
from suite.ablation.digits import ANSWERS, DIGITS, FAMILIES, WRITTEN, DigitDataset, generate, images
from suite.ablation.jobs import Training, attention, shape_of, work
from suite.ablation.model import Classifier
from suite.ablation.scenes import Examples
from suite.ablation.studies import Row
from suite.ablation.training import Recipe
from suite.core.errors import UserError
from suite.core.records import Measurement

# looked for and not loaded, which takes seconds, where other tests are all that runs
pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn has the images")


@pytest.fixture(scope="module")
def examples() -> Examples:
    return generate(4000, seed=(7,), setting=WRITTEN, of=images("test"))


def of(examples: Examples, family: str) -> Examples:
    return examples.take(np.flatnonzero(examples.family == FAMILIES.index(family)))


def test_the_arrays_are_the_same_on_every_platform() -> None:
    assert DigitDataset().digest() == "eb927b0d4581492894ce5e267eae9a4baf1cce73ab4cf05b9f003a511d859554"
    assert DigitDataset(examples=100).digest() == DigitDataset(examples=100).digest()


def test_no_image_is_for_two_purposes_and_every_digit_is_for_each() -> None:
    sheets = [images(name) for name in digits.SHEETS]
    assert sum(len(one.digit) for one in sheets) == 1797
    seen = [{row.tobytes() for row in one.pixels} for one in sheets]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 1797
    for one in sheets:
        assert np.bincount(one.digit, minlength=10).min() >= 28
        assert one.pixels.shape[1] == 64
        assert (one.pixels.min(), one.pixels.max()) == (0, 1)


def test_regions_are_images_of_their_own_purpose(examples: Examples) -> None:
    known = {pixels.tobytes() for pixels in images("test").pixels}
    for row in range(1000):
        for region in examples.image[row, : examples.regions[row], :64] * np.float32(8):
            assert region.tobytes() in known


def test_padding_is_empty_and_a_colour_refers_to_one_digit(examples: Examples) -> None:
    padded = np.arange(WRITTEN.slots) >= examples.regions[:, None]
    assert (examples.regions.min(), examples.regions.max()) == (4, 8)
    assert not examples.image[padded].any()
    for row in range(300):
        colours, seen = digits._look(examples.image[row, : examples.regions[row]], WRITTEN)
        assert len(set(colours)) == len(colours)
        assert len(set(seen)) <= 5  # three are shown; a few are taken for others


def test_answers_are_even_where_they_should_be(examples: Examples) -> None:
    size = len(examples.answer)
    assert np.bincount(examples.family) / size == pytest.approx([0.25] * 4, abs=4 * (0.19 / size) ** 0.5)
    phrase = of(examples, "phrase").answer
    tenths = pytest.approx(np.full(10, 0.1), abs=4 * (0.09 / len(phrase)) ** 0.5)
    assert np.bincount(phrase, minlength=len(ANSWERS))[2:] / len(phrase) == tenths
    assert set(of(examples, "pair").answer.tolist()) == {0, 1}
    assert set(of(examples, "count").answer.tolist()) <= {ANSWERS.index(name) for name in DIGITS[:8]}


def test_whoever_knows_each_digit_answers_everything() -> None:
    """With images whose digit can be read to the last one, those to learn from, nothing but close calls is lost."""
    clean = replace(WRITTEN, noise=0.0)
    known = generate(1500, seed=(3,), setting=clean, of=images("training"))
    assert (digits.recognised(known) == known.answer).all()


def test_nearest_neighbours_read_nearly_all_of_what_was_never_seen(examples: Examples) -> None:
    some = examples.take(slice(0, 1000))
    right = digits.recognised(some) == some.answer
    assert 0.9 < right.mean() < 1


def test_questions_are_written_about_digits(examples: Examples) -> None:
    said = {digits.text(words[:count]) for words, count in zip(examples.words, examples.word_count, strict=True)}
    assert any("what digit is the red one but not the" in one for one in said)
    assert not any("shape" in one for one in said)


def test_ceilings_bound_the_best_guess_without_the_image() -> None:
    asked = generate(40_000, seed=(12,), setting=replace(WRITTEN, slots=8), of=images("validation"))
    ceilings = DigitDataset().ceilings()
    colourless = np.where(asked.words >= scenes.FIRST_COLOUR, -1, asked.words)
    in_front = (asked.words > 0) & (asked.words <= len(scenes.FILLERS))
    wording = [tuple(row[~filler & (row != 0)]) for row, filler in zip(colourless, in_front, strict=True)]
    for family, name in enumerate(FAMILIES):
        tally: dict[tuple[int, ...], np.ndarray] = {}
        for row in np.flatnonzero(asked.family == family):
            tally.setdefault(wording[row], np.zeros(len(ANSWERS)))[asked.answer[row]] += 1
        best = sum(counts.max() for counts in tally.values()) / (asked.family == family).sum()
        assert ceilings["question only"][name] - 0.005 < best < ceilings["question only"][name] + 0.015, name
        assert ceilings["oracle"][name] > max(ceilings["question only"][name], ceilings["image only"][name]), name


def test_a_blindfolded_task_gives_away_no_more_of_the_image_than_the_scenes_do() -> None:
    given = DigitDataset().ceilings()["image only"]
    assert given == {name: oracle.image_only_ceilings()[name] for name in FAMILIES}


def test_a_training_learns_from_its_own_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(digits, "images", lambda sheets: used.append(sheets) or images(sheets))
    list(DigitDataset(steps=2).training(seed=0, epoch=0, batch=4))
    assert used == ["training"]


def test_digits_are_trained_tested_and_drawn_as_scenes_are(tmp_path) -> None:
    task = DigitDataset(steps=2, examples=60)
    recipe = Recipe(epochs=1, batch=8, learning_rate=0.01)
    job = Training(
        row=Row(variant="pool"), dataset=task, longer=None, recipe=recipe, seed=5, tunes=False, studies=("core",)
    )  # fmt: skip
    found = [one for one in work(job, tmp_path, "cpu", lambda _: None) if isinstance(one, Measurement)]
    tested = {(one.details["evaluation"], one.details["family"]) for one in found if one.quantity == "accuracy"}
    assert {("as_is", name) for name in ("all", *FAMILIES)} <= tested
    drawn = attention(Classifier("parallel", shape_of(task), width=16), replace(task, examples=500))["examples"]
    assert [one["family"] for one in drawn] == list(FAMILIES)
    assert all(set(one["shapes"]) <= set(DIGITS) and one["answer"] in ANSWERS for one in drawn)


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits.images.cache_clear()
    with pytest.raises(UserError, match=r"--data digits needs scikit-learn.*pip install -e '\.\[digits\]'"):
        datasets.opened("digits", None)
    with pytest.raises(UserError, match="digits needs no files"):
        datasets.opened("digits", "/somewhere")
