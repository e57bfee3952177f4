"""How long each variant takes, and how many times as fast it is: a row per variant, with its interval."""

import math
from collections.abc import Sequence

import pandas as pd

from suite.report import standing, style, units, wording
from suite.report.html import charts
from suite.report.html.cells import place_of
from suite.report.html.charts import Datum, Spec
from suite.report.html.document import Figure
from suite.report.wording import Row, number

BANDS = {**style.BLOCKS, "control": "what people use instead"}
_ROW_PX = 19
SAYS = {
    "latency": "Median, and its 95 % interval as a line; hollow: doubted. Sorted within each band. A click chooses a "
    "variant.",
    "speed-up": "Times as fast as `parallel` in eager float32, from rounds in which both were timed, with the 95 % "
    "interval; hollow: doubted.",
}
_HOVER = {
    "variant": "variant", "latency": "latency (95 %)", "gain": "over parallel", "own": "over its eager float32",
    "rounds": "samples", "error": "error", "masking": "masking", "why": "doubt",
}  # fmt: skip


def figures(cells: pd.DataFrame) -> list[Figure]:
    """Latency and speed-up of one workload, phase and device."""
    rows = wording.rows(cells)
    place, phase = place_of(rows[0]), str(rows[0]["phase"])
    made = []
    for measure in SAYS:
        values = points(rows, measure)
        drawn = [value for value in values if value.get("value") is not None]
        title = f"Latency, {phase}: {standing.fastest(cells)}"
        if measure != "latency":
            title = f"Speed-up over parallel, {phase}: {gains(drawn)}"
        made.append(
            Figure(
                id=f"{measure}-{place}-{phase}",
                title=f"{title} ({place})",
                spec=spec(values, measure),
                says=SAYS[measure],
                when={"place": place, "phase": phase, "measure": measure},
                drawn=bool(drawn),
            )
        )
    return made


def gains(drawn: Sequence[Datum]) -> str:
    """How many are told faster and slower, and the largest of those that carry no doubt."""
    others = [value for value in drawn if value["told"]]
    faster = [value for value in others if value["told"] == "faster" and not value["doubt"]]
    slower = [value for value in others if value["told"] == "slower" and not value["doubt"]]
    text = f"{len(faster)} of {len(others)} are told faster, {len(slower)} slower"
    if faster:
        best = max(faster, key=lambda value: float(value["value"]))
        text += f"; the most by {best['variant']}, {best['gain']}"
    return text


def points(rows: Sequence[Row], measure: str) -> list[Datum]:
    """A datum per variant, in the order of the chart, and one above each band; without a number where none is shown."""
    values: list[Datum] = []
    for role, band in BANDS.items():
        own = [row for row in rows if row["role"] == role]
        own.sort(key=lambda row: (_number(row, measure, "") is None, _order(row, measure), str(row["variant"])))
        if own and len(own) < len(rows):
            values.append({"name": band, "band": True, "rank": len(values), "variant": "", "doubt": ""})
        for row in own:
            values.append(_point(row, measure, rank=len(values)))
    return values


def _order(row: Row, measure: str) -> float:
    value = _number(row, measure, "") or 0.0
    return value if measure == "latency" else -value


def _number(row: Row, measure: str, end: str) -> float | None:
    if row["hidden"]:
        return None
    if measure == "latency":
        return number(row, f"latency{end}_s")
    return number(row, f"over_anchor{end}")


def _point(row: Row, measure: str, *, rank: int) -> Datum:
    name = str(row["variant"])
    value, low, high = (charts.rounded(_number(row, measure, end)) for end in ("", "_low", "_high"))
    # from the number itself: one that is rounded twice may differ from the table's in its last digit
    whole = _number(row, measure, "")
    said = units.seconds(whole) if measure == "latency" else units.factor(whole)
    verdict = str(row["over_anchor_verdict"])
    return {
        "name": name,
        "variant": name,
        "rank": rank,
        "precision": str(row["precision"]),
        "execution": str(row["execution"]),
        "value": value,
        "low": low if low is not None else value,
        "high": high if high is not None else value,
        "said": said if measure == "latency" or verdict in ("faster", "slower", "") else f"{said} {verdict}",
        "told": verdict if measure != "latency" else "",
        "latency": wording.latency(row),
        "gain": wording.speedup(row, "over_anchor"),
        "own": wording.speedup(row),
        "rounds": units.count(number(row, "samples")),
        "error": units.error(number(row, "agreement_error")),
        "masking": str(row["masking"]) or units.MISSING,
        "doubt": "; ".join(wording.trust(row)),
        "why": wording.reasons(wording.trust(row)) or "none",
        "excuse": "" if value is not None else _excuse(row, measure),
    }


