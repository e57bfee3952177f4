"""The studies: which classifiers stand beside which, and whom each is compared with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from suite.ablation.dataset import Sight
from suite.ablation.loading import PLAIN, Loading
from suite.ablation.model import LEAKY, PLANTED, SOUND, Classifier, Reads, Shape, correct_form
from suite.ablation.scenes import STANDARD
from suite.audit.defects import DEFECTS
from suite.core.errors import UserError
from variants import Skip, canonical, mechanisms
from variants.registry import published_names

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
    loading: Loading = PLAIN

    @property
    def label(self) -> str:
        """What tables call it: the variant, and whatever is not usual about it."""
        notes = [
            *([self.sight.replace("_", " ")] if self.sight != "both" else []),
            *([f"on {self.reads}"] if self.reads != "question" and not self.is_local else []),
            *([f"width {self.width}"] if self.width != WIDTH else []),
            *self.loading.notes,
        ]
        return self.variant + (f" ({', '.join(notes)})" if notes else "")

    @property
    def is_local(self) -> bool:
        """Whether it is no registered variant but something that is measured here alone."""
        return self.variant == LEAKY or self.variant in SOUND or self.variant.startswith(PLANTED)

    @property
    def may_refuse(self) -> bool:
        """Whether it may raise on shapes that it was not written for: code of others, and planted defects."""
        if self.is_local:
            return self.variant.startswith(PLANTED)
        return canonical(self.variant).mechanism in published_names()

    @property
    def tuned_as(self) -> "Row":
        """The row whose learning rate it takes: without removed parts, transforms and blindfolds.

        What a part is worth would drown in what another learning rate is worth. Who loads in another way chooses a
        rate for that: examples in another order, or other pads, are another training.
        """
        if self.is_local:
            planted = self.variant.startswith(PLANTED)
            variant = correct_form(self.variant) if planted else self.variant
            return replace(self, variant=variant)
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
    longer: bool = False
    """Whether its rows learn from short sets, and are tested on longer ones as well."""
    deployed: bool = False
    """Whether its rows answer in small batches and beside others as well."""


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
    pairs = [(Row(variant=_at_depth(name), reads="words"), _sound_form(name)) for name in published_names()]
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


def _sound_form(name: str) -> Row:
    """What is correct and nearest to a published form: itself corrected where it has that, else one of ours."""
    origin = mechanisms()[name].origin
    assert origin is not None
    variant = origin.beside or origin.ours
    return PARALLEL if variant == PARALLEL.variant else Row(variant=_at_depth(variant), reads="words")


def _deployment() -> tuple[Compared, ...]:
    """A correct mask and a leaking one, each trained with the habits of a loader: what is lost once it is in use?"""
    habits = (PLAIN, Loading(by_length=True), Loading(left_over=True), Loading(jitter=True))
    return tuple(
        Compared(
            row=replace(PARALLEL, variant=variant, loading=loading),
            parent=replace(PARALLEL, loading=loading) if variant == LEAKY else None,
        )
        for variant in (PARALLEL.variant, LEAKY)
        for loading in habits
    )


def _precision() -> tuple[Compared, ...]:
    return (
        Compared(row=PARALLEL, parent=None),
        *(
            Compared(row=replace(PARALLEL, variant=f"hierarchical+{word}"), parent=PARALLEL)
            for word in ("amp_bf16", "bf16", "amp_fp16", "fp16")
        ),
    )


def _mechanism() -> tuple[Compared, ...]:
    """Every mechanism; `study` makes them as large as hierarchical co-attention."""
    names = [name for name in mechanisms() if name not in (*published_names(), "pool")]
    rows = [*map(_trainable, names), ALTERNATING]
    pool = _trainable(POOL.variant)
    return Compared(row=pool, parent=None), *(Compared(row=row, parent=pool) for row in rows)


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

    Phrases: eight seeds of ``parallel`` end within 4 points of each other on them, and within 11 on LSTM states, on
    which MCAN is no better than mean pooling. Hierarchical co-attention has all levels of its own.
    """
    return Row(variant=_at_depth(name), reads="question" if name == PARALLEL.variant else "phrases")


def _beside_pooling(row: Row) -> tuple[Compared, ...]:
    pool = replace(POOL, reads=row.reads)
    return Compared(row=pool, parent=None), Compared(row=row, parent=pool)


