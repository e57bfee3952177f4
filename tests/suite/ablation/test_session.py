"""A study from request to folder: complete, paired, resumable, within its budget, and honest about what failed."""

import itertools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from suite.ablation import session, studies
from suite.ablation.jobs import TUNING_SEED, Training
from suite.ablation.model import PLANTED, SOUND, Classifier, Shape
from suite.ablation.scene_dataset import SceneDataset
from suite.ablation.session import Request
from suite.ablation.studies import STUDIES, Compared, Row, Study, study
from suite.core import exits, store
from suite.core.answer import Manner
from suite.core.errors import UserError
from suite.core.records import Measurement, Record, Skip, encode
from suite.execution.jobs import Ending, Job, News, Node
from suite.report import ablation
from suite.report.accuracies import Accuracies
from tests import warm
from variants import canonical, mechanisms

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
POOL = Row(variant="pool", width=16)
SMALL = Study(
    name="core",
    question="Is it small?",
    rows=(
        Compared(row=POOL, parent=None),
        Compared(row=Row(variant="parallel", reads="words", width=16), parent=POOL),
    ),
)


def shrink(patch: pytest.MonkeyPatch) -> None:
    for where, name, value in (
        (SceneDataset, "batch", 8),
        (SceneDataset, "at", lambda root: SceneDataset(steps=3, examples=60)),
        (session, "RATES", (0.001, 0.01)),
        (session, "FURTHER_RATES", 2),
        (session, "study", lambda name, **_: SMALL),
    ):
        patch.setattr(where, name, value)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pages, and in one process: starting them is most of what a small study costs."""
    shrink(monkeypatch)
    monkeypatch.setattr(session, "LANES", 1)
    monkeypatch.setattr(session.outcome, "finish", finish)


def finish(folder: Path, manner: Manner, *, interrupted: bool, resume: str) -> int:
    return exits.INTERRUPTED if interrupted else exits.code(store.read(folder))


def accuracies(folder: Path) -> dict[tuple[object, ...], float | None]:
    return {
        tuple(record.details[key] for key in ("row", "seed", "family", "evaluation")): record.value
        for record in store.read(folder)
        if isinstance(record, Measurement) and record.quantity == "accuracy"
    }


def is_training(record: Record) -> bool:
    return isinstance(record, Measurement) and record.quantity == "training_loss"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        assert session.start(Request(seeds=2, epochs=2), out=folder) == exits.DONE
    return folder


def test_every_row_seed_family_and_evaluation_is_on_record(unbroken: Path) -> None:
    found = accuracies(unbroken)
    families = {"all", "unary", "phrase", "pair", "nearest", "count"}
    ways = {"as_is", "noise_in_pads", "twice_the_width", "as_is_of_alone", "alone"}
    labels = {"pool (width 16)", "parallel (on words, width 16)"}
    assert set(found) == set(itertools.product(labels, (5, 6), families, ways))
    assert all(value is not None and 0 <= value <= 1 for value in found.values())


def test_every_learning_rate_that_was_tried_is_on_record_and_the_best_is_used(unbroken: Path) -> None:
    records = [record for record in store.read(unbroken) if isinstance(record, Measurement)]
    tried: dict[str, dict[float, dict[int, float]]] = {}
    for record in records:
        if record.quantity == "tuning_accuracy":
            rates = tried.setdefault(record.details["row"], {})
            by_seed = rates.setdefault(record.details["learning_rate"], {})
            by_seed[record.details["seed"] - TUNING_SEED] = record.value
    assert set(tried) == {"pool (width 16)", "parallel (on words, width 16)"}
    for rates in tried.values():
        assert {0.001, 0.01} <= set(rates) <= {0.00025, 0.0005, 0.001, 0.01, 0.02, 0.04}
        assert sorted(map(len, rates.values()))[-2:] == [3, 3]
    for record in records:
        if record.quantity == "training_loss":
            rates = tried[record.details["row"]]
            without = [place for place in range(3) if place != record.details["seed"] % 3]
            kept = {rate: sum(values[at] for at in without) for rate, values in rates.items() if len(values) == 3}
            assert kept[record.details["learning_rate"]] == max(kept.values())


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (0.01, (0.001, 0.01, 0.02)),
        (0.001, (0.0005, 0.001, 0.01)),
        (0.02, (0.001, 0.01, 0.02, 0.04)),
        (0.0, (0.00025, 0.0005, 0.001, 0.01)),
        (1.0, (0.001, 0.01, 0.02, 0.04)),
    ],
)
def test_learning_rates_go_on_while_the_best_is_at_an_end(
    best: float, tried: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "here", trainer_that_gives(lambda job: -abs(job.recipe.learning_rate - best)))
    session.start(Request(seeds=1, epochs=1), out=tmp_path / "run")
    records = [record for record in store.read(tmp_path / "run") if isinstance(record, Measurement)]
    rates = [record.details for record in records if record.quantity == "tuning_accuracy"]
    for row in ("pool (width 16)", "parallel (on words, width 16)"):
        own = [details for details in rates if details["row"] == row]
        assert sorted(details["learning_rate"] for details in own if details["seed"] == TUNING_SEED) == list(tried)


def test_of_the_two_best_learning_rates_the_one_with_the_better_mean_of_three_seeds_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gives = {(0.01, TUNING_SEED): 0.6, (0.01, TUNING_SEED + 1): 0.1, (0.01, TUNING_SEED + 2): 0.2}

    def accuracy(job: Training) -> float:
        return gives.get((job.recipe.learning_rate, job.seed), 0.5 if job.recipe.learning_rate == 0.001 else 0.0)

    monkeypatch.setattr(session, "here", trainer_that_gives(accuracy))
    session.start(Request(seeds=1, epochs=1), out=tmp_path / "run")
    records = [record for record in store.read(tmp_path / "run") if isinstance(record, Measurement)]
    assert {record.details["learning_rate"] for record in records if record.quantity == "training_loss"} == {0.001}
    tuned = [record.task for record in records if record.quantity == "tuning_accuracy"]
    assert len(tuned) == len(set(tuned))
    row = SMALL.rows[0].row.label
    again = [task for task in tuned if task.startswith(f"ablate scenes-standard {row} tune") and "seed" in task]
    assert again == [
        f"ablate scenes-standard {row} tune {rate} seed {seed}" for seed in (1001, 1002) for rate in (0.001, 0.01)
    ]


def test_where_two_learning_rates_are_close_each_seed_leaves_out_another_training_and_both_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the mean of all three prefers 0.01, of the last two 0.001
    gives = {(0.01, TUNING_SEED): 0.9, (0.01, TUNING_SEED + 1): 0.4, (0.01, TUNING_SEED + 2): 0.4}

    def accuracy(job: Training) -> float:
        return gives.get((job.recipe.learning_rate, job.seed), 0.5 if job.recipe.learning_rate == 0.001 else 0.0)

    monkeypatch.setattr(session, "here", trainer_that_gives(accuracy))
    session.start(Request(seeds=6, epochs=1), out=tmp_path / "run")
    records = [record for record in store.read(tmp_path / "run") if isinstance(record, Measurement)]
    losses = [record.details for record in records if record.quantity == "training_loss"]
    assert {loss["seed"] for loss in losses if loss["learning_rate"] == 0.001} == {6, 9}
    assert {loss["seed"] for loss in losses if loss["learning_rate"] == 0.01} == {5, 7, 8, 10}


@pytest.mark.parametrize("stopped_after", [2, 4, 6, 8, 9, 11])
def test_a_search_for_learning_rates_that_was_interrupted_goes_on_where_it_stood(
    stopped_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(job: Training) -> float:
        return -abs(job.recipe.learning_rate - 0.03)

    def interrupted(job: Training) -> float:
        nonlocal stopped_after
        stopped_after -= 1
        if stopped_after < 0:
            raise KeyboardInterrupt
        return seen(job)

    def run(folder: Path, **arguments: Path) -> list[tuple[str, object]]:
        session.start(Request(seeds=2, epochs=1) if "out" in arguments else Request(), **arguments)
        found = (record for record in store.read(folder) if isinstance(record, Measurement))
        return sorted((record.task, record.details.get("learning_rate")) for record in found if record.value != 1.0)

    monkeypatch.setattr(session, "here", trainer_that_gives(seen))
    unbroken = run(tmp_path / "unbroken", out=tmp_path / "unbroken")
    monkeypatch.setattr(session, "here", trainer_that_gives(interrupted))
    assert run(tmp_path / "run", out=tmp_path / "run") != unbroken
    monkeypatch.setattr(session, "here", trainer_that_gives(seen))
    assert run(tmp_path / "run", resume=tmp_path / "run") == unbroken


def test_an_ablation_that_only_chose_learning_rates_says_that_nothing_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a run"

    def late(job: Training) -> float:
        if not job.tunes:
            raise Killed
        return 0.5

    monkeypatch.setattr(session, "here", trainer_that_gives(late))
    session.start(Request(seeds=1, epochs=1), out=folder)
    kept = [record for record in store.read(folder) if not isinstance(record, Skip)]
    assert exits.code(kept) == exits.NOTHING_MEASURED
    assert "--resume '" in capfd.readouterr().err
    said = [str(part) for part in ablation.words(store.read(folder))]
    assert said[0] == "Nothing was trained to its end."


def test_what_a_row_was_trained_at_stays_its_learning_rate_whatever_is_found_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_the_best(job: Training) -> float:
        if job.tunes and job.recipe.learning_rate == 0.01:
            raise Killed
        if job.seed == 6:
            raise KeyboardInterrupt
        return 0.5

    folder = tmp_path / "run"
    monkeypatch.setattr(session, "here", trainer_that_gives(without_the_best))
    session.start(Request(seeds=2, epochs=1), out=folder)
    monkeypatch.setattr(session, "here", trainer_that_gives(lambda job: job.recipe.learning_rate))
    session.start(Request(), resume=folder)
    for row in SMALL.rows:
        used = {
            record.details["learning_rate"]
            for record in store.read(folder)
            if is_training(record) and row.row.label in record.task
        }
        assert len(used) == 1, row


class Killed(Exception):
    """Of a process that trains."""


def trainer_that_gives(accuracy: Callable[[Training], float]) -> Callable[..., Any]:
    """A machine that would train, but knows at once what comes of it."""

    class Trainer:
        patience_s = 60.0

        def __init__(self, *_: object) -> None:
            self.training: list[Training] = []

        def nodes(self) -> list[Node]:
            return [Node(name="")]

        def start(self, job: Job, _: Node) -> str:
            self.training.append(job.what[0])
            return "only"

        def wait(self, _: float) -> list[News]:
            job = self.training.pop()
            quantity = "tuning_accuracy" if job.tunes else "training_loss"
            details = {"data": job.dataset.name, "row": job.row.label, "learning_rate": job.recipe.learning_rate}
            details["seed"] = job.seed
            try:
                value = 0.5 + accuracy(job) / 100  # a share, in the same order
            except Killed:
                ending = Ending(way="killed", reason="ended by SIGKILL", cause="killed")
                return [News(ticket="only", ending=ending)]
            found = Measurement(task=job.name, quantity=quantity, unit="1", value=value, details=details)
            took = Measurement(task=job.name, quantity="task_time", unit="s", value=1.0)
            return [News(ticket="only", ending=Ending(way="done"), lines=(encode(found), encode(took)))]

        def cancel(self, ticket: str) -> News:
            return News(ticket=ticket)

        def now(self) -> float:
            return time.monotonic()

    return Trainer


def test_the_folder_says_what_was_tested_and_how_far_one_can_get(unbroken: Path) -> None:
    records = [record for record in store.read(unbroken) if isinstance(record, Measurement)]
    (tested,) = (record for record in records if record.quantity == "tested_on")
    assert len(str(tested.details["sha256"])) == 64
    ceilings = {(record.details["of"], record.details["family"]) for record in records if record.quantity == "ceiling"}
    assert ("oracle", "all") in ceilings
    assert ("question only", "pair") in ceilings
    assert ("image only", "count") in ceilings
    for name in ("REPORT.md", "tables/ablation.csv", "plots/accuracy-core.png", "plots/attention-pair.png"):
        assert (unbroken / name).stat().st_size > 100
    assert not list((unbroken / "checkpoints").iterdir())


KILLED = f"""
import os, signal, sys
from pathlib import Path
import psutil
from suite.ablation import session
from suite.core.answer import Manner
from suite.core.errors import UserError
from suite.ablation.scene_dataset import SceneDataset
from suite.ablation.loading import Loading
from suite.ablation.studies import Compared, Row, Study

