"""Charts are plain JSON, and their titles say what is drawn."""

import itertools
import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from suite.report import tables, units, wording
from suite.report.html import cells, charts, raw, speed, tradeoffs
from tests.suite.report import synthetic

CONTROLS = [name for name in synthetic.MECHANISMS if name in ("pool", "cross")]
CONTROLS += [name + transform for name in CONTROLS for transform in synthetic.TRANSFORMS]
SIZES = some.floats(1e-9, 1e9)


@pytest.fixture(scope="module")
def here() -> pd.DataFrame:
    made = tables.make(synthetic.records()).cells
    return made[made["phase"] == "forward"]


def drawn(figure: speed.Figure) -> list[dict[str, object]]:
    data = figure.spec["data"]
    assert isinstance(data, dict)
    return [value for value in data["values"] if value.get("value") is not None]


def test_every_chart_is_plain_json(here: pd.DataFrame) -> None:
    for figure in speed.figures(here):
        assert json.loads(json.dumps(figure.spec, allow_nan=False)) == figure.spec


def test_a_fastest_in_the_title_is_the_first_that_is_drawn(here: pd.DataFrame) -> None:
    latency, _ = speed.figures(here)
    mechanisms = [value for value in drawn(latency) if value["variant"] not in (*synthetic.PUBLISHED, *CONTROLS)]
    assert str(mechanisms[0]["variant"]) in latency.title or "not told apart" in latency.title
    times = [value["value"] for value in mechanisms]
    assert times == sorted(times)  # type: ignore[type-var]  # numbers, all of them


def test_bands_keep_controls_and_published_code_apart(here: pd.DataFrame) -> None:
    values = speed.points(list(cells.wording.rows(here)), "latency")
    bands = [value["name"] for value in values if value.get("band")]
    assert bands == ["mechanisms", "what people use instead", "published code"]
    last = [
        value["variant"] for value in values if value["rank"] > next(v["rank"] for v in values if v["name"] == bands[2])
    ]
    assert sorted(last) == sorted(synthetic.PUBLISHED)


def test_a_variant_without_a_time_says_why(here: pd.DataFrame) -> None:
    values = {value["name"]: value for value in speed.points(list(cells.wording.rows(here)), "latency")}
    assert values["modular+fp16"]["value"] is None
    assert values["modular+fp16"]["excuse"].startswith("not measured: too slow here")
    assert values["dense+compile"]["excuse"].startswith("not shown: ")


def test_the_title_of_gains_counts_the_points(here: pd.DataFrame) -> None:
    _, gains = speed.figures(here)
    told = [value["told"] for value in drawn(gains) if value["told"]]
    faster = [value for value in drawn(gains) if value["told"] == "faster" and not value["doubt"]]
    assert f"{len(faster)} of {len(told)} are told faster" in gains.title


@given(some.tuples(SIZES, SIZES).filter(lambda ends: max(ends) / min(ends) > 1.4), some.sampled_from((2, 10)))
def test_marks_are_few_round_and_within(ends: tuple[float, float], base: int) -> None:
    low, high = charts.ends(ends)
    found = charts.marks(low, high, base=base)
    assert len(found) <= 14
    assert found == sorted(set(found))
    assert all(low <= value <= high for value in found)


@given(some.lists(some.floats(0, 1), max_size=60), some.floats(0.001, 0.2))
def test_names_are_moved_apart_in_their_order_and_no_further_than_the_plot(heights: list[float], least: float) -> None:
    moved = charts.moved_apart(sorted(heights), least)
    apart = min(least, 1 / max(len(heights) - 1, 1))
    assert len(moved) == len(heights)
    assert all(after - before > apart - 1e-9 for before, after in itertools.pairwise(moved))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in moved)


def test_a_name_that_meets_no_other_stays_where_its_point_is() -> None:
    assert charts.moved_apart([0.1, 0.5, 0.9], 0.05) == [0.1, 0.5, 0.9]


SHARES = some.floats(0, 1)


@given(some.lists(some.tuples(some.floats(0, 0.99), SHARES), min_size=2, max_size=40), some.floats(0.1, 20))
def test_no_two_lines_from_names_to_points_cross_at_any_shape_of_chart(
    points: list[tuple[float, float]], wide: float
) -> None:
    heights = charts.moved_apart(sorted(height for _, height in points), 0.03)
    order = charts.uncrossed(points, heights)
    assert sorted(order) == list(range(len(points)))
    lines = [
        ((points[index][0] * wide, points[index][1]), (wide, height))
        for index, height in zip(order, heights, strict=True)
    ]
    assert not any(cross(*pair) for pair in itertools.combinations(lines, 2))


def cross(
    one: tuple[tuple[float, float], tuple[float, float]], other: tuple[tuple[float, float], tuple[float, float]]
) -> bool:
    """Whether two lines meet between their ends; what touches by less than is seen does not."""

    def side(of: tuple[float, float], line: tuple[tuple[float, float], tuple[float, float]]) -> float:
        (left, low), (right, high) = line
        return ((right - left) * (of[1] - low) - (high - low) * (of[0] - left)) / math.hypot(right - left, high - low)

    apart = [[side(end, line) for end in ends] for ends, line in ((one, other), (other, one))]
    return all(min(sides) < -1e-6 and max(sides) > 1e-6 for sides in apart)


