"""Where the time goes is drawn from records: blocks add up, and the title says what the largest is."""

import json

import pytest

from suite.core.records import Artifact, Detail, Measurement, Record, Scalar
from suite.report.html import icicle
from suite.report.html.icicle import Traced

ROWS: list[list[Scalar]] = [
    ["backward/scores/MmBackward0", 0.4, 0.0, 4],
    ["forward/scores/aten::linear", 0.2, 0.0, 4],
    ["forward/affinity/aten::bmm", 0.2, 0.0, 1],
    ["backward/affinity/BmmBackward0", 0.1, 0.0, 1],
    ["backward", 0.05, 0.0, 0],
    ["forward/scores", 0.05, 0.0, 0],
    ["between the calls", 9.0, 0.0, 0],
]


def step(variant: str = "parallel", rows: Detail = ROWS, details: str = "regions") -> Measurement:
    return Measurement(
        task="t", variant=variant, workload="tiny", phase="forward+backward", device="cpu", quantity="traced_step",
        unit="s", value=10.0, details={details: rows},
    )  # fmt: skip


def drawn(*records: Record) -> list[Traced]:
    return icicle.traced(records)


def test_blocks_lie_within_the_block_that_they_are_part_of_and_the_step_is_their_sum() -> None:
    values = icicle.blocks(step())
    assert values[0]["end"] == pytest.approx(1.0)
    for value in values[1:]:
        assert any(
            outer["depth"] == value["depth"] - 1
            and outer["start"] <= value["start"] + 1e-9
            and outer["end"] >= value["end"] - 1e-9
            for outer in values
        ), value


def test_backward_work_has_the_colour_of_the_region_that_caused_it() -> None:
    by_name = {value["name"]: value for value in icicle.blocks(step())}
    assert by_name["MmBackward0"]["region"] == by_name["aten::linear"]["region"] == "scores"
    assert by_name["BmmBackward0"]["region"] == "affinity"
    assert by_name["forward"]["region"] == ""


def test_the_title_names_the_region_that_takes_most_of_both_passes() -> None:
    (one,) = drawn(step())
    assert one.figure.title.startswith("parallel spends 65 % of its step in scores, forward and backward together")
    assert "the backward pass is 55 % of it" in one.figure.title


def test_a_step_without_regions_says_so() -> None:
    rows: list[list[Scalar]] = [["forward/aten::bmm", 0.3, 0.0, 1], ["forward/aten::tanh", 0.1, 0.0, 1]]
    (one,) = drawn(step(rows=rows))
    assert "parallel names no region; the largest part of its step is aten::bmm, 75 %" in one.figure.title


def test_time_on_the_device_is_drawn_where_it_was_traced() -> None:
    rows: list[list[Scalar]] = [["forward/scores/aten::mm", 9.0, 0.25, 1], ["forward", 3.0, 0.25, 0]]
    (root, *_) = icicle.blocks(step(rows=rows))
    assert root["end"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "rows", [None, 7, "text", [["a"]], [[1, 2, 3, 4]], [["forward", "x", 0, 1]], [["forward", -1.0, 0.0, 1]], []]
)
def test_rows_that_say_nothing_draw_nothing(rows: Detail) -> None:
    assert drawn(step(rows=rows)) == []
    assert drawn(step(details="other")) == []


def test_each_step_has_its_own_choice_its_own_trace_and_plain_json() -> None:
    trace = Artifact(
        task="t", variant="cross", workload="tiny", phase="forward+backward", device="cpu", quantity="trace",
        path="traces/cross/one.json.gz",
    )  # fmt: skip
    found = drawn(step(), step("cross"), trace)
    assert [one.path for one in found] == ["", "traces/cross/one.json.gz"]
    assert len({one.figure.when["traced"] for one in found}) == 2
    for one in found:
        assert json.loads(json.dumps(one.figure.spec, allow_nan=False)) == one.figure.spec
    assert str(icicle.screen_body(found)).count("Save the trace for Perfetto") == 1
