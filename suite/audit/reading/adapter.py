"""A user's own word for what a module takes and gives."""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from suite.audit.subject import Kind, Scene, Side, as_batch


class Adapter(NamedTuple):
    """What a module takes and gives, where its signature does not say it.

    ``call`` gets a batch: ``batch.image`` ``[B, N, V]`` and ``batch.question`` ``[B, T, Q]`` with ``batch.image_valid``
    and ``batch.question_valid``, boolean, True where real. It is promised booleans and never handed anything else.
    With ``widths`` the sides have the names given there: ``widths={"drug": 64}`` makes ``batch.drug`` and
    ``batch.drug_valid``; one side, two or three.
    """

    module: nn.Module
    call: Callable[[Any], object]
    """From a batch to a tensor, or to tuples, lists, mappings or dataclasses of tensors, batch first."""
    image_width: int = 0
    question_width: int = 0
    masked: Sequence[Side] | None = None
    """The sides whose validity the call makes use of; all of them unless given. The others are never padded."""
    widths: Mapping[Side, int] = {}
    """Feature widths of sides with names of their own, in place of the image's and the question's."""
    lengths: Mapping[Side, int] = {}
    """Sides that have to have so many slots, padding counted."""
    outputs: Mapping[str, Kind] = {}
    """Kinds of outputs by name, where two runs do not tell them: ``tokens``, ``vectors``, ``unknown`` ..."""

    def sides(self) -> dict[Side, int]:
        """Each side and its width."""
        given = {"image": self.image_width, "question": self.question_width}
        return dict(self.widths) or {side: width for side, width in given.items() if width}

    def batch(self, scene: Scene) -> object:
        """What the call gets of a scene."""
        if set(self.sides()) == {"image", "question"}:
            return as_batch(scene)
        names = list(self.sides())
        made = namedtuple("Batch", [*names, *(f"{name}_valid" for name in names)])  # type: ignore[misc]
        given: list[Tensor] = [scene.features[name] for name in names] + [scene.valid[name] for name in names]
        return made(*given)

    def swapped(self, copy: nn.Module, scene: Scene) -> object:
        """The call with a copy in the place of the module that it is closed over."""
        if copy is self.module:
            return self.call(self.batch(scene))
        pairs = list(zip(self.module.modules(), copy.modules(), strict=True))
        kept = [dict(part.__dict__) for part, _ in pairs]
        try:
            for part, twin in pairs:  # everything but the tree itself: parameters, buffers, hooks, modes
                part.__dict__.update({key: value for key, value in twin.__dict__.items() if key != "_modules"})
            return self.call(self.batch(scene))
        finally:
            for (part, _), state in zip(pairs, kept, strict=True):
                part.__dict__.update(state)
