"""TensorBoard's own dashboards find figures of every variant, the plots and the report; read back by TensorBoard."""

from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from suite.core.records import Measurement
from suite.report import dashboards, tables
from tests import board, browser
from tests.suite.report import synthetic

TEXT = "# The answer\n\n![a plot](plots/plot.png)\n\nThat is all."


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    Image.new("RGB", (3, 2)).save(folder / "plot.png")
    write(folder)
    return folder / "traces"


def write(folder: Path, *mechanisms: str) -> None:
    of = {name + transform for name in mechanisms for transform in synthetic.TRANSFORMS}
    records = [record for record in synthetic.records() if not of or record.variant in {"", *of}]
    environment = {"started": "2026-11-29T04:00:00+00:00"}
    dashboards.write(folder, tables.make(records), records, [folder / "plot.png"], TEXT, environment)


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
    assert found.Tensors("report/text_summary")[0].tensor_proto.string_val == [b"# The answer\n\nThat is all."]


EVERYTHING = """
    const said = [], pictures = [];
    const walk = (node) => {
      if (node.nodeType === 3) said.push(node.textContent);
      if (node.tagName === "IMG") pictures.push(`picture ${node.naturalWidth} wide`);
      if (node.shadowRoot) walk(node.shadowRoot);
      if (!["STYLE", "SCRIPT", "TEMPLATE"].includes(node.tagName)) node.childNodes.forEach(walk);
    };
    walk(document.body);
    return [...said, ...pictures].join(" ").includes(arguments[0]);
"""
"""Whether a text is on the page, or a picture, in whatever its parts hide them."""


@pytest.mark.slow
def test_a_browser_without_a_network_finds_figures_in_every_dashboard(tmp_path: Path) -> None:
    cells = tables.make(synthetic.records()).cells.set_index(["variant", "phase"])
    latency = f"{cells.loc[('parallel', 'forward'), 'latency_s']:#.5g}"
    Image.new("RGB", (3, 2)).save(tmp_path / "plot.png")
    write(tmp_path, "parallel", "hierarchical[inner=alternating]")  # of more than forty runs it shows none unasked
    with board.served(tmp_path / "traces") as address, browser.opened(tmp_path) as window:
        window.resize(1280)
        for dashboard, found in {
            "timeseries": ["parallel+bf16", "/vqa-grid[batch=8] forward cpu"],
            "hparams": ["hierarchical[inner=alternating]+bf16", latency],
            "images": ["picture 3 wide"],
            "text": ["That is all."],
        }.items():
            window.open("about:blank")
            window.open(f"{address}#{dashboard}")
            for text in found:
                window.until(EVERYTHING, text)
        asked = window.requests()
    assert asked
    assert [url for url in asked if not url.startswith((address, "about:"))] == []


def test_the_same_records_give_the_same_files(traces: Path) -> None:
    before = {path: path.read_bytes() for path in traces.rglob("events*")}
    write(traces.parent)
    assert {path: path.read_bytes() for path in traces.rglob("events*")} == before
