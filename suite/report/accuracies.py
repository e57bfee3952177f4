"""What an ablation measured, row by row and seed by seed: means with intervals, changes, and their verdicts."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from scipy import stats as scipy_stats

from suite.core import stats, store, trained
from suite.core.described import Descriptions
from suite.core.errors import UserError
from suite.core.records import Artifact, Measurement, Record, Skip
from suite.report import escape

Verdict = Literal["helps", "hurts", "no difference seen", "unclear"]
MARGIN = 0.01
"""An interval that lies within a point of accuracy on either side says that there is no difference to speak of."""
CONFIDENCE = 0.95
POWER = 0.8
"""How often a study of the same size is to tell a change that is as large as it says it can detect."""
WAYS = {
    "noise_in_pads": "noise in pads",
    "twice_the_width": "twice the width",
    "alone": "alone in the batch",
    "in_eights": "in batches of 8",
    "other_mates": "other batch mates",
}
"""Changes to padding or batch that must change nothing, and what tables call them."""
_OF_A_THOUSAND = ("alone", "in_eights")
"""Those that are taken on fewer questions."""
FEW_ROWS = 4
"""In a study of at most so many rows, blindfolds aside, each is compared with each."""
MOST = {"studies": 50, "rows in one study": 300, "families of questions": 50}
"""Of an ablation whose pages can be drawn, and read."""
BySeed = Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds with its 95 % t interval; infinite from a single seed."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained classifier in a study."""

    study: str
    data: str
    label: str
    variant: str
    parent: str
    parameters: int
    width: int
    """D, of words, regions and everything after them."""
    is_control: bool
    """Mean pooling, or a blindfold."""
    is_blindfolded: bool
    is_form_of_parent: bool
    """Whether it is its parent but for what its own label names: a removed part, a blindfold, another width."""


