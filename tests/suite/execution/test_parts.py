"""What a job leaves for a head that may be gone: whole or not at all, and its own whatever it is called."""

from pathlib import Path

import pytest

from suite.execution import parts
from suite.execution.jobs import Ending, News
from suite.execution.relay import Message

DONE = Message(
    news=News(
        ticket="", began=True, at=3, node="n1", ending=Ending(way="done"), took_s=2.5, lines=('{"a":1}', '{"b":"µ"}')
    ),
    identity={"host": "n1", "torch": "2.13.0"},
)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    found = parts.stem(tmp_path, "ablate scenes [a/b] ../seed 5")
    found.parent.mkdir()
    return found


def test_what_was_told_is_heard(at: Path) -> None:
    assert parts.heard(at) is None
    parts.tell(at, Message(news=News(ticket="", began=True, at=2, node="n1")))
    assert parts.heard(at) is None
    assert parts.progress(at) == {"at": 2, "node": "n1"}
    parts.tell(at, DONE)
    assert parts.heard(at) == DONE
    parts.remove(at)
    assert list(at.parent.iterdir()) == []


def test_half_a_file_is_none(at: Path) -> None:
    at.with_name(at.name + ".torn").write_text('{"news":')
    assert parts.heard(at) is None


def test_a_file_that_cannot_be_read_counts_as_lost(at: Path) -> None:
    for text in (
        "",
        "[]\n",
        '{"news":{}}\n',
        '{"news":{"ticket":"","ending":{"way":"done","more":1}},"identity":null}\n',
    ):
        at.with_name(at.name + ".jsonl").write_text(text)
        told = parts.heard(at)
        assert told is not None
        assert told.news.ending is not None
        assert told.news.ending.way == "lost"


def test_names_that_look_alike_as_files_are_apart_and_none_leads_out(tmp_path: Path) -> None:
    names = ["seed 5", "seed-5", "seed/5", "../seed 5", "x" * 300, "x" * 301]
    assert len({parts.stem(tmp_path, name) for name in names}) == len(names)
    assert {parts.stem(tmp_path, name).parent for name in names} == {tmp_path / "parts"}
