"""What the records of an ablation say beside their numbers, with types: written from here, and read back into here.

Each class is what one quantity is about. A field without a default stands in every run that can be reported; one with a
default came later, or is for whoever reads the records alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from suite.core.records import Detail, Measurement, Scalar


@dataclass(frozen=True, kw_only=True)
class Told:
    """What all of them have."""

    quantity: ClassVar[str]

    def details(self) -> dict[str, Scalar]:
        """As they stand in a record."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Trainable(Told):
    """A row of a study, before it is trained; its number of parameters is the value."""

    quantity: ClassVar[str] = "parameters"
    study: str
    question: str
    """The question that the study asks."""
    data: str
    row: str
    parent: str
    """The row whose accuracy it is set against; empty where there is none."""
    place: int = 0
    """Its place in the table of the study."""
    reads: str = ""
    """``question`` or ``phrases``."""
    sight: str
    """``both``, or the one side that a control sees."""
    width: int
    """D, of words, regions and everything after them."""


@dataclass(frozen=True, kw_only=True)
class Accuracy(Told):
    """What share of a family's questions a trained row answers right, with one seed."""

    quantity: ClassVar[str] = "accuracy"
    data: str = ""
    study: str
    row: str
    seed: int
    family: str
    """The family of questions; ``all`` for the mean of all families."""
    evaluation: str
    """``as_is``, or what was changed in padding or batch."""
    examples: int = 0


@dataclass(frozen=True, kw_only=True)
class Tuning(Told):
    """The accuracy on validation data of a short training, for which a learning rate is chosen."""

    quantity: ClassVar[str] = "tuning_accuracy"
    data: str
    row: str
    learning_rate: float
    epochs: int = 0
    seed: int = 0
    examples: int = 0


def best_rate(tried: Mapping[float, Sequence[float]], *, without: int | None = None) -> float:
    """The learning rate with the highest mean accuracy, of those that the most seeds tried; of equals the higher.

    Args:
        tried: by learning rate, the accuracy of each seed; neither empty.
        without: the place of a seed that is left out of the means, where there are others.
    """
    most = max(len(found) for found in tried.values())
    counted = [place for place in range(most) if place != without or most == 1]
    means = ((sum(found[at] for at in counted), rate) for rate, found in tried.items() if len(found) == most)
    return max(means)[1]


@dataclass(frozen=True, kw_only=True)
class Loss(Told):
    """The last loss of a training."""

    quantity: ClassVar[str] = "training_loss"
    data: str
    row: str
    seed: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Ceiling(Told):
    """The most that can be got right of a family by what ``of`` names."""

    quantity: ClassVar[str] = "ceiling"
    data: str
    of: str
    family: str


@dataclass(frozen=True, kw_only=True)
class TestedOn(Told):
    """The examples that accuracies are of, by their hash."""

    quantity: ClassVar[str] = "tested_on"
    data: str
    sha256: str


T = TypeVar("T", Trainable, Accuracy, Tuning, Loss, Ceiling, TestedOn)


def read(kind: type[T], record: Measurement) -> T:
    """What a record of that quantity says; its details were checked when it was decoded."""
    known: Mapping[str, Detail] = record.details
    given: dict[str, Any] = {one.name: known[one.name] for one in fields(kind) if one.name in known}
    return kind(**given)
