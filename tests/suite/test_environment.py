"""What a number depends on is written down, and a run goes on only where it is still the same."""

from pathlib import Path

from suite import environment
from suite.request import Request


def test_nothing_has_changed_from_one_moment_to_the_next() -> None:
    assert environment.changes(environment.describe(Request()), environment.describe(Request())) == []


def test_what_a_number_depends_on_is_named_where_it_has_changed() -> None:
    now = environment.describe(Request())
    before = now | {"torch": "1.0", "sources": "0" * 16, "machine": {"cores": 3}}
    said = "; ".join(environment.changes(before, now))
    assert f"torch was 1.0 and is {now['torch']}" in said
    assert "the variants, probes or --with files have changed" in said
    assert "the machine was {'cores': 3} and is" in said


def test_a_file_of_the_users_own_is_a_source_by_its_contents(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("one = 1\n")
    first = environment.sources((str(own),))
    assert first != environment.sources(())
    own.write_text("one = 2\n")
    assert environment.sources((str(own),)) != first
