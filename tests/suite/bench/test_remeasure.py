"""Two source trees of which one is slower, timed again in processes of their own."""

import shutil
from pathlib import Path

import pytest

from suite.bench.remeasure import PAIRS, suspects
from suite.core import stats
from suite.core.compare import CellKey, Change, RunComparison

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
CELL = CellKey("parallel", "tiny", "forward", "cpu")


def suspected(cell: CellKey = CELL) -> RunComparison:
    """A comparison in which one cell seems to have regressed."""
    ratio = stats.Ratio(estimate=1.5, low=1.4, high=1.6, verdict="slower", count=20)
    change = Change(
        cell=cell, quantity="latency", unit="s", old=1e-3, new=1.5e-3, ratio=ratio, through="tasks",
        standing="regression",
    )  # fmt: skip
    return RunComparison(changes=(change,), broken=(), lost=(), failed=False, added=(), fail_above=0.05)


def again(comparison: RunComparison, old: Path, new: Path) -> Change:
    *_, last = suspects(comparison, old, new, budget_s=1.0, timeout_s=60.0)
    assert last.waiting == ()
    (change,) = last.comparison.changes
    return change


@pytest.fixture(scope="module")
def slower_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variants of this tree, with one tanh of sixty in cell of one."""
    tree = tmp_path_factory.mktemp("slower")
    shutil.copytree(ROOT / "variants", tree / "variants", ignore=shutil.ignore_patterns("__pycache__"))
    source = tree / "variants" / "parallel.py"
    text = source.read_text()
    once = "affinity = tanh_of_own(affinity)"
    assert once in text
    source.write_text(text.replace(once, "affinity = [tanh_of_own(affinity + step) for step in range(60)][0]"))
    return tree


def test_a_regression_of_the_sources_recurs(slower_tree: Path) -> None:
    change = again(suspected(), ROOT, slower_tree)
    assert [ratio.verdict for ratio in change.again] == ["slower"] * PAIRS
    assert change.regressed


def test_a_regression_that_does_not_recur_is_none() -> None:
    change = again(suspected(), ROOT, ROOT)
    assert len(change.again) == PAIRS
    assert not change.regressed


def test_a_process_that_ends_keeps_the_suspicion_and_says_why() -> None:
    change = again(suspected(CELL._replace(variant="parallell")), ROOT, ROOT)
    assert change.regressed
    assert "could not be measured again" in change.trust[0]
    assert "did you mean 'parallel'" in change.trust[0]


def test_a_folder_without_variants_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a source tree, with the package 'variants' in it"):
        suspects(suspected(), tmp_path, ROOT, budget_s=1.0, timeout_s=10.0)
