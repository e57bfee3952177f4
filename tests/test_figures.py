"""Every figure with a unit in the READMEs stands in the committed run that its section links to, or has its source."""

import re
import statistics
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from suite.core import folders, store
from suite.report import ablation, escape, page, published, selfcheck, standing, tables, units, wording
from suite.report.accuracies import Accuracies, change, interval, points

ROOT = Path(__file__).parents[1]
REFERENCES = ROOT / "results/reference"
READMES = ("README.md", "suite/ablation/README.md", "variants/README.md", "suite/README.md")
UNITS = "ns|µs|ms|s|min|h|%|points?|KiB|MiB|GiB|GFLOP|times"
NUMBER = r"\d+(?:\.\d+)?"
SIGN = "[×+\N{MINUS SIGN}-]?"
FIGURE = re.compile(
    rf"(?<![\w.\-/]){SIGN}({NUMBER})[ \N{{NO-BREAK SPACE}}](?:{UNITS})(?!\w)"
    rf"|(?<!\d )×({NUMBER})"
    rf"|[\[(]{SIGN}(\d+\.\d+)[,–] ?{SIGN}(\d+\.\d+)[\])]"
)
"""A number with its unit, a factor, or an interval."""
LINK = re.compile(r"results/reference/([\w./-]+)")


class Paragraph(NamedTuple):
    """A paragraph with the table behind it."""

    title: str
    """Of its section: the heading above it, or the bold words with which it or one before it begins."""
    text: str
    section: str

    @property
    def runs(self) -> set[Path]:
        """The committed runs that its section links to."""
        found = set()
        for link in LINK.findall(self.section):
            path = REFERENCES / link
            while not (path / store.FILE).exists() and not list(path.glob("*.md")):
                path = path.parent
            found.add(path)
        return found


def paragraphs(readme: str) -> Iterator[Paragraph]:
    text = (ROOT / readme).read_text(encoding="utf-8")
    # the table of the front page is made from its runs by a command, and code is no sentence
    text = re.sub(r"<!-- table:begin -->.*?<!-- table:end -->|```.*?```", "", text, flags=re.DOTALL)
    for part in re.split(r"(?m)^(?=## |\*\*)", text):
        head = re.match(r"## (.+)|\*\*(.+?)\*\*", part)
        title = next(filter(None, head.groups()), "").rstrip(".") if head else ""
        for text in re.split(r"\n\n(?!\|)", part):
            yield Paragraph(title, text.strip(), part)


@cache
def written(run: Path) -> frozenset[str]:
    """Every number on the pages of a run, and every ratio of two of its times as a page would write it."""
    found = {number for page in [*run.glob("*.md"), *run.glob("tables/*.md")] for number in numbers(page.read_text())}
    records = store.read(run) if (run / store.FILE).exists() else []
    if records and not ablation.is_ablation(records):
        for _, here in tables.make(records).cells.groupby(["workload", "phase", "device"], sort=False):
            rows = wording.rows(here)
            found |= {number for row in rows for text in said(row, rows) for number in numbers(text)}
    return frozenset(found)


def said(row: wording.Row, others: list[wording.Row]) -> Iterator[str]:
    yield wording.latency(row)
    yield wording.speedup(row, "over_anchor")
    yield wording.of_machine(row)
    yield units.binary(wording.number(row, "peak_memory_bytes"))
    for other in others:
        ratio = standing.over(other, row)
        if ratio is not None:
            yield units.factor_between(ratio.estimate, ratio.low, ratio.high)


def numbers(text: str) -> list[str]:
    return re.findall(NUMBER, text)


class Cited(NamedTuple):
    """A figure, or all of a section by its title or of a paragraph by its first words, with where it is from."""

    readme: str
    what: str
    source: str


def cited() -> list[Cited]:
    given = tomllib.loads((ROOT / "tests/citations.toml").read_text(encoding="utf-8"))
    return [Cited(readme, what, source) for readme, own in given.items() for what, source in own.items()]


