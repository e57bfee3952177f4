"""The README's table is what the command writes from the committed reference runs."""

import shutil
from pathlib import Path

import pytest

from suite.core import store
from suite.report import readme
from tests.suite.report import synthetic

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    references = tmp_path_factory.mktemp("reference")
    (references / "two-cores").mkdir()
    with store.Writer(references / "two-cores") as writer:
        writer.write(synthetic.records())
    (references / "two-cores" / "environment.json").write_text('{"device": "Two Cores", "torch": "2.13.0"}')
    return references


def test_the_readme_shows_what_the_committed_reference_runs_say() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    committed = ROOT / readme.REFERENCES
    runs = sorted(committed.glob(f"*/{store.FILE}"))
    # neither without the other: a reference that nobody sees, or a table from nowhere
    assert (readme.BEGIN in text) == bool(runs)
    if runs:
        shown = text.partition(readme.BEGIN)[2].partition(readme.END)[0].strip()
        assert shown == readme.made_of(committed), "write it again: python run_all.py report --readme README.md"


def test_the_table_has_a_row_for_every_mechanism_with_its_fastest_form(references: Path) -> None:
    text = readme.made_of(references)
    assert text.startswith("Two Cores, torch 2.13.0; `vqa-grid[batch=8]` on `cpu`")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert set(rows) == {*synthetic.MECHANISMS, *synthetic.PUBLISHED}
    assert "`+bf16+compile` ×4.0" in rows["modular"]
    assert "broken in 1 of 6 forms" in rows["dense"]
    assert "known defects" in rows["published_csdn"]
    assert "ours: `parallel` ×1.59" in rows["published_csdn"]


def test_of_runs_on_devices_of_one_kind_the_newest_is_shown(references: Path, tmp_path: Path) -> None:
    for name, started in (("a", "2026-01-02"), ("b", "2026-01-03"), ("c", "2026-01-01")):
        shutil.copytree(references / "two-cores", tmp_path / name)
        (tmp_path / name / "environment.json").write_text(f'{{"device": "{name}", "started": "{started}"}}')
    lines = (tmp_path / "c" / store.FILE).read_text().replace('"device":"cpu"', '"device":"cuda"')
    (tmp_path / "c" / store.FILE).write_text(lines.replace('"device": "cpu"', '"device": "cuda"'))
    headings = [line.partition(",")[0] for line in readme.made_of(tmp_path).splitlines() if ", torch " in line]
    assert headings == ["b", "c"]


@pytest.mark.slow
def test_what_stands_around_the_marks_is_kept(references: Path, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"# Before\n\n{readme.BEGIN}\nold\n{readme.END}\n\nafter\n")
    readme.write(path, references)
    first = path.read_text()
    readme.write(path, references)
    assert path.read_text() == first
    assert first.startswith("# Before\n\n<!-- table:begin -->\nTwo Cores")
    assert first.endswith("|\n<!-- table:end -->\n\nafter\n")
    assert "\nold\n" not in first


@pytest.mark.parametrize("text", ["no marks", f"{readme.END} {readme.BEGIN}", f"{readme.BEGIN} {readme.BEGIN}"])
def test_a_readme_without_its_marks_is_not_touched(references: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "README.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"expected <!-- table:begin --> and, below it"):
        readme.write(path, references)
    assert path.read_text() == text


def test_no_reference_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no run: measure one with"):
        readme.made_of(tmp_path)
