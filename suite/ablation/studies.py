"""The studies: which classifiers stand beside which, and whom each is compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from suite.ablation.model import LEAKY, PLANTED, SOUND, Classifier, Reads, Shape, correct_form
from suite.ablation.scenes import LONG_OF_16, SHORT_OF_16, STANDARD
from suite.ablation.task import Sight
from suite.audit.defects import DEFECTS
from variants import Skip, canonical, mechanisms

WIDTH = 64


@dataclass(frozen=True, kw_only=True)
class Row:
    """A classifier to be trained, seed by seed."""

    variant: str
    """Canonical name, or one that `build_mechanism` knows beside them."""
    reads: Reads = "question"
    """The level of the question that a single-level mechanism attends to."""
    sight: Sight = "both"
    width: int = WIDTH

    @property
    def label(self) -> str:
        """What tables call it: the variant, and whatever is not usual about it."""
        notes = [
            *([self.sight.replace("_", " ")] if self.sight != "both" else []),
            *([f"on {self.reads}"] if self.reads != "question" and not self.is_local else []),
            *([f"width {self.width}"] if self.width != WIDTH else []),
        ]
        return self.variant + (f" ({', '.join(notes)})" if notes else "")

    @property
    def is_local(self) -> bool:
        """Whether it is no registered variant but something that is measured here alone."""
        return self.variant == LEAKY or self.variant in SOUND or self.variant.startswith(PLANTED)

    @property
    def may_refuse(self) -> bool:
        """Whether it may raise on shapes that it was not written for: code of others, and planted defects."""
        return self.variant.startswith(("published_", PLANTED))

    @property
    def tuned_as(self) -> "Row":
        """The row whose learning rate it takes: without removed parts, transforms and blindfolds.

        What a part is worth would drown in what another learning rate is worth.
        """
        if self.is_local:
            return replace(self, variant=correct_form(self.variant)) if self.variant.startswith(PLANTED) else self
        spec = canonical(self.variant)
        plain = replace(spec, without=(), transforms=())
        return replace(self, variant=str(plain), sight="both")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A row and the one that it is compared with, seed by seed."""

    row: Row
    parent: Row | None


@dataclass(frozen=True, kw_only=True)
class Study:
    """Rows that answer one question."""

    name: str
    question: str
    rows: tuple[Compared, ...]
    train: str = STANDARD.name
    """Setting to learn from."""
    longer: str | None = None
    """Another setting to be tested on as well."""


PARALLEL = Row(variant="hierarchical")
ALTERNATING = Row(variant="hierarchical[inner=alternating]")
POOL = Row(variant="pool")
CONTROLS = tuple(
    Compared(row=replace(POOL, sight=sight), parent=POOL) for sight in ("question_only", "image_only", "other_image")
)
"""What one side gives away by itself; the ceilings beside them are computed, not trained."""


def _at_depth(name: str) -> str:
    """A mechanism as deep as the generated task can train it within a study's epochs.

    MCAN's six layers end a short training on words at 46.5 % at their best learning rate, two at 52.7 % in a third
    of the time.
    """
    return f"{name}[layers=2]" if name in ("modular", "published_mcan") else name


def _core() -> tuple[Compared, ...]:
    return (
        Compared(row=PARALLEL, parent=POOL),
        Compared(row=POOL, parent=None),
        Compared(row=Row(variant=LEAKY), parent=PARALLEL),
    )


def _levels() -> tuple[Compared, ...]:
    """The paper's table 3 for both co-attentions, and each level by itself."""
    parts = ("word_level", "phrase_level", "question_level", "question_attention", "image_attention")
    return (
        *(
            Compared(row=row, parent=parent)
            for full in (ALTERNATING, PARALLEL)
            for row, parent in (
                (full, POOL),
                *((replace(full, variant=f"{full.variant}-{part}"), full) for part in parts),
            )
        ),
        *(
            Compared(row=Row(variant=inner, reads=reads), parent=full)
            for inner, full in (("alternating", ALTERNATING), ("parallel", PARALLEL))
            for reads in ("words", "phrases", "question")
        ),
    )


def _masking() -> tuple[Compared, ...]:
    """Correct mechanisms beside planted defects and beside published code that does something alike.

    All of them read words as they are, so that nothing masks on their behalf.
    """
    published = [name for name in mechanisms() if name.startswith("published_")]
    pairs = [
        (Row(variant=_at_depth(name), reads="words"), _SOUND_FORMS.get(name, Row(variant="parallel", reads="words")))
        for name in published
    ]
    planted = [name for name, defect in DEFECTS.items() if defect.execution is None]
    return (
        Compared(row=PARALLEL, parent=None),
        Compared(row=Row(variant=LEAKY), parent=PARALLEL),
        *(Compared(row=row, parent=None) for row in dict.fromkeys(parent for _, parent in pairs)),
        *(Compared(row=row, parent=parent) for row, parent in pairs),
        *(Compared(row=Row(variant=name, reads="words"), parent=None) for name in SOUND),
        *(
            Compared(
                row=Row(variant=f"{PLANTED}{name}", reads="words"),
                parent=Row(variant=correct_form(name), reads="words"),
            )
            for name in planted
        ),
    )


