"""One training at a time: tune a learning rate, or train a row with one seed and test it four ways."""

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from suite.ablation.dataset import Dataset, trimmed
from suite.ablation.evaluation import ALONE, Accuracy, Way, evaluate
from suite.ablation.loading import Loading
from suite.ablation.model import Classifier, Shape, inputs
from suite.ablation.studies import Row
from suite.ablation.training import Diverged, Progress, Recipe, fit
from suite.core import trained
from suite.core.records import Artifact, Measurement, Record, encode
from suite.core.records import Skip as Skipped
from suite.execution.jobs import Announcement, Site
from variants import Skip

TUNING_SEED = 1000
"""Learning rates are chosen on weights and batches of their own: with this seed, and those after it."""

_RAISED = (RuntimeError, ValueError, IndexError)
"""What code of others raises on shapes that it was not written for."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training."""

    row: Row
    dataset: Dataset
    longer: Dataset | None
    """A data set to be tested on as well."""
    recipe: Recipe
    seed: int
    tunes: bool
    studies: tuple[str, ...]
    """The studies for which its results count."""
    deployed: bool = False
    """Whether it answers in small batches and beside others as well."""
    pictured: bool = False
    """Whether its attention maps are kept."""

    @property
    def alone(self) -> bool:
        """Trainings bear company: nothing in them is timed to be compared."""
        return False

    @property
    def model(self) -> str:
        """Any model of device will do: which one it was stands in the records."""
        return ""

    @property
    def name(self) -> str:
        """The unit of loss and of resume."""
        what = f"seed {self.seed}"
        if self.tunes:  # a rate is tried with this one seed first
            what = f"tune {self.recipe.learning_rate:g}" + (f" {what}" if self.seed != TUNING_SEED else "")
        return f"ablate {self.dataset.name} {self.row.label} {what}"

    @property
    def file(self) -> str:
        """A name for its files."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.removeprefix("ablate ")).strip("-")

    def checkpoint(self, folder: Path) -> Path:
        """Where an unfinished training is kept in a run folder; one at another learning rate is another."""
        return folder / "checkpoints" / f"{self.file}-{self.recipe.learning_rate:g}.pt"


def train(what: tuple[Training, str], site: Site, at: Announcement) -> Iterator[str]:
    """A training in a process of its own, on one thread: announces the epochs that are done, and yields records.

    Args:
        what: the training, and the device.
        site: where its checkpoint and its attention maps go.
        at: the number of epochs that are done.
    """
    job, device = what
    torch.set_num_threads(1)
    at.value = 0

    def announce(progress: Progress) -> None:
        at.value = progress.epoch

    yield from map(encode, work(job, site.folder, device, announce))


def work(job: Training, folder: Path, device: str, progress: Callable[[Progress], None]) -> list[Record]:
    """Train and test; what fails becomes a record.

    A training that failed, and not because its variant may refuse such shapes, has no ``task_time``: it is not
    finished, and resuming tries it again from its checkpoint.

    Args:
        job: what to train.
        folder: the run folder, for checkpoints and attention maps.
        device: where to train.
        progress: told after every epoch.
    """
    started = time.perf_counter()
    checkpoint = job.checkpoint(folder)
    checkpoint.parent.mkdir(exist_ok=True)
    try:
        model = classifier(job, device)
        losses = fit(
            model,
            job.dataset,
            job.recipe,
            seed=job.seed,
            sight=job.row.sight,
            loading=job.row.loading,
            checkpoint=checkpoint,
            progress=progress,
        )
        records = _tuned(job, model, device) if job.tunes else _tested(job, model, losses[-1], device)
        if not job.tunes and _is_pictured(job):
            records.append(_picture(job, model, folder, device))
    except Skip as skip:
        records = [_skip(job, str(skip), device)]
    except Diverged as error:
        records = [_skip(job, f"training diverged: {error}", device)]
    except _RAISED as error:
        said = f"raised: {_first_line(error)}"
        if not job.row.may_refuse:
            return [_skip(job, said, device, cause="error")]
        records = [_skip(job, said, device)]
    took = Measurement(
        task=job.name,
        variant=job.row.variant,
        device=device,
        quantity="task_time",
        unit="s",
        value=time.perf_counter() - started,
        details={"data": job.dataset.name, "row": job.row.label, "epochs": job.recipe.epochs},
    )
    return [*records, took]


def classifier(job: Training, device: str) -> Classifier:
    """The untrained classifier of a job.

    Raises:
        ValueError: the variant does not exist.
        Skip: it cannot be had here.
    """
    model = Classifier(job.row.variant, shape_of(job.dataset), width=job.row.width, reads=job.row.reads, seed=job.seed)
    return model.to(device)


def shape_of(dataset: Dataset) -> Shape:
    """What a data set fixes of its classifiers."""
    return Shape(image_width=dataset.image_width, vocabulary=dataset.vocabulary, classes=dataset.classes)


def _tuned(job: Training, model: Classifier, device: str) -> list[Record]:
    overall = evaluate(model, job.dataset, "validation", loading=_in_a_test(job.row.loading))[0]
    told = trained.Tuning(
        data=job.dataset.name,
        row=job.row.label,
        learning_rate=job.recipe.learning_rate,
        epochs=job.recipe.epochs,
        seed=job.seed,
        examples=overall.examples,
    )
    return [_measurement(job, device, overall.value, told)]


def _in_a_test(loading: Loading) -> Loading:
    """The width of a batch varies in training alone."""
    return replace(loading, jitter=False)


def _tested(job: Training, model: Classifier, loss: float, device: str) -> list[Record]:
    data, row, seed, sight = job.dataset.name, job.row.label, job.seed, job.row.sight
    told = trained.Loss(data=data, row=row, seed=seed, learning_rate=job.recipe.learning_rate)
    records: list[Record] = [_measurement(job, device, loss, told)]
    own = _in_a_test(job.row.loading)

    def measured(way: Way = "as_is", *, most: int | None = None, loading: Loading = own) -> list[Accuracy]:
        return evaluate(model, job.dataset, "test", way=way, sight=sight, most=most, loading=loading)

    ways: list[tuple[str, Callable[[], list[Accuracy]]]] = [
        ("as_is", measured),
        ("noise_in_pads", lambda: measured("noise_in_pads")),
        ("twice_the_width", lambda: measured("twice_the_width")),
        # the same thousand in company and alone
        ("as_is_of_alone", lambda: measured(most=ALONE)),
        ("alone", lambda: measured("alone", most=ALONE)),
    ]
    if job.deployed:
        others = replace(own, by_length=not own.by_length)
        ways += [
            ("in_eights", lambda: measured("in_eights", most=ALONE)),
            ("other_mates", lambda: measured(loading=others)),
        ]
    longer = job.longer
    if longer is not None:
        ways.append(("longer", lambda: evaluate(model, longer, "test", sight=sight, loading=own)))
    for name, measure in ways:
        try:
            accuracies = measure()
        except _RAISED as error:
            if not job.row.may_refuse:
                raise
            records.append(_skip(job, f"raises on {name.replace('_', ' ')}: {_first_line(error)}", device))
            continue
        for study, accuracy in itertools.product(job.studies, accuracies):
            one = trained.Accuracy(
                data=data,
                study=study,
                row=row,
                seed=seed,
                family=accuracy.family,
                evaluation=name,
                examples=accuracy.examples,
            )
            records.append(_measurement(job, device, accuracy.value, one))
    return records


def _is_pictured(job: Training) -> bool:
    return job.pictured and job.row.sight == "both" and job.dataset.is_drawn


def _picture(job: Training, model: Classifier, folder: Path, device: str) -> Artifact | Skipped:
    try:
        drawn = attention(model, job.dataset)
    except _RAISED as error:
        return _skip(job, f"its attention cannot be drawn: {_first_line(error)}", device)
    path = folder / "attention" / f"{job.file}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(drawn | {"row": job.row.label}) + "\n", encoding="utf-8")
    return Artifact(
        task=job.name, variant=job.row.variant, quantity="attention", path=path.relative_to(folder).as_posix()
    )


def attention(model: Classifier, dataset: Dataset) -> dict[str, object]:
    """The weights of one test question per family, with all that a drawing of them needs, as plain data."""
    examples = next(dataset.evaluation("test", 500)).examples
    rows = np.array([int(np.flatnonzero(examples.family == family)[0]) for family in range(len(dataset.families))])
    chosen = trimmed(examples.take(rows))
    given = inputs(chosen, model.device)
    model.eval()
    with torch.no_grad():
        attended = model.attend(given)
        predicted = model(given).argmax(dim=-1).tolist()
    pictures = []
    for row, family in enumerate(dataset.families):
        regions, words = int(chosen.regions[row]), int(chosen.word_count[row])
        pictures.append(
            {
                "family": family,
                **dataset.picture(chosen, row, predicted[row]),
                "image_weights": _rounded(attended.image_weights[row, :, :regions]),
                "question_weights": _rounded(attended.question_weights[row, :, :words]),
                "image_padding": _rounded(attended.image_weights[row, :, regions:]),
                "question_padding": _rounded(attended.question_weights[row, :, words:]),
            }
        )
    return {"data": dataset.name, "examples": pictures}


def _rounded(weights: Tensor) -> list[list[float]]:
    return [[round(weight, 4) for weight in glimpse] for glimpse in weights.float().tolist()]


def _measurement(job: Training, device: str, value: float, told: trained.Told) -> Measurement:
    return Measurement(
        task=job.name,
        variant=job.row.variant,
        device=device,
        quantity=told.quantity,
        unit="1",
        value=value,
        details=told.details(),
    )


def _skip(job: Training, reason: str, device: str, *, cause: Literal["impossible", "error"] = "impossible") -> Skipped:
    return Skipped(
        task=job.name,
        variant=job.row.variant,
        device=device,
        quantity="accuracy",
        reason=reason,
        cause=cause,
        details={"row": job.row.label, "seed": job.seed},
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
