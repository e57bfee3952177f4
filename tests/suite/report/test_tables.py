"""Tables say what the records say: among siblings, side by side, with what was found in place of a broken speed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from suite.bench.description import describe
from suite.core import stats, store
from suite.core.described import Descriptions
from suite.core.records import Description, Finding, Measurement, Record, Skip
from suite.report import standing, tables, units, wording
from suite.report.cell_columns import COLUMNS
from tests.suite.report import synthetic
from variants import mechanisms
from variants.transforms import TRANSFORMS

CELL = {"workload": "tiny", "phase": "forward", "device": "cpu"}


def timed(variant: str, samples: Sequence[float], *, task: str = "a", workload: str = "tiny") -> Measurement:
    return Measurement(
        task=task,
        variant=variant,
        workload=workload,
        phase="forward",
        device="cpu",
        quantity="latency",
        unit="s",
        samples=tuple(samples),
        rounds=tuple(range(len(samples))),
    )


NAMES = ("parallel", "alternating")
SLOW = pytest.mark.slow


def row(records: Sequence[Record], variant: str) -> "pd.Series[object]":
    cells = tables.make(records).cells
    (found,) = cells.index[cells["variant"] == variant]
    return cells.loc[found]


def test_a_speed_up_is_taken_over_the_eager_float32_form_of_the_same_mechanism() -> None:
    weather = np.linspace(1, 3, 12)
    records = [
        timed("parallel", weather * 0.004),
        timed("alternating", weather * 0.002),
        timed("alternating+bf16", weather * 0.001),
    ]
    found = row(records, "alternating+bf16")
    # every round is exactly twice as fast, however the machine drifts; another process may differ
    assert found["speedup"] == pytest.approx(2.0)
    assert 1.8 < found["speedup_low"] < 1.99
    assert 2.01 < found["speedup_high"] < 2.2
    assert found["verdict"] == "faster"
    assert found["over_anchor"] == pytest.approx(4.0)
    assert np.isnan(row(records, "alternating")["speedup"])
    assert row(records, "alternating")["over_anchor"] == pytest.approx(2.0)


def test_a_cell_takes_what_its_variant_is_from_the_description_and_not_from_the_name() -> None:
    known = Description(
        task="run", variant="one+two", mechanism="third", parent="fourth", role="published",
        transforms={"precision": "fp8", "capture": "tape"}, dtype="float8", ours="ours", nearest="near",
    )  # fmt: skip
    found = row([timed("one+two", [0.004] * 12), known], "one+two")
    expected = {
        "mechanism": "third", "parent": "fourth", "role": "published", "form": "+fp8+tape", "precision": "fp8",
        "execution": "tape", "dtype": "float8", "ours": "ours", "nearest": "near",
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_a_run_of_before_there_were_descriptions_is_read_by_its_names() -> None:
    """As the descriptions of today say it, but for where published code is from."""
    old = Descriptions([])
    names = [
        *(f"{name}{mode}" for name in mechanisms() for mode in ("", *(f"+{word}" for word in TRANSFORMS))),
        "hierarchical[inner=alternating]-phrase_level-question_attention+fused+bf16+compile+cudagraph",
        "published_mcan[heads=2,layers=1]+amp_fp16",
    ]
    for name in names:
        today = replace(describe(name), task="", where="", differs="", ours="", nearest="")
        assert old[name] == today


@pytest.mark.parametrize("run", ["kernels", *(pytest.param(run, marks=SLOW) for run in ("", "published", "scenes"))])
def test_a_committed_run_says_the_same_without_its_descriptions(run: str) -> None:
    records = store.read(Path(__file__).parents[3] / "results/reference/xeon-amx" / run)
    older = [record for record in records if not isinstance(record, Description)]
    assert len(older) < len(records)
    today, before = tables.make(records), tables.make(older)
    untold = ["ours", "nearest"]
    pd.testing.assert_frame_equal(today.cells.drop(columns=untold), before.cells.drop(columns=untold))
    pd.testing.assert_frame_equal(today.masking, before.masking)
    assert (before.cells[untold] == "").all(axis=None)


def test_what_several_processes_timed_is_reported_from_all_of_them() -> None:
    guests = timed("parallel", [0.009] * 12, task="alternating")
    own = [timed("parallel", [0.004] * 12, task="parallel"), timed("parallel+bf16", [0.002] * 12, task="parallel")]
    records = [guests, timed("alternating", [0.003] * 12, task="alternating"), *own]
    assert row(records, "parallel")["latency_s"] == pytest.approx(0.006)
    assert row(records, "parallel")["processes"] == 2
    # and the others are compared with the anchor that ran beside them
    assert row(records, "alternating")["over_anchor"] == pytest.approx(3.0)


def test_times_whose_processes_differ_have_wide_intervals_and_those_that_agree_narrow_ones() -> None:
    widths = []
    for apart in (0.0, 0.1):
        steps = np.exp(apart * np.linspace(-1, 1, 9))
        records = [timed(name, [0.004 * step] * 20, task=f"t{at}") for at, step in enumerate(steps) for name in NAMES]
        found = row(records, "alternating")
        widths.append(found["latency_high_s"] / found["latency_low_s"])
    assert widths[0] < 1.001
    assert widths[1] > 1.08


def test_what_stands_on_few_rounds_or_on_calls_of_two_kinds_is_doubted() -> None:
    few = [timed(name, [0.004] * 11) for name in NAMES]
    assert row(few, "alternating")["trust"] == ("11 of the 12 rounds that a verdict takes",)
    generator = np.random.default_rng(0)
    two = 0.004 * np.exp(generator.normal(0, 0.02, 200)) * np.where(generator.random(200) < 0.3, 1.3, 1.0)
    one = 0.004 * np.exp(generator.normal(0, 0.1, 200))
    records = [timed("parallel", one), timed("alternating", two)]
    assert any("its calls are of two kinds" in reason for reason in row(records, "alternating")["trust"])
    assert row(records, "parallel")["trust"] == ()


def test_a_table_of_a_hundred_equal_cells_has_no_false_verdict() -> None:
    generator = np.random.default_rng(1)
    records = []
    for cell in range(50):
        for name in ("parallel", f"alternating[width={cell}]", f"alternating[width={cell}]+bf16"):
            pace = np.exp(generator.normal(0, 0.03) + generator.normal(0, 0.02, 20))
            records.append(timed(name, 0.004 * pace, task=f"t{cell}"))
    cells = tables.make(records).cells
    assert not set(cells["verdict"]) & {"faster", "slower"}
    assert not set(cells["over_anchor_verdict"]) & {"faster", "slower"}


def test_a_task_that_was_measured_again_counts_once_and_as_it_was_last() -> None:
    records = [timed("parallel", [0.009] * 12), timed("parallel", [0.004] * 12)]
    assert row(records, "parallel")["latency_s"] == 0.004


def test_examples_per_second_stand_beside_the_latency() -> None:
    records = [timed("parallel", [0.004] * 12, workload="vqa-grid[batch=8]")]
    assert row(records, "parallel")["examples_per_s"] == pytest.approx(8 / 0.004)


def test_an_unexpected_finding_hides_and_a_known_one_stands_beside() -> None:
    broken = Finding(task="m", variant="parallel+bf16", quantity="P1", verdict="broken", summary="moved by 0.3")
    known = replace(broken, variant="parallel", verdict="known")
    records = [timed("parallel", [0.004] * 12), timed("parallel+bf16", [0.002] * 12), broken, known]
    assert row(records, "parallel+bf16")["hidden"] == "P1 broken: moved by 0.3"
    assert row(records, "parallel")["hidden"] == ""
    assert row(records, "parallel")["known"] == "P1 known: moved by 0.3"
    assert row(records, "parallel")["masking"] == "known: P1"


def test_no_column_shows_a_time_of_what_was_found_wrong() -> None:
    quantities = ("first_call", "compile_time", "cold_start", "device", "device_cold", "latency_cold", "launch")
    records: list[Record] = [
        timed("parallel", [0.004] * 12),
        *(Measurement(task="t", variant="parallel", quantity=it, unit="s", value=0.5, **CELL) for it in quantities),
        Measurement(task="t", variant="parallel", quantity="matmul_flops", unit="1", value=1e6, **CELL),
    ]
    texts = {"variant", "latency", "masking", "agreement", "known", "doubt", "not_measured", "remedy"}

    def numbers(records: Sequence[Record]) -> list[str]:
        (found,) = wording.rows(tables.make(records).cells)
        return [column.says(found) for column in COLUMNS if column.key not in texts]

    assert sum(text.startswith("500 ms") for text in numbers(records)) == len(quantities)
    broken = Finding(task="m", variant="parallel", quantity="P1", verdict="broken", summary="moved by 0.3")
    assert set(numbers([*records, broken])) == {units.MISSING}


def test_a_finding_speaks_about_its_own_phase_alone_where_it_names_one() -> None:
    finding = Finding(
        task="m", variant="parallel", phase="forward+backward", quantity="P8", verdict="broken", summary="leaks"
    )
    assert row([timed("parallel", [0.004] * 12), finding], "parallel")["hidden"] == ""
    assert row([timed("parallel", [0.004] * 12), replace(finding, phase="")], "parallel")["hidden"] == (
        "P8 broken: leaks"
    )


def test_an_audit_on_the_cpu_speaks_for_a_gpu_where_none_was_made_on_it() -> None:
    on_gpu = replace(timed("parallel", [0.004] * 12), device="cuda")
    broken = Finding(task="m", variant="parallel", quantity="P1", verdict="broken", device="cpu", summary="leaks")
    assert row([on_gpu, broken], "parallel")["hidden"] == "P1 broken: leaks"
    holds = replace(broken, verdict="holds", device="cuda", summary="")
    assert row([on_gpu, broken, holds], "parallel")["hidden"] == ""
    error = replace(broken, quantity="agreement")
    assert row([on_gpu, error], "parallel")["hidden"] == "", "another device computes other numbers"


def test_of_two_models_of_device_each_has_its_own_verdicts() -> None:
    records: list[Record] = [
        replace(timed("parallel", [0.004] * 12), device=f"cuda[model={model}]") for model in ("a", "b")
    ]
    records += [
        Finding(task="m", variant="parallel", quantity="P1", verdict=verdict, device=f"cuda[model={model}]")
        for model, verdict in (("a", "holds"), ("b", "broken"))
    ]
    cells = tables.make(records).cells
    assert list(cells["masking"]) == ["holds", "broken: P1"]


def test_the_masking_matrix_shows_the_verdict_that_must_be_seen_first() -> None:
    found = [
        Finding(task="m", variant="parallel", quantity=name, verdict=verdict, workload=workload)
        for name, verdict, workload in (
            ("P10", "holds", ""),
            ("P2", "holds", "a"),
            ("P2", "broken", "b"),
            ("P2", "not applicable", "c"),
            ("P1n", "unclear", ""),
            ("P1", "known", ""),
        )
    ]
    masking = tables.make(found).masking
    assert list(masking.columns) == ["variant", "P1", "P1n", "P2", "P10"]
    assert list(masking.loc[0]) == ["parallel", "known", "unclear", "broken", "holds"]


def test_what_was_skipped_keeps_its_reason_and_command() -> None:
    skip = Skip(
        task="a",
        variant="parallel+fp16",
        **CELL,
        quantity="latency",
        cause="budget",
        reason="too slow here",
        remedy="python run_all.py run parallel+fp16",
    )
    found = row([timed("parallel", [0.004] * 12), skip], "parallel+fp16")
    assert (found["skipped"], found["remedy"]) == ("too slow here", "python run_all.py run parallel+fp16")
    assert not tables.make([skip]).skips["failed"].any()
    assert tables.make([replace(skip, cause="killed")]).skips["failed"].all()


def test_doubts_of_a_cell_are_kept_with_it() -> None:
    doubted = replace(timed("parallel", [0.004] * 12), trust=("CPU pressure 12 %", "3 involuntary switches"))
    assert row([doubted], "parallel")["trust"] == ("CPU pressure 12 %", "3 involuntary switches")


@pytest.mark.parametrize(("power", "axis"), [(1.0, "regions"), (2.0, "words"), (0.5, "batch")])
def test_a_sweep_has_the_slope_of_its_cost(power: float, axis: str) -> None:
    records = [
        timed("parallel", [1e-5 * value**power] * 12, workload=f"tiny[{axis}={value}]", task=str(value))
        for value in (16, 64, 256)
    ]
    growth = tables.make(records).growth
    assert list(growth["axis"]) == [axis] * 3
    assert list(growth["value"]) == [16, 64, 256]
    assert list(growth["slope"]) == [pytest.approx(power)] * 3


def test_two_axes_swept_together_make_a_line_for_each_value_of_the_other() -> None:
    records = [
        timed("parallel", [0.001] * 12, workload=f"tiny[batch={batch},words={words}]", task=f"{batch} {words}")
        for batch in (1, 2)
        for words in (16, 32, 64)
    ]
    growth = tables.make(records).growth
    assert growth[growth["axis"] == "words"].groupby("start").size().tolist() == [3, 3]
    assert growth[growth["axis"] == "batch"].groupby("start").size().tolist() == [2, 2, 2]


def test_the_roofline_takes_the_slower_of_arithmetic_and_memory() -> None:
    def about(quantity: str, value: float, unit: str = "1") -> Measurement:
        return Measurement(task="a", variant="parallel", **CELL, quantity=quantity, unit=unit, value=value)

    peaks = [
        Measurement(
            task="p", device="cpu", quantity="gemm_time", unit="s", samples=(0.5, 0.25),
            details={"flops": 1e9, "dtype": "float32"},
        ),
        Measurement(task="p", device="cpu", quantity="copy_time", unit="s", value=0.1, details={"bytes": 1e8}),
    ]  # fmt: skip
    cell = [timed("parallel", [0.02] * 12), about("matmul_flops", 4e7), about("least_bytes", 2e6, "B")]
    found = row([*peaks, *cell], "parallel")
    # 4e7 FLOP at 4e9 a second take 10 ms, 2e6 B at 1e9 a second take 2 ms
    assert found["of_machine"] == pytest.approx(0.5)
    assert found["bound"] == "arithmetic"
    assert found["flop_per_s"] == pytest.approx(2e9)


def test_a_run_without_records_has_empty_tables() -> None:
    made = tables.make([])
    assert made.cells.empty
    assert list(made.cells.columns) == list(tables.CELL_COLUMNS)
    assert made.growth.empty


def test_the_synthetic_run_has_more_than_forty_variants_and_agrees_with_the_statistics() -> None:
    records = list(synthetic.records())
    made = tables.make(records)
    assert made.cells["variant"].nunique() >= 40
    samples = {
        (record.task, record.variant): record
        for record in records
        if isinstance(record, Measurement) and record.quantity == "latency" and record.phase == "forward"
    }
    task = next(task for task, variant in samples if variant == "dense+bf16")
    ratio = stats.ratio(
        samples[task, "dense+bf16"].samples,
        samples[task, "dense+bf16"].rounds,
        samples[task, "dense"].samples,
        samples[task, "dense"].rounds,
    )
    (found,) = made.cells[(made.cells["variant"] == "dense+bf16") & (made.cells["phase"] == "forward")].to_dict(
        "records"
    )
    assert found["speedup"] == pytest.approx(1 / ratio.estimate)
    assert found["speedup_low"] <= 1 / ratio.high


def test_a_place_without_times_says_what_was_found_instead() -> None:
    cell = CELL | {"task": "t"}
    records = [
        Finding(**cell, variant="parallel", quantity="agreement", verdict="holds"),
        Finding(**cell, variant="pool", quantity="agreement", verdict="broken", summary="off by 2"),
        Measurement(**cell, variant="parallel", quantity="agreement_error", unit="1", value=1e-7),
        Measurement(**cell, variant="pool", quantity="agreement_error", unit="1", value=2.0),
    ]
    said = standing.headline(tables.make(records).cells)
    assert said == "No time was taken; 1 of 2 agree with float64, broken: pool."


def test_every_series_of_samples_names_its_task_and_why_it_ended() -> None:
    records = [
        replace(timed("parallel", [1.0, 2.0]), details={"stopped": "budget", "cpu_share": 0.5}),
        Measurement(**CELL, task="a", quantity="harness_time", unit="s", value=0.25),
    ]
    (behind,) = wording.rows(tables.make(records).conditions)
    assert (behind["task"], behind["samples"], behind["stopped"]) == ("a", 2, "budget")
    assert (behind["cpu_share"], behind["harness_s"]) == (0.5, 0.25)


def test_a_comparison_that_was_timed_once_more_is_reported_from_both_looks() -> None:
    short = [timed(name, [2.0] * 6, task="a") for name in ("parallel", "cross")]
    long = [timed(name, [1.0] * 60, task="a again") for name in ("parallel", "cross")]
    for records in ([*short, *long], [*long, *short]):
        cells = tables.make(records).cells.set_index("variant")
        assert cells.loc["cross", "latency_s"] == pytest.approx(2**0.5)
        assert (cells.loc["cross", "samples"], cells.loc["cross", "processes"]) == (66, 2)
