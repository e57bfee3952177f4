"""A table fits its terminal, at any width, without a word or number broken where it would fit."""

from io import StringIO

import pytest
from rich.console import Console

from suite.report.columns import Column, Columns, literal

COLUMNS = (
    Column(title="variant"),
    Column(title="forward", number=True),
    Column(title="over its eager float32", number=True, of_last=True),
    Column(title="forward+backward", number=True),
    Column(title="over its eager float32", number=True, of_last=True),
    Column(title="peak memory", number=True),
    Column(title="masking", words=True),
    Column(title="doubt", words=True),
)
ROWS = (
    ("dense+bf16+compile", "12.3 ms", "×2.31 (2.20–2.42)", "8.1 ms", "×1", "12.3 MiB", "broken: P1, P3, P9", "a b"),
    ("pool", "1.30 s", "×1", "2.30 s", "×0.310 (0.208–0.425) unclear", "–", "holds", ""),
)  # fmt: skip
WIDTHS = [200, 150, 120, 100, 80, 79, 60, 40, 32]


def printed(table: Columns, width: int) -> str:
    text = StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_and_nothing_is_lost(width: int) -> None:
    text = printed(Columns(COLUMNS, ROWS), width)
    assert max(map(len, text.splitlines())) <= width
    words = {word.strip(",") for word in text.split()}
    for row in ROWS:
        assert words >= {word.strip(",") for cell in row if cell != "–" for word in cell.split()}


@pytest.mark.parametrize("width", [80, 100, 150])
def test_numbers_stand_whole_in_their_column(width: int) -> None:
    lines = printed(Columns(COLUMNS, ROWS), width).splitlines()
    assert any("12.3 ms  " in line for line in lines)
    assert any("×0.310 (0.208–0.425) unclear" in line for line in lines)
    ends = {
        line.index("forward") + len("forward") for line in lines if line.startswith("variant") and "forward " in line
    }
    assert all(line.index("12.3 ms") + len("12.3 ms") in ends for line in lines if "12.3 ms" in line)


def test_a_ratio_stands_beside_what_it_is_a_ratio_of() -> None:
    parts = printed(Columns(COLUMNS, ROWS), 80).split("\n\n")
    assert len(parts) > 1
    assert all(("forward+backward" in part) == ("×0.310" in part) for part in parts)
    assert all(part.startswith("variant") and "\npool" in part for part in parts)


def test_a_column_that_says_nothing_is_left_out() -> None:
    text = printed(Columns(COLUMNS, [(*row[:5], "–", "", "") for row in ROWS]), 200)
    assert "peak memory" not in text
    assert "doubt" not in text


def test_a_name_that_is_longer_than_the_terminal_is_broken_and_not_cut() -> None:
    name = "own[" + "x" * 60 + "]"
    text = printed(Columns(COLUMNS[:2], [(name, "1 ms")]), 40)
    assert text.replace("\n", "").replace(" ", "").startswith(name)


def test_text_of_any_origin_is_shown_and_not_obeyed() -> None:
    text = printed(Columns(COLUMNS[:2], [("\x1b[31m[bold]:smile:\x07", "1\x1b]0;title\x07")]), 80)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[bold]:smile:" in text
    assert "\\x1b[31m" in literal("\x1b[31m").plain
