"""The far end of an executor: a node that is not as it has to be does no work; records and files come home whole."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from suite.execution import relay
from suite.execution.jobs import Announcement, Ending, Job, Site, Work
from suite.execution.relay import Check, Message


def tells(what: Any, _site: Site, _at: Announcement) -> Iterator[str]:
    yield json.dumps(what)


def writes(what: Any, site: Site, at: Announcement) -> Iterator[str]:
    at.value = 2
    (site.folder / "traces").mkdir()
    (site.folder / "traces" / "one.json").write_text(what)
    (site.folder / "checkpoints").mkdir()
    (site.folder / "checkpoints" / "half.pt").write_text("large")
    yield "a record"
    time.sleep(0.01)
    yield "another"


def dies(what: Any, _site: Site, _at: Announcement) -> Iterator[str]:
    yield "a record"
    os.kill(os.getpid(), what)


def job(work: Work, what: Any) -> Job:
    return Job(name=work.__name__, work=work, what=what, alone=False, expected_s=1.0)


@pytest.fixture(autouse=True)
def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each knows nothing yet of the machine that it is on, and keeps its priority."""
    monkeypatch.setattr(relay, "_known", {})
    monkeypatch.setattr(os, "setpriority", lambda *_: None)


def last(it: Job, *, torch: str = "2.13.0", folder: Path | None = None) -> Message:
    check = Check(job=job(tells, {"host": "n1", "torch": torch}), expected={"torch": "2.13.0"})
    *_, told = relay.relay(relay.parcel(it, folder, check))
    return told


def ending(told: Message) -> Ending:
    assert told.news.ending is not None
    return told.news.ending


def test_records_and_files_come_home_with_the_end_and_checkpoints_do_not() -> None:
    told = last(job(writes, "content"))
    assert ending(told).way == "done"
    assert told.news.lines == ("a record", "another")
    assert told.files == {"traces/one.json": b"content"}
    assert told.identity == {"host": "n1", "torch": "2.13.0"}


def test_in_a_shared_folder_files_stay_where_they_are(tmp_path: Path) -> None:
    told = last(job(writes, "content"), folder=tmp_path)
    assert told.files is None
    assert (tmp_path / "traces" / "one.json").read_text() == "content"
    assert (tmp_path / "checkpoints" / "half.pt").exists()


def test_a_node_with_another_version_does_no_work_and_says_what_differs(tmp_path: Path) -> None:
    told = last(job(writes, "content"), torch="2.12.1", folder=tmp_path)
    assert ending(told).way == "refused"
    assert "torch is 2.12.1 and not 2.13.0" in ending(told).reason
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_is_killed_there_is_told_as_it_would_be_here() -> None:
    told = last(job(dies, 9))
    assert (ending(told).way, ending(told).cause, told.news.lines) == ("killed", "killed", ("a record",))
