"""The audit is right about modules that other people might have written: correct ones, and ones with a defect."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from suite.audit import command
from suite.audit.reading import NotUnderstood, understand
from suite.audit.rows import audited

sys.path.insert(0, str(Path(__file__).parent))

from people import CASES, broken  # the tests are no package
from people.truths import ROUNDING

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch, about what people do
QUICK = frozenset({"GatedABMIL", "EsimRight", "SpeechCross", "Columns", "JointOptional", "IdsMask"})
TOLD = [name for name, case in CASES.items() if case.call is not None]
"""Of which the table says what moves."""


def lanes(names: Iterable[str]) -> list[Any]:
    """All of them, of which most are not for the quick lane."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", TOLD)
def test_what_the_table_says_of_a_module_is_true(name: str) -> None:
    case = CASES[name]
    moved = broken(case)
    if 1 not in case.exits:
        assert max(moved.values()) < ROUNDING, moved
    elif 0 not in case.exits:
        assert max(moved.values()) > ROUNDING, moved


@pytest.mark.parametrize("name", lanes(CASES))
def test_a_module_is_read_without_doubts_and_the_answer_about_it_is_right(name: str) -> None:
    case, heard, understood = CASES[name], command.Heard(), None
    try:
        understood = understand(case.make, name=name)
        if name in TOLD:
            assert understood.doubts == () or 2 in case.exits
            # what its author calls one vector an example is padded nowhere, and what is padded has a mask
            padded = sum(len(set(lengths)) > 1 for lengths in case.lengths)
            assert len(understood.subject.masked) <= padded
        for row in audited(understood, 0):
            heard.take(row)
        answer = command.answered(name, heard, strict=False)
    except NotUnderstood as error:
        code, text, verdicts = 2, str(error), {}
    else:
        code, verdicts = answer.code, {found.quantity: found.verdict for found in heard.found}
        lines = [*heard.account, *(f"{found.quantity} {found.summary}" for found in heard.found)]
        text = " ".join([*lines, answer.last, *heard.closing])
    text = " ".join(text.split())
    assert understood is not None or name not in TOLD, text
    assert code in case.exits, text
    if code in (0, 1):
        for group in case.broken:
            assert any(verdicts.get(id) == "broken" for id in group), (group, text)
    assert not [id for id in case.sound if verdicts.get(id) == "broken"], text
    assert re.search(case.says, text, re.IGNORECASE), text
    assert not (case.never and re.search(case.never, text)), text