def test_a_point_that_stands_before_another_hands_it_the_nearer_name() -> None:
    # in the order of their heights the line from the left would pass over the point on the right, and cross its line
    assert charts.uncrossed([(0.1, 0.5), (0.9, 0.52)], [0.6, 0.8]) == [1, 0]


def test_a_column_of_very_many_names_follows_their_heights() -> None:
    count = charts.MOST_UNCROSSED + 1
    points = [(0.5, 1 - at / count) for at in range(count)]
    assert charts.uncrossed(points, [at / count for at in range(count)]) == list(reversed(range(count)))


def test_a_run_with_many_samples_leaves_them_to_its_records() -> None:
    records = list(synthetic.records())
    assert sum(len(one["samples"]) for found in raw.samples(records).values() for one in found) > 1000
    many = records * (raw.MOST_SAMPLES // 1000)
    assert raw.samples(many) == {}


def test_a_field_is_a_text_or_a_number_with_its_text(here: pd.DataFrame) -> None:
    held = cells.data(here)
    columns, rows = held["columns"], held["rows"]
    assert isinstance(columns, list)
    assert isinstance(rows, list)
    assert [column["title"] for column in columns if column["shown"]][:2] == ["variant", "latency (95 %)"]
    for row in rows:
        for column, field in zip(columns, row[3:], strict=True):
            assert isinstance(field, list) == column["number"]
            if column["number"] and field[0] is not None:
                assert math.isfinite(field[0])
                assert field[1]


def test_the_roofs_lie_within_the_axis_that_they_are_drawn_on(here: pd.DataFrame) -> None:
    figure = next((one for one in tradeoffs.figures(here) if one.id.startswith("roofline")), None)
    assert figure is not None
    layers = figure.spec["layer"]
    assert isinstance(layers, list)
    roofs = [value["y"] for layer in layers for value in layer.get("data", {}).get("values", ())]
    (axis,) = (layer["encoding"]["y"]["scale"] for layer in layers if "scale" in layer["encoding"].get("y", {}))
    low, high = axis["domain"]
    assert roofs
    assert all(low < roof < high for roof in roofs)


def test_names_stand_beside_the_axis_and_not_on_it(here: pd.DataFrame) -> None:
    for figure in tradeoffs.figures(here):
        layers = figure.spec["layer"]
        assert isinstance(layers, list)
        (end,) = (
            layer["encoding"]["x"]["scale"]["range"][1]["expr"]
            for layer in layers
            if "scale" in layer["encoding"].get("x", {})
        )
        (names,) = (layer for layer in layers if layer["encoding"].get("y", {}).get("field") == "name_y")
        assert names["encoding"]["x"] == {"value": {"expr": end}}


def test_doubts_that_differ_in_numbers_alone_are_one() -> None:
    assert wording.reasons([]) == ""
    assert wording.reasons(["spread by 3%", "throttled", "spread by 4%", "spread by 5%"]) == (
        "spread by 3% (and 2 more with other numbers); throttled"
    )


def test_the_title_of_the_roofline_spans_the_points_that_are_drawn(here: pd.DataFrame) -> None:
    shares = here["of_machine"].notna()
    wide = here.assign(of_machine_low=here["of_machine"] / 2, of_machine_high=(here["of_machine"] * 2).clip(upper=1))
    figure = next(one for one in tradeoffs.figures(wide) if one.id.startswith("roofline"))
    told = wording.trusted(here[shares])["of_machine"]
    assert figure.title.startswith(units.percent(float(told.min())))
    assert f"to {units.percent(float(told.max()))} (" in figure.title


def test_a_time_beside_a_point_is_the_time_of_the_table(here: pd.DataFrame) -> None:
    # 16.349 ms is 16.35 ms in four digits, and that would be 16.4 or 16.3 by how it is rounded again
    cells_ = here.assign(latency_s=0.016349)
    for value in speed.points(wording.rows(cells_), "latency"):
        if value.get("value") is not None:
            assert value["latency"].startswith(value["said"])


@given(some.lists(some.text(alphabet="ab[]+", min_size=1, max_size=14), unique=True, max_size=12), some.integers(4, 9))
def test_a_name_without_its_middle_fits_and_reads_like_no_other(names: list[str], letters: int) -> None:
    found = wording.without_middles(names, letters)
    assert set(found) == {name for name in names if len(name) > letters}
    for name, short in found.items():
        head, _, tail = short.partition("\N{HORIZONTAL ELLIPSIS}")
        assert len(short) == letters
        assert head
        assert tail
        assert name.startswith(head)
        assert name.endswith(tail)


def test_names_that_differ_near_one_end_are_left_different() -> None:
    names = ["hierarchical+bf16+compile", "hierarchical[inner=alternating]+bf16+compile", "hierarchical[inner=x]+bf16"]
    shown = [wording.without_middles(names, 24).get(name, name) for name in names]
    assert len(set(shown)) == 3
    assert wording.without_middles(names, 80) == {}
