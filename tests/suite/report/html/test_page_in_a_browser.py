"""The page of a run as a person meets it: opened from disk in a browser, without a network."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.core import folders, store
from suite.core.records import Finding, Measurement, Skip
from suite.report import tables
from suite.report.html import bench
from tests import browser
from tests.browser import Browser
from tests.suite.report import synthetic

pytestmark = pytest.mark.slow
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> & `code` **b**"
)

ENDLESS = "W" * 3000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with store.Writer(folder) as writer:
        writer.write(synthetic.records())
        writer.write(
            [
                Finding(task="masking", variant="cross", quantity="P2", verdict="broken", summary=HOSTILE, value=0.5),
                Measurement(
                    task="odd", variant="pool+bf16", workload="vqa-grid[batch=8]", phase="forward", device="cpu",
                    quantity="peak_memory", unit="B", value=1e6, trust=(HOSTILE, ENDLESS),
                ),
                Skip(
                    task="odd", variant="pool+bf16", quantity="error", cause="budget", reason=ENDLESS,
                    remedy=f"run {ENDLESS}",
                ),
            ]
        )  # fmt: skip
    (folder / "environment.json").write_text('{"processor": "two <b>cores</b>", "torch": "2.13.0"}')
    records = store.read(folder)
    bench.write(folder, tables.make(records), records, folders.environment_or_nothing(folder))
    return folder


@pytest.fixture(scope="module")
def window(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser.opened(tmp_path_factory.mktemp("browser")) as window:
        yield window


def see_all(window: Browser, folder: Path, width: int, *, dark: bool = False) -> None:
    """Open the page and scroll over all of it, so that every chart that is shown is drawn."""
    window.resize(width, dark=dark)
    window.open((folder / "report.html").as_uri())
    window.run("document.querySelectorAll('figure:not([hidden]) .plot').forEach((plot) => plot.scrollIntoView())")
    for at in range(window.run("return document.querySelectorAll('figure:not([hidden]) .plot').length")):
        window.run("document.querySelectorAll('figure:not([hidden]) .plot')[arguments[0]].scrollIntoView()", at)
        window.until("return document.querySelectorAll('figure:not([hidden]) .plot')[arguments[0]].children.length", at)


def marks(window: Browser) -> int:
    return int(window.run("return document.querySelectorAll('figure:not([hidden]) .mark-symbol path').length"))


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (420, False)])
def test_nothing_is_fetched_nothing_goes_wrong_and_nothing_is_wider_than_the_screen(
    window: Browser, folder: Path, width: int, dark: bool
) -> None:
    see_all(window, folder, width, dark=dark)
    assert window.requests() == [(folder / "report.html").as_uri()]
    assert window.complaints() == []
    assert marks(window) > 20
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run("return document.title") == folder.name, "what a record says was obeyed"
    assert "two <b>cores</b>" in window.run("return document.querySelector('.about').textContent")


def test_the_answer_is_on_the_first_screen(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280)
    answers = window.run("return [...document.querySelectorAll('.answer h3')].map((one) => one.textContent)")
    assert answers == [
        "Masked correctly?",
        "What does it cost?",
        "Which part earns its keep?",
        "Can these numbers be believed?",
    ]
    below = "return [...document.querySelectorAll('.answer .short')].map((one) => one.getBoundingClientRect().bottom)"
    window.run("scrollTo(0, 0)")
    assert max(window.run(below)) < 900


def test_a_click_chooses_a_variant_everywhere_and_says_what_is_known_of_it(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280)
    window.run("document.querySelector('tbody [data-choose=\"cross\"]').click()")
    assert window.run("return document.getElementById('selected-name').textContent") == "cross"
    assert window.run("return document.querySelectorAll('tr.chosen').length") > 0
    window.run("document.getElementById('selection-more').click()")
    assert window.run("return document.getElementById('details').open")
    assert window.until("return document.querySelectorAll('#details .mark-symbol.marks path').length") == 15
    window.press("Escape")
    assert window.until("return !document.getElementById('details').open")


def test_the_table_sorts_filters_and_chooses_columns(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280)
    rows = "return [...document.querySelectorAll('.table tbody tr')].map((row) => row.dataset.variant)"
    every = window.run(rows)
    window.run("[...document.querySelectorAll('.table thead button')][1].click()")
    assert window.run("return document.querySelector('th[aria-sort=ascending]').textContent").startswith("latency")
    assert window.run(rows)[0].startswith("pool")
    assert sorted(window.run(rows)) == sorted(every)
    window.run(
        "const box = document.querySelector('.table input[type=search]'); box.value = 'bf16 dense';"
        "box.dispatchEvent(new Event('input'))"
    )
    assert window.run(rows)
    assert all("dense" in name for name in window.run(rows))
    before = window.run("return document.querySelectorAll('.table thead th').length")
    assert before == 7
    window.run("[...document.querySelectorAll('.table details input')].find((box) => !box.checked).click()")
    assert window.run("return document.querySelectorAll('.table thead th').length") == before + 1


def test_a_choice_of_phase_and_precision_holds_for_charts_and_table(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280)
    forward = window.run("return document.querySelector('figure:not([hidden]) figcaption').textContent")
    assert forward.startswith("Latency, forward: ")
    window.run("document.querySelector('input[value=\"forward+backward\"]').click()")
    backward = window.run("return document.querySelector('figure:not([hidden]) figcaption').textContent")
    assert backward.startswith("Latency, forward+backward: ")
    window.run(
        "const choice = document.querySelector('[data-choice=precision]'); choice.value = 'fp16';"
        "choice.dispatchEvent(new Event('change'))"
    )
    names = window.run("return [...document.querySelectorAll('.table tbody tr')].map((row) => row.dataset.variant)")
    assert names
    assert all(name.endswith("+fp16") for name in names)


def test_all_that_is_clicked_can_be_reached_by_keyboard(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280)
    window.run("document.activeElement.blur(); scrollTo(0, 0)")
    seen = []
    for _ in range(40):
        window.press("Tab")
        seen.append(
            window.run(
                "const at = document.activeElement; return at.dataset.choose || at.name || at.href || at.tagName"
            )
        )
    assert {"phase", "measure", "SUMMARY"} <= set(seen)
    assert any(name in synthetic.MECHANISMS for name in seen), seen


def test_a_variant_is_chosen_read_of_and_let_go_by_keyboard_alone(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280)
    at = "return document.activeElement.dataset.choose || document.activeElement.id"
    for key in ("Enter", " "):
        window.run("document.querySelector('.table tbody [data-choose=\"cross\"]').focus()")
        window.press(key)
        assert window.until("return !document.getElementById('selection').hidden")
        assert window.run(at) == "selection-more", "what comes next is as far as the end of the page"
        window.press("Enter")
        assert window.until("return document.getElementById('details').open")
        window.press("Escape")
        assert window.until("return !document.getElementById('details').open")
        assert window.run(at) == "selection-more"
        window.press("Escape")
        assert window.until("return document.getElementById('selection').hidden")
        assert window.run(at) == "cross", "the keyboard is where it was"


def test_the_matrix_is_one_stop_of_the_tab_key_and_arrows_go_about_in_it(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280)
    stops = "return document.querySelectorAll('.matrix .v[tabindex=\"0\"]').length"
    assert window.run(stops) == 1
    window.run("document.querySelector('.matrix .v[tabindex=\"0\"]').focus()")
    at = (
        "const cell = document.activeElement.closest('td');"
        "return [cell.parentElement.rowIndex, cell.cellIndex, getComputedStyle(document.activeElement).outlineStyle]"
    )
    row, column, _ = window.run(at)
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowUp"):
        window.press(key)
    assert window.run(at) == [row, column, "solid"], "a cell is left where there is none on, and it is seen"
    window.press("ArrowDown")
    assert window.run(at)[:2] == [row + 1, column]
    assert window.run(stops) == 1
    window.press("Enter")
    assert window.until("return document.getElementById('details').open")
    window.press("Escape")
    assert window.run(at)[:2] == [row + 1, column]


def test_on_a_telephone_rows_are_cards_that_say_their_columns(window: Browser, folder: Path) -> None:
    see_all(window, folder, 420)
    for part in ("nav ul", ".table .scroll", ".matrix.scroll"):
        wider = "const part = document.querySelector(arguments[0]); return part.scrollWidth - part.clientWidth"
        assert window.run(wider, part) <= 0, f"{part} scrolls sideways"
    said = window.run(
        "const cell = document.querySelector('.table tbody td[data-label]');"
        "return getComputedStyle(cell, '::before').content"
    )
    assert "latency" in said
    quiet = window.run("return [...document.querySelectorAll('.matrix td.quiet')].map((cell) => cell.offsetWidth)")
    assert quiet
    assert not any(quiet), "what holds is counted and not listed"


def test_on_a_telephone_too_no_two_names_of_a_chart_read_alike(window: Browser, folder: Path) -> None:
    see_all(window, folder, 420)
    charts = window.run(
        "return [...document.querySelectorAll('figure:not([hidden]) .plot')].map((plot) =>"
        "[...plot.querySelectorAll('.role-axis-label text, .role-mark.mark-text text')]"
        ".map((text) => text.textContent).filter((text) => /^[a-z].*[a-z\\]]$/.test(text)))"
    )
    assert any("\N{HORIZONTAL ELLIPSIS}" in name for names in charts for name in names), "no name was too long"
    for names in charts:
        assert len(set(names)) == len(names), names


def test_printed_charts_are_no_wider_than_the_paper(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280)
    window.print_on(700)
    over = (
        "return [...document.querySelectorAll('figure:not([hidden]) svg')]"
        ".map((chart) => chart.getBoundingClientRect().right - innerWidth)"
    )
    assert max(window.run(over)) <= 0
    assert window.run("return getComputedStyle(document.querySelector('nav')).display") == "none"


def test_what_nobody_scrolled_to_is_drawn_by_itself_since_paper_waits_for_nothing(
    window: Browser, folder: Path
) -> None:
    window.resize(1280)
    window.open((folder / "report.html").as_uri())
    window.until(
        "return [...document.querySelectorAll('figure:not([hidden]) .plot')].every((plot) => plot.querySelector('svg'))"
    )
    assert window.run("return scrollY") == 0


def test_paper_is_white_and_its_charts_are_dark_from_a_dark_screen_too(window: Browser, folder: Path) -> None:
    see_all(window, folder, 1280, dark=True)
    window.print_on(700, dark=True)
    light = """
        const chart = "figure:not([hidden]) svg", light = (colour) => Math.min(...(colour.match(/\\d+/g) || [0])) > 200;
        const look = (marks, part) => [...document.querySelectorAll(marks)].map((mark) => getComputedStyle(mark)[part]);
        return [...look(`${chart} text`, "fill"), ...look(`${chart} .mark-rule line`, "stroke")].filter(light).length;
    """
    assert window.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert window.run(light) == 0, "light ink on white paper is not read"
    folded = "return [...document.querySelectorAll('.matrix details button')].map((name) => name.checkVisibility())"
    assert window.run(folded)
    assert all(window.run(folded)), "what is folded on a screen is written out on paper"
    window.resize(1280)
    assert not any(window.run(folded))


def test_a_choice_with_a_long_name_is_no_wider_than_a_telephone(window: Browser, folder: Path) -> None:
    see_all(window, folder, 420)
    window.run(
        "const place = `<label>Place <select><option>${'shape[batch=64] '.repeat(9)}</option></select></label>`;"
        "document.querySelector('.controls').insertAdjacentHTML('afterbegin', place)"
    )
    assert window.run("return document.documentElement.scrollWidth") <= 420
