"""The page of a self-check: every row with its count and exact interval, and every pair with its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from suite.core import folders, stats, store
from suite.core.records import Finding
from suite.report import selfcheck, units
from suite.report.html import charts
from suite.report.html.answers import Answer, screen_of
from suite.report.html.charts import Datum, Spec
from suite.report.html.document import FILE, Figure, Page, Screen, document, render

COLOURS = {"slower": "#d55e00", "faster": "#0173b2", "same": "#5c6570", "unclear": "#8a8a8a"}


def write(folder: Path) -> Path:
    """Write report.html into the folder of a self-check, from its records alone.

    Raises:
        UserError: the folder holds no records that can be read, or it cannot be written.
    """
    return folders.write(folder, FILE, document(page(folder)))


def page(folder: Path) -> Page:
    """Everything that the page of a self-check shows."""
    records = store.read(folder)
    rows = selfcheck.latest(records)
    environment = folders.environment_or_nothing(folder)
    said = [f"{name}: {value}" for name, value in environment.items() if isinstance(value, str | int | float) and value]
    counted = counts(rows)
    pairs = [figure(name, found) for name, found in selfcheck.ratios(records).items()]
    body = render("checked.html.jinja", folds=folded(rows), counted=counted, figures=pairs)
    return Page(
        title=folder.resolve().name,
        about=["a self-check, made from records.jsonl alone", *said],
        screens=[screen_of([answer(rows)]), Screen(id="rows", title="Every row", body=body)],
        figures=[*([counted] if counted is not None else []), *pairs],
    )


def answer(rows: Sequence[Finding]) -> Answer:
    """Whether every row that was tried holds."""
    failed = [row for row in rows if row.verdict == "broken"]
    judged = sum(row.verdict in ("holds", "broken") and bool(row.details.get("limit")) for row in rows)
    untried = sum(row.verdict == "unclear" for row in rows)
    short = (
        f"{len(failed)} of {judged} rows fail"
        if failed
        else f"all {judged} rows hold"
        if judged
        else "no row was tried"
    )
    return Answer(
        question="Can this program's numbers be believed on this machine?",
        short=short,
        mood="bad" if failed else "good" if judged else "care",
        lead="Differences, faults and known answers were planted here, and counted is what was seen of them.",
        lines=[
            *(
                f"{row.details.get('check')}: {row.details.get('count')} of {row.details.get('trials')}"
                for row in failed
            ),
            *([f"{untried} rows had no trials."] if untried else []),
        ],
    )


def texts(row: Finding) -> list[str]:
    """A row as text: verdict, what, count, exact interval, limit, remark."""
    details = row.details
    trials, low, high = details.get("trials"), details.get("low"), details.get("high")
    exact = trials and isinstance(low, float) and isinstance(high, float)
    shown = row.verdict == "holds" and not details.get("limit")
    return [
        str(details.get("check", "")),
        "for show" if shown else selfcheck.GLYPHS.get(row.verdict, row.verdict),
        f"{details.get('count')} of {trials}" if trials else units.MISSING,
        f"{units.percent(low)} to {units.percent(high)}" if exact else units.MISSING,  # type: ignore[arg-type]
        str(details.get("limit") or units.MISSING),
        row.summary or units.MISSING,
    ]


class Fold(NamedTuple):
    """Rows of which the same is said."""

    names: list[str]
    said: list[str]
    """What is said of each."""

    @property
    def called(self) -> str:
        """Its only row by name, or the kind of its rows and how many there are."""
        return self.names[0] if len(self.names) == 1 else f"{kind_of(self.names[0])}: {len(self.names)} rows"


def kind_of(name: str) -> str:
    """What a row is about before its first comma: ``planted`` of ``planted, no mask: caught by P1``."""
    return name.partition(", ")[0]


def folded(rows: Sequence[Finding]) -> list[Fold]:
    """Rows of one kind, of which the same was counted, in one; what fails comes first and stands alone."""
    folds: dict[object, Fold] = {}
    for at, row in enumerate(sorted(rows, key=lambda row: row.verdict != "broken")):
        name, *said = texts(row)
        key = at if row.verdict == "broken" or ", " not in name else (kind_of(name), *said)
        folds.setdefault(key, Fold([], said)).names.append(name)
    return list(folds.values())


def counts(rows: Sequence[Finding]) -> Figure | None:
    """Every count as a share of its trials, with its exact interval; None where nothing was counted."""
    values = count_points(rows)
    if not values:
        return None
    return Figure(
        id="counts",
        title=count_title(values),
        spec=_count_spec(values),
        says="The share of trials in which it was so, and its exact 95 % interval (Clopper-Pearson). The limit stands "
        "beside the name; a row fails where the whole interval denies it. Few trials have wide intervals. Rows of one "
        "kind with the same count share a line.",
    )


def count_points(rows: Sequence[Finding]) -> list[Datum]:
    """A datum for each row that has trials, or for all of one kind that say the same; those that fail first."""
    values: list[Datum] = []
    by_name = {texts(row)[0]: row for row in rows}
    for fold in folded(rows):
        row = by_name[fold.names[0]]
        count, trials, low, high = (row.details.get(name) for name in ("count", "trials", "low", "high"))
        if not (isinstance(count, int) and isinstance(trials, int) and 0 <= count <= trials and trials > 0):
            continue
        if not (isinstance(low, float) and isinstance(high, float)):
            continue
        limit = str(row.details.get("limit") or "")
        verdict = {"holds": "holds", "broken": "fails"}.get(row.verdict, "not judged")
        values.append(
            {
                "name": f"{fold.called}{f' ({limit})' if limit else ''}",
                "rows": len(fold.names),
                "rank": len(values),
                "value": charts.rounded(count / trials),
                "low": charts.rounded(low),
                "high": charts.rounded(high),
                "said": f"{count} of {trials}{' in each' if len(fold.names) > 1 else ''}",
                "told": verdict if limit else "for show",
                "variant": "",
                "doubt": "",
            }
        )
    return values


def count_title(values: Sequence[Datum]) -> str:
    """How many fail, of those that have a limit."""
    judged = sum(value["rows"] for value in values if value["told"] in ("holds", "fails"))
    failed = [value for value in values if value["told"] == "fails"]
    if not judged:
        return f"{sum(value['rows'] for value in values)} counts, none of them with a limit"
    if failed:
        return f"{len(failed)} of {judged} counts deny their limit; the first: {failed[0]['name']}"
    return f"None of {judged} counts denies its limit"


_TOLD = {"fails": "#a63603", "holds": "#0173b2", "not judged": "#8a8a8a", "for show": "#8a8a8a"}
_SHAPES = {"fails": "cross", "holds": "circle", "not judged": "square", "for show": "diamond"}


def _count_spec(values: Sequence[Datum]) -> Spec:
    found = [word for word in _TOLD if any(value["told"] == word for value in values)]
    legend = {"title": None, "orient": "top"}
    x = {"field": "value", "type": "quantitative", "scale": {"domain": [-0.02, 1.02], "nice": False},
         "axis": {"title": "share of trials", "format": ".0%", "values": [0, 0.25, 0.5, 0.75, 1]}}  # fmt: skip
    sort = {"field": "rank", "op": "min"}
    y = {
        "field": "name",
        "type": "nominal",
        "sort": sort,
        "axis": charts.row_axis((value["name"] for value in values), 170, 560),
    }
    colour, shape = (
        {"field": "told", "type": "nominal", "legend": legend,
         "scale": {"domain": found, "range": [chosen[word] for word in found]}}
        for chosen in (_TOLD, _SHAPES)
    )  # fmt: skip
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 1.6},
            "encoding": {
                "x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"},
                "color": {"value": {"expr": "ink"}},
            },
        },
        charts.point(
            x=x, color=colour, fill=colour, shape=shape,
            tooltip=charts.tooltip({"name": "what (limit)", "said": "count", "told": "verdict"}),
        ),
        *(
            {
                "transform": [{"filter": f"datum.low + datum.high {side} 1"}],
                "mark": {"type": "text", "align": align, "dx": shift, "fontSize": 11},
                "encoding": {"x": {"field": end, "type": "quantitative"}, "text": {"field": "said"}},
            }
            for side, align, end, shift in (("<", "left", "high", 8), (">=", "right", "low", -8))
        ),
    ]  # fmt: skip
    return charts.chart(values, *layers, height={"step": 20}, encoding={"y": y})


def figure(name: str, found: Sequence[stats.Ratio]) -> Figure:
    """Each comparison of one pair, in the order of its estimate, with its interval."""
    values = points(found)
    return Figure(
        id=f"pair-{name}",
        title=title(name, values),
        spec=_spec(values),
        says="Each line is one comparison in a process of its own, with its 95 % interval; within the grey band two "
        "times count as the same.",
    )


def points(found: Sequence[stats.Ratio]) -> list[Datum]:
    """A datum for each comparison."""
    return [
        {
            "at": at,
            "value": charts.rounded(ratio.estimate),
            "low": charts.rounded(max(ratio.low, 0.5)),
            "high": charts.rounded(min(ratio.high, 2.0)),
            "told": ratio.verdict,
            "doubt": "",
            "variant": "",
        }
        for at, ratio in enumerate(sorted(found, key=lambda ratio: ratio.estimate))
    ]


def title(name: str, values: Sequence[Datum]) -> str:
    """How many are told to differ."""
    counts = {word: sum(value["told"] == word for value in values) for word in COLOURS}
    said = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{name}: {said} of {len(values)}"


def _spec(values: Sequence[Datum]) -> Spec:
    found = [word for word in COLOURS if any(value["told"] == word for value in values)]
    y = {"field": "value", "type": "quantitative", "scale": {"type": "log", "nice": False},
         "axis": {"title": "ratio of times"}}  # fmt: skip
    x = {"field": "at", "type": "quantitative", "axis": None}
    colour = {
        "field": "told",
        "type": "nominal",
        "scale": {"domain": found, "range": [COLOURS[word] for word in found]},
        "legend": {"title": None, "orient": "top"},
    }
    layers: list[Spec] = [
        {
            "data": {"values": [{"from": charts.rounded(1 / 1.02), "to": 1.02}]},
            "mark": {"type": "rect", "color": charts.QUIET, "opacity": 0.2},
            "encoding": {"y": {"field": "from", "type": "quantitative"}, "y2": {"field": "to"}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1},
            "encoding": {
                "x": x,
                "y": {"field": "low", "type": "quantitative"},
                "y2": {"field": "high"},
                "color": colour,
            },
        },
        {"mark": {"type": "point", "filled": True, "size": 14}, "encoding": {"x": x, "y": y, "color": colour}},
    ]
    return charts.chart(values, *layers, height=220)
