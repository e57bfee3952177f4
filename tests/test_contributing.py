"""Each addition that CONTRIBUTING.md tells of, made in a copy of the program at as many places as it says, works."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parents[1]

NEW = "new"
Edits = dict[str, tuple[str, str]]
"""By file: what it holds, where it is new; or a line after which something is put in, or a text before it, and what."""

ADDED: dict[str, Edits] = {
    "a mechanism": {
        "variants/echo.py": (
            NEW,
            '''
from variants.pooling import Pool
from variants.registry import register


@register("echo")
class Echo(Pool):
    """As pooling, under another name."""

    source = "nobody's"
''',
        )
    },
    "a transform (`+name`)": {
        "variants/transforms/capture.py": (
            "TRANSFORMS = (\n",
            """
    Transform(
        name="again",
        axis="capture",
        summary="the same again",
        apply=lambda variant: replace(variant, spec=renamed(variant, "again")),
    ),
""",
        )
    },
    "a property of masking": {
        "suite/audit/checks/numbers.py": (
            'A fifth of it in fp16."""\n',
            """

@declares("P99", "fragile", "at most one", "no weight exceeds 1", says="{output} exceeded 1 by {leak}")
def at_most_one(lab: Lab) -> Iterator[Observation]:
    for name, value in lab.reference.items():
        if name.endswith("weights"):
            leak = float((value - 1).clamp_min(0).max())
            yield Observation(what="ordinary padded batch", output=name, leak=leak, limit=1e-5)


""",
        ),
        "suite/README.md": (
            "| code | what it says | a failure is |\n|---|---|---|\n",
            "| `P99` | no weight exceeds 1 | fragile |\n",
        ),
        "suite/audit/defects.py": (
            "            RootOfNothing,\n",
            """            "P8",
            "the gradient of a square root at zero is infinite, and 0 * inf is NaN",
            "put the epsilon under the root",
        ),
        _defect(
            "weights fivefold",
            type("Fivefold", (Sound,), {"distribute": lambda self, *given: 5 * Sound.distribute(self, *given)}),
            "P99",
            "weights are scaled",
            "do not scale them",
        ),
        _defect(
            "root of blanked padding again",
            RootOfNothing,
""",
        ),
    },
    "a probe": {
        "suite/bench/probes/echo.py": (
            NEW,
            """
from suite.bench.probes.step import prepared
from suite.core.records import Measurement


def measure(target):
    step = prepared(*target.place)
    step(0)
    yield Measurement(quantity="calls", unit="1", value=float(step.calls), **target.about)
""",
        ),
        "suite/bench/probes/__init__.py": (
            '    "cost": Probe(code="cost.count"),\n',
            '    "echo": Probe(code="echo.measure"),\n',
        ),
    },
    "a column of the tables": {
        "suite/report/tables.py": ("_MEASURED = {\n", '    "echo_time": "echo_time_s",\n'),
        "suite/report/cell_columns.py": (
            '    CellColumn(key="rounds"',
            '    CellColumn(key="echo", title="echo", says=_of("echo_time_s", units.seconds), by="echo_time_s"),\n',
        ),
    },
    "an executor": {
        "suite/execution/on_echo.py": (
            NEW,
            """
from dataclasses import dataclass

from suite.execution.local import Local
from suite.execution.relay import Opening

HAS_ADDRESS = False


@dataclass(frozen=True, kw_only=True)
class Table:
    louder: int = 1


def opened(table: Table, opening: Opening) -> Local:
    return Local(opening.folder, opening.folder, beside=table.louder)
""",
        )
    },
    "a study of the ablation": {
        "suite/ablation/studies.py": (
            '    "core": _Draft(',
            '    "echo": _Draft(question="Who answers?", rows=lambda: (Compared(row=POOL, parent=None),)),\n',
        )
    },
    "a data set of the ablation": {
        "suite/ablation/echoes.py": (
            NEW,
            '''
from collections.abc import Iterator

from suite.ablation.scene_dataset import SceneDataset
from suite.ablation.scenes import Examples


class Echoes(SceneDataset):
    """Scenes, one of which is shown in every row."""

    epochs = 2
    has_longer = False

    @property
    def name(self) -> str:
        return "echoes"

    def training(self, seed: int, epoch: int, batch: int) -> Iterator[Examples]:
        for examples in super().training(seed, epoch, batch):
            yield examples._make(field[:1].repeat(batch, axis=0) for field in examples)
''',
        ),
        "suite/ablation/datasets.py": (
            "DATASETS: Mapping[str, type[Dataset]] = {\n",
            '    "echoes": __import__("suite.ablation.echoes", fromlist=["Echoes"]).Echoes,\n',
        ),
    },
}

