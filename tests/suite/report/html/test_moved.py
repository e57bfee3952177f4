"""The page of many runs: what it draws is plain JSON, and its titles and sentences say what the points do."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from suite import cli
from suite.core import store
from suite.core.compare import CellKey
from suite.core.history import History, Move, Point, Run, Series
from suite.core.stats import Ratio
from suite.report import movements
from suite.report.html import document, moved
from tests.suite.core.test_history import record

HOSTILE = "</script><b>' + alert(1) + '"


def series(variant: str, values: list[float], *begins: tuple[int, float]) -> Series:
    made = tuple(
        Move(at, Ratio(estimate=by, low=by * 0.95, high=by * 1.05, verdict="slower" if by > 1 else "faster", count=8))
        for at, by in begins
    )
    points = tuple(Point(at, value, value * 0.97, value * 1.03, 0.01) for at, value in enumerate(values))
    return Series(cell=CellKey(variant, "tiny", "forward", "cpu"), points=points, moves=made)


def history(*told: Series, runs: int = 4) -> History:
    named = tuple(Run(f"run{at}", HOSTILE if at == 1 else "", "") for at in range(runs))
    return History(runs=named, series=told, noise=1.2, fail_above=0.05)


DENSE = series("dense", [2.0, 2.0, 3.0, 3.1], (2, 1.52))
CROSS = series("cross", [3.0, 3.1, 3.0, 3.0])
PARALLEL = series("parallel", [1e-3, 2e-3, 1e-3, 1e-3])


def test_a_change_is_drawn_named_and_the_title_says_it() -> None:
    figure = moved.figure([DENSE, CROSS, PARALLEL], history(DENSE, CROSS, PARALLEL), ("tiny", "forward", "cpu"))
    assert json.loads(json.dumps(figure.spec, allow_nan=False)) == figure.spec
    assert figure.title.startswith("1 of 3 changed; last dense, ×1.52")
    values = moved.points([DENSE, CROSS, PARALLEL], history(DENSE, CROSS, PARALLEL))
    assert [value["value"] for value in values if value["variant"] == "dense"] == pytest.approx([1, 1, 1.5, 1.55])
    assert {value["told"] for value in values if value["variant"] == "cross"} == {"no change is told"}
    assert len({value["run"] for value in values}) == 4, "runs of one name would share a place"
    layers = figure.spec["layer"]
    assert isinstance(layers, list)
    names = [value["variant"] for layer in layers for value in layer.get("data", {}).get("values", ())]
    assert names == ["dense"]
    low, high = layers[0]["encoding"]["y"]["scale"]["domain"]
    drawn = [value for value in values if value["variant"] == "dense"]
    assert all(low < value["low"] < value["high"] < high for value in drawn), "an interval is cut"


def test_where_nothing_moved_the_title_and_the_answer_say_so() -> None:
    found = history(CROSS, PARALLEL)
    assert moved.figure([CROSS, PARALLEL], found, ("tiny", "forward", "cpu")).title.startswith("None of 2 is told")
    assert moved.answers(found)[0].short == "nothing that is told"
    assert moved.answers(history(CROSS, runs=3))[0].short == "3 runs cannot tell"
    assert "it takes two on either side" in movements.sentences(history(CROSS, runs=3))[0]


def test_the_anchor_is_suspected_where_most_changed_alike() -> None:
    others = [series(name, [2.0, 2.0, 3.0, 3.0], (2, 1.5)) for name in ("dense", "modular")]
    assert any("parallel itself" in line for line in movements.sentences(history(*others, CROSS, PARALLEL)))
    assert not any("parallel itself" in line for line in movements.sentences(history(DENSE, CROSS, PARALLEL)))


def test_what_a_run_calls_itself_is_data() -> None:
    text = document.document(moved.page(history(DENSE, CROSS, PARALLEL)))
    assert HOSTILE not in text


def test_compare_takes_many_runs(tmp_path: Path) -> None:
    folders = []
    for at in range(6):
        folder = tmp_path / f"run{at}"
        folder.mkdir()
        with store.Writer(folder) as writer:
            writer.write([record("parallel", 1e-3, at), record("dense", 2e-3 if at < 3 else 3e-3, at)])
        (folder / "environment.json").write_text(json.dumps({"machine": {"cpu": "one"}, "commit": f"c{at}"}))
        folders.append(str(folder))
    done = CliRunner().invoke(cli.app, ["compare", "--json", *folders])
    assert done.exit_code == 3, done.output
    said = json.loads(done.stdout)
    assert [(change["variant"], change["in"]) for change in said["changes"]] == [("dense", "run3")]
    assert math.isclose(said["changes"][0]["ratio"], 1.5, rel_tol=0.05)
    assert (tmp_path / "run5" / "history" / "report.html").is_file()
    assert (tmp_path / "run5" / "history" / "history.csv").read_text().count("\n") == 13