class Accuracies:
    """Every accuracy of a folder by study, row, family and evaluation, seed by seed.

    Raises:
        UserError: there is `MOST` of something, and more.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.rows: dict[str, dict[str, Trained]] = defaultdict(dict)
        """Per study, by label, in the order of its table."""
        self.questions: dict[str, str] = {}
        self.families: list[str] = []
        self.ceilings: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        """By data and what it is a ceiling of, per family."""
        self.tuning: list[tuple[trained.Tuning, float]] = []
        """Each short training, and the accuracy that it came to."""
        self.used_rates: dict[tuple[str, str], set[float]] = defaultdict(set)
        """By data and row, the learning rates of its trainings."""
        self.skips: list[Skip] = []
        self.attention: list[Artifact] = []
        self.digests: dict[str, str] = {}
        self._found: dict[tuple[str, str, str, str], dict[int, float]] = defaultdict(dict)
        for record in store.current(records):
            match record:
                case Measurement(quantity="accuracy"):
                    self._add(record)
                case Measurement(quantity="parameters"):
                    self._add_row(record)
                case Measurement(quantity="ceiling") if record.value is not None:
                    ceiling = told(trained.Ceiling, record)
                    self.ceilings[ceiling.data, ceiling.of][ceiling.family] = record.value
                case Measurement(quantity="training_loss"):
                    loss = told(trained.Loss, record)
                    self.used_rates[loss.data, loss.row].add(loss.learning_rate)
                case Measurement(quantity="tuning_accuracy") if record.value is not None:
                    self.tuning.append((told(trained.Tuning, record), record.value))
                case Measurement(quantity="tested_on"):
                    tested = told(trained.TestedOn, record)
                    self.digests[tested.data] = tested.sha256
                case Skip():
                    self.skips.append(record)
                case Artifact(quantity="attention"):
                    self.attention.append(record)
        rows = max(map(len, self.rows.values()), default=0)
        for (what, most), count in zip(MOST.items(), (len(self.rows), rows, len(self.families)), strict=True):
            if count > most:
                raise UserError(f"an ablation of {count} {what}: expected {most} at most; make a folder of each part")
        self._relate(Descriptions(records))

    def of(self, study: str, row: str, *, family: str = "all", evaluation: str = "as_is") -> BySeed:
        """Accuracy by seed; empty where nothing was measured."""
        return self._found.get((study, row, family, evaluation), {})

    def trained(self, study: str) -> list[Trained]:
        """Rows with at least one accuracy."""
        return [row for row in self.rows[study].values() if self.of(study, row.label)]

    def ways(self, study: str) -> dict[str, str]:
        """Which of the `WAYS` some row of the study was tested in."""
        rows = self.rows[study]
        return {way: title for way, title in WAYS.items() if any(self.of(study, row, evaluation=way) for row in rows)}

    def cost(self, study: str, row: str, way: str) -> dict[int, float]:
        """Accuracy lost, by seed, where padding or batch changes and the questions stay the same."""
        before = self.of(study, row, evaluation="as_is_of_alone" if way in _OF_A_THOUSAND else "as_is")
        after = self.of(study, row, evaluation=way)
        return {seed: before[seed] - after[seed] for seed in before if seed in after}

    def changes(self, study: str) -> dict[str, Interval]:
        """By row, its change from its parent; of rows that have one and see both sides."""
        found = {
            row.label: change(self.of(study, row.label), self.of(study, row.parent))
            for row in self.trained(study)
            if row.parent and not row.is_blindfolded
        }
        return {label: gained for label, gained in found.items() if gained.seeds > 1}

    def comparisons(self, study: str) -> dict[tuple[str, str], Interval]:
        """By two rows, the change of the first from the second: its parent, or in a study of few rows any before it."""
        found = {(label, self.rows[study][label].parent): gained for label, gained in self.changes(study).items()}
        rows = [row for row in self.trained(study) if not row.is_blindfolded]
        for place, row in enumerate(rows if len(rows) <= FEW_ROWS else []):
            for other in () if row.is_control else rows[:place]:
                gained = change(self.of(study, row.label), self.of(study, other.label))
                if gained.seeds > 1:
                    found[row.label, other.label] = gained
        return found

    def told_together(self, study: str) -> set[tuple[str, str]]:
        """The comparisons that are told from zero also after Holm's correction over all of the study."""
        # what computes the same, seed by seed, is no comparison that luck could decide
        compared = {
            pair: gained for pair, gained in self.comparisons(study).items() if gained.mean or gained.low < gained.high
        }
        kept = stats.holm([chance(gained) for gained in compared.values()], level=1 - CONFIDENCE)
        return {pair for pair, is_kept in zip(compared, kept, strict=True) if is_kept}

    def learnt(self, study: str, row: Trained) -> dict[str, tuple[int, int]]:
        """By family, how many seeds learnt it, and of how many: nearer to all right than to what words alone allow.

        Without families of which words alone tell all. Empty where no ceiling was computed.
        """
        ceiling = self.ceilings.get((row.data, "question only"), {})
        found = {}
        for family in self.families:
            by_seed = self.of(study, row.label, family=family)
            if ceiling.get(family, 1.0) < 1.0 and by_seed:
                found[family] = sum(value > (ceiling[family] + 1) / 2 for value in by_seed.values()), len(by_seed)
        return found

    def of_two_kinds(self, study: str, row: Trained) -> list[str]:
        """Families that some seeds learnt and others did not, with none in the middle third between."""
        ceiling = self.ceilings.get((row.data, "question only"), {})
        parted = []
        for family, (count, seeds) in self.learnt(study, row).items():
            shares = [
                (value - ceiling[family]) / (1 - ceiling[family])
                for value in self.of(study, row.label, family=family).values()
            ]
            if 0 < count < seeds and not any(1 / 3 < share < 2 / 3 for share in shares):
                parted.append(family)
        return parted

    def change_on_longer(self, study: str, row: str) -> Interval:
        """Accuracy on longer sets than in training minus that on sets as long, within seeds."""
        return change(self.of(study, row, evaluation="longer"), self.of(study, row))

    def _add(self, record: Measurement) -> None:
        if record.value is None:
            return
        one = told(trained.Accuracy, record)
        self._found[one.study, one.row, one.family, one.evaluation][one.seed] = record.value
        if one.family != "all" and one.family not in self.families:
            self.families.append(one.family)

    def _add_row(self, record: Measurement) -> None:
        one = told(trained.Trainable, record)
        self.questions[one.study] = one.question
        self.rows[one.study][one.row] = Trained(
            study=one.study,
            data=one.data,
            label=one.row,
            variant=record.variant,
            parent=one.parent,
            parameters=int(record.value or 0),
            width=one.width,
            is_control=one.sight != "both" or record.variant == "pool",
            is_blindfolded=one.sight != "both",
            is_form_of_parent=False,  # known when all rows are
        )

    def _relate(self, described: Descriptions) -> None:
        """See which rows are forms of their parents."""
        for rows in self.rows.values():
            for row in rows.values():
                parent = rows.get(row.parent)
                if parent is not None:
                    own, base = described[row.variant], described[parent.variant]
                    same = (own.mechanism, own.options) == (base.mechanism, base.options)
                    rows[row.label] = replace(row, is_form_of_parent=same)


