"""Exit codes of ``python run_all.py``, which ``coattention`` is too."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suite.core.records import Record

DONE = 0
"""All asked-for cells were measured, or skipped with a reason."""
INCORRECT = 1
"""Masking or agreement broken where no defect is known, or a known defect not found."""
WRONG_COMMAND = 2
"""It cannot be done as asked; the system refused something; or the answer was lost on its way, and stands nowhere else.
"""
REGRESSION = 3
NOTHING_MEASURED = 4
CELLS_FAILED = 5
SUSPECT = 6
"""A time that is longer beyond the limit, by more than chance and processes explain, but not surely beyond it."""
INTERNAL_ERROR = 70
INTERRUPTED = 130


def code(records: "Iterable[Record]") -> int:
    """What a run's records say of its exit: incorrect before failed before nothing measured."""
    from suite.core.records import (  # here, since the command line needs the codes alone
        ANSWERLESS,
        FAILURES,
        Finding,
        Measurement,
        Skip,
    )

    incorrect = failed = measured = False
    for record in records:
        match record:
            case Finding(verdict=verdict):
                incorrect |= verdict == "broken"
                measured = True
            case Measurement(variant=variant, quantity=quantity):
                # what is about no variant is about the machine, which nobody asked about alone
                measured |= variant != "" and quantity not in ANSWERLESS
            case Skip(cause=cause):
                failed |= cause in FAILURES
    if incorrect:
        return INCORRECT
    if failed:
        return CELLS_FAILED
    return DONE if measured else NOTHING_MEASURED
