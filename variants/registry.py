"""The mechanisms by name. It stands below them, since each puts itself in; what a whole name means is `build`'s."""

from collections.abc import Callable
from typing import TypeVar

from variants.interface import CoAttention
from variants.spec import Spec, parse

M = TypeVar("M", bound=type[CoAttention])

_MECHANISMS: dict[str, type[CoAttention]] = {}


def register(name: str) -> Callable[[M], M]:
    """Make a mechanism known under a name, as ``@register("gated")`` above its class.

    Raises:
        TypeError: the name is no text, or what it is given to is no class.
        ValueError: another class has that name, or the name is not a word of the grammar.
    """
    if not isinstance(name, str):
        raise TypeError(f'@register({name!r}): expected a name, as in @register("gated")')

    def add(cls: M) -> M:
        if not isinstance(cls, type):
            raise TypeError(f"@register({name!r}) is given {cls!r}: expected a class that extends CoAttention")
        if parse(name) != Spec(name):
            raise ValueError(f"{name!r} cannot name a mechanism: expected lower-case letters, digits and underscores")
        known = _MECHANISMS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"{name!r} already names {known.__module__}.{known.__qualname__}; choose another name")
        _MECHANISMS[name] = cls
        return cls

    return add


def published_names() -> list[str]:
    """The names of the published implementations."""
    return [name for name, mechanism in _MECHANISMS.items() if mechanism.origin is not None]


def is_ours(mechanism: type[CoAttention]) -> bool:
    """Whether a mechanism is of this program, and not of a user's file or of a check that plants some."""
    return mechanism.__module__.partition(".")[0] == "variants"


def mechanisms() -> dict[str, type[CoAttention]]:
    """Every registered mechanism by name."""
    return dict(_MECHANISMS)
