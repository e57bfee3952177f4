"""Which tests of many alike are for the quick lane."""

from collections.abc import Iterable
from typing import Any

import pytest


def one_in(count: int, values: Iterable[Any]) -> list[Any]:
    """All of them, to parametrise a test with; one in so many is quick, the others are slow."""
    return [quick if at % count == 0 else slowly(quick) for at, quick in enumerate(values)]


def slowly(value: Any) -> Any:
    if isinstance(value, type(pytest.param())):  # with a name and marks of its own
        return pytest.param(*value.values, marks=[*value.marks, pytest.mark.slow], id=value.id)
    return pytest.param(*(value if type(value) is tuple else (value,)), marks=pytest.mark.slow)
