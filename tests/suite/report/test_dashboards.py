"""TensorBoard's own dashboards find figures of every variant, the plots and the report; read back by TensorBoard."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from suite.core.records import Measurement
from suite.report import dashboards, tables
from tests.suite.report import synthetic

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02"


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "plot.png").write_bytes(PNG)
    write(folder)
    return folder / "traces"


def write(folder: Path) -> None:
    records = list(synthetic.records())
    environment = {"started": "2026-11-29T04:00:00+00:00"}
    dashboards.write(folder, tables.make(records), records, [folder / "plot.png"], "# The answer", environment)


def read(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run), size_guidance={"tensors": 0, "scalars": 0, "images": 0})
    found.Reload()
    return found


def test_every_variant_has_its_numbers_and_its_samples_by_round(traces: Path) -> None:
    found = read(traces / "parallel+bf16")
    place = "vqa-grid[batch=8] forward cpu"
    assert {f"latency/{place}", f"peak_memory/{place}", f"error/{place}", f"samples/{place}"} <= set(
        found.scalars.Keys()
    )
    samples = found.Scalars(f"samples/{place}")
    (record,) = (
        one
        for one in synthetic.records()
        if isinstance(one, Measurement)
        and (one.quantity, one.variant, one.phase) == ("latency", "parallel+bf16", "forward")
    )
    assert [one.step for one in samples] == list(record.rounds)
    assert [one.value for one in samples] == pytest.approx(record.samples)


def test_the_table_of_hparams_has_the_options_of_a_variant(traces: Path) -> None:
    found = read(traces / "hierarchical.inner=alternating+bf16")
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    options = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: value.string_value for name, value in options.items()} == {
        "variant": "hierarchical[inner=alternating]+bf16",
        "mechanism": "hierarchical",
        "transforms": "bf16",
        "inner": "alternating",
    }


def test_a_hidden_speed_is_hidden_here_too(traces: Path) -> None:
    tags = read(traces / "dense+compile").scalars.Keys()
    assert not [tag for tag in tags if tag.startswith("latency/")]


def test_plots_and_report_stand_in_a_run_of_their_own(traces: Path) -> None:
    found = read(traces / "report")
    (picture,) = found.Images("plot")
    assert (picture.width, picture.height) == (3, 2)
    assert found.Tensors("report/text_summary")[0].tensor_proto.string_val == [b"# The answer"]


def test_the_same_records_give_the_same_files(traces: Path) -> None:
    before = {path: path.read_bytes() for path in traces.rglob("events*")}
    write(traces.parent)
    assert {path: path.read_bytes() for path in traces.rglob("events*")} == before
