"""The page of two runs holds every number: the first stand open, the others behind their count."""

from suite.core import compare
from suite.report.html import compared, document
from tests.suite.core.test_history import record


def test_a_long_comparison_opens_with_its_first_numbers_and_folds_the_others() -> None:
    names = ["parallel", *(f"dense[layers={layers}]" for layers in range(1, compared.MOST_SHOWN + 3))]
    sides = [[record(name, 1e-3, run) for name in names] for run in (0, 1)]
    comparison = compare.compare(*sides, fail_above=0.05)
    text = document.document(compared.page(comparison, sides, old="before", new="after"))
    open_rows, found, folded = text.partition(f"and {len(names) - compared.MOST_SHOWN} more numbers")
    assert found
    chosen = [part.count("data-choose=") for part in (open_rows, folded)]
    assert chosen == [compared.MOST_SHOWN, len(names) - compared.MOST_SHOWN]
