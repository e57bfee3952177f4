"""The trials of the masking audit are stored one by one, gone on with, and counted in the end."""

import json
from pathlib import Path

import pytest

from suite.core import store
from suite.core.errors import UserError
from suite.report import selfcheck as page
from suite.selfcheck import masking

Trials = list[tuple[str, int]]


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> Trials:
    """Two modules instead of ninety, and what was tried of them; the second is accused with seed 1."""
    tried: Trials = []

    def of_one(name: str, seed: int) -> str:
        tried.append((name, seed))
        return "P1: it moved" if (name, seed) == ("two", 1) else ""

    monkeypatch.setattr(masking, "GROUPS", {"convention": {"one": "one is accused", "two": "two is accused"}})
    monkeypatch.setattr(masking, "_TRIED", {"convention": of_one})
    monkeypatch.setattr(masking.environment, "describe", lambda request: {"sources": "these", "device": "cpu"})
    return tried


def counts(folder: Path) -> dict[str, tuple[object, object, str]]:
    return {
        str(row.details["check"]): (row.details["count"], row.details["trials"], row.verdict)
        for row in page.latest(store.read(folder))
    }


def test_an_accusation_fails_its_row_and_the_page_says_of_which_seed(trials: Trials, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert masking.start(seeds=3, out=folder, resume=None) == 1
    assert counts(folder) == {"one is accused": (0, 3, "holds"), "two is accused": (1, 3, "broken")}
    said = (folder / page.FILE).read_text()
    assert "**1 of 2 rows that were tried fail.**" in said
    assert "seed 1: P1: it moved" in said


def test_what_was_interrupted_is_gone_on_with_and_no_trial_is_done_twice(
    trials: Trials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    whole = masking._tried

    def until_the_third(group: str, name: str, seed: int) -> object:
        if len(trials) == 3:
            raise KeyboardInterrupt
        return whole(group, name, seed)

    with monkeypatch.context() as patch:
        patch.setattr(masking, "_tried", until_the_third)
        assert masking.start(seeds=2, out=folder, resume=None) == 130
    assert masking.start(seeds=2, out=None, resume=folder) == 1
    assert trials == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]
    assert counts(folder) == {"one is accused": (0, 2, "holds"), "two is accused": (1, 2, "broken")}
    masking.start(seeds=3, out=None, resume=folder)
    assert trials[4:] == [("one", 2), ("two", 2)]
    assert counts(folder)["two is accused"] == (1, 3, "broken")


def test_trials_of_another_program_are_not_mixed_in(trials: Trials, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    masking.start(seeds=1, out=folder, resume=None)
    (folder / "environment.json").write_text(json.dumps({"sources": "others", "device": "cpu"}))
    with pytest.raises(UserError, match=r"sources of this program .* have changed; start a new self-check"):
        masking.start(seeds=2, out=None, resume=folder)


def test_every_planted_thing_has_a_trial_of_its_own() -> None:
    assert {"defect", "mechanism", "convention"} == set(masking.GROUPS) == set(masking._TRIED)
    assert len({check for names in masking.GROUPS.values() for check in names.values()}) == masking.ALL
