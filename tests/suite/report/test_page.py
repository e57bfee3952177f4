"""The page of a run is made from its records alone, and says what the user came for."""

import re
import shlex
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console, Group

from suite.core import store
from suite.core.records import Finding, Measurement
from suite.report import page, summary, tables, terminal
from tests.suite.report import synthetic

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with store.Writer(folder) as writer:
        writer.write(synthetic.records())
    (folder / "environment.json").write_text('{"processor": "two cores", "torch": "2.13.0"}')
    page.write(folder)
    return folder


def printed(made: tables.Tables, width: int) -> str:
    text = StringIO()
    Console(file=text, width=width).print(Group(*terminal.words(made)))
    return text.getvalue()


@pytest.mark.slow
def test_the_report_is_three_screens_with_the_verdict_on_top_and_links_to_all_the_rest(folder: Path) -> None:
    text = (folder / "REPORT.md").read_text()
    assert len(text.splitlines()) < 120
    answer = text.partition("## The answer")[2].partition("\n## ")[0]
    assert "39 of 51 variants hold every property that was judged; broken: `dense+compile`; " in answer
    assert "with known defects: `published_csdn`, `published_hiecoatt_parallel`, `published_zhangtd_parallel`" in answer
    assert "`python run_all.py ablate`" in answer
    assert "On cpu, products in float16 run at 2.50 GFLOP/s, those in float32 at 76.0 GFLOP/s: it has no fast" in answer
    assert "products in bfloat16" not in answer
    assert (
        "2 of 98 times carry a reason for doubt; every time rests on 15 samples or more, all its processes together."
        in answer
    )
    links = set(re.findall(r"(?<!\\)\]\(([^)]*)\)", text))
    assert {f"tables/{name}.md" for name in ("times", "masking", "published", "not-measured", "machine")} <= links
    assert all((folder / link).exists() for link in links)