SEEN = """
import json
from pathlib import Path
from types import SimpleNamespace

from suite.ablation import datasets
from suite.ablation.jobs import Training, work
from suite.ablation.studies import study
from suite.ablation.training import Recipe
from suite.audit.defects import DEFECTS, subject_of
from suite.audit.properties import PROPERTIES, examine
from suite.audit.subject import from_variant
from suite.bench import where, worker
from suite.bench.description import describe
from suite.bench.estimate import Speed
from suite.bench.plan import plan
from suite.bench.probes import agreement
from suite.bench.request import Request, understand
from suite.bench.tasks import Target
from suite.catalogue import sections
from suite.core.records import Finding, Measurement, decode
from suite.core.workloads import WORKLOADS
from suite.execution.jobs import Site
from suite.report import cell_columns, rows, style, tables
from suite.report.html import cells as of_page
from variants import build

asked = [str(wanted.spec) for wanted in understand(Request(preset="cpu", device="cpu")).variants]
listed = sections()
agreed = [
    record.verdict
    for record in agreement.check(Target("parallel+again", WORKLOADS["tiny"], "forward", "cpu", task="t"))
    if isinstance(record, Finding)
]
subject = from_variant(build("echo", width=8))
audited = {found.examined.id: found.verdict for found in examine(subject, only=["P1", "P99"])}
cell = {"task": "t", "workload": "tiny", "phase": "forward", "device": "cpu"}
records = [
    describe("parallel+again"),
    Measurement(**cell, variant="parallel+again", quantity="latency", unit="s", samples=(1e-3,) * 12,
                rounds=tuple(range(12))),
    Measurement(**cell, variant="parallel+again", quantity="echo_time", unit="s", value=2.0),
]
cells = tables.make(records).cells
with style.applied():
    drawn = rows.latency(cells)
one = where.Where(executor="echo")
where.check(one, "cpu")
with where.opened(one, Path("."), device="cpu", beside=1, files=()) as cluster:
    places = len(cluster.nodes())
caught = [found.verdict for found in examine(subject_of(DEFECTS["weights fivefold"]), only=["P99"])]
task = datasets.opened("echoes", None)
(compared,) = study("echo", controls=False).rows
small = type(task)(steps=2, examples=10)
recipe = Recipe(epochs=1, batch=4, learning_rate=0.01)
job = Training(row=compared.row, dataset=small, longer=None, recipe=recipe, seed=5, tunes=False, studies=("echo",))
trained = {record.details["evaluation"]: record.value for record in work(job, Path("."), "cpu", lambda _: None)
           if isinstance(record, Measurement) and record.quantity == "accuracy"}
chosen = Request(variants=("pool",), workloads=("tiny",), phases=("forward",), probes=("cost", "echo"), device="cpu")
(looking,) = (one for one in plan(understand(chosen), Speed()).tasks if "echo" in one.what.probes)
site = Site(folder=Path("."), cache=Path("."))
called = [one.value for one in map(decode, worker.work(looking, site, SimpleNamespace(value=0)))
          if isinstance(one, Measurement) and one.quantity == "calls"]
print(json.dumps({
    "a probe": [looking.what.probes == ("cost", "echo"), called == [1.0]],
    "a mechanism": [asked[-1] == "echo", "echo" in listed["mechanisms"], audited["P1"] == "holds"],
    "a transform (`+name`)": ["+again" in listed["transforms"], agreed == ["holds"],
                              cells["form"][0] == "+again", drawn is not None],
    "a property of masking": [audited["P99"] == "holds", [item.id for item in PROPERTIES][-1] == "P99",
                              caught == ["broken"]],
    "a column of the tables": [cells["echo_time_s"][0] == 2.0, cell_columns.place_table(cells)["echo"][0] == "2.00 s",
                               "echo" in [column["title"] for column in of_page.data(cells)["columns"]]],
    "an executor": ["echo" in where.EXECUTORS, places == 1],
    "a study of the ablation": [compared.row.variant == "pool"],
    "a data set of the ablation": [task.epochs == 2, set(trained) >= {"as_is", "noise_in_pads", "alone"}],
}, default=bool))
"""


def places() -> dict[str, int]:
    """What CONTRIBUTING.md says of each addition: in how many files it is made."""
    rows = re.findall(r"^\| ([^|]+) \| (\d+) \| ", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    return {what.strip(): int(count) for what, count in rows}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with every addition."""
    made = tmp_path_factory.mktemp("tree")
    for package in ("suite", "variants"):
        shutil.copytree(ROOT / package, made / package, ignore=shutil.ignore_patterns("__pycache__"))
    for edits in ADDED.values():
        for name, (after, text) in edits.items():
            path = made / name
            if after == NEW:
                assert not path.exists()
                path.write_text(f'"""Added."""\n{text}')
                continue
            before = path.read_text()
            assert before.count(after) == 1, (name, after)
            at = before.index(after) + (len(after) if after.endswith("\n") else 0)
            path.write_text(before[:at] + text + before[at:])
    return made


@pytest.mark.slow
def test_every_addition_works_at_as_many_places_as_are_told(tree: Path) -> None:
    told = places()
    assert {what: len(edits) for what, edits in ADDED.items()}.items() <= told.items()
    done = warm.run("-c", SEEN, cwd=tree)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.keys() == ADDED.keys()
    for what, found in seen.items():
        assert all(found), (what, found)
