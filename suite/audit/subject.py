"""What is audited: a callable on a `Scene` with named outputs, and what is known of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from variants import Attended, Batch, CoAttention, KnownDefect, Variant
from variants.transforms import TRANSFORMS, products_in, rounds_to_tf32
from variants.variant import check_batch

WIDTH = 32
"""Feature width of both sides of a built variant: every mechanism takes it, and a full audit of it takes seconds."""
Side = str
"""A side's name: the user's own argument, or ``image`` and ``question`` for mechanisms that follow the contract."""
Order = Literal["free", "sequence", "position"]
Kind = Literal["vectors", "tokens", "joined", "weights", "joint_weights", "similarities", "fixed", "unknown"]


@dataclass(frozen=True, kw_only=True)
class SideOf:
    """One padded set that a subject takes."""

    name: Side
    width: int
    """Of its features."""
    one: str = ""
    """The word for one of its slots, such as ``region``; ``slot of NAME`` unless given."""
    many: str = ""
    """The word for several of them."""
    masked: bool = True
    """Whether the subject can be told which slots are padding."""
    counted: bool = False
    """Whether it is told by one length an example, which has neither holes nor a width of its own."""
    length: int | None = None
    """How many slots it has to have, padding counted, where that is fixed."""
    order: Order = "free"
    """``free``: permuting slots with their validity changes nothing. ``sequence``: the order of the valid slots
    matters, not where they stand. ``position``: where they stand matters too."""

    @property
    def slot(self) -> str:
        return self.one or f"slot of {self.name}"

    @property
    def slots(self) -> str:
        return self.many or f"slots of {self.name}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene(Mapping[Side, tuple[Tensor, Tensor]]):
    """One padded batch: for each side its features ``[B, L, D]`` and their validity ``[B, L]``, True where real.

    Each example and each slot keeps a number of its own when examples are chosen and slots reordered, so that what a
    subject takes beside its sides (boxes, vectors, positions) can follow them; see `drawn`.
    """

    features: Mapping[Side, Tensor]
    valid: Mapping[Side, Tensor]
    examples: Tensor
    """``[B]``: the number of each example."""
    places: Mapping[Side, Tensor]
    """``[B, L]``: the number of each slot, different in each example."""

    def __getitem__(self, side: Side) -> tuple[Tensor, Tensor]:
        return self.features[side], self.valid[side]

    def __iter__(self) -> Iterator[Side]:
        return iter(self.features)

    def __len__(self) -> int:
        """How many sides there are; how many examples is `size`."""
        return len(self.features)

    @property
    def size(self) -> int:
        """How many examples there are."""
        return len(self.examples)

    @property
    def device(self) -> torch.device:
        return self.examples.device

    def take(self, index: Tensor | Sequence[int]) -> "Scene":
        """Those examples, in that order."""
        index = torch.as_tensor(index, device=self.device)

        def taken(tensors: Mapping[Side, Tensor]) -> dict[Side, Tensor]:
            return {side: tensor[index] for side, tensor in tensors.items()}

        return Scene(
            features=taken(self.features),
            valid=taken(self.valid),
            examples=self.examples[index],
            places=taken(self.places),
        )

    def map(self, change: Callable[[Side, Tensor, Tensor], tuple[Tensor, Tensor]]) -> "Scene":
        """Each side's features and validity replaced by what a function makes of them; shapes stay."""
        made = {side: change(side, *self[side]) for side in self}
        return replace(
            self,
            features={side: features for side, (features, _) in made.items()},
            valid={side: valid for side, (_, valid) in made.items()},
        )

    def copied(self, *, requires_grad: bool = False) -> "Scene":
        """Tensors of its own, so that a module that writes into its input harms no later comparison."""
        return self.map(
            lambda _, features, valid: (features.detach().clone().requires_grad_(requires_grad), valid.clone())
        )


SLOT_NUMBERS = 1 << 16
"""Room for slots in the numbers of `Scene.places`."""


def make_scene(sides: Mapping[Side, tuple[Tensor, Tensor]]) -> Scene:
    """A scene of these features and validities, its examples and slots numbered from 0."""
    (first, _), *_ = sides.values()
    examples = torch.arange(len(first), device=first.device)
    return Scene(
        features={side: features for side, (features, _) in sides.items()},
        valid={side: valid for side, (_, valid) in sides.items()},
        examples=examples,
        places={
            side: examples[:, None] * SLOT_NUMBERS + torch.arange(features.shape[1], device=features.device)
            for side, (features, _) in sides.items()
        },
    )


def slots_of(scene: Scene, side: Side) -> tuple[Tensor, Tensor]:
    """Features ``[B, L, D]`` and validity ``[B, L]`` of one side."""
    return scene[side]


def with_side(scene: Scene, side: Side, *, features: Tensor | None = None, valid: Tensor | None = None) -> Scene:
    """The scene with one side's features or validity replaced; slots are added or cut at the right."""
    old_features, old_valid = scene[side]
    features = old_features if features is None else features
    valid = old_valid if valid is None else valid
    places = scene.places[side]
    width, had = features.shape[1], places.shape[1]
    if width > had:
        more = scene.examples[:, None] * SLOT_NUMBERS + torch.arange(had, width, device=places.device)
        places = torch.cat([places, more], dim=1)
    return replace(
        scene,
        features={**scene.features, side: features},
        valid={**scene.valid, side: valid},
        places={**scene.places, side: places[:, :width]},
    )


