"""Many runs: a change that lasts is told from noise, one odd run is none, and unchanged code has changes seldom."""

import math

import numpy as np
import pytest

from suite.core import history
from suite.core.compare import CellKey
from suite.core.history import Move, Point, Run, Series
from suite.core.records import Measurement

CELLS = 12


def series(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", *, name: str, believed: float) -> Series:
    return Series(
        cell=CellKey(name, "tiny", "forward", "cpu"),
        points=tuple(
            Point(at, math.exp(value), math.exp(value - 2 * believed), math.exp(value + 2 * believed), believed)
            for at, value in enumerate(values)
        ),
    )


def told(
    seed: int, *, runs: int = 10, noise: float = 0.02, believed: float = 0.02, step: float = 0.0, odd: float = 0.0
) -> list[list[Move]]:
    """The changes of each of some times; the first steps in the middle, the second has one odd run."""
    generator = np.random.default_rng(seed)
    values = generator.normal(0, noise, (CELLS, runs))
    values[0, runs // 2 :] += math.log1p(step)
    values[1, generator.integers(runs)] += math.log1p(odd)
    made = [series(line, name=str(at), believed=believed) for at, line in enumerate(values)]
    factor, freedom = history._noise(made)
    return [list(history.moves(one.points, factor, freedom=freedom, level=history.FAMILY / CELLS)) for one in made]


@pytest.mark.parametrize("believed", [0.01, 0.06])
@pytest.mark.parametrize("odd", [0.0, 0.4])
def test_unchanged_code_seldom_changes_whatever_its_intervals_say(believed: float, odd: float) -> None:
    histories = [told(seed, believed=believed, odd=odd) for seed in range(40)]
    # 1 of a hundred is promised; 4 or more of 40 would come once in fifteen thousand times
    assert sum(any(moves) for moves in histories) < 4


def test_a_step_of_five_times_the_noise_is_found_where_it_is() -> None:
    found = [told(seed, step=0.1)[0] for seed in range(40)]
    assert sum(len(moves) == 1 and moves[0].at == 5 for moves in found) >= 36
    sizes = [moves[0].ratio for moves in found if moves]
    assert sum(ratio.low <= 1.1 <= ratio.high for ratio in sizes) >= 0.85 * len(sizes)
    assert all(ratio.verdict == "slower" for ratio in sizes)


def test_three_runs_tell_nothing_and_a_last_run_alone_is_no_change() -> None:
    assert not any(told(0, runs=3, step=2.0))
    one = series(np.array([0.0, 0.01, -0.01, 0.0, 0.5]), name="a", believed=0.01)
    assert not list(history.moves(one.points, 1.0, freedom=100.0, level=0.001))


def test_a_change_back_is_a_second_change() -> None:
    one = series(np.array([0.0, 0.01, -0.01, 0.5, 0.51, 0.5, 0.0, 0.01]), name="a", believed=0.01)
    first, second = history.moves(one.points, 1.0, freedom=100.0, level=0.001)
    assert (first.at, second.at) == (3, 6)
    assert (first.ratio.verdict, second.ratio.verdict) == ("slower", "faster")


def record(variant: str, scale: float, run: int) -> Measurement:
    generator = np.random.default_rng([run, len(variant)])
    return Measurement(
        task="t", variant=variant, workload="tiny", phase="forward", device="cpu", quantity="latency", unit="s",
        samples=tuple(scale * generator.lognormal(0, 0.01, 20)), rounds=tuple(range(20)),
    )  # fmt: skip


def test_what_the_machine_does_between_runs_cancels_and_missing_runs_are_passed_over() -> None:
    runs = []
    for at in range(8):
        pace = 1 + 0.5 * (at % 2)
        records = [record("parallel", 1e-3 * pace, at)]
        records += [record("dense", 2e-3 * pace * (1.5 if at >= 4 else 1), at)] if at != 2 else []
        runs.append((Run(f"run{at}", f"c{at}", ""), records))
    found = history.history(runs, fail_above=0.05)
    (dense,) = (one for one in found.series if one.cell.variant == "dense")
    assert [point.run for point in dense.points] == [0, 1, 3, 4, 5, 6, 7]
    assert [move.at for move in dense.moves] == [4]
    assert dense.moves[0].ratio.estimate == pytest.approx(1.5, rel=0.05)
    assert found.slower == (dense,)
    assert found.faster == ()