trained = 0

def say(self, job, *_):
    global trained
    trained += not job.tunes
    if trained == 2:  # both rows are tuned, and have one of their seeds
        children = [str(child.pid) for child in psutil.Process().children(recursive=True)]
        Path(sys.argv[1], "children").write_text(" ".join(children))
        os.kill(os.getpid(), signal.SIGKILL)

SceneDataset.batch, SceneDataset.at = 8, lambda root: SceneDataset(steps=3, examples=60)
session.RATES, session.FURTHER_RATES, session.study = (0.001, 0.01), 2, lambda name, **_: {SMALL!r}
session.Session._say = say
session.start(session.Request(seeds=2, epochs=2), out=Path(sys.argv[1]))
"""


def test_a_killed_study_leaves_no_process_and_resumes_to_the_same_accuracies(unbroken: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = warm.run("-c", KILLED, folder)
    assert done.returncode == -9, done.stderr
    children = [int(pid) for pid in (folder / "children").read_text().split()]
    deadline = time.monotonic() + 20
    while any(map(psutil.pid_exists, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert children
    assert not any(map(psutil.pid_exists, children))
    assert 0 < len(accuracies(folder)) < len(accuracies(unbroken))
    assert session.start(Request(), resume=folder) == exits.DONE
    assert accuracies(folder) == accuracies(unbroken)
    tasks = [record.task for record in store.read(folder) if getattr(record, "quantity", "") == "task_time"]
    assert len(tasks) == len(set(tasks))


def test_what_the_budget_leaves_out_is_skipped_with_the_command_that_trains_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    session.start(Request(seeds=1, epochs=2, budget_s=0.001), out=folder)
    skips = [record for record in store.read(folder) if isinstance(record, Skip)]
    assert skips
    assert {skip.cause for skip in skips} == {"budget"}
    assert skips[0].remedy == f"python run_all.py ablate --resume {folder} --budget 0"
    assert session.start(Request(budget_s=0), resume=folder) == exits.DONE
    assert len(accuracies(folder)) == 2 * 6 * 5
    assert Accuracies(store.read(folder)).skips == []


def test_a_budget_that_ends_early_takes_seeds_from_the_blindfolded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blind = Compared(row=replace(POOL, sight="question_only"), parent=POOL)
    monkeypatch.setattr(session, "study", lambda name, **_: replace(SMALL, rows=(blind, *SMALL.rows)))
    session.start(Request(seeds=2, epochs=1), out=tmp_path / "run")
    trained = [record.task for record in store.read(tmp_path / "run") if is_training(record)]
    assert trained == [
        f"ablate scenes-standard {entry.row.label} seed {seed}"
        for entries in (SMALL.rows, (blind,))
        for seed in (5, 6)
        for entry in entries
    ]


def test_progress_names_each_row_with_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = Row(variant="dense[layers=1]", reads="words", width=16)
    alone = Study(name="core", question="", rows=(Compared(row=deep, parent=None),))
    monkeypatch.setattr(session, "study", lambda name, **_: alone)
    assert session.start(Request(seeds=1, epochs=1), out=tmp_path / "run") == exits.DONE
    assert "scenes-standard dense[layers=1] (on words, width 16) seed 5: " in capsys.readouterr().err


def test_a_row_that_cannot_be_had_is_a_skip_and_the_others_are_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impossible = Row(variant="parallel+cudagraph", reads="words", width=16)
    alone = Study(name="core", question="", rows=(*SMALL.rows[:1], Compared(row=impossible, parent=POOL)))
    monkeypatch.setattr(session, "study", lambda name, **_: alone)
    folder = tmp_path / "run"
    assert session.start(Request(seeds=1, epochs=1), out=folder) == exits.DONE
    (skip,) = {record.reason for record in store.read(folder) if isinstance(record, Skip)}
    assert "cuda" in skip.lower()
    assert {row for row, *_ in accuracies(folder)} == {"pool (width 16)"}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(seeds=0), "--seeds 0: expected at least 1"),
        (Request(first_seed=-1), "--first-seed -1: expected seeds from 0 to 999"),
        (Request(seeds=2, first_seed=999), "--first-seed 999: expected seeds from 0 to 999"),
        (Request(epochs=0), "--epochs 0: expected at least 1"),
        (Request(budget_s=-1), "--budget -1: expected seconds of at least 0"),
        (
            Request(data="vqa2", root=".", studies=("generalise",)),
            "generalise is tested on longer sets than were learnt",
        ),
        (Request(device="tpu"), "--device tpu: expected cpu or cuda"),
        (Request(data="vqa2"), "--data vqa2 needs --root DIR"),
        (Request(data="clevr"), "--data clevr: expected one of scenes, digits, vqa2"),
        (Request(root="somewhere"), "--root somewhere goes with --data vqa2"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(request_: Request, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        session.start(request_, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_study_is_known_by_name_and_holds_the_controls() -> None:
    with pytest.raises(ValueError, match="there is no study 'level': expected one of core, levels"):
        studies.study("level")
    for name in STUDIES:
        labels = [entry.row.label for entry in study(name).rows]
        assert len(labels) == len(set(labels))
        controls = {"pool", "pool (question only)", "pool (image only)", "pool (other image)"}
        assert controls & set(labels) == (controls if studies._STUDIES[name].controlled else set())
        rows = {entry.row for entry in study(name).rows}
        assert all(entry.parent is None or entry.parent in rows for entry in study(name).rows), name


def test_the_levels_are_the_papers_table_for_both_co_attentions() -> None:
    labels = {entry.row.label for entry in study("levels").rows}
    for full in ("hierarchical", "hierarchical[inner=alternating]"):
        for part in ("word_level", "phrase_level", "question_level", "question_attention", "image_attention"):
            assert f"{full}-{part}" in labels


def test_every_part_of_every_mechanism_is_left_out_beside_its_whole_in_some_study() -> None:
    left_out = set()
    for entry in itertools.chain.from_iterable(study(name).rows for name in STUDIES):
        if entry.row.is_local or entry.parent is None or entry.parent.is_local:
            continue
        spec, whole = canonical(entry.row.variant), canonical(entry.parent.variant)
        if spec.without and whole == replace(spec, without=()):
            assert entry.row.reads == entry.parent.reads
            left_out.add((spec.mechanism, *spec.without))
    assert left_out == {(name, part) for name, mechanism in mechanisms().items() for part in mechanism.parts}


def test_depth_is_varied_by_layers_alone() -> None:
    compared = [entry for entry in study("depth", controls=False).rows if entry.parent is not None]
    deep = {name: [entry for entry in compared if entry.row.variant.startswith(name)] for name in ("dense", "modular")}
    assert [len(entries) for entries in deep.values()] == [4, 3]
    for shallow, *deeper in deep.values():
        assert shallow.row.variant.endswith("[layers=1]")
        assert all(replace(entry.row, variant="") == replace(shallow.row, variant="") for entry in deeper)


def test_a_planted_defect_stands_beside_the_same_network_without_it() -> None:
    shape = Shape(image_width=12, vocabulary=20, classes=5)
    planted = [entry for entry in study("masking").rows if entry.row.variant.startswith(PLANTED)]
    parents = {entry.parent for entry in planted if entry.parent is not None}
    assert {parent.variant for parent in parents} == set(SOUND)
    for entry in planted:
        assert entry.parent is not None
        names = (entry.row.variant, entry.parent.variant)
        networks = [Classifier(name, shape, width=16, reads="words") for name in names]
        shapes = [{name: weight.shape for name, weight in network.named_parameters()} for network in networks]
        assert shapes[0] == shapes[1], entry.row.label
        assert entry.row.tuned_as == entry.parent


def test_mechanisms_are_compared_at_equal_parameters() -> None:
    rows = [entry.row for entry in study("mechanism", controls=False).rows]
    sizes = {row.label: studies.parameters(row) for row in rows}
    wanted = studies.parameters(studies.PARALLEL)
    # the step of eight in width changes the parameters by a fifth at these widths
    assert all(abs(size / wanted - 1) < 0.15 for size in sizes.values()), sizes
    assert len(rows) >= 7


def test_resuming_the_folder_of_another_kind_of_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text(json.dumps({"request": {}}))
    with pytest.raises(ValueError, match="is not the folder of an ablation"):
        session.start(Request(), resume=tmp_path)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"seeds": "many"}, "whose 'seeds' is 'many'"),
        ({"studies": "core"}, "whose 'studies' is 'core'"),
        ({"colour": "red"}, "which asks for 'colour'"),
    ],
)
def test_a_request_that_somebody_has_changed_is_refused_in_one_line(
    asked: dict[str, object], message: str, tmp_path: Path
) -> None:
    described = session.environment.describe(session.RunRequest())
    described |= {"ablation": asked, "ablation_sources": session._sources()}
    (tmp_path / "environment.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=message):
        session.start(Request(), resume=tmp_path)