def drawn(numbers: Tensor, *shape: int, salt: int = 0) -> Tensor:
    """Standard normal numbers, ``[*numbers.shape, *shape]`` in float32, the same for the same number and salt.

    With `Scene.examples` or `Scene.places` they follow the example or the slot wherever it goes.
    """
    rows = _table(shape, salt)
    return rows[(numbers + numbers // SLOT_NUMBERS * 61).remainder(len(rows)).cpu()].to(numbers.device)


@lru_cache(maxsize=64)
def _table(shape: tuple[int, ...], salt: int) -> Tensor:
    return torch.randn(1021, *shape, generator=torch.Generator().manual_seed(0x5CE7E + salt))


Call = Callable[[Scene], Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What the axes of one output mean; its first axis is always the batch.

    ========== =====================================================================================================
    kind       axes
    ========== =====================================================================================================
    vectors    ``[B, ..., D]``, of ``side`` where it is anyone's
    tokens     ``[B, L, D]``, one vector per slot of ``side``
    joined     ``[B, L1 + L2, D]``, one vector per slot of ``sides`` in that order
    weights    ``[B, ..., L]`` or ``[B, ..., R, L]``: a distribution over slots of ``side``, one for each of ``rows``
    joint_weights ``[B, ..., R, L]``: one distribution over all pairs of slots of ``rows`` and ``side``
    similarities  ``[B, ..., R, L]``: a number for each pair, judged on valid pairs alone
    fixed      ``[B, K, D]``: queries of the module's own
    unknown    not judged
    ========== =====================================================================================================
    """

    name: str
    kind: Kind
    side: Side = ""
    """Whose vector it is, or whose slots the token axis or the last axis of weights run over; empty where unknown."""
    rows: Side | None = None
    """For weights with one row per slot of a side: that side."""
    sides: tuple[Side, ...] = ()
    """For ``joined``: whose slots follow each other."""
    cut: bool = False
    """Whether its slot axis is cut to the longest row of the batch."""

    def slot_axes(self) -> tuple[tuple[int, tuple[Side, ...]], ...]:
        """Axes that run over slots, and whose, one side after another."""
        if self.kind == "tokens":
            return ((1, (self.side,)),)
        if self.kind == "joined":
            return ((1, self.sides),)
        if self.kind in ("weights", "joint_weights", "similarities"):
            over = ((-1, (self.side,)),)
            return over if self.rows is None else (*over, (-2, (self.rows,)))
        return ()

    def blanked_axes(self) -> tuple[tuple[int, tuple[Side, ...]], ...]:
        """The axes on which padded slots hold nothing that anyone should read, and whose slots they are."""
        if self.kind in ("tokens", "joined", "similarities"):
            return self.slot_axes()
        return self.slot_axes()[1:] if self.kind == "weights" else ()


ATTENDED = (
    Output(name="image", kind="vectors", side="image"),
    Output(name="question", kind="vectors", side="question"),
    Output(name="image_weights", kind="weights", side="image"),
    Output(name="question_weights", kind="weights", side="question"),
)
"""The outputs of the contract."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A callable under audit."""

    name: str
    module: nn.Module
    call: Call
    """The very callable that is timed or used."""
    bind: Callable[[nn.Module], Call]
    """An eager call of a module like ``module``, without autocast: how copies of it are run."""
    sides: tuple[SideOf, ...]
    """One to three."""
    dtype: torch.dtype
    """Dtype of parameters and features."""
    computes_in: torch.dtype
    """The narrowest dtype that it computes in: ``dtype``, or autocast's."""
    device: torch.device
    outputs: tuple[Output, ...] = ATTENDED
    static: bool = False
    """Whether each new shape costs a compilation or a capture; such a subject is run at few shapes."""
    eager: bool = True
    """Whether ``call`` is the module itself, in the parameters' dtype."""
    guided: tuple[tuple[str, Side], ...] = (("image_weights", "question"), ("question_weights", "image"))
    """Which outputs are meant to see which other side."""
    unmasked: Call | None = None
    """The same call without masks, where it can be made."""
    by_lengths: Call | None = None
    """The same call with lengths in place of masks, where there are both."""
    by_booleans: Call | None = None
    """The same call with boolean masks in place of numbers, where it takes numbers."""
    ignored: tuple[str, ...] = ()
    """Arguments that whoever asked wants left out, and that may tell of padding."""
    zeros_when_empty: bool = True
    """Whether a side without a valid slot is promised vectors of exact zeros; its weights are zero in any case."""
    names_arguments: bool = False
    """Whether an argument that does not fit is promised an error that names it."""
    exact: bool = False
    """Whether what is hidden is promised to move nothing bit for bit, as the contract does; else up to rounding. And
    whether all of ``call`` is the subject's own, so that whatever it raises is."""
    recast: torch.dtype | None = None
    """What the module is cast to for each call, where that is not what it holds."""
    takes_encodings: bool = True
    """Whether its masks may be handed to it in other encodings; an adapter is promised booleans and sees no other."""
    known_defects: tuple[KnownDefect, ...] = ()
    rounds_to_tf32: bool = False
    """Whether its products round their factors, as they do of their own accord where the process is set so."""
    stretch: int = 1
    """How many times as long as usual its scenes are, for what goes block by block."""

    @property
    def names(self) -> tuple[Side, ...]:
        return tuple(side.name for side in self.sides)

    @property
    def masked(self) -> tuple[Side, ...]:
        """The sides whose padding it can be told of."""
        return tuple(side.name for side in self.sides if side.masked)

    def side(self, name: Side) -> SideOf:
        return next(side for side in self.sides if side.name == name)

    def others(self, name: Side) -> tuple[Side, ...]:
        """All sides but that one."""
        return tuple(side for side in self.names if side != name)

    def order_of(self, side: Side) -> Order:
        return self.side(side).order

    def output(self, name: str) -> Output:
        return next(output for output in self.outputs if output.name == name)

    @property
    def judged(self) -> tuple[Output, ...]:
        """The outputs whose axes mean something."""
        return tuple(output for output in self.outputs if output.kind != "unknown")

    def weights(self) -> tuple[Output, ...]:
        return tuple(output for output in self.outputs if output.kind in ("weights", "joint_weights"))

    def loosened(self) -> "Subject":
        """The eager form of a static subject, which takes any shape; other subjects are their own."""
        if not self.static:
            return self
        return replace(self, call=self.eagerly(), static=False)

    def eagerly(self) -> Call:
        """The eager call of the module in the same precision: what another execution is compared with."""
        call = self.bind(self.module)
        return call if self.computes_in == self.dtype else under_autocast(call, self.device.type, self.computes_in)

    def cast(self, dtype: torch.dtype) -> "Subject":
        """The same module run eagerly in another dtype, to which it is cast for each call."""
        return replace(
            self,
            call=self.bind(self.module),
            dtype=dtype,
            computes_in=dtype,
            recast=dtype,
            static=False,
            eager=True,
            unmasked=None,
            by_lengths=None,
            by_booleans=None,
        )

    def autocast_to(self, dtype: torch.dtype) -> "Subject":
        """The same under autocast."""
        return replace(self, call=under_autocast(self.call, self.device.type, dtype), computes_in=dtype)


def as_batch(scene: Scene) -> Batch:
    """The batch of the contract, from a scene of ``image`` and ``question``."""
    (image, image_valid), (question, question_valid) = scene["image"], scene["question"]
    return Batch(image, question, image_valid, question_valid)


def image_and_question(image_width: int, question_width: int, *, question_order: Order = "free") -> tuple[SideOf, ...]:
    """The two sides of the contract."""
    return (
        SideOf(name="image", width=image_width, one="region", many="regions"),
        SideOf(name="question", width=question_width, one="word", many="words", order=question_order),
    )


def attended(call: Callable[[Batch], Attended]) -> Call:
    """The named outputs of a callable that follows the contract."""
    return lambda scene: call(as_batch(scene))._asdict()


def under_autocast(call: Call, device: str, dtype: torch.dtype) -> Call:
    """The same call under autocast."""

    def run(scene: Scene) -> Mapping[str, Tensor]:
        with torch.autocast(device, dtype=dtype):
            return call(scene)

    return run


def from_module(module: CoAttention, *, name: str) -> Subject:
    """A mechanism run eagerly in its parameters' dtype."""
    some = next(iter(module.parameters()), torch.empty(0))
    return Subject(
        name=name,
        module=module,
        call=_checked(module),
        bind=_checked,
        sides=image_and_question(
            module.image_width,
            module.question_width,
            question_order="sequence" if module.word_order_matters else "free",
        ),
        dtype=some.dtype,
        computes_in=some.dtype,
        device=some.device,
        guided=tuple((weights, _GUIDE[weights]) for weights in module.guided_weights()),
        names_arguments=True,
        exact=True,
        known_defects=module.known_defects,
    )


def from_variant(variant: Variant) -> Subject:
    """A built variant: its own callable, its dtype, and its eager form without transforms beside it."""
    axes = {TRANSFORMS[word].axis for word in variant.spec.transforms}
    subject = from_module(variant.module, name=variant.name)
    return replace(
        subject,
        call=attended(variant.call),
        dtype=variant.dtype,
        computes_in=products_in(variant.spec) if "precision" in axes else variant.dtype,
        rounds_to_tf32=rounds_to_tf32(variant.spec),
        static=bool(axes & {"compilation", "capture"}),
        eager=not axes - {"precision"},
    )


_GUIDE: dict[str, Side] = {"image_weights": "question", "question_weights": "image"}


def _checked(module: nn.Module) -> Call:
    def call(scene: Scene) -> Mapping[str, Tensor]:
        assert isinstance(module, CoAttention)
        batch = as_batch(scene)
        check_batch(batch, image_width=module.image_width, question_width=module.question_width)
        result: Attended = module(batch)
        return result._asdict()

    return call
