"""A run outside of this program: as frames in a notebook, and as lines that a schema describes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import suite
from suite.core import store
from suite.core.records import WORST_FIRST, Measurement
from suite.core.schema import schema
from suite.report import tables

ROOT = Path(__file__).parents[3]
REFERENCES = ROOT / "results/reference"


def test_a_run_is_three_frames_in_one_line() -> None:
    folder = REFERENCES / "xeon-amx"
    cells, findings, samples = suite.load(folder)
    assert tuple(cells.columns) == tables.CELL_COLUMNS
    assert set(findings["verdict"]) <= set(WORST_FIRST)
    records = [record for record in store.read(folder) if isinstance(record, Measurement)]
    assert len(samples) == sum(len(record.samples) for record in records)
    one = next(record for record in records if record.quantity == "latency")
    same = samples[
        (samples["task"] == one.task)
        & (samples["variant"] == one.variant)
        & (samples["phase"] == one.phase)
        & (samples["quantity"] == "latency")
    ]
    assert tuple(same["value"]) == one.samples
    assert tuple(same["round"]) == one.rounds
    assert set(samples["unit"]) == {"s"}


@pytest.mark.slow
def test_frames_need_neither_torch_nor_the_variants() -> None:
    program = (
        "import sys, suite; assert 'pandas' not in sys.modules\n"
        f"suite.load({str(REFERENCES / 'xeon-amx/kernels')!r})\n"
        "assert not {'torch', 'variants'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_schema_that_is_shipped_is_that_of_the_records() -> None:
    assert json.loads((ROOT / "suite/core/records.schema.json").read_text()) == schema()


@pytest.mark.slow
def test_every_committed_line_is_as_the_schema_says() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema())
    kinds = {item["title"]: jsonschema.Draft202012Validator(item) for item in schema()["oneOf"][1:]}
    paths = sorted(REFERENCES.rglob(store.FILE))
    assert paths
    for path in paths:
        header, *lines = path.read_text().splitlines()
        validator.validate(json.loads(header))
        for line in lines[:: max(len(lines) // 200, 1)]:
            row = json.loads(line)
            kinds[row["kind"]].validate(row)
    for broken in ({"kind": "skip"}, {"format": 2}, {"kind": "artifact", "task": "t", "quantity": "q", "path": 3}):
        assert not validator.is_valid(broken)
