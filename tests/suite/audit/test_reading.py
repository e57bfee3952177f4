"""A signature is read right, whatever the habit: by trials, and a name decides nothing that a trial can decide."""

import importlib.util
from pathlib import Path

import pytest

from suite.audit.reading import understand
from tests.lanes import one_in

# the tests are no package, and pytest imports each by its path
_spec = importlib.util.spec_from_file_location("habits", Path(__file__).with_name("habits.py"))
assert _spec is not None
assert _spec.loader is not None
habits = importlib.util.module_from_spec(_spec)
import sys  # noqa: E402

sys.modules["habits"] = habits
_spec.loader.exec_module(habits)


@pytest.mark.parametrize("right", one_in(4, habits.HABITS), ids=lambda right: right.make.__name__)
def test_a_habit_of_public_code_is_read_right(right) -> None:
    understood = understand(right.make)
    assert {side.name: side.width for side in understood.subject.sides} == right.sides
    for mask, said in right.masks.items():
        (line,) = [line for line in understood.account if line.startswith(f"{mask} tells of the padding")]
        assert said in line
        assert "found by trial" in line
    assert tuple(output.kind for output in understood.subject.outputs) == right.outputs
    assert understood.doubts == ()