def interval(values: Iterable[float]) -> Interval:
    """The mean and its 95 % t interval; without values everything is nan."""
    numbers = list(values)
    count = len(numbers)
    if not count:
        return Interval(mean=math.nan, low=math.nan, high=math.nan, seeds=0)
    mean = sum(numbers) / count
    if count == 1:
        return Interval(mean=mean, low=-math.inf, high=math.inf, seeds=1)
    error = math.sqrt(sum((number - mean) ** 2 for number in numbers) / (count - 1) / count)
    reach = float(scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, count - 1)) * error
    return Interval(mean=mean, low=mean - reach, high=mean + reach, seeds=count)


def change(row: BySeed, parent: BySeed) -> Interval:
    """Accuracy of the row minus its parent's, over the seeds that both have: the same seed saw the same batches."""
    return interval(row[seed] - parent[seed] for seed in row if seed in parent)


def _error(difference: Interval) -> float:
    """The standard error behind an interval of at least two seeds."""
    quantile = float(scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, difference.seeds - 1))
    return (difference.high - difference.mean) / quantile


def chance(difference: Interval) -> float:
    """How often seeds alone would show as much, in either direction, where there is no difference; 1 from one seed."""
    if difference.seeds < 2:
        return 1.0
    error = _error(difference)
    if error < 1e-12:  # the same with every seed
        return 0.0 if difference.mean else 1.0
    return 2 * float(scipy_stats.t.sf(abs(difference.mean) / error, difference.seeds - 1))


def detectable(difference: Interval) -> float:
    """The smallest true change that as many seeds, spread as these, tell from zero in four of five studies, about.

    Infinite from one seed.
    """
    if difference.seeds < 2:
        return math.inf
    freedom = difference.seeds - 1
    reach = float(scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) + float(scipy_stats.t.ppf(POWER, freedom))
    return reach * _error(difference)


def verdict(difference: Interval) -> Verdict:
    """Whether what sets a row apart from its parent helps or hurts."""
    if difference.low > 0:
        return "helps"
    if difference.high < 0:
        return "hurts"
    if difference.low >= -MARGIN and difference.high <= MARGIN:
        return "no difference seen"
    return "unclear"


def points(value: Interval, *, sign: str = "", digits: int = 1) -> str:
    """A share as points of a hundred with its interval."""
    if not value.seeds:
        return ""
    mean = 100 * value.mean + 0.0
    if round(abs(mean), digits) == 0:
        mean, sign = 0.0, ""
    if digits == 0:
        return f"{mean:{sign}.0f}"
    return f"{mean:{sign}.{digits}f} {between(value)}"


def between(value: Interval) -> str:
    """The interval alone, in points."""
    if not math.isfinite(value.low):
        return "[one seed]"
    return f"[{100 * value.low + 0.0:.1f}, {100 * value.high + 0.0:.1f}]"


def told(kind: type[trained.T], record: Measurement) -> trained.T:
    """What a record says beside its number, as text that a page may hold."""
    one = trained.read(kind, record)
    known: dict[str, Any] = {field.name: getattr(one, field.name) for field in fields(one)}
    texts: dict[str, Any] = {name: escape.name(value) for name, value in known.items() if isinstance(value, str)}
    return replace(one, **texts)
