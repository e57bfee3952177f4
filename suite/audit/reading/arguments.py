"""What a signature says by itself: which arguments there are, and what their names and defaults suggest."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

Guess = Literal["features", "mask", "structure", "flag"]
"""``structure`` is a mask by name that usually says who may look at whom, and not what is padding."""

_MASK = frozenset(
    {
        *("mask", "masks", "msk", "valid", "validity", "invalid", "nonpad", "pad", "pads", "padding", "padded"),
        *("len", "lens", "length", "lengths", "keep", "present", "presence", "real", "exists", "bias"),
    }
)
_COUNT = frozenset({"len", "lens", "length", "lengths", "count", "counts", "num", "nums", "size", "sizes", "n"})
_STRUCTURE = re.compile(r"^(attn_mask|attention_bias|attn_bias|(src|tgt|memory|causal|look_ahead|head|self)_mask)$")
_FLAGS = frozenset({"bool", "int", "float", "str"})
_PADDING = re.compile(r"pad|invalid|ignore|exclude|block|drop")
_REAL = re.compile(r"non_?pad|not_?pad|unpad|valid|keep|present|real|exist|attention_mask")


@dataclass(frozen=True, kw_only=True)
class Argument:
    """One argument of ``forward``."""

    name: str
    required: bool
    guess: Guess
    """What its name and default suggest; trials decide."""
    value: object = None
    """What it is left at where nothing is passed; for a required flag, what is passed."""
    by_place: bool = False
    """Whether it cannot be passed by its name."""

    @property
    def words(self) -> tuple[str, ...]:
        return words(self.name)

    @property
    def counts(self) -> bool:
        """Whether it is named like lengths."""
        return any(word in _COUNT or word.endswith(("lens", "lengths")) for word in self.words)

    @property
    def says_padding(self) -> bool | None:
        """Whether its name says that True is padding; None where it says neither."""
        name = self.name.lower()
        if "invalid" in name:
            return True
        if _REAL.search(name):
            return False
        return True if _PADDING.search(name) else None


def words(name: str) -> tuple[str, ...]:
    """The words of a name: ``textPad_mask1`` is text, pad, mask and 1."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    return tuple(word.lower() for word in re.findall(r"[A-Za-z]+|\d+", apart))


def arguments_of(module: nn.Module) -> tuple[Argument, ...]:
    """The named arguments of a module's ``forward``, in their order."""
    parameters = [
        parameter
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    plain = [parameter.name for parameter in parameters if not _named_as_mask(parameter.name, [])]
    return tuple(
        replace(_argument(parameter, plain), by_place=parameter.kind == parameter.POSITIONAL_ONLY)
        for parameter in parameters
    )


def by_place(module: nn.Module) -> tuple[str, ...]:
    """The arguments that ``forward`` takes by their place alone."""
    return tuple(argument.name for argument in arguments_of(module) if argument.by_place)


def called(module: nn.Module, given: Mapping[str, object], first: Sequence[str]) -> object:
    """What a module returns for arguments by name, the first of which it takes by their place."""
    if not first:
        return module(**given)
    placed = [given[name] for name in first if name in given]
    return module(*placed, **{name: value for name, value in given.items() if name not in first})


def takes_any(module: nn.Module) -> bool:
    """Whether ``forward`` takes ``*arguments``, whose meaning no signature tells."""
    kinds = {parameter.kind for parameter in inspect.signature(module.forward).parameters.values()}
    return inspect.Parameter.VAR_POSITIONAL in kinds


def takes_more(module: nn.Module) -> str:
    """The name under which ``forward`` takes arguments that its signature does not list; empty where it takes none."""
    parameters = inspect.signature(module.forward).parameters.values()
    return next((p.name for p in parameters if p.kind == p.VAR_KEYWORD), "")


def _argument(parameter: inspect.Parameter, plain: list[str]) -> Argument:
    required = parameter.default is parameter.empty
    annotated = _annotated(parameter.annotation)
    if required and annotated in _FLAGS:
        value: object = {"bool": False, "int": 1, "float": 0.0, "str": ""}[annotated]
        return Argument(name=parameter.name, required=True, guess="flag", value=value)
    told = not required and parameter.default is not None and not isinstance(parameter.default, Tensor)
    if told or (not required and annotated in _FLAGS):
        return Argument(name=parameter.name, required=False, guess="flag", value=parameter.default)
    guess: Guess = "features"
    if _STRUCTURE.match(parameter.name):
        guess = "structure"
    elif _named_as_mask(parameter.name, [name for name in plain if name != parameter.name]):
        guess = "mask"
    return Argument(name=parameter.name, required=required, guess=guess, value=None)


def _annotated(annotation: object) -> str:
    """The plain type of an annotation, ``Optional[bool]`` and ``bool | None`` too; empty where it is none."""
    text = getattr(annotation, "__name__", "") if isinstance(annotation, type) else str(annotation)
    text = re.sub(r"typing\.|Optional\[|\]|\||None| ", "", text)
    return text if text in _FLAGS else ""


def _named_as_mask(name: str, others: list[str]) -> bool:
    """Whether a word says so, or the name is another argument's with an m before or behind it."""
    if any(
        word in _MASK or word.endswith(("mask", "lens", "lengths")) or word.startswith("mask") for word in words(name)
    ):
        return True
    # lengths under another name: a count of what another argument is
    if set(words(name)) & _COUNT and any(set(words(name)) & set(words(other)) for other in others):
        return True
    return any(name in (f"m{other}", f"{other}m", f"{other}_m", f"m_{other}", f"n_{other}") for other in others)


def kinship(argument: str, other: str) -> float:
    """How much two names have in common: what a mask and its side share, as ``v1_mask`` and ``v1`` do."""
    own, theirs = words(argument), words(other)
    shared = set(own) & set(theirs)
    score = 2.0 * len(shared) - 0.1 * len(set(theirs) - shared)
    if argument.startswith(other) or argument.endswith(other) or other in argument.split("_"):
        score += 3.0
    initials = [word for word in own if any(word != w and (w.startswith(word) or word.startswith(w)) for w in theirs)]
    score += 0.8 * len(initials)
    numbers, others = set(filter(str.isdigit, own)), set(filter(str.isdigit, theirs))
    if numbers and others:
        score += 2.0 if numbers == others else -2.0
    for one, same in _KIN.items():
        if one in own and any(word in same for word in theirs):
            score += 1.5
    return score


_KIN: dict[str, frozenset[str]] = {
    "key": frozenset({"key", "keys", "value", "values", "memory", "kv", "context", "encoder", "src"}),
    "memory": frozenset({"src", "source", "memory", "encoder", "mem"}),
    "context": frozenset({"context", "memory", "kv", "encoder"}),
    "attention": frozenset({"hidden"}),
    "visn": frozenset({"visual", "vision", "image", "img", "v"}),
    "visual": frozenset({"visn", "vision", "image", "img", "v"}),
    "lang": frozenset({"language", "text", "txt", "q", "question"}),
    "mask": frozenset({"context"}),
}
"""Words of masks that go with a side of another name. They order trials and decide none."""
