"""The language of variant names: ``mechanism[key=value,...]-part+transform``."""

import re
from dataclasses import dataclass

_NAME = re.compile(
    r"(?P<mechanism>[a-z][a-z0-9_]*)"
    r"(?:\[(?P<options>[^\[\]]*)\])?"
    r"(?P<rest>(?:[-+][a-z][a-z0-9_]*)*)"
)
_OPTION = re.compile(r"\s*(?P<key>[a-z][a-z0-9_]*)\s*=\s*(?P<value>[-A-Za-z0-9_.]+)\s*")
_SUFFIX = re.compile(r"([-+])([a-z][a-z0-9_]*)")


@dataclass(frozen=True)
class Spec:
    """A parsed name; what its words mean is the registry's business."""

    mechanism: str
    options: tuple[tuple[str, str], ...] = ()
    without: tuple[str, ...] = ()
    transforms: tuple[str, ...] = ()

    @property
    def plain(self) -> "Spec":
        """The same mechanism, options and parts, eager in float32."""
        return Spec(self.mechanism, self.options, self.without)

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options)
        return (
            self.mechanism
            + (f"[{options}]" if options else "")
            + "".join(f"-{part}" for part in self.without)
            + "".join(f"+{transform}" for transform in self.transforms)
        )


def parse(name: str) -> Spec:
    """Read a variant's name.

    Raises:
        ValueError: the name does not follow the grammar, or says something twice.
    """
    match = _NAME.fullmatch(name.strip())
    if match is None:
        raise ValueError(
            f"{name!r} is not a variant's name: expected mechanism[key=value,...]-part+transform, "
            "such as hierarchical[inner=alternating]-phrase_level+bf16"
        )
    options: list[tuple[str, str]] = []
    for text in (match["options"] or "").split(",") if match["options"] else ():
        option = _OPTION.fullmatch(text)
        if option is None:
            raise ValueError(f"{name!r} has the option {text!r}: expected key=value")
        options.append((option["key"], option["value"]))
    suffixes = _SUFFIX.findall(match["rest"])
    spec = Spec(
        mechanism=match["mechanism"],
        options=tuple(options),
        without=tuple(word for sign, word in suffixes if sign == "-"),
        transforms=tuple(word for sign, word in suffixes if sign == "+"),
    )
    for what, words in (
        ("option", [key for key, _ in spec.options]),
        ("removed part", spec.without),
        ("transform", spec.transforms),
    ):
        for word in words:
            if list(words).count(word) > 1:
                raise ValueError(f"{name!r} gives the {what} {word!r} twice")
    return spec
