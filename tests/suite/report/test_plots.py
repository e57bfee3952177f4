"""Plots answer their question in the title and stay legible at a README's width with fifty variants."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from PIL import Image

from suite.core.records import Finding, Record, Skip
from suite.core.workloads import PHASES
from suite.report import labels, leaks, matrix, plots, rows, scatter, style, tables
from suite.report.tables import Tables
from tests.suite.report import synthetic

pytestmark = pytest.mark.slow
README_PX = 900


@pytest.fixture(scope="module")
def records() -> list[Record]:
    sweep = [f"tiny[regions={value}]" for value in (16, 64, 256)]
    return list(synthetic.records(["vqa-grid[batch=8]", *sweep]))


@pytest.fixture(scope="module")
def made(records: list[Record]) -> Tables:
    return tables.make(records)


@pytest.fixture
def cells(made: Tables) -> pd.DataFrame:
    return made.cells[made.cells["workload"] == "vqa-grid[batch=8]"]


@pytest.fixture(autouse=True)
def look() -> Iterator[None]:
    with style.applied():
        yield


def leak_of(records: list[Record]) -> Finding:
    return next(record for record in records if isinstance(record, Finding) and "leak" in record.details)


@pytest.fixture(scope="module")
def drawn(made: Tables, records: list[Record]) -> dict[str, tuple[Figure, str]]:
    """Every kind of plot with its title."""
    cells = made.cells[made.cells["workload"] == "vqa-grid[batch=8]"]
    with style.applied():
        plots_by_name = {
            "latency": rows.latency(cells),
            "memory": rows.memory(cells, made.skips),
            "error": scatter.error(cells),
            "roofline": scatter.roofline(cells),
            "growth": scatter.growth(made.growth[made.growth["phase"] == "forward"], "latency_s"),
            "matrix": matrix.verdicts(made.masking),
            "leaks": leaks.plot(record for record in records if isinstance(record, Finding)),
        }
    assert None not in plots_by_name.values()
    return {name: plot for name, plot in plots_by_name.items() if plot is not None}


def labels_beyond_the_view(axes: Axes) -> Iterator[Text]:
    """Labels that matplotlib holds ready but does not draw."""
    for axis, place in ((axes.xaxis, 0), (axes.yaxis, 1)):
        low, high = sorted(axis.get_view_interval())
        yield from (label for label in axis.get_ticklabels() if not low <= label.get_position()[place] <= high)


def test_everything_written_in_a_plot_can_be_read_in_a_readme(drawn: dict[str, tuple[Figure, str]]) -> None:
    for name, (figure, _) in drawn.items():
        figure.set_dpi(README_PX / style.WIDTH_IN)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        beyond = {label for axes in figure.axes for label in labels_beyond_the_view(axes)}
        for text in figure.findobj(Text):
            if not text.get_text().strip() or text in beyond or (text.axes and not text.axes.axison):
                continue
            extent = text.get_window_extent(canvas.get_renderer())
            assert extent.x0 >= -1, f"{name}: {text.get_text()!r} leaves the picture on the left"
            assert extent.x1 <= README_PX + 1, f"{name}: {text.get_text()!r} leaves the picture on the right"
            assert text.get_fontsize() * figure.dpi / 72 > 9, f"{name}: {text.get_text()!r} is too small"


@pytest.mark.parametrize("name", ["latency", "memory"])
def test_names_of_fifty_variants_do_not_run_into_each_other(name: str, drawn: dict[str, tuple[Figure, str]]) -> None:
    figure, _ = drawn[name]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    labels = figure.axes[0].get_yticklabels()
    extents = sorted((label.get_window_extent(canvas.get_renderer()) for label in labels), key=lambda box: box.y0)
    assert len(extents) == 51
    assert all(below.y1 <= above.y0 + 0.5 for below, above in pairwise(extents))


def test_titles_are_findings(drawn: dict[str, tuple[Figure, str]]) -> None:
    titles = {name: title for name, (_, title) in drawn.items()}
    assert titles["latency"].startswith("Latency, forward: 3 forms not told apart as the fastest; ")
    assert "parallel+bf16+compile and alternating+bf16+compile not told apart" in titles["latency"]
    assert titles["memory"].startswith("Peak memory, forward: from pool")
    assert "told faster than eager float32; largest median gain: +bf16+compile, ×4" in titles["error"]
    assert "of what this machine can do" in titles["roofline"]
    assert titles["growth"].startswith("Latency goes with N to the power")
    counts = "; broken: dense+compile; 3 with known defects; 8 unclear"
    assert titles["matrix"] == f"39 of 51 variants hold every property judged{counts}"
    assert titles["leaks"].startswith("Padding moves ")
    assert titles["leaks"].endswith("; the 47 that are right move by 0 at most")


def test_a_broken_variant_has_its_finding_where_its_point_would_be(cells: pd.DataFrame) -> None:
    drawn = rows.latency(cells)
    assert drawn is not None
    texts = [text.get_text() for text in drawn[0].findobj(Text)]
    assert sum("P1 broken" in text for text in texts) == 2
    assert sum("too slow here" in text for text in texts) == 4
    one = cells[cells["variant"].isin(["dense", "dense+compile"])]
    drawn = rows.latency(one)
    assert drawn is not None
    points = [line for axes in drawn[0].axes for line in axes.lines if line.get_marker() in style.EXECUTIONS.values()]
    assert len(points) == 2, "dense in two phases, and dense+compile in none"


@pytest.mark.parametrize(
    ("quantity", "cause", "said"),
    [
        ("peak_memory", "impossible", "no counter here"),
        ("agreement", "budget", "no counter here"),  # in one task with it, which was lost
        ("agreement", "impossible", "not measured"),
        ("latency", "budget", "not measured"),
    ],
)
def test_a_row_without_a_measured_peak_says_why(cells: pd.DataFrame, quantity: str, cause: str, said: str) -> None:
    cells = cells[cells["variant"].isin(["parallel", "cross"])].copy()
    cells.loc[cells["variant"] == "cross", ["peak_memory_bytes", "saved_for_backward_bytes"]] = np.nan
    skips = tables.make(
        Skip(
            task="t", variant="cross", workload="vqa-grid[batch=8]", phase=phase, device="cpu", quantity=quantity,
            reason="no counter here", cause=cause,  # type: ignore[arg-type]  # one of the causes
        )
        for phase in PHASES
    ).skips  # fmt: skip
    drawn = rows.memory(cells, skips)
    assert drawn is not None
    texts = [text.get_text() for text in drawn[0].findobj(Text)]
    assert texts.count(said) == 2, "one in each phase"


def test_a_peak_is_written_beside_its_own_mark_and_not_beside_what_was_saved(cells: pd.DataFrame) -> None:
    drawn = rows.memory(cells)
    assert drawn is not None
    for axes in drawn[0].axes:
        marks = {
            (line.get_ydata()[0], line.get_marker() == "|"): line.get_xdata()[0]  # type: ignore[index]
            for line in axes.lines
            if len(line.get_xdata()) == 1  # type: ignore[arg-type]
        }
        peaks = [text for text in axes.texts if isinstance(text, Annotation) and text.get_text().endswith("B")]
        assert peaks
        for text in peaks:
            value, height = text.xy
            assert value == marks[height, False]
            away = marks.get((height, True), value)
            assert away == value or (text.get_ha() == "left") == (away < value), text.get_text()
            box, panel = text.get_window_extent(), axes.get_window_extent()
            assert panel.x0 <= box.x0
            assert box.x1 <= panel.x1


def test_a_share_of_the_machine_says_where_it_is_doubted_and_spans_tasks(cells: pd.DataFrame) -> None:
    cells = cells.copy()
    shares = ["of_machine", "of_machine_low", "of_machine_high"]
    cells[shares] = 0.5, 0.4, 0.6
    dense = cells["variant"] == "dense"
    cells.loc[dense, shares] = 0.9, 0.9, 0.95
    cells["trust"] = [("it spread",) if own else () for own in dense]
    drawn = scatter.roofline(cells)
    assert drawn is not None
    assert drawn[1].startswith("40 % (parallel) to 95 % (dense, doubted) of what this machine can do")


def test_a_doubted_cell_is_hollow(cells: pd.DataFrame) -> None:
    one = cells[cells["variant"].isin(["alternating", "alternating+compile"])]
    drawn = rows.latency(one)
    assert drawn is not None
    faces = {
        line.get_marker(): line.get_markerfacecolor()
        for line in drawn[0].axes[0].lines
        if line.get_marker() in style.EXECUTIONS.values()
    }
    assert faces == {"o": style.PRECISIONS["float32"], "D": "white"}


def test_pictures_are_as_wide_as_a_readme_at_twice_its_resolution_and_the_same_twice(
    made: Tables, records: list[Record], tmp_path: Path
) -> None:
    small = replace(made, cells=made.cells.head(4), growth=made.growth.head(0), masking=made.masking.head(3))
    findings = [leak_of(records)]
    first = plots.write(small, findings, tmp_path / "first")
    plots.write(small, findings, tmp_path / "second")
    assert {plot.kind for plot in first} == {"latency", "memory", "error", "roofline", "masking", "leaks"}
    for plot in first:
        with Image.open(plot.path) as image:
            assert image.width == 2 * README_PX
        assert plot.path.read_bytes() == (tmp_path / "second" / plot.path.name).read_bytes()


def test_colours_differ_in_grey_too() -> None:
    # glyphs aside, what must be seen is darker than what may be passed over
    light = [
        np.dot([0.299, 0.587, 0.114], tuple(int(matrix.VERDICTS[verdict][0][at : at + 2], 16) for at in (1, 3, 5)))
        for verdict in ("broken", "known", "holds", "not applicable")
    ]
    assert all(darker < lighter - 12 for darker, lighter in pairwise(light))


def test_a_variant_that_was_not_audited_is_not_called_right() -> None:
    found = [
        Finding(task="m", variant="parallel", quantity="P1", verdict="holds", details={"title": "as declared"}),
        Finding(task="m", variant="alternating", quantity="agreement", verdict="holds"),
    ]
    drawn = matrix.verdicts(tables.make(found).masking)
    assert drawn is not None
    assert "P1 as declared" in [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert drawn[1] == "1 of 1 variants hold every property judged"
    assert matrix.verdicts(tables.make(found[1:]).masking) is None


def test_nothing_measured_means_no_plots(tmp_path: Path) -> None:
    assert plots.write(tables.make([]), [], tmp_path / "plots") == []


@pytest.mark.parametrize("heights", [[0.5, 0.5, 0.5], [0.0, 0.01, 0.99, 1.0], [0.2]])
def test_names_at_the_ends_of_lines_are_moved_apart(heights: list[float]) -> None:
    moved = scatter.moved_apart(heights, 0.1)
    assert all(above - below > 0.09 for below, above in pairwise(moved))
    assert all(0 < height < 1 for height in moved)


def test_every_point_of_the_plot_of_errors_has_its_name_and_no_name_covers_another(
    drawn: dict[str, tuple[Figure, str]],
) -> None:
    figure, _ = drawn["error"]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        points = [line for line in axes.lines if line.get_marker() in style.EXECUTIONS.values()]
        names = [text for text in axes.texts if text.get_text()]
        assert len(names) == len(points)
        extents = [text.get_window_extent(canvas.get_renderer()) for text in names]
        covered = sum(one.overlaps(other) for at, one in enumerate(extents) for other in extents[at + 1 :])
        assert covered <= len(names) // 10, "fifty names in half a page: a few may meet"


@pytest.mark.parametrize("count", [1, 8, 20])
def test_names_of_points_at_one_place_are_all_read(count: int) -> None:
    figure = style.figure("all at one place", 4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o")
    labels.write(figure, {axes: [labels.Named(0.5, 0.5, f"variant {at}") for at in range(count)]})
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    extents = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts if text.get_text()]
    assert len(extents) == count
    assert not any(one.overlaps(other) for at, one in enumerate(extents) for other in extents[at + 1 :])


def test_rows_of_the_matrix_that_say_the_same_are_one_and_no_variant_is_lost(made: Tables) -> None:
    folds = matrix.folded(made.masking)
    assert sorted(name for fold in folds for name in fold.names) == sorted(made.masking["variant"])
    assert len({fold.verdicts for fold in folds}) == len(folds)
    drawn = matrix.verdicts(made.masking)
    assert drawn is not None
    rows = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert len(rows) == len(folds) < len(made.masking) / 2
    named = sum(len(row.split("\n")) - ("and " in row) for row in rows)
    assert named + sum(int(more) for row in rows for more in re.findall(r"and (\d+) more", row)) == len(made.masking)


def test_where_nothing_lets_padding_through_there_is_no_plot_of_it(records: list[Record]) -> None:
    held = [record for record in records if isinstance(record, Finding) and record.verdict == "holds"]
    assert leaks.plot(held) is None