def _generalise() -> tuple[Compared, ...]:
    names = ("hierarchical", "parallel", "alternating", "cross")
    return tuple(Compared(row=Row(variant=name), parent=POOL) for name in names)


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """A study before its rows are as wide as the task asks for."""

    question: str
    rows: Callable[[], Sequence[Compared]]
    longer: bool = False
    """As of a `Study`, and so the next."""
    deployed: bool = False
    controlled: bool = True
    """Whether mean pooling and blindfolds stand beside its rows; beside a classifier and itself they say nothing."""
    equal: bool = False
    """Whether its rows have as many parameters as each other, and not the same width."""


_STUDIES = {
    "core": _Draft(question="Does co-attention beat mean pooling, and what does a leaking mask cost?", rows=_core),
    "levels": _Draft(question="Which level and which side of hierarchical co-attention earns its keep?", rows=_levels),
    "masking": _Draft(question="What does each mask defect cost in accuracy?", rows=_masking, deployed=True),
    "deployment": _Draft(
        question="What does a leaking mask lose in use, by how it was loaded in training?",
        rows=_deployment,
        deployed=True,
        controlled=False,
    ),
    "precision": _Draft(question="Does training in half precision reach the same place?", rows=_precision),
    "mechanism": _Draft(
        question="Which mechanism is best with the same number of parameters?", rows=_mechanism, equal=True
    ),
    "parts": _Draft(question="What is each part of each mechanism worth?", rows=_parts),
    "depth": _Draft(question="How many layers of a deep co-attention earn their keep?", rows=_depth),
    "generalise": _Draft(
        question="Does what was learnt on short sets hold for longer ones?", rows=_generalise, longer=True
    ),
}
STUDIES = tuple(_STUDIES)
LONGER = tuple(name for name, draft in _STUDIES.items() if draft.longer)
"""The studies whose rows are tested on longer sets than they learn from."""


_SHAPE = Shape(image_width=STANDARD.image_width, vocabulary=STANDARD.vocabulary, classes=15)


def study(name: str, *, controls: bool = True, scale: int = 1, shape: Shape = _SHAPE) -> Study:
    """A study by its name.

    Args:
        name: one of `STUDIES`.
        controls: with mean pooling and the blindfolded rows, as every table has them.
        scale: rows are as many times as wide as for the generated scenes.
        shape: what the task fixes of a classifier, to which rows of equal size are fitted.

    Raises:
        UserError: no study has that name.
    """
    if name not in _STUDIES:
        raise UserError(f"there is no study {name!r}: expected one of {', '.join(STUDIES)}")
    draft = _STUDIES[name]

    def wide(entries: Iterable[Compared]) -> list[Compared]:
        return _mapped(entries, lambda row: replace(row, width=scale * row.width))

    entries = wide(draft.rows())
    if draft.equal:
        wanted = parameters(replace(PARALLEL, width=scale * WIDTH), shape)
        entries = _mapped(entries, lambda row: at_parameters(row, wanted, shape))
    if controls and draft.controlled:
        entries = [*wide([Compared(row=POOL, parent=None)]), *entries, *wide(CONTROLS)]
    compared = {entry.row: entry for entry in entries}
    return Study(
        name=name,
        question=draft.question,
        rows=tuple(compared.values()),
        longer=draft.longer,
        deployed=draft.deployed,
    )


def _mapped(entries: Iterable[Compared], change: Callable[[Row], Row]) -> list[Compared]:
    return [
        Compared(row=change(entry.row), parent=None if entry.parent is None else change(entry.parent))
        for entry in entries
    ]


@cache
def parameters(row: Row, shape: Shape = _SHAPE) -> int:
    """Trainable numbers of a row's classifier, on the standard task unless given."""
    model = Classifier(row.variant, shape, width=row.width, reads=row.reads)
    return sum(parameter.numel() for parameter in model.parameters())


def at_parameters(row: Row, wanted: int, shape: Shape = _SHAPE) -> Row:
    """The row at the multiple of an eighth of its width, up to four times it, that comes nearest to the size wanted."""
    best, step = row, row.width // 8
    for width in range(2 * step, 4 * row.width + 1, step):
        candidate = replace(row, width=width)
        try:
            count = parameters(candidate, shape)
        except (ValueError, Skip):
            continue  # a width that the mechanism's heads do not divide
        if abs(count - wanted) < abs(parameters(best, shape) - wanted):
            best = candidate
        if count > 2 * wanted:
            break
    return best
