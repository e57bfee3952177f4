"""A signature is read right, whatever the habit: by trials, and a name decides nothing that a trial can decide."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import pytest

from suite.audit.reading import Stated, understand
from suite.audit.reading.arguments import arguments_of
from suite.audit.reading.inputs import fits
from suite.audit.reading.masks import place
from suite.audit.reading.trial import Outputs, Spent, Trials
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


class Ending(Trials):
    """Trials whose time is over after so many calls."""

    left = 10**9

    def call(self, arguments: Mapping[str, object]) -> Outputs:
        if not self.left:
            raise Spent
        self.left -= 1
        return super().call(arguments)


def test_a_search_that_runs_out_of_time_says_so_wherever_it_was() -> None:
    right = next(right for right in habits.HABITS if len(right.masks) > 1)
    trials = Ending(right.make().eval())
    with trials.quietly():
        fit = next(iter(fits(trials, arguments_of(trials.module), Stated())))
        trials.made = 0
        place(trials, fit, Stated())
        for left in range(0, trials.made, 1 + trials.made // 12):
            trials.left = left
            with pytest.raises(Spent):
                place(trials, fit, Stated())
