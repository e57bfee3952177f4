"""A loader's habits change how examples come in batches, and nothing that a question is about."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from suite.ablation.dataset import Graded, trimmed
from suite.ablation.evaluation import evaluate
from suite.ablation.jobs import Training, shape_of, work
from suite.ablation.loading import PLAIN, Loading, loaded
from suite.ablation.model import LEAKY, Classifier, inputs
from suite.ablation.scene_dataset import SceneDataset
from suite.ablation.scenes import Examples
from suite.ablation.studies import Row, study
from suite.ablation.training import Recipe, fit
from suite.core.records import Measurement

TASK = SceneDataset(steps=20, examples=320)
HABITS = [
    PLAIN, Loading(by_length=True), Loading(left_over=True), Loading(jitter=True),
    Loading(by_length=True, left_over=True, jitter=True),
]  # fmt: skip
NAMED = pytest.mark.parametrize("loading", HABITS, ids=lambda loading: "-".join(loading.notes) or "plain")


def drawn() -> list[Graded]:
    return list(TASK.evaluation("test", 16))


def questions(batches: list[Graded]) -> Counter[tuple[bytes, bytes, int, bytes]]:
    """Every example by what is real of it."""
    return Counter(
        (
            one.image[row, : one.regions[row]].tobytes(), one.words[row, : one.word_count[row]].tobytes(),
            int(one.answer[row]), credit[row].tobytes(),
        )
        for one, credit in batches
        for row in range(len(one.answer))
    )  # fmt: skip


def pads(examples: Examples) -> np.ndarray:
    return examples.image[np.arange(examples.image.shape[1]) >= examples.regions[:, None]]


@NAMED
def test_every_question_comes_once_with_its_answer_whatever_the_habits(loading: Loading) -> None:
    made = list(loaded(drawn(), loading, batch=16, seed=(3,)))
    assert questions(made) == questions(drawn())
    assert {len(one.examples.answer) for one in made} == {16}
    again = list(loaded(drawn(), loading, batch=16, seed=(3,)))
    assert all(
        one.tobytes() == other.tobytes()
        for left, right in zip(made, again, strict=True)
        for one, other in zip(left.examples, right.examples, strict=True)
    )


def test_without_habits_batches_are_the_ones_that_were_drawn() -> None:
    given = drawn()
    assert list(loaded(given, PLAIN, batch=16, seed=(0,))) == given


def test_batches_by_length_are_of_few_lengths_and_in_no_order() -> None:
    made = [one.examples for one in loaded(drawn(), Loading(by_length=True), batch=16, seed=(3,))]
    assert max(len(set(one.regions.tolist())) for one in made) <= 3
    assert np.mean([one.image.shape[1] for one in made]) < np.mean([one.examples.image.shape[1] for one in drawn()])
    longest = [one.regions.max() for one in made[:10]]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_what_a_loader_leaves_in_a_pad_is_what_stood_there_before() -> None:
    made = [one.examples for one in loaded(drawn(), Loading(left_over=True), batch=16, seed=(3,))]
    assert not pads(made[0]).any()
    for before, after in itertools.pairwise(made):
        width = min(before.image.shape[1], after.image.shape[1])
        padded = np.arange(width) >= after.regions[:, None]
        assert (after.image[:, :width][padded] == before.image[:, :width][padded]).all()
        width = min(before.words.shape[1], after.words.shape[1])
        padded = np.arange(width) >= after.word_count[:, None]
        assert (after.words[:, :width][padded] == before.words[:, :width][padded]).all()
    assert pads(made[-1]).any()


def test_a_short_last_batch_leaves_the_rest_of_the_buffer_as_it_was() -> None:
    first, second, third = drawn()[:3]
    short = Graded(trimmed(second.examples.take(slice(0, 5))), second.credit[:5])
    made = list(loaded([first, short, third], Loading(left_over=True), batch=16, seed=(0,)))
    assert [len(one.examples.answer) for one in made] == [16, 5, 16]
    assert questions(made) == questions([first, short, third])


def test_a_jittered_batch_is_up_to_twice_as_wide() -> None:
    widths = [
        (one.examples.image.shape[1] / before.examples.image.shape[1])
        for before, one in zip(drawn(), loaded(drawn(), Loading(jitter=True), batch=16, seed=(3,)), strict=True)
    ]
    assert (min(widths), max(widths)) >= (1, 1.5)
    assert max(widths) <= 2
    assert len(set(widths)) > 3


def answers(model: Classifier, loading: Loading) -> dict[bytes, torch.Tensor]:
    """Logits by what is real of a question."""
    found = {}
    for examples, _ in loaded(drawn(), loading, batch=16, seed=(3,)):
        with torch.no_grad():
            logits = model.eval()(inputs(examples))
        for row in range(len(examples.answer)):
            real = examples.image[row, : examples.regions[row]].tobytes()
            found[real + examples.words[row, : examples.word_count[row]].tobytes()] = logits[row]
    return found


@pytest.mark.parametrize("loading", HABITS[1:], ids=lambda loading: "-".join(loading.notes))
def test_a_correct_mask_answers_alike_whatever_the_habits_and_a_leaking_one_does_not(loading: Loading) -> None:
    for name, moves in (("hierarchical", False), (LEAKY, True)):
        model = Classifier(name, shape_of(TASK), width=16, reads="question", seed=0)
        plain, found = (answers(model, one) for one in (PLAIN, loading))
        most = max(float((plain[question] - found[question]).abs().max()) for question in plain)
        assert (most > 1e-3) == moves, (name, most)


def test_a_training_and_a_test_see_what_the_loader_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Classifier("pool", shape_of(TASK), width=16, reads="words", seed=0)
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].image.shape[1]))
    recipe = Recipe(epochs=1, batch=16, learning_rate=0.003)
    fit(model, TASK, recipe, seed=0, loading=Loading(jitter=True))
    assert max(seen) > 10
    seen.clear()
    evaluate(model, TASK, "test", loading=Loading(by_length=True))
    assert len(seen) == 5
    assert len(set(seen)) > 1


def test_a_row_says_the_habits_of_its_loader_and_chooses_a_learning_rate_for_them() -> None:
    for variant in ("hierarchical", LEAKY, "cross-image_attention"):
        row = Row(variant=variant, loading=Loading(by_length=True))
        assert row.label == f"{variant} (bucketed by length)"
        assert row.tuned_as == Row(variant=variant.removesuffix("-image_attention"), loading=row.loading)
        assert Row(variant=variant).label == variant


def test_the_study_of_deployment_answers_in_small_batches_and_beside_others(tmp_path: Path) -> None:
    asked = study("deployment")
    assert {entry.row.variant for entry in asked.rows} == {"hierarchical", LEAKY}
    assert all(entry.parent is None or entry.parent.loading == entry.row.loading for entry in asked.rows)
    (row,) = (entry.row for entry in asked.rows if entry.row.variant == LEAKY and entry.row.loading.by_length)
    small = replace(TASK, steps=2, examples=80)
    job = Training(row=replace(row, width=16), dataset=small, longer=None, seed=5, tunes=False, studies=("deployment",),
              recipe=Recipe(epochs=1, batch=16, learning_rate=0.003), deployed=asked.deployed)  # fmt: skip
    found = [one for one in work(job, tmp_path, "cpu", lambda _: None) if isinstance(one, Measurement)]
    tested = {one.details["evaluation"]: one.details["examples"] for one in found
              if one.quantity == "accuracy" and one.details["family"] == "all"}  # fmt: skip
    assert set(tested) == {"as_is", "noise_in_pads", "twice_the_width", "as_is_of_alone", "alone", "in_eights",
                           "other_mates"}  # fmt: skip
    assert set(tested.values()) == {80}
