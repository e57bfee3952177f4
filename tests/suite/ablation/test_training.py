"""Training is plain and repeatable, and the four evaluations tell a leak from none."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from suite.ablation import jobs
from suite.ablation.dataset import show, trimmed
from suite.ablation.evaluation import WAYS, changed, evaluate
from suite.ablation.jobs import Training, attention, shape_of
from suite.ablation.model import LEAKY, Classifier, Inputs, inputs
from suite.ablation.scene_dataset import SceneDataset
from suite.ablation.scenes import Examples, generate
from suite.ablation.studies import Row
from suite.ablation.training import Diverged, Progress, Recipe, fit
from suite.core import store
from suite.core.records import Measurement, Skip

TASK = SceneDataset(steps=6, examples=120, easy_epochs=1)
RECIPE = Recipe(epochs=3, batch=16, learning_rate=0.003)


def make(name: str = "hierarchical", seed: int = 0) -> Classifier:
    return Classifier(name, shape_of(TASK), width=16, reads="words", seed=seed)


def weights(model: Classifier) -> list[torch.Tensor]:
    return [value.detach().clone() for value in model.state_dict().values()]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


class Killed(Exception):
    pass


def killed_after(epoch: int):
    def progress(state: Progress) -> None:
        if state.epoch == epoch:
            raise Killed

    return progress


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hierarchical", "hierarchical+bf16", "sound normalised"])
def test_a_killed_training_ends_where_an_unbroken_one_does_to_the_last_bit(name: str, tmp_path: Path) -> None:
    unbroken = make(name)
    losses = fit(unbroken, TASK, RECIPE, seed=1)
    checkpoint = tmp_path / "state.pt"
    for epoch in (1, 2):
        with pytest.raises(Killed):
            fit(make(name), TASK, RECIPE, seed=1, checkpoint=checkpoint, progress=killed_after(epoch))
    resumed = make(name)
    assert fit(resumed, TASK, RECIPE, seed=1, checkpoint=checkpoint) == losses
    assert same(weights(resumed), weights(unbroken))


def test_an_epoch_is_never_in_memory_as_a_whole() -> None:
    """Features of real images, some 40 MB a batch, would not fit."""
    in_memory = []

    class Watched(SceneDataset):
        def training(self, seed: int, epoch: int, batch: int) -> Iterator[Examples]:
            made: list[weakref.ref[np.ndarray]] = []
            for examples in super().training(seed, epoch, batch):
                made.append(weakref.ref(examples.image))
                in_memory.append(sum(array() is not None for array in made))
                yield examples

    fit(make(), Watched(steps=6, examples=120), Recipe(epochs=2, batch=16, learning_rate=0.003), seed=0)
    assert len(in_memory) == 12
    assert max(in_memory) == 2  # the one that was just learnt from, and the next


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["hierarchical", "pool", "hierarchical+bf16"])
def test_a_gpu_learns_what_a_cpu_does_and_resumes(name: str, tmp_path: Path) -> None:
    expected = fit(make(name), TASK, RECIPE, seed=1)
    checkpoint = tmp_path / "state.pt"
    with pytest.raises(Killed):
        fit(make(name).to("cuda"), TASK, RECIPE, seed=1, checkpoint=checkpoint, progress=killed_after(1))
    model = make(name).to("cuda")
    # sums in another order, over eighteen steps; in bf16 a weight moves by 2^-8 of itself or not at all
    assert fit(model, TASK, RECIPE, seed=1, checkpoint=checkpoint) == pytest.approx(expected, rel=2e-2)
    found = {way: evaluate(model, TASK, "test", way=way)[0].value for way in WAYS}
    assert found == pytest.approx(dict.fromkeys(WAYS, found["as_is"]), abs=0.05)
    assert len(attention(model, SceneDataset(examples=500))["examples"]) == len(TASK.families)


def test_the_seed_decides_weights_and_batches() -> None:
    assert same(weights(make(seed=3)), weights(make(seed=3)))
    assert not same(weights(make(seed=3)), weights(make(seed=4)))
    first, again, other = (next(iter(TASK.training(seed, 0, 8))).image for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, next(iter(TASK.training(1, 1, 8))).image)


def test_every_mechanism_sees_the_same_batches_and_the_leaky_port_starts_from_the_same_weights() -> None:
    sound, leaky = make(), make(LEAKY)
    assert [name for name, _ in sound.named_parameters()] == [name for name, _ in leaky.named_parameters()]
    assert same(weights(sound), weights(leaky))


def test_training_lowers_the_loss() -> None:
    losses = fit(
        make("pool"), SceneDataset(steps=30, easy_epochs=0), Recipe(epochs=4, batch=32, learning_rate=0.01), seed=0
    )
    assert losses[-1] < losses[0] - 0.2


def test_the_easy_beginning_is_easy_and_ends() -> None:
    easy, later = (next(iter(TASK.training(0, epoch, 64))) for epoch in (0, 1))
    assert set(easy.family) == {0}
    assert easy.regions.max() <= 4
    assert len(set(later.family)) == 5


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    model = make()
    with torch.no_grad():
        model.logits.bias[0] = float("nan")
    with pytest.raises(Diverged, match="the loss was nan in epoch 1"):
        fit(model, TASK, RECIPE, seed=0)


def test_changed_padding_changes_nothing_for_a_correct_mask_and_much_for_the_leaky_port() -> None:
    examples = trimmed(generate(60, seed=(5,)))

    def logits(model: Classifier, way: str) -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            return torch.cat([model(inputs(part)) for part in changed(examples, way)])

    sound, leaky = make(), make(LEAKY)
    for way in WAYS:
        moved = [(logits(model, way) - logits(model, "as_is")).abs().max().item() for model in (sound, leaky)]
        assert moved[0] < 1e-4, way  # float32 sums of a few hundred terms in another order
        assert way == "as_is" or moved[1] > 1e-2, way


def test_the_ways_change_what_they_say() -> None:
    examples = trimmed(generate(40, seed=(6,)))
    (noisy,) = changed(examples, "noise_in_pads")
    region = np.arange(examples.image.shape[1]) < examples.regions[:, None]
    assert np.array_equal(noisy.image[region], examples.image[region])
    assert (np.abs(noisy.image[~region]).max(axis=-1) > 0).all()
    word = np.arange(examples.words.shape[1]) < examples.word_count[:, None]
    assert np.array_equal(noisy.words[word], examples.words[word])
    assert (noisy.words[~word] > 0).all()
    (wide,) = changed(examples, "twice_the_width")
    assert wide.image.shape[1] == 2 * examples.image.shape[1]
    assert wide.words.shape[1] == 2 * examples.words.shape[1]
    alone = list(changed(examples, "alone"))
    assert [part.image.shape[1] for part in alone] == examples.regions.tolist()
    assert [part.words.shape[1] for part in alone] == examples.word_count.tolist()


def test_accuracy_is_taken_over_all_questions_and_over_each_family() -> None:
    found = {entry.family: entry for entry in evaluate(make("pool"), TASK, "test")}
    assert set(found) == {"all", *TASK.families}
    assert found["all"].examples == 120
    parts = [found[family] for family in TASK.families]
    assert sum(part.examples for part in parts) == 120
    mean = sum(part.value * part.examples for part in parts) / 120
    assert found["all"].value == pytest.approx(mean)
    assert {entry.examples for entry in evaluate(make("pool"), TASK, "test", most=50) if entry.family == "all"} == {50}


def test_a_blindfold_hides_its_side_and_only_that() -> None:
    examples = trimmed(generate(30, seed=(8,)))
    model = make("hierarchical")
    model.eval()

    def logits(sight: str, source=examples) -> torch.Tensor:
        with torch.no_grad():
            return model(inputs(show(source, sight)))

    repainted = examples._replace(image=examples.image + 1)
    reworded = examples._replace(words=np.maximum(examples.words - 1, 0))
    assert torch.equal(logits("question_only"), logits("question_only", repainted))
    assert not torch.equal(logits("question_only"), logits("question_only", reworded))
    assert torch.equal(logits("image_only"), logits("image_only", reworded))
    assert not torch.equal(logits("image_only"), logits("image_only", repainted))
    shown = show(examples, "other_image")
    assert np.array_equal(shown.image[1], examples.image[0])
    assert np.array_equal(shown.words, examples.words)


@pytest.mark.parametrize("name", ["flow", "dynamic", "bags", "published_coatt[corrected=true]"])
def test_sides_that_come_back_in_two_widths_or_few_tokens_are_trained_on(name: str) -> None:
    first, last = fit(make(name), TASK, Recipe(epochs=2, batch=16, learning_rate=0.003), seed=0)
    assert last < first


def test_attention_is_kept_for_one_question_of_each_family() -> None:
    kept = attention(make(), SceneDataset(examples=500))
    assert [example["family"] for example in kept["examples"]] == list(TASK.families)
    for example in kept["examples"]:
        assert len(example["image_weights"]) == 3
        for rows, slots in (("image_weights", "places"), ("question_weights", "words")):
            for row in example[rows]:
                assert len(row) == len(example[slots])
                assert sum(row) == pytest.approx(1, abs=1e-3)  # rounded to four digits


def test_attention_of_code_that_needs_a_full_row_is_kept_as_well() -> None:
    assert len(attention(make("published_csdn"), SceneDataset(examples=500))["examples"]) == len(TASK.families)


def test_a_picture_that_cannot_be_drawn_costs_no_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no row is full")

    monkeypatch.setattr(jobs, "attention", fails)
    row = Row(variant="pool", reads="words", width=16)
    job = Training(
        row=row, dataset=TASK, longer=None, recipe=RECIPE, seed=5, tunes=False, studies=("core",), pictured=True
    )
    records = jobs.work(job, tmp_path, "cpu", lambda _: None)
    assert sum(record.quantity == "accuracy" for record in records if isinstance(record, Measurement)) == 30
    assert [record.reason for record in records if isinstance(record, Skip)] == [
        "its attention cannot be drawn: no row is full"
    ]
    assert job.name in store.finished(records)


@pytest.mark.parametrize("name", ["hierarchical+bf16", "hierarchical+amp_bf16"])
def test_half_precision_trains_through_float32_copies(name: str) -> None:
    model = make(name)
    before = weights(model)
    losses = fit(model, TASK, Recipe(epochs=2, batch=16, learning_rate=0.003), seed=0)
    assert all(np.isfinite(losses))
    assert not same(before, weights(model))
    assert isinstance(model(inputs(trimmed(generate(4, seed=(1,))))), torch.Tensor)


def test_inputs_take_validity_from_counts() -> None:
    examples = generate(5, seed=(1,))
    given: Inputs = inputs(examples)
    assert given.image_valid.sum(-1).tolist() == examples.regions.tolist()
    assert given.question_valid.sum(-1).tolist() == examples.word_count.tolist()
