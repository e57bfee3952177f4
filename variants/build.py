"""From a name to a variant: what a name means, and seeded weights."""

import difflib
import inspect
import math
import types
import zlib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from variants.interface import CoAttention
from variants.registry import mechanisms
from variants.spec import Spec, parse
from variants.transforms import AXES, TRANSFORMS
from variants.variant import Variant

Option = int | float | bool | str | None

_COMMON = ("self", "image_width", "question_width", "without")


@cache  # every name that is read asks for it, and a budget reads names all the time
def option_types(mechanism: type[CoAttention]) -> Mapping[str, tuple[object, Option]]:
    """The options of a mechanism: name to annotation and default."""
    signature = inspect.signature(mechanism.__init__)
    hints = get_type_hints(mechanism.__init__)
    return {
        name: (hints.get(name, str), parameter.default)
        for name, parameter in signature.parameters.items()
        if name not in _COMMON
    }


def canonical(name: str | Spec) -> Spec:
    """The one spelling of a name: options sorted and defaults left out, parts and transforms in their own order.

    Raises:
        ValueError: a word of it is not known, or two of its transforms exclude each other.
    """
    spec = parse(name) if isinstance(name, str) else name
    mechanism = mechanisms().get(spec.mechanism)
    if mechanism is None:
        raise ValueError(f"{str(spec)!r} asks for {_unknown('mechanism', spec.mechanism, mechanisms())}")
    known = option_types(mechanism)
    options: list[tuple[str, str]] = []
    for key, text in spec.options:
        if key not in known:
            raise ValueError(f"{str(spec)!r} sets {_unknown(f'option of {spec.mechanism}', key, known)}")
        annotation, default = known[key]
        value = _read_option(str(spec), key, text, annotation)
        if value != default:
            options.append((key, str(value).lower() if isinstance(value, bool) else str(value)))
    for part in spec.without:
        if part not in mechanism.parts:
            raise ValueError(f"{str(spec)!r} removes {_unknown(f'part of {spec.mechanism}', part, mechanism.parts)}")
    for transform in spec.transforms:
        if transform not in TRANSFORMS:
            raise ValueError(f"{str(spec)!r} asks for {_unknown('transform', transform, TRANSFORMS)}")
    for axis in AXES:
        same = [word for word in spec.transforms if TRANSFORMS[word].axis == axis]
        if len(same) > 1:
            raise ValueError(f"{str(spec)!r} asks for {' and '.join(same)}, but a variant has one {axis}")
    return Spec(
        mechanism=spec.mechanism,
        options=tuple(sorted(options)),
        without=tuple(sorted(spec.without, key=mechanism.parts.index)),
        transforms=tuple(sorted(spec.transforms, key=lambda word: AXES.index(TRANSFORMS[word].axis))),
    )


def build(
    name: str | Spec,
    *,
    width: int | None = None,
    image_width: int | None = None,
    question_width: int | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Variant:
    """Make a variant with seeded weights.

    Args:
        name: such as ``hierarchical[inner=alternating]+bf16``.
        width: feature width of both sides; or give both of the next two.
        image_width: feature width of the image, V.
        question_width: feature width of the question, Q.
        device: where the weights live.
        seed: of the initialisation; each parameter's values depend on the seed and its own name and shape alone.

    Raises:
        ValueError: the name or a width is wrong.
        Skip: the variant cannot be had here; the message is the reason.
    """
    image_width = image_width if image_width is not None else width
    question_width = question_width if question_width is not None else width
    if image_width is None or question_width is None:
        raise ValueError("build needs width=, or both image_width= and question_width=")
    for argument, value in (("image_width", image_width), ("question_width", question_width)):
        if value < 1:
            raise ValueError(f"{argument} is {value}: expected at least 1")
    spec = canonical(name)
    with torch.random.fork_rng(devices=[]):  # torch's own initialisation draws; it is overwritten below
        module = _construct(spec, image_width, question_width)
    initialise(module, seed)
    module.to(device)
    variant = Variant(spec=spec.plain, module=module, dtype=torch.float32, run=module)
    for word in spec.transforms:
        variant = TRANSFORMS[word].apply(variant)
    return variant


def blueprint(spec: Spec, *, image_width: int, question_width: int) -> CoAttention:
    """The mechanism without numbers, on torch's meta device: for its shapes and its closed forms, in milliseconds.

    Raises:
        ValueError: as `build`.
        Skip: as `build`, for what the mechanism itself asks for.
    """
    with torch.device("meta"), _Undrawn():
        return _construct(canonical(spec), image_width, question_width)


class _Undrawn(TorchFunctionMode):
    """Draws no numbers where there is no room for any, and takes no norm of them: on the meta device torch loads its
    compiler to do so, which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is Tensor.normal_ and args[0].is_meta:
            return args[0]
        if func is Tensor.norm and args[0].is_meta and len(args) == 1 and given.get("dim") is None:
            return args[0].new_empty(())
        if func is torch.randn and given.get("device") is None:
            given.pop("generator", None)
            return torch.empty(*args, **given)
        return func(*args, **given)


def _construct(spec: Spec, image_width: int, question_width: int) -> CoAttention:
    mechanism = mechanisms()[spec.mechanism]
    known = option_types(mechanism)
    options = {key: _read_option(str(spec), key, text, known[key][0]) for key, text in spec.options}
    module: CoAttention = mechanism(
        image_width=image_width,
        question_width=question_width,
        without=frozenset(spec.without),
        **options,  # read by the types of this very signature
    )
    return module


def initialise(module: CoAttention, seed: int) -> None:
    """Uniform numbers between bounds: Xavier's for matrices, 0.1 for biases, both times the mechanism's gain.

    Normalisation scales are 1. Biases are not 0, so that one that leaks through padding cannot hide.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            # both in one hash, since the generator reads the lowest 32 bits of its seed alone
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            if parameter.dim() >= 2:
                field = math.prod(parameter.shape[2:])
                bound = math.sqrt(6 / ((parameter.shape[0] + parameter.shape[1]) * field)) * module.gain(name)
            elif name.rpartition(".")[2] in ("weight", "scale", "a_2"):  # the last is MCAN's name for a scale
                parameter.fill_(1)
                continue
            else:
                bound = 0.1 * module.gain(name)
            values = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) * 2 - 1
            parameter.copy_(values * bound)
        for name, parameter in module.named_parameters():
            if name.endswith("_g"):  # the gain of weight normalisation: at first the weight is as it was drawn
                parameter.copy_(module.get_parameter(f"{name[:-1]}v").norm())


def _read_option(name: str, key: str, text: str, annotation: object) -> Option:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    for kind in kinds:
        if kind is type(None) and text == "none":
            return None
        if get_origin(kind) is Literal and text in get_args(kind):
            return text
        if kind is bool and text in ("true", "false"):
            return text == "true"
        if kind in (int, float):
            try:
                value: int | float = int(text) if kind is int else float(text)
            except ValueError:
                continue
            if value < 0 or not math.isfinite(value):
                continue
            return value
    expected = ", ".join(
        " or ".join(map(str, get_args(kind)))
        if get_origin(kind) is Literal
        else {int: "a whole number", float: "a number", bool: "true or false", type(None): "none"}.get(kind, str(kind))
        for kind in kinds
    )
    raise ValueError(f"{name!r} sets {key}={text}: expected {expected}")


def _unknown(what: str, word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{word!r}, which is no {what}: {hint}known are {', '.join(names) or 'none'}"
