"""What the intervals and verdicts do with processes that differ, on simulated runs of known truth."""

import numpy as np
import pytest
from scipy.signal import lfilter

from suite.core import exits, stats
from suite.selfcheck import simulation
from suite.selfcheck.simulation import EFFECTS, POWERED, World
from tests.lanes import one_in


@pytest.mark.parametrize("effect", one_in(4, EFFECTS))
def test_intervals_hold_in_another_process_and_equal_cells_stay_equal(effect: float) -> None:
    counts = simulation.tables(np.random.default_rng(0), World(effect=effect), cells=100, times=4)
    # 400 intervals of 95 % scatter by 1.1 %
    assert 0.915 <= counts.covered / counts.cells <= 0.985
    assert counts.told_alone <= 0.01 * counts.cells
    assert counts.tables_told == 0
    if effect >= 0.02:
        assert counts.covered_by_one < 0.5 * counts.cells


@pytest.mark.parametrize(("effect", "processes"), POWERED.items())
def test_five_percent_of_work_is_seen_with_enough_processes(effect: float, processes: int) -> None:
    world = World(effect=effect, processes=processes)
    seen = simulation.tables(np.random.default_rng(1), world, cells=20, times=2, slower=1.05)
    assert seen.told_alone >= 0.7 * seen.cells


def test_a_run_without_repeats_learns_from_its_anchors_and_says_too_much_rather_than_too_little() -> None:
    world = World(effect=0.03, processes=1)
    counts = simulation.tables(np.random.default_rng(2), world, cells=30, times=5)
    assert counts.covered >= 0.93 * counts.cells
    assert counts.tables_told == 0


@pytest.mark.slow
@pytest.mark.parametrize("effect", EFFECTS)
def test_two_runs_of_the_same_code_compare_without_a_word(effect: float) -> None:
    codes = simulation.ends(np.random.default_rng(3), World(effect=effect, processes=1), cells=72, times=3)
    assert codes == {exits.DONE: 3}


@pytest.mark.slow
def test_every_row_of_the_simulation_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    # one world is enough for the rows: the tests above try the others, and a self-check all of them at full counts
    monkeypatch.setattr(simulation, "EFFECTS", (0.02,))
    monkeypatch.setattr(simulation, "POWERED", {0.01: 3})
    rows = list(simulation.check(full=False))
    assert len(rows) == 5
    assert [row.summary for row in rows if row.verdict == "broken"] == []


@pytest.mark.parametrize(("correlation", "least"), [(0.0, 0.94), (0.3, 0.92), (0.6, 0.85), (0.9, 0.65)])
@pytest.mark.parametrize("rounds", [12, 30])
def test_few_rounds_that_resemble_their_neighbours_widen_the_interval(
    rounds: int, correlation: float, least: float
) -> None:
    generator = np.random.default_rng(rounds)

    def draw() -> np.ndarray:
        return lfilter([1], [1, -correlation], generator.normal(0, 0.03, rounds + 60))[60:]

    assert simulation.covered(draw, 300) >= least * 300


def test_calls_of_two_kinds_are_seen_and_stragglers_and_drift_are_not() -> None:
    generator = np.random.default_rng(4)
    seen, alarms = 0, 0
    for _ in range(100):
        quiet = 0.01 * np.exp(generator.normal(0, 0.03, 200))
        seen += stats.two_modes(quiet * np.where(generator.random(200) < 0.3, 1.3, 1.0)) is not None
        late = quiet * (1 + (generator.random(200) < 0.08) * generator.pareto(1.2, 200))
        drifting = quiet * np.exp(np.cumsum(generator.normal(0, 0.005, 200)))
        alarms += sum(stats.two_modes(samples) is not None for samples in (quiet, late, drifting))
    assert seen == 100
    assert alarms <= 3