@pytest.mark.slow
def test_the_table_of_a_report_has_five_columns_with_numbers_at_the_right(folder: Path) -> None:
    text = (folder / "REPORT.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[:2] == [
        "| variant | masking | forward | forward+backward | fastest form |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    assert len(lines) == 2 + len(synthetic.MECHANISMS) + len(synthetic.PUBLISHED)
    (dense,) = [line for line in lines if line.startswith("| `dense` |")]
    assert "| broken in 1 of 6 forms |" in dense


@pytest.mark.slow
def test_the_report_command_needs_neither_torch_nor_variants(tmp_path: Path) -> None:
    shown = ("", "parallel", "dense+compile", "published_csdn")  # one of each kind, and what the machine can do
    with store.Writer(tmp_path) as writer:
        writer.write(record for record in synthetic.records() if record.variant in shown)
    program = f"""
import sys
sys.argv = ["run_all.py", "report", {str(tmp_path)!r}]
import run_all
try:
    run_all.main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert "torch" not in sys.modules and "variants" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, capture_output=True)
    assert (tmp_path / "REPORT.md").exists()


@pytest.mark.slow
def test_the_answer_names_the_fastest_with_its_interval(folder: Path) -> None:
    text = (folder / "REPORT.md").read_text()
    answer = text.partition("## The answer")[2].partition("##")[0]
    assert "**alternating+bf16+compile**" in answer
    assert "is not told apart from parallel+bf16+compile" in answer
    assert "Not counted: pool+bf16+compile" in answer
    assert "two cores" in text


@pytest.mark.slow
def test_a_broken_variant_shows_the_finding_and_no_speed(folder: Path) -> None:
    text = (folder / "tables" / "times.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| `dense+compile` |")]
    cells = pd.read_csv(folder / "tables" / "cells.csv")
    hidden = cells[cells["variant"] == "dense+compile"]
    assert len(lines) == 2  # forward, forward+backward
    assert all("not shown: P1 broken: image_weights moved by 0.31" in line and "×" not in line for line in lines)
    # the number is kept where nobody reads it as an answer
    assert hidden["latency_s"].notna().all()
    assert hidden["hidden"].str.contains("P1 broken").all()


@pytest.mark.slow
def test_a_doubted_cell_carries_a_letter_that_is_explained(folder: Path) -> None:
    text = (folder / "tables" / "times.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| `alternating+compile` |") and " ms " in line]
    assert lines
    assert all(line.endswith("| a |") for line in lines)
    assert "- a: CPU pressure 21 %: other work ran beside" in text


@pytest.mark.slow
def test_what_was_not_measured_stands_with_the_command_that_measures_it(folder: Path) -> None:
    section = (folder / "tables" / "not-measured.md").read_text()
    (row,) = [line for line in section.splitlines() if "`dense+fp16`" in line]
    assert "`python run_all.py run VARIANT --workload vqa-grid[batch=8] --budget 0`" in row


@pytest.mark.slow
def test_the_masking_matrix_has_a_row_for_every_variant(folder: Path) -> None:
    section = (folder / "tables" / "masking.md").read_text()
    rows = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == 1 + 51
    assert sum("✗" in row for row in rows) == 1


@pytest.mark.slow
def test_the_terminal_shows_names_whole_and_the_finding_in_place_of_the_speed(folder: Path) -> None:
    made = tables.make(store.read(folder))
    text = printed(made, 150)
    assert "hierarchical[inner=alternating]+bf16+compile" in text
    (line,) = [line for line in text.splitlines() if line.startswith("dense+compile  ") and "P1 broken" in line]
    assert line.count("P1 broken") == 2
    assert " ms" not in line
    assert "Not measured" in text
    assert "Incorrect" in text


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_table_fits_a_narrow_terminal(folder: Path, width: int) -> None:
    text = printed(tables.make(store.read(folder)), width)
    assert max(map(len, text.splitlines())) <= width


def test_a_run_in_which_only_masking_was_asked_for_has_a_page(tmp_path: Path) -> None:
    with store.Writer(tmp_path) as writer:
        writer.write([Finding(task="m", variant="parallel", device="cpu", quantity="P1", verdict="holds")])
    text = (page.write(tmp_path).parent / "REPORT.md").read_text()
    assert "1 of 1 variants hold every property that was judged." in text
    assert "No time was taken" in text
    assert "| parallel | ✓ |" in (tmp_path / "tables" / "masking.md").read_text()
    printed = Console(width=100, file=StringIO(), record=True)
    printed.print(Group(*terminal.words(tables.make(store.read(tmp_path)))))
    assert "holds" in printed.export_text()


def test_a_run_that_measured_nothing_has_a_page(tmp_path: Path) -> None:
    with store.Writer(tmp_path) as writer:
        writer.write([Measurement(task="t", quantity="task_time", unit="s", value=1.0)])
    page.write(tmp_path)
    assert "Nothing was measured" in (tmp_path / "REPORT.md").read_text()
    assert "nothing was measured" in (tmp_path / "report.html").read_text()


def test_a_broken_environment_file_is_named(tmp_path: Path) -> None:
    with store.Writer(tmp_path) as writer:
        writer.write([])
    (tmp_path / "environment.json").write_text("{")
    with pytest.raises(ValueError, match=r"environment\.json: not JSON"):
        page.write(tmp_path)


def test_what_was_left_out_for_one_reason_stands_under_one_command() -> None:
    how = "python run_all.py run {} --workload tiny --device cpu"
    names = ["pool", "flow", "hierarchical[inner=alternating]"]
    skips = pd.DataFrame(
        [("timing", name, "no time", how.format(shlex.quote(name))) for name in names]
        + [("timing", "bags", "no memory", how.format("bags"))],
        columns=["quantity", "variant", "reason", "remedy"],
    )
    console = Console(width=100, record=True, file=StringIO())
    console.print(*terminal._skips(skips), sep="\n")
    said = [" ".join(line.split()) for line in console.export_text().splitlines() if line.strip()]
    assert said == [
        "pool, flow, hierarchical[inner=alternating]: no time",
        how.format("VARIANT"),
        "bags: no memory",
        how.format("bags"),
    ]


def test_a_type_without_instructions_is_spoken_of_where_a_form_of_the_run_is_in_it() -> None:
    peaks = pd.DataFrame(
        {"device": ["cpu"] * 3, "what": ["float32", "bfloat16", "float16"], "per_second": [8e10, 1e9, 1e9]}
    )
    cells = pd.DataFrame({"device": ["cpu", "cpu"], "dtype": ["float32", "bfloat16"]})
    (said,) = summary.lacking(peaks, cells)
    assert said.startswith("On cpu, products in bfloat16 run at 1.00 GFLOP/s, those in float32 at 80.0 GFLOP/s")
    assert summary.lacking(peaks, cells[:1]) == []
    assert summary.lacking(peaks, cells.assign(device="cuda")) == []


def test_what_was_left_out_for_one_reason_stands_together_under_one_command() -> None:
    run = "python run_all.py run {} --device cpu"
    skips = pd.DataFrame(
        [
            ("flow", "timing", "no time", run.format("flow")),
            ("flow", "start", "no time", run.format("flow")),
            ("a[b=2]", "timing", "no time", run.format("'a[b=2]'")),
            ("dense", "start", "no time", run.format("dense")),
            ("pool", "masking", "no time", run.format("pool")),
            ("pool", "start", "no time", run.format("pool")),
            ("", "machine", "no time", ""),
            ("bags", "timing", "too large", run.format("bags")),
        ],
        columns=["variant", "quantity", "reason", "remedy"],
    )
    assert summary.left_out(skips) == [
        (("flow", "a[b=2]"), "no time", run.format("VARIANT")),
        (("dense",), "no time (memory, error and profile)", run.format("dense")),
        (("pool",), "no time (memory, error and profile, audit)", run.format("pool")),
        (("all",), "no time", ""),
        (("bags",), "too large", run.format("bags")),
    ]
