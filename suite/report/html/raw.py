"""Raw samples, by round, as the page holds and draws them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from suite.core.records import Measurement, Record
from suite.report.html import charts

MOST_SAMPLES = 60_000
"""Raw samples that a page holds; of a larger run they are in its records alone."""


def samples(records: Iterable[Record]) -> dict[str, list[dict[str, Any]]]:
    """By variant, the raw samples of each task that timed it, and the round of each; nothing where they are many."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    count = 0
    for record in records:
        if isinstance(record, Measurement) and record.quantity == "latency" and record.samples and record.workload:
            count += len(record.samples)
            if count > MOST_SAMPLES:
                return {}
            found[record.variant].append(
                {
                    "task": record.task,
                    "place": f"{record.workload} · {record.device}",
                    "phase": record.phase,
                    "rounds": list(record.rounds or range(len(record.samples))),
                    "samples": _thin(record.samples),
                }
            )
    return dict(found)


def _thin(numbers: Sequence[float]) -> list[float]:
    return [float(f"{number:.4g}") for number in numbers]


def chart() -> charts.Spec:
    """How the samples of one variant are drawn, by round and task; the page puts in its values."""
    return {
        "$schema": charts.SCHEMA,
        "width": "container",
        "height": 180,
        "data": {"values": []},
        "mark": {"type": "point", "filled": True, "size": 28, "opacity": 0.8},
        "encoding": {
            "x": {"field": "round", "type": "quantitative", "axis": {"title": "round", "tickMinStep": 1}},
            "y": {
                "field": "value",
                "type": "quantitative",
                "scale": {"zero": False},
                "axis": {"title": "latency", "labelExpr": charts.SECONDS},
            },
            "color": {
                "field": "task",
                "type": "nominal",
                "legend": {"orient": "bottom", "columns": 1, "title": None, "labelLimit": 600},
            },
            "tooltip": charts.tooltip({"task": "task", "round": "round"}),
        },
    }
