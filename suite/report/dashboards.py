"""What TensorBoard's own dashboards show of a run: scalars, hparams, images and text, which need no network.

Each variant is a run of its own beside its traces: its samples round by round, its options and its numbers. The plots
and the report stand in a run called ``report``. Event files are written anew each time, the same for the same records.
"""

import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS, Experiment, HParamInfo, MetricInfo, MetricName
from tensorboard.summary.writer.record_writer import RecordWriter

from suite.core import folders
from suite.core.records import Description, Measurement, Record
from suite.report import wording
from suite.report.tables import Tables
from suite.report.wording import Row, number

FOLDER = "traces"
"""Beside the profiler's traces, so that one command opens both."""
REPORT = "report"
MOST_VARIANTS = 100
MOST_POINTS = 20_000
"""Samples that are written; a larger run is for its tables."""
_IMAGE = re.compile(r"^!\[[^\]\n]*\]\([^)\n]*\)$\n*", re.MULTILINE)
"""In Markdown; its file is not where TensorBoard looks, which shows it among its images."""
_FILE = "events.out.tfevents.0.{}"
_NUMBERS = {
    "latency_s": ("latency", "median latency in seconds"),
    "peak_memory_bytes": ("peak_memory", "peak memory in bytes"),
    "agreement_error": ("error", "error relative to float64"),
}
_PNG_SIZE = slice(16, 24)
"""Where a PNG says how wide and how high it is."""


def write(
    folder: Path,
    made: Tables,
    records: Iterable[Record],
    plots: Sequence[Path],
    text: str,
    environment: Mapping[str, object],
) -> None:
    """Write event files into the traces of a run folder, over those that were there.

    Args:
        folder: of the run.
        made: its tables.
        records: its records.
        plots: pictures, as PNG.
        text: the report, as Markdown.
        environment: what the folder says of its machine; its ``started`` dates the events.

    Raises:
        UserError: one cannot be written.
    """
    at = _seconds(environment)
    _store(folder, REPORT, at, [*_pictures(plots), _said("report", _IMAGE.sub("", text))])
    series = _series(records)
    for variant, cells in list(made.cells.groupby("variant", sort=False))[:MOST_VARIANTS]:
        rows = wording.rows(cells)
        session = _session(made.described[str(variant)], rows, at)
        _store(folder, _run_of(str(variant)), at, [*session, *series.get(str(variant), ())])


def _run_of(variant: str) -> str:
    """The folder in which the traces of a variant are."""
    return variant.replace("[", ".").replace("]", "")


def _seconds(environment: Mapping[str, object]) -> float:
    try:
        return datetime.fromisoformat(str(environment.get("started"))).timestamp()
    except ValueError:
        return 0.0


Point = tuple[int, Summary.Value]


def _store(folder: Path, run: str, at: float, points: Sequence[Point]) -> None:
    folders.made(folder, f"{FOLDER}/{run}")
    path = folders.target(folder, f"{FOLDER}/{run}/{_FILE.format(REPORT)}")
    with path.open("wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=at, file_version="brain.Event:2").SerializeToString())
        for step, value in points:
            writer.write(Event(wall_time=at, step=step, summary=Summary(value=[value])).SerializeToString())


def _series(records: Iterable[Record]) -> dict[str, list[Point]]:
    """By variant, its samples in the order of their rounds, under the place where they were taken."""
    found: dict[str, list[Point]] = {}
    count = 0
    seen: set[tuple[str, str]] = set()
    for record in records:
        if (
            not isinstance(record, Measurement)
            or record.quantity != "latency"
            or not record.samples
            or not record.workload
        ):
            continue
        tag = f"samples/{record.workload} {record.phase} {record.device}"
        count += len(record.samples)
        if count > MOST_POINTS or (record.variant, tag) in seen:  # the anchor is timed in every comparison
            continue
        seen.add((record.variant, tag))
        rounds = record.rounds or range(len(record.samples))
        found.setdefault(record.variant, []).extend(
            (at, Summary.Value(tag=tag, simple_value=sample)) for at, sample in zip(rounds, record.samples, strict=True)
        )
    return found


def _session(described: Description, rows: Sequence[Row], at: float) -> Iterator[Point]:
    """The variant with its options, and every number of it, for the table of hparams."""
    options = _options(described)
    tags = {}
    for row in rows:
        for name, (tag, said) in _NUMBERS.items():
            value = number(row, name)
            if value is not None and not (name == "latency_s" and row["hidden"]):
                tags[f"{tag}/{row['workload']} {row['phase']} {row['device']}"] = (value, said)
    infos = [HParamInfo(name=name, type="DATA_TYPE_STRING") for name in options]
    metrics = [
        MetricInfo(name=MetricName(tag=tag), display_name=tag, description=said) for tag, (_, said) in tags.items()
    ]
    experiment = Experiment(hparam_infos=infos, metric_infos=metrics, time_created_secs=at)
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=at)
    for name, option in options.items():
        start.hparams[name].string_value = option
    end = plugin_data_pb2.SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=at)
    for tag, data in (
        ("experiment", plugin_data_pb2.HParamsPluginData(experiment=experiment)),
        ("session_start_info", plugin_data_pb2.HParamsPluginData(session_start_info=start)),
        ("session_end_info", plugin_data_pb2.HParamsPluginData(session_end_info=end)),
    ):
        about = SummaryMetadata(
            plugin_data=SummaryMetadata.PluginData(plugin_name="hparams", content=data.SerializeToString())
        )
        yield 0, Summary.Value(tag=f"_hparams_/{tag}", metadata=about)
    for tag, (value, _) in tags.items():
        yield 0, Summary.Value(tag=tag, simple_value=value)


def _options(described: Description) -> dict[str, str]:
    """What a variant's name says of it, part by part."""
    transforms = "+".join(described.transforms.values()) or "none"
    made = {"variant": described.variant, "mechanism": described.mechanism, "transforms": transforms}
    return made | dict(described.options)


def _pictures(plots: Sequence[Path]) -> Iterator[Point]:
    for path in plots:
        picture = path.read_bytes()
        width, height = struct.unpack(">II", picture[_PNG_SIZE])
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=picture)
        yield 0, Summary.Value(tag=path.stem, image=image)


def _said(tag: str, text: str) -> Point:
    about = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    return 0, Summary.Value(
        tag=f"{tag}/text_summary",
        metadata=about,
        tensor=TensorProto(dtype=DT_STRING, string_val=[text.encode()], tensor_shape=shape),
    )