def _excuse(row: Row, measure: str) -> str:
    if measure != "latency" and not row["hidden"] and number(row, "latency_s") is not None:
        return "the anchor itself" if row["variant"] == "parallel" else "not timed beside parallel"
    return wording.short(wording.latency(row), 60)


def spec(values: Sequence[Datum], measure: str) -> Spec:
    """The chart of `points`."""
    drawn = [value for value in values if value.get("value") is not None]
    ends = charts.ends(value[end] for value in drawn for end in ("low", "high"))
    label = charts.SECONDS if measure == "latency" else charts.TIMES
    title = "median latency of a call" if measure == "latency" else "times as fast as parallel"
    x = charts.logarithmic("value", title, label, ends)
    y = {
        "field": "name",
        "type": "nominal",
        "sort": {"field": "rank", "op": "min"},
        "axis": charts.row_axis((value["name"] for value in values), 150, 320) | {
            "labelFontStyle": {"condition": {"test": _is_band(values), "value": "italic"}, "value": "normal"},
            "labelColor": {"condition": {"test": _is_band(values), "value": charts.QUIET}, "expr": "ink"},
        },
    }  # fmt: skip
    shown = {"filter": "datum.band || precision === 'all' || datum.precision === precision"}
    timed = [shown, {"filter": "datum.value !== null && !datum.band"}]
    interval: Spec = {
        "transform": timed,
        "mark": {"type": "rule", "strokeWidth": 1.6},
        "encoding": {
            "x": {"field": "low", "type": "quantitative"},
            "x2": {"field": "high"},
            "opacity": charts.fades(),
            "color": {"value": {"expr": "ink"}},
        },
    }
    point = charts.point(
        x=x,
        color=charts.coloured(value["precision"] for value in drawn),
        fill=charts.coloured(value["precision"] for value in drawn),
        shape=charts.shaped(value["execution"] for value in drawn),
        tooltip=charts.tooltip(_HOVER),
    ) | {"transform": timed}
    middle = math.sqrt(ends[0] * ends[1])
    beside = [
        {
            "transform": [*timed, {"filter": f"datum.value {side} {middle:.4g}"}],
            "mark": {"type": "text", "align": align, "dx": shift, "fontSize": 11},
            "encoding": {
                "x": {"field": end, "type": "quantitative"},
                "text": {"field": "said"},
                "opacity": charts.fades(),
            },
        }
        for side, align, end, shift in (("<", "left", "high", 9), (">=", "right", "low", -9))
    ]
    excuse: Spec = {
        "transform": [shown, {"filter": "datum.value === null && !datum.band"}],
        "mark": {"type": "text", "align": "left", "fontStyle": "italic", "fontSize": 11, "limit": {"expr": "width"}},
        "encoding": {"x": {"value": 4}, "text": {"field": "excuse"}, "color": {"value": charts.QUIET}},
    }
    line = [] if measure == "latency" else [_at_one()]
    band: Spec = {
        "transform": [{"filter": "datum.band"}],
        "mark": {"type": "rule", "opacity": 0.5, "color": charts.QUIET, "strokeDash": [2, 3]},
        "encoding": {},
    }
    return charts.chart(
        values, band, *line, point, interval, *beside, excuse, height={"step": _ROW_PX}, encoding={"y": y}
    )  # fmt: skip


def _at_one() -> Spec:
    return {
        "transform": [{"filter": "datum.rank === 0"}],
        "mark": {"type": "rule", "strokeDash": [3, 3], "color": charts.QUIET},
        "encoding": {"x": {"datum": 1, "type": "quantitative"}, "y": None},
    }


def _is_band(values: Sequence[Datum]) -> str:
    names = [value["name"] for value in values if value.get("band")]
    return " || ".join(f"datum.value === {name!r}" for name in names) or "false"
