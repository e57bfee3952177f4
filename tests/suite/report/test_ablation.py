"""What an ablation's page says follows from its records."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from suite.core import stats, store
from suite.core.answer import Answer, give
from suite.core.records import Artifact, Finding, Measurement, Record, Skip
from suite.report import ablation, ablation_plots, attention, page, pareto
from suite.report.accuracies import Accuracies, Interval, change, detectable, interval, verdict
from suite.report.html import study
from suite.report.tables import Place

SEEDS = (0.70, 0.72, 0.69, 0.71, 0.73)


def described(row: str, parent: str, *, variant: str = "", sight: str = "both", width: int = 64) -> Measurement:
    details = {"study": "core", "question": "What?", "data": "d", "row": row, "parent": parent, "sight": sight}
    details |= {"width": width}
    return Measurement(task="t", variant=variant or row, quantity="parameters", unit="1", value=1000, details=details)


def measured(row: str, seed: int, value: float, *, family: str = "all", evaluation: str = "as_is") -> Measurement:
    details = {"study": "core", "row": row, "seed": seed, "family": family, "evaluation": evaluation}
    return Measurement(task="t", variant=row, quantity="accuracy", unit="1", value=value, details=details)


def accuracies_of(row: str, values: tuple[float, ...], **where: str) -> list[Record]:
    return [measured(row, seed, value, **where) for seed, value in enumerate(values)]


@pytest.fixture
def records() -> list[Record]:
    lost = {"noise_in_pads": 0.25, "twice_the_width": 0.1, "as_is_of_alone": 0.0, "alone": 0.2}
    made: list[Record] = [
        described("pool", ""),
        described("hierarchical", "pool"),
        described("leaky", "hierarchical"),
        described("pool (question only)", "pool", variant="pool", sight="question_only"),
    ]
    for row, shift in (("pool", -0.2), ("hierarchical", 0.0), ("leaky", -0.1), ("pool (question only)", -0.3)):
        values = tuple(seed + shift for seed in SEEDS)
        for family in ("all", "unary", "pair"):
            made += accuracies_of(row, values, family=family)
        for way, points in lost.items():
            leaked = points if row == "leaky" else 0.0
            made += accuracies_of(row, tuple(value - leaked for value in values), evaluation=way)
    for family in ("all", "unary", "pair"):
        details = {"data": "d", "of": "question only", "family": family}
        made.append(Measurement(task="t", quantity="ceiling", unit="1", value=0.39, details=details))
    for rate, value in ((0.001, 0.5), (0.003, 0.6)):
        details = {"data": "d", "row": "pool", "learning_rate": rate}
        made.append(Measurement(task="t", quantity="tuning_accuracy", unit="1", value=value, details=details))
    details = {"row": "cross", "seed": 0}
    made.append(
        Skip(
            task="s",
            variant="cross",
            quantity="accuracy",
            reason="no time",
            cause="budget",
            remedy="do",
            details=details,
        )
    )
    made.append(Artifact(task="t", variant="pool", quantity="attention", path="attention/pool.json"))
    return made


@pytest.fixture
def folder(records: list[Record], tmp_path: Path) -> Path:
    with store.Writer(tmp_path) as writer:
        writer.write(records)
    (tmp_path / "attention").mkdir()
    example = {
        "family": "unary",
        "words": ["what", "shape", "is", "the", "red", "one"],
        "answer": "circle",
        "predicted": "square",
        "colours": ["red", "blue"],
        "shapes": ["circle", "triangle"],
        "places": [[0.1, 0.2], [-0.7, 0.9]],
        "image_weights": [[0.25, 0.75]],
        "question_weights": [[0.1, 0.1, 0.1, 0.1, 0.5, 0.1]],
    }
    (tmp_path / "attention" / "pool.json").write_text(json.dumps({"row": "pool", "examples": [example]}))
    return tmp_path


def test_an_interval_is_students_over_seeds() -> None:
    found = interval(SEEDS)
    assert found.mean == pytest.approx(0.71)
    # 2.776 is the 97.5 % point of t with four degrees of freedom, from a printed table
    reach = 2.776 * math.sqrt(0.001 / 4 / 5)
    assert (found.low, found.high) == pytest.approx((0.71 - reach, 0.71 + reach), abs=1e-5)
    assert interval([0.5]) == Interval(mean=0.5, low=-math.inf, high=math.inf, seeds=1)
    assert interval([]).seeds == 0


def test_a_change_is_taken_within_seeds_and_only_where_both_were_trained() -> None:
    drifting = {0: 0.3, 1: 0.5, 2: 0.7}
    found = change({seed: value + 0.02 for seed, value in drifting.items()} | {9: 0.1}, drifting)
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.low < 1e-9
    assert found.seeds == 3


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.2, "helps"),
        (-0.2, -0.001, "hurts"),
        (-0.009, 0.009, "no difference seen"),
        (-0.02, 0.009, "unclear"),
        (-math.inf, math.inf, "unclear"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(low: float, high: float, expected: str) -> None:
    assert verdict(Interval(mean=0.0, low=low, high=high, seeds=5)) == expected


def test_the_table_holds_every_row_family_and_evaluation_in_base_units(records: list[Record]) -> None:
    made = ablation.table(Accuracies(records))
    line = made[(made["row"] == "leaky") & (made["family"] == "all") & (made["evaluation"] == "noise_in_pads")]
    assert line["accuracy"].item() == pytest.approx(0.36)
    assert line["change"].item() == pytest.approx(-0.35)
    assert line["verdict"].item() == "hurts"
    assert len(made) == 4 * (3 + 4)


@pytest.mark.slow
def test_the_page_says_what_helps_what_leaks_cost_and_what_was_not_trained(folder: Path) -> None:
    text = (page.write(folder).parent / "REPORT.md").read_text()
    assert "`hierarchical` ends 20.0 points above `pool` [20.0, 20.0], over 5 seeds." in text
    assert "`leaky` ends 10.0 points below `hierarchical` [-10.0, -10.0], over 5 seeds." in text
    assert "`leaky` ends 10.0 points above `pool` [10.0, 10.0], over 5 seeds." in text
    assert "`leaky` loses points: noise in pads 25.0 [25.0, 25.0], " in text
    assert ", alone in the batch 20.0 [20.0, 20.0]." in text
    assert "`hierarchical` loses" not in text
    assert "best possible from the question alone" in text
    assert "| d | `pool` | 50.0 | **60.0** |" in text
    assert "| `cross` (seed 0) | no time | `do` |" in text
    for name in ("accuracy-core", "padding-core", "attention-unary"):
        assert f"plots/{name}.png" in text
        assert (folder / "plots" / f"{name}.png").stat().st_size > 1000


def test_rows_that_are_as_accurate_with_every_seed_are_named_together() -> None:
    made = [described("sound", ""), *(described(name, "sound") for name in ("cast", "buffer", "wide", "other"))]
    for row in ("sound", "cast", "buffer", "wide"):
        made += accuracies_of(row, (0.6, 0.8, 0.7))
    made += accuracies_of("other", (0.6, 0.8, 0.6))
    first, second = ablation.sentences(Accuracies(made), "core")
    assert first == "As accurate as `sound` with every seed: `cast`, `buffer`, `wide`."
    assert second.startswith("These seeds cannot tell apart: `other` and `sound` (unclear")


def test_what_longer_sets_cost_is_said_tabled_and_drawn(tmp_path: Path) -> None:
    made = [described("pool", ""), described("cross", "pool")]
    for row, shift, lost in (("pool", 0.0, 0.02), ("cross", 0.1, 0.15)):
        values = tuple(value + shift for value in SEEDS)
        made += accuracies_of(row, values) + accuracies_of(row, values, family="unary")
        made += accuracies_of(row, tuple(value - lost for value in values), evaluation="longer")
    for data, ceiling in (("d", 0.39), ("d-to-long", 0.37)):
        details = {"data": data, "of": "question only", "family": "all"}
        made.append(Measurement(task="t", quantity="ceiling", unit="1", value=ceiling, details=details))
    accuracies = Accuracies(made)
    (sentence,) = (text for text in ablation.sentences(accuracies, "core") if text.startswith("`cross` changes"))
    assert "changes by -15.0 [-15.0, -15.0] points on longer sets" in sentence
    assert "where it stands -3.0 [-3.0, -3.0] beside `pool` (hurts)" in sentence
    found = ablation.study_table(accuracies, "core").set_index("row")
    assert list(found["on longer sets"]) == ["69.0 [67.0, 71.0]", "66.0 [64.0, 68.0]", "37.0"]
    assert found["change on longer sets"]["`pool`"] == "-2.0 [-2.0, -2.0]"
    assert "plots/longer-core.png" in ablation_plots.write(accuracies, tmp_path)["core"]


def test_of_many_rows_those_that_lose_nothing_are_counted_not_drawn(records: list[Record]) -> None:
    def names(accuracies: Accuracies) -> list[str]:
        figure = ablation_plots.costs(accuracies, "core")
        colours = {line.get_color() for axes in figure.axes for line in axes.lines if line.get_marker() in "oDs"}
        explained = [text for legend in figure.legends for text in legend.get_texts()]
        assert len(explained) == (len(colours) if len(colours) > 1 else 0), "a colour that nothing explains"
        return [label.get_text() for label in figure.axes[0].get_yticklabels()]

    assert names(Accuracies(records)) == ["leaky", "hierarchical"], "whoever loses most comes first"
    for index in range(ablation_plots.MOST_UNMOVED):
        records.append(described(f"sound {index}", ""))
        for way in ("as_is", "noise_in_pads"):
            records += accuracies_of(f"sound {index}", SEEDS, evaluation=way)
    assert names(Accuracies(records)) == ["leaky"]
    label = ablation_plots.costs(Accuracies(records), "core").axes[1].get_xlabel()
    assert label.endswith("; 13 rows that lose nothing are left out")


def test_a_gain_from_changed_padding_is_no_loss() -> None:
    made = [described("a", "")]
    made += accuracies_of("a", SEEDS) + accuracies_of("a", tuple(seed + 0.03 for seed in SEEDS), evaluation="alone")
    made += accuracies_of("a", SEEDS, evaluation="as_is_of_alone")
    figure = ablation_plots.costs(Accuracies(made), "core")
    assert any("no loss to changed padding is told from zero" in text.get_text() for text in figure.findobj(Text))


@pytest.mark.slow
def test_changes_stand_below_what_they_are_compared_with(records: list[Record], tmp_path: Path) -> None:
    part = described("hierarchical-word_level", "hierarchical")
    jumping = (0.10, -0.15, 0.05, 0.15, -0.10)
    records += [part, *accuracies_of(part.variant, tuple(map(sum, zip(SEEDS, jumping, strict=True))))]
    accuracies = Accuracies(records)
    figure = ablation_plots.changes(accuracies, "core")
    changes, families = figure.axes
    names = [label.get_text() for label in changes.get_yticklabels()]
    # the blindfolded row is compared with pooling, and says nothing about a mechanism
    assert names == ["beside pool:", "hierarchical", "beside hierarchical:", "leaky", "hierarchical-word_level"]
    drawn = {
        (line.get_marker(), line.get_ydata()[0]): line.get_xdata()[0]
        for line in changes.lines
        if len(line.get_xdata()) == 1
    }
    assert drawn == {("^", 1): pytest.approx(20.0), ("v", 3): pytest.approx(-10.0), ("o", 4): pytest.approx(1.0)}
    written = {text.get_position(): (text.get_text(), text.get_fontweight()) for text in families.texts}
    assert written[0, 1] == ("+20", "bold")
    assert written[0, 3] == ("-10", "bold")
    assert figure.get_suptitle() == "core: leaky ends 10.0 points below hierarchical [-10.0, -10.0]"
    assert "plots/changes-core.png" in ablation_plots.write(accuracies, tmp_path)["core"]


def test_of_many_rows_those_that_change_nothing_are_counted_not_drawn(records: list[Record]) -> None:
    for index in range(ablation_plots.MOST_UNMOVED):
        same = described(f"same {index}", "hierarchical")
        records += [same, *accuracies_of(same.variant, SEEDS)]
    figure = ablation_plots.changes(Accuracies(records), "core")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["beside pool:", "hierarchical", "beside hierarchical:", "leaky"]
    assert figure.legends[0].get_title().get_text() == "12 rows that change nothing with any seed are left out"


def test_attention_stands_side_by_side_and_the_glimpses_of_one_in_one_row() -> None:
    scene = {"words": ["which", "one"], "answer": "circle", "predicted": "circle", "colours": ["red"]}
    scene |= {"shapes": ["circle"], "places": [[0.0, 0.0]]}
    glimpse = {"image_weights": [[1.0]], "question_weights": [[0.5, 0.5]]}
    levels = {"image_weights": [[1.0]] * 3, "question_weights": [[0.5, 0.5]] * 3}
    drawn = [scene | glimpse | {"row": name} for name in ("a", "b")]
    drawn += [scene | levels | {"row": "deep"}, *(scene | glimpse | {"row": name} for name in ("c", "d"))]
    figure = attention.figure("unary", drawn)
    titles = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert titles == [
        *(f"{name}: circle (right)" for name in ("a", "b", "c")),
        "deep: circle (right)\nattending on words",
        "\nattending on phrases",
        "\nattending on question",
        "d: circle (right)",
    ]


def test_the_terminal_shows_each_row_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    made = [described("pool", ""), described("dense[layers=3]", "pool")]
    made += accuracies_of("pool", SEEDS) + accuracies_of("dense[layers=3]", tuple(value + 0.1 for value in SEEDS))
    give(Answer(code=0, words=ablation.words(made)))
    table, sentence = capsys.readouterr().out.split("dense[layers=3]")[1:]
    assert "81.0 [" in table
    assert "ends 10.0 points above pool" in sentence


def test_what_was_killed_and_trained_later_is_not_left_out() -> None:
    killed = Skip(task="a", variant="pool", quantity="accuracy", reason="ended with code -11", cause="killed")
    later = Measurement(task="a", quantity="task_time", unit="s", value=1.0)
    assert Accuracies([killed]).skips == [killed]
    assert Accuracies([killed, later]).skips == []


def test_learning_rates_stand_in_order_and_the_best_is_bold() -> None:
    tried = {
        "deep": {0.003: [0.4], 0.006: [0.3], 0.0015: [0.45, 0.55], 0.00075: [0.5, 0.4]},
        "pool": {0.003: [0.6], 0.006: [0.7]},
    }
    records = [
        Measurement(
            task="t",
            quantity="tuning_accuracy",
            unit="1",
            value=value,
            details={"data": "d", "row": row, "learning_rate": rate, "seed": seed},
        )
        for row, rates in tried.items()
        for rate, values in rates.items()
        for seed, value in enumerate(values)
    ]
    table = ablation.rates_table(Accuracies(records))
    assert list(table) == ["data", "row", "0.00075", "0.0015", "0.003", "0.006"]
    assert table.to_numpy().tolist() == [
        ["d", "`deep`", "45.0 (2)", "**50.0** (2)", "40.0", "30.0"],
        ["d", "`pool`", "", "", "60.0", "**70.0**"],
    ]


def test_what_the_seeds_cannot_separate_is_said() -> None:
    made = [described("a", ""), described("b", "a")]
    made += accuracies_of("a", (0.5, 0.6, 0.7)) + accuracies_of("b", (0.6, 0.5, 0.72))
    (sentence,) = ablation.sentences(Accuracies(made), "core")
    assert sentence.startswith("These seeds cannot tell apart: `b` and `a` (unclear")


def timed(variant: str, latency_s: float, memory_B: float, workload: str = "tiny") -> list[Record]:
    cell = {"task": workload, "variant": variant, "workload": workload, "phase": "forward", "device": "cpu"}
    samples = tuple(latency_s * (1 + 0.01 * turn) for turn in range(12))
    return [
        Measurement(quantity="latency", unit="s", samples=samples, rounds=tuple(range(12)), **cell),
        Measurement(quantity="peak_memory", unit="B", value=memory_B, **cell),
    ]


def test_nothing_dominates_who_is_best_or_cheapest() -> None:
    pairs = {"best": (0.9, 5.0), "cheap": (0.5, 1.0), "between": (0.7, 2.0), "worse": (0.6, 3.0), "twin": (0.7, 2.0)}
    assert pareto.undominated(pairs) == {"best", "cheap", "between", "twin"}


@pytest.mark.slow
def test_accuracy_and_cost_meet_in_one_table_and_two_plots(records: list[Record], tmp_path: Path) -> None:
    run = (
        timed("pool", 0.001, 2e6) + timed("hierarchical", 0.01, 8e6) + timed("leaky", 0.02, 4e6) + timed("other", 1, 1)
    )
    place = pareto.choose(run, workload=None, phase=None, device=None)
    assert place == Place("tiny", "forward", "cpu")
    found = pareto.join(records, run, study="core", place=place)
    text = pareto.write(found, tmp_path, study="core", place=place).read_text()
    made = pareto.table(found).set_index("variant")
    assert list(made.index) == ["`pool`", "`hierarchical`", "`leaky`"]
    assert list(made["undominated in latency"]) == ["yes", "yes", ""]
    assert list(made["undominated in memory"]) == ["yes", "yes", "yes"]
    for name in ("latency", "memory"):
        assert f"(plots/pareto-{name}.png)" in text
        assert (tmp_path / "plots" / f"pareto-{name}.png").stat().st_size > 1000


def test_a_doubted_cost_is_told_and_a_hidden_one_left_out(records: list[Record]) -> None:
    doubted, memory = timed("pool", 0.001, 2e6)
    assert isinstance(doubted, Measurement)
    where = {"variant": "leaky", "workload": "tiny", "phase": "forward", "device": "cpu"}
    broken = Finding(task="run", quantity="masking", verdict="broken", **where)
    run = [replace(doubted, trust=("samples spread by 40%",)), memory]
    run += timed("hierarchical", 0.01, 8e6) + timed("leaky", 0.02, 4e6) + [broken]
    place = Place("tiny", "forward", "cpu")
    found = pareto.join(records, run, study="core", place=place)
    made = pareto.table(found)
    assert dict(zip(made["variant"], made["doubt"], strict=True)) == {"`pool`": "a", "`hierarchical`": ""}
    assert "- a: samples spread by 40%" in pareto.page(found, place, [], study="core")


def test_a_cost_is_taken_at_the_width_that_was_trained() -> None:
    made = [described("pool", ""), described("cross (width 80)", "pool", variant="cross", width=80)]
    made.append(described("dense (width 96)", "pool", variant="dense", width=96))
    for measurement in list(made):
        made += accuracies_of(str(measurement.details["row"]), SEEDS)
    run = [*timed("pool", 0.001, 1e6), *timed("cross", 0.002, 1e6), *timed("dense", 0.005, 1e6)]
    run += timed("cross", 0.004, 1e6, "tiny[width=80]")
    place = Place("tiny", "forward", "cpu")
    found = pareto.join(made, run, study="core", place=place)
    assert [point.workload for point in found] == ["tiny", "tiny[width=80]", "tiny"]
    assert [round(point.latency.mean, 3) for point in found] == [0.001, 0.004, 0.005]
    assert [point.doubts for point in found] == [(), (), ("timed 64 wide, trained 96 wide",)]
    assert "tiny, each at the width that was trained, forward, cpu" in pareto.page(found, place, [], study="core")


def test_a_variant_that_was_trained_twice_stands_there_twice() -> None:
    made = [described("cross", ""), described("cross (on words)", "", variant="cross")]
    made += accuracies_of("cross", SEEDS) + accuracies_of("cross (on words)", SEEDS[:3])
    found = pareto.join(made, timed("cross", 0.001, 1e6), study="core", place=Place("tiny", "forward", "cpu"))
    assert [point.label for point in found] == ["cross", "cross (on words)"]


def test_what_does_not_meet_is_named(records: list[Record]) -> None:
    run = timed("other", 1, 1)
    place = Place("tiny", "forward", "cpu")
    with pytest.raises(ValueError, match="no variant of core was timed at tiny, forward, cpu: trained are pool"):
        pareto.join(records, run, study="core", place=place)
    with pytest.raises(ValueError, match="no study 'levels'; it has core"):
        pareto.join(records, run, study="levels", place=place)
    with pytest.raises(ValueError, match="timed nothing at vqa-grid; it timed tiny, forward, cpu"):
        pareto.choose(run, workload="vqa-grid", phase=None, device=None)


def drawn(rng: np.random.Generator, changes: Sequence[float], *, seeds: int = 8, spread: float = 0.03) -> Accuracies:
    """A study whose rows truly differ from pooling by so much."""
    pool = 0.5 + spread * rng.standard_normal(seeds)
    made: list[Record] = [described("pool", ""), *accuracies_of("pool", tuple(pool))]
    for place, true in enumerate(changes):
        own = pool + true + spread * rng.standard_normal(seeds)
        made += [described(f"row {place}", "pool"), *accuracies_of(f"row {place}", tuple(own))]
    return Accuracies(made)


@pytest.mark.slow
def test_of_studies_in_which_nothing_differs_one_in_twenty_tells_something_together() -> None:
    rng = np.random.default_rng(5)
    false = sum(bool(drawn(rng, [0.0] * 12).told_together("core")) for _ in range(200))
    low, high = stats.binomial_interval(false, 200)
    assert low <= 0.05 <= high or high < 0.05
    # while by themselves a row of twelve is told in every second study
    alone = sum(
        any(verdict(gained) in ("helps", "hurts") for gained in drawn(rng, [0.0] * 12).changes("core").values())
        for _ in range(200)
    )
    assert alone > 0.25 * 200


def test_in_a_study_of_few_rows_each_comparison_that_is_said_is_corrected_for_all_of_them() -> None:
    rng = np.random.default_rng(7)
    studies_said = [drawn(rng, [0.0] * 3, seeds=5) for _ in range(150)]
    assert all(len(one.comparisons("core")) == 6 for one in studies_said)
    bare = sum(
        any("ends" in line and "alone" not in line for line in ablation.sentences(one, "core")) for one in studies_said
    )
    low, _ = stats.binomial_interval(bare, 150)
    assert low <= 0.05


def test_a_change_as_large_as_is_said_to_be_detectable_is_told_in_four_of_five_studies() -> None:
    rng = np.random.default_rng(6)
    size = float(np.mean([detectable(drawn(rng, [0.0]).changes("core")["row 0"]) for _ in range(300)]))
    told = sum(verdict(drawn(rng, [size]).changes("core")["row 0"]) == "helps" for _ in range(400))
    assert told / 400 == pytest.approx(0.8, abs=0.08)
    assert math.isinf(detectable(interval([0.1])))


def test_a_verdict_that_does_not_hold_together_is_said_to_stand_alone() -> None:
    steady = (0.0, 0.001, -0.001, 0.0005, -0.0005)
    made: list[Record] = [described("pool", ""), *accuracies_of("pool", (0.5,) * 5)]
    for place in range(6):
        by_luck = tuple(0.5 + value for value in (0.004, 0.02, 0.012, 0.016, 0.02)) if place == 0 else None
        own = by_luck or tuple(0.5 + (0.01 if value % 2 else -0.01) for value in range(place, place + 5))
        made += [described(f"row {place}", "pool"), *accuracies_of(f"row {place}", own)]
    made += [described("sure", "pool"), *accuracies_of("sure", tuple(0.7 + value for value in steady))]
    accuracies = Accuracies(made)
    found = ablation.study_table(accuracies, "core").set_index("row")["verdict"]
    assert (found["`row 0`"], found["`sure`"]) == ("helps, alone", "helps")
    (sentence,) = (text for text in ablation.sentences(accuracies, "core") if text.startswith("`row 0`"))
    assert sentence.endswith("by itself alone, not after Holm's correction over 7 comparisons.")
    assert "told in 80 of 100 studies of this size" in ablation.power(accuracies, "core")


def test_a_row_that_learns_a_family_with_some_seeds_is_of_two_kinds_and_one_that_half_learns_it_is_not() -> None:
    details = {"data": "d", "of": "question only", "family": "pair"}
    made: list[Record] = [Measurement(task="t", quantity="ceiling", unit="1", value=0.5, details=details)]
    for row, values in (
        ("parted", (0.5, 0.98, 0.52, 0.99)),
        ("between", (0.7, 0.76, 0.74, 0.8)),
        ("whole", (0.99,) * 4),
    ):
        made += [described(row, ""), *accuracies_of(row, values), *accuracies_of(row, values, family="pair")]
    accuracies = Accuracies(made)
    (sentence,) = (text for text in ablation.sentences(accuracies, "core") if "two kinds" in text)
    assert sentence.endswith("of two kinds: `parted` (*pair* 2 of 4).")


@pytest.mark.parametrize("families", [("all", "unary", "pair"), ("unary",), ("all",), ("elsewhere",)])
@pytest.mark.parametrize("most", [0.0, 0.5, 1.0])
def test_a_ceiling_may_leave_nothing_to_learn_and_be_of_some_families_alone(
    records: list[Record], families: tuple[str, ...], most: float
) -> None:
    kept = [record for record in records if not (isinstance(record, Measurement) and record.quantity == "ceiling")]
    for family in families:
        details = {"data": "d", "of": "question only", "family": family}
        kept.append(Measurement(task="t", quantity="ceiling", unit="1", value=most, details=details))
    accuracies = Accuracies(kept)
    line = ablation.study_table(accuracies, "core").set_index("row").loc[ablation.CEILINGS["question only"]]
    assert line["accuracy"] == (f"{100 * most:.1f}" if "all" in families else "")
    assert line["unary"] == (f"{100 * most:.0f}" if "unary" in families else "")
    _, learnt = study.learnt(accuracies, "core")
    assert bool(learnt) == (most < 1 and "unary" in families)


def test_the_change_in_each_family_is_strong_where_it_is_told_and_the_blindfolded_have_none() -> None:
    made: list[Record] = [
        described("pool", ""),
        described("mine", "pool"),
        described("mine (question only)", "mine", variant="mine", sight="question_only"),
    ]
    for family, shift in (("all", 0.1), ("unary", 0.2), ("pair", 0.0)):
        noise = (0.0, 0.0, 0.0, 0.0, 0.0) if family != "pair" else (0.1, -0.1, 0.05, -0.05, 0.0)
        made += accuracies_of("pool", SEEDS, family=family)
        made += accuracies_of("mine (question only)", SEEDS, family=family)
        shifted = tuple(seed + shift + more for seed, more in zip(SEEDS, noise, strict=True))
        made += accuracies_of("mine", shifted, family=family)
    columns, ((row, beside, unary, pair),) = study.by_family(Accuracies(made), "core")
    assert columns == ["row", "beside", "unary", "pair"]
    assert (row, beside) == ("`mine`", "`pool`")
    assert unary.startswith("**+20.0 ")
    assert "**" not in pair


def test_a_row_of_which_one_seed_was_left_out_is_not_said_to_be_untrained() -> None:
    late = {"quantity": "accuracy", "reason": "does not fit", "cause": "budget", "remedy": "go on"}
    skips = [
        Skip(task=f"{row} {seed}", variant="pool", **late, details={"row": row, "seed": seed})  # type: ignore[arg-type]
        for row, seeds in {"pool": (9,), "dense": (7, 8, 9)}.items()
        for seed in seeds
    ]
    skips += [
        Skip(task="all", variant="cross", **late),  # type: ignore[arg-type]
        Skip(task="odd", variant="odd", **late, details={"seed": [1, "x"]}),  # type: ignore[arg-type]
        Skip(task="odd", variant="odd", quantity="accuracy", reason="a | b", cause="error"),
    ]
    assert ablation.left_out(skips) == [
        ("pool (seed 9), dense (3 seeds), cross, odd", "does not fit", "go on"),
        ("odd", "a | b", ""),
    ]