_SOUND_FORMS = {
    "published_hiecoatt": PARALLEL,
    "published_hiecoatt_alternating": Row(variant="alternating", reads="words"),
    "published_zhangtd_alternating": Row(variant="alternating", reads="words"),
    "published_skyol5_net": PARALLEL,
    "published_dcn": Row(variant="dense", reads="words"),
    "published_mcan": Row(variant=_at_depth("modular"), reads="words"),
}
"""What is correct and nearest to each published form; the others come nearest to `parallel`."""


def _precision() -> tuple[Compared, ...]:
    return (
        Compared(row=PARALLEL, parent=None),
        *(
            Compared(row=replace(PARALLEL, variant=f"hierarchical+{word}"), parent=PARALLEL)
            for word in ("amp_bf16", "bf16", "amp_fp16", "fp16")
        ),
    )


def _mechanism() -> tuple[Compared, ...]:
    """Every mechanism with as many parameters as hierarchical co-attention, as nearly as its width allows."""
    wanted = parameters(PARALLEL)
    names = [name for name in mechanisms() if not name.startswith("published_") and name != "pool"]
    rows = [Row(variant=_at_depth(name)) for name in names] + [ALTERNATING]
    pool = at_parameters(POOL, wanted)
    return (
        Compared(row=pool, parent=None),
        *(Compared(row=at_parameters(row, wanted), parent=pool) for row in rows),
    )


def _parts() -> tuple[Compared, ...]:
    """Every part of every mechanism, left out alone; those of hierarchical co-attention are the levels' study."""
    rows: list[Compared] = []
    for name, mechanism in mechanisms().items():
        if mechanism.parts and name != PARALLEL.variant:
            whole = _trainable(name)
            rows += _beside_pooling(whole)
            rows += [
                Compared(row=replace(whole, variant=f"{whole.variant}-{part}"), parent=whole)
                for part in mechanism.parts
            ]
    return tuple(rows)


def _depth() -> tuple[Compared, ...]:
    rows: list[Compared] = []
    for name, deepest in (("dense", 4), ("modular", 3)):
        row = _trainable(name)
        by_depth = [replace(row, variant=str(canonical(f"{name}[layers={depth}]"))) for depth in range(1, deepest + 1)]
        shallow, *deeper = by_depth
        rows += _beside_pooling(shallow)
        rows += [Compared(row=row, parent=shallow) for row in deeper]
    return tuple(rows)


def _trainable(name: str) -> Row:
    """A mechanism reading what it learns from within a study's epochs.

    On LSTM states MCAN of one to four layers ends a short training no better than mean pooling, and a part that is
    left out of it tells nothing.
    """
    return Row(variant=_at_depth(name), reads="words" if name == "modular" else "question")


def _beside_pooling(row: Row) -> tuple[Compared, ...]:
    pool = replace(POOL, reads=row.reads)
    return Compared(row=pool, parent=None), Compared(row=row, parent=pool)


def _generalise() -> tuple[Compared, ...]:
    names = ("hierarchical", "parallel", "alternating", "cross")
    return tuple(Compared(row=Row(variant=name), parent=POOL) for name in names)


_STUDIES: dict[str, tuple[str, Callable[[], Sequence[Compared]]]] = {
    "core": ("Does co-attention beat mean pooling, and what does a leaking mask cost?", _core),
    "levels": ("Which level and which side of hierarchical co-attention earns its keep?", _levels),
    "masking": ("What does each mask defect cost in accuracy?", _masking),
    "precision": ("Does training in half precision reach the same place?", _precision),
    "mechanism": ("Which mechanism is best with the same number of parameters?", _mechanism),
    "parts": ("What is each part of each mechanism worth?", _parts),
    "depth": ("How many layers of a deep co-attention earn their keep?", _depth),
    "generalise": ("Does what was learnt on short sets hold for longer ones?", _generalise),
}
STUDIES = tuple(_STUDIES)


def study(name: str, *, controls: bool = True) -> Study:
    """A study by its name.

    Args:
        name: one of `STUDIES`.
        controls: with mean pooling and the blindfolded rows, as every table has them.

    Raises:
        ValueError: no study has that name.
    """
    if name not in _STUDIES:
        raise ValueError(f"there is no study {name!r}: expected one of {', '.join(STUDIES)}")
    question, rows = _STUDIES[name]
    compared = {entry.row: entry for entry in rows()}
    if controls:
        compared = {POOL: Compared(row=POOL, parent=None)} | compared | {entry.row: entry for entry in CONTROLS}
    long = name == "generalise"
    return Study(
        name=name,
        question=question,
        rows=tuple(compared.values()),
        train=SHORT_OF_16.name if long else STANDARD.name,
        longer=LONG_OF_16.name if long else None,
    )


_SHAPE = Shape(image_width=STANDARD.image_width, vocabulary=STANDARD.vocabulary, classes=15)


@cache
def parameters(row: Row, shape: Shape = _SHAPE) -> int:
    """Trainable numbers of a row's classifier, on the standard task unless given."""
    model = Classifier(row.variant, shape, width=row.width, reads=row.reads)
    return sum(parameter.numel() for parameter in model.parameters())


def at_parameters(row: Row, wanted: int) -> Row:
    """The row at the width, a multiple of eight, whose number of parameters is nearest to the one wanted."""
    best = row
    for width in range(16, 4 * WIDTH + 1, 8):
        candidate = replace(row, width=width)
        try:
            count = parameters(candidate)
        except (ValueError, Skip):
            continue  # a width that the mechanism's heads do not divide
        if abs(count - wanted) < abs(parameters(best) - wanted):
            best = candidate
        if count > 2 * wanted:
            break
    return best