@pytest.mark.parametrize("readme", READMES)
def test_a_figure_with_a_unit_is_of_a_committed_run_or_cited(readme: str) -> None:
    own = {entry.what for entry in cited() if entry.readme == readme}
    used: set[str] = set()
    nowhere = []
    for paragraph in paragraphs(readme):
        known = frozenset().union(*map(written, paragraph.runs))
        named = {what for what in own if what == paragraph.title or paragraph.text.startswith(what)}
        for found in FIGURE.finditer(paragraph.text):
            if all(number in known for number in found.groups() if number):
                continue
            sources = named | ({found[0]} & own)
            used |= sources
            if not sources:
                nowhere.append((paragraph.title, found[0]))
    assert nowhere == []
    assert used == own, "cited, and not needed"


def test_a_figure_from_nowhere_is_found() -> None:
    text = "It takes 4173.1 ms, ×3.2171 (2.9817–3.4517), as [the run](results/reference/xeon-amx) says."
    planted = Paragraph("", text, text)
    known = frozenset().union(*map(written, planted.runs))
    assert [found[0] for found in FIGURE.finditer(planted.text)] == ["4173.1 ms", "×3.2171", "(2.9817–3.4517)"]
    assert not {"4173.1", "3.2171", "2.9817", "3.4517"} & known


@cache
def of(run: str) -> Accuracies:
    return Accuracies(store.read(REFERENCES / "xeon-amx/ablation" / run))


def test_figures_over_several_runs_are_what_their_records_say() -> None:
    """Thirteen seeds in two runs, of which the first five chose the recipe."""
    whole, leaky = (
        {**of("masking").of("masking", row), **of("levels").of("core", row)}
        for row in ("hierarchical", "hierarchical_leaky")
    )
    assert sorted(whole) == list(range(13))
    front, ablated = ((ROOT / name).read_text(encoding="utf-8") for name in READMES[:2])
    lost = change(whole, leaky)
    assert f"ends {points(lost)[:3]} points lower {points(lost)[4:]}" in " ".join(front.split())
    lost = change({seed: whole[seed] for seed in range(12)}, leaky)
    assert f"leaky port ends {points(lost)[:3]} points {points(lost)[4:]} below" in " ".join(ablated.split())
    first, after = (interval(whole[seed] for seed in seeds).mean for seeds in (range(5), range(5, 12)))
    assert f"{100 * first:.1f} % in the first five and at {100 * after:.1f} in the seven after" in ablated
    spreads = [
        100 * statistics.stdev(of("levels").of("levels", f"parallel{reads}").values())
        for reads in ("", " (on words)", " (on phrases)")
    ]
    assert [f"{spread:.1f}" for spread in spreads] == re.findall(
        r"by (\d\.\d)(?: points)?",
        "".join(it.text for it in paragraphs(READMES[1]) if it.title.endswith("on phrases")),
    )


RUNS = sorted(path.parent for path in REFERENCES.rglob(store.FILE))


def pages(run: Path) -> dict[str, str]:
    """What today's program writes of a committed run's records, by file; without its pictures, which take long."""
    records = store.read(run)
    if ablation.is_ablation(records):
        pictures = {"attention": ["plots/"]} if (run / "attention").exists() else {}
        return {"REPORT.md": ablation._page(Accuracies(records), pictures, title=run.name)}
    if selfcheck.is_selfcheck(records):
        return {}
    made = escape.tables(tables.make(records))
    long = page._long(made, published.section(made.cells, map(escape.record, records)))
    text = page._page(made, [], long, folders.environment(run), title=run.name)
    return {"REPORT.md": text} | {f"tables/{name}.md": text for name, (_, text) in long.items()}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.relative_to(REFERENCES).as_posix())
def test_the_numbers_of_a_committed_page_are_those_that_are_said_of_its_records_today(run: Path) -> None:
    """Where they are not: python run_all.py report RUN."""

    def said_in(text: str) -> Counter[str]:
        lines = [line for line in text.splitlines() if "](plots/" not in line]
        return Counter(number for line in lines for number in numbers(line))

    for name, text in pages(run).items():
        kept = (run / name).read_text(encoding="utf-8")
        assert said_in(text) == said_in(kept), name
