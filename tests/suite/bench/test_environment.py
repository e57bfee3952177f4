"""What a number depends on is written down, and a run goes on only where it is still the same."""

import shutil
from pathlib import Path

import pytest

from suite.bench import environment
from suite.bench.request import Request
from suite.core import folders


def test_nothing_has_changed_from_one_moment_to_the_next() -> None:
    assert environment.changes(environment.describe(Request()), environment.describe(Request())) == []


def test_what_a_number_depends_on_is_named_where_it_has_changed() -> None:
    now = environment.describe(Request())
    before = now | {"torch": "1.0", "sources": "0" * 16, "machine": {"cores": 3}}
    said = "; ".join(environment.changes(before, now))
    assert f"torch was 1.0 and is {now['torch']}" in said
    assert "the sources of this program or the --with files have changed" in said
    assert "the machine was {'cores': 3} and is" in said


def test_a_file_of_the_users_own_is_a_source_by_its_contents(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("one = 1\n")
    first = environment.sources((str(own),))
    assert first != environment.sources(())
    own.write_text("one = 2\n")
    assert environment.sources((str(own),)) != first


def test_settings_that_change_what_a_processor_does_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "KMP_AFFINITY", "LD_PRELOAD", "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    before = environment.describe(Request())
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("KMP_AFFINITY", "granularity=fine,compact,1,0")
    monkeypatch.setenv("LD_PRELOAD", "/home/somebody/lib/libjemalloc.so:/opt/x/libiomp5.so")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/somewhere")
    monkeypatch.setenv("EDITOR", "vi")
    now = environment.describe(Request())
    assert environment.changes(before, now) == [
        "KMP_AFFINITY was not set and is granularity=fine,compact,1,0",
        "LD_PRELOAD was not set and is libjemalloc.so:libiomp5.so",
        "ONEDNN_MAX_CPU_ISA was not set and is AVX2",
    ]
    assert folders.changed_settings(now, {}) == [], "a run that does not say may have had the same"


@pytest.mark.parametrize(
    "source",
    [
        *("audit/lab.py", "core/stats.py", "bench/worker.py", "bench/run.py", "bench/probes/honesty.py"),
        *("execution/keeper.py", "execution/loop.py"),
    ],
)
def test_every_source_that_a_number_depends_on_is_in_the_hash(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("suite", "variants"):
        shutil.copytree(environment.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(environment, "_PRESENTING", tmp_path / "suite" / "report")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    before = environment.sources(())
    with (tmp_path / "suite" / "report" / "page.py").open("a") as file:
        file.write("# what pages look like\n")
    assert environment.sources(()) == before
    assert (tmp_path / "suite" / source).exists()
    with (tmp_path / "suite" / source).open("a") as file:
        file.write("# how it is measured\n")
    assert environment.sources(()) != before


def test_files_of_the_users_own_count_in_any_order(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(str(tmp_path / folder / "own.py"))
        Path(files[-1]).write_text(f"here = {folder!r}\n")
    assert environment.sources(tuple(files)) == environment.sources(tuple(reversed(files)))
