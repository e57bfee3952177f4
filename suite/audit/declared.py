"""How a property is declared: beside the function that examines it, in one place."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from suite.audit.lab import Lab
from suite.audit.observation import Observation

Severity = Literal["wrong", "fragile"]
Check = Callable[[Lab], Iterator[Observation]]


@dataclass(frozen=True, kw_only=True)
class Property:
    """One property: what it says, how bad its failure is, and how it is examined."""

    id: str
    title: str
    """A few words, for the head of a column."""
    statement: str
    """What holds where it is not broken."""
    severity: Severity
    says: str
    """What a failure means in a sentence, with ``{output}``, ``{leak}`` and ``{condition}``."""
    check: Check
    """Raises `Lacking` where the subject has nothing to be examined on."""

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands among the others: by its number, then by its letter."""
        number, letter = re.fullmatch(r"P(\d+)([a-z]?)", self.id).groups()  # type: ignore[union-attr]  # see `declares`
        return int(number), letter


_MARK = "declared_property"


def declares(id: str, severity: Severity, title: str, statement: str, *, says: str) -> Callable[[Check], Check]:
    """Declare the property that a function examines.

    Args:
        id: ``P`` and a number, with a letter where it is akin to another.
        severity: how bad its failure is.
        title: as of `Property`.
        statement: as of `Property`.
        says: as of `Property`.
    """
    assert re.fullmatch(r"P\d+[a-z]?", id), id

    def declared(check: Check) -> Check:
        item = Property(id=id, title=title, statement=statement, severity=severity, says=says, check=check)
        setattr(check, _MARK, item)
        return check

    return declared


def declared_in(*modules: ModuleType) -> tuple[Property, ...]:
    """The properties that functions of some modules declare, in their order."""
    found = [
        getattr(value, _MARK)
        for module in modules
        for value in vars(module).values()
        if hasattr(value, _MARK) and value.__module__ == module.__name__
    ]
    assert len({item.id for item in found}) == len(found), "a property is declared twice"
    return tuple(sorted(found, key=lambda item: item.place))
