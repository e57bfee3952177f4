"""The page of an ablation: what each part is worth, over seeds, by family, and what padding costs it."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from suite.core import folders
from suite.core.records import Record
from suite.report import ablation, attention, units
from suite.report.accuracies import WAYS, Accuracies, Interval, Trained, change, interval, points, verdict
from suite.report.html import charts, scenes
from suite.report.html.answers import Answer, screen_of
from suite.report.html.charts import Datum, Spec
from suite.report.html.document import FILE, Figure, Page, Screen, document, render

MOST_SENTENCES = 6
MOST_UNMOVED = 12
"""Rows up to which those that change nothing with any seed are drawn beside those that do."""
COLOURS = {"helps": "#0173b2", "hurts": "#d55e00", "no difference seen": "#8a8a8a", "unclear": "#8a8a8a"}
_WAY_COLOURS = ["#d55e00", "#0173b2", "#029e73", "#cc78bc", "#949494"]
_WAY_MARKS = ["circle", "square", "triangle-up", "triangle-down", "diamond"]
"""As many as there are ways to change padding or batch."""
SHAPES = {"helps": "triangle-up", "hurts": "triangle-down", "no difference seen": "square", "unclear": "circle"}
_NUMBER_COLUMNS = ("parameters", "seeds")


def write(folder: Path, records: Sequence[Record]) -> Path:
    """Write report.html into the folder of an ablation, over what was there.

    Raises:
        UserError: it cannot be written, or a picture's file leads out of the folder.
    """
    return folders.write(folder, FILE, document(page(folder, records)))


def page(folder: Path, records: Sequence[Record]) -> Page:
    """Everything that the page of an ablation shows."""
    accuracies = Accuracies(records)
    studies = [study for study in accuracies.rows if accuracies.trained(study)]
    environment = folders.environment_or_nothing(folder)
    said = [f"{name}: {value}" for name, value in environment.items() if isinstance(value, str | int | float) and value]
    screens = [screen_of(answers(accuracies, studies))]
    figures: list[Figure] = []
    seen = scenes.screen(attention.drawings(accuracies, folder))
    if seen is not None:
        screens.append(seen)
    for study in studies:
        drawn = [figure for figure in (changes(accuracies, study), losses(accuracies, study)) if figure is not None]
        figures += drawn
        screens.append(
            Screen(
                id=f"study-{study}", title=f"{study}: {accuracies.questions[study]}", short=study,
                body=_study(accuracies, study, drawn),
            )
        )  # fmt: skip
    screens.append(Screen(id="behind", title="Why believe it", body=_behind(accuracies)))
    return Page(
        title=folder.resolve().name,
        about=["an ablation, made from records.jsonl alone", *said],
        screens=screens,
        figures=figures,
    )


def answers(accuracies: Accuracies, studies: Sequence[str]) -> list[Answer]:
    """One answer a study, and whether to believe them."""
    made = []
    for study in studies:
        together = accuracies.told_together(study)
        told = [
            gain
            for gain in gains(accuracies, study)
            if (gain["row"], accuracies.rows[study][str(gain["row"])].parent) in together
        ]
        sentences = ablation.sentences(accuracies, study)
        made.append(
            Answer(
                question=accuracies.questions[study],
                short=_short(told),
                mood="good" if told else "care",
                lines=[render("line.html.jinja", line=line) for line in sentences[:MOST_SENTENCES]],
            )
        )
    if not studies:
        made.append(Answer(question="Which part earns its keep?", short="nothing was trained"))
    seeds = {
        len(accuracies.of(study, row.label))
        for study in studies
        for row in accuracies.trained(study)
        if not row.is_blindfolded
    }
    of_checks = {
        len(accuracies.of(study, row.label))
        for study in studies
        for row in accuracies.trained(study)
        if row.is_blindfolded
    }
    leaking = {
        row.label
        for study in studies
        for row in accuracies.trained(study)
        if any(interval(accuracies.cost(study, row.label, way).values()).low > 0 for way in WAYS)
    }
    made.append(
        Answer(
            question="What does a leaking mask cost?",
            short=f"{len(leaking)} {'loses' if len(leaking) == 1 else 'lose'} points"
            if leaking
            else "nobody loses points",
            mood="bad" if leaking else "good",
            lines=[
                "Padding is changed in ways that change no question: noise in it, twice as much of it, none of it. "
                "A correct mask loses nothing."
            ],
            names=[("✗", "loses points", sorted(leaking))] if leaking else [],
        )
    )
    fewest = min(seeds, default=0)
    made.append(
        Answer(
            question="Can these numbers be believed?",
            short=f"{fewest} seeds or more" if fewest else "there are none",
            mood="good" if fewest >= 5 else "care",
            lead=f"Of the checks with a blindfold, {min(of_checks)} or more."
            if min(of_checks, default=9e9) < fewest
            else "",
            lines=[
                "Intervals are t intervals of 95 % over seeds, and changes are paired: the same seed saw the same "
                "batches. Of many comparisons some leave zero out by luck: what is in the answers above holds "
                "after Holm's correction over its study, and what does not is said to stand alone."
            ],
        )
    )
    return made


def _short(told: Sequence[Datum]) -> str:
    if not told:
        return "these seeds do not tell"
    # what a part is worth is asked, and not what all of them are worth beside another mechanism
    parts = [gain for gain in told if gain["name"] == gain["row"]]
    most = max(parts or told, key=lambda gain: abs(float(gain["value"])))
    change = str(most["points"]).partition(" ")[0].replace("-", "\N{MINUS SIGN}")
    return f"{most['name']} {change} points"


def gains(accuracies: Accuracies, study: str) -> list[Datum]:
    """A datum for each row that has a parent: what sets it apart, in points, with its interval and its seeds."""
    values: list[Datum] = []
    for row in accuracies.trained(study):
        gained = change(accuracies.of(study, row.label), accuracies.of(study, row.parent))
        if not row.parent or not gained.seeds:
            continue
        values.append(_gain(row, gained, accuracies, study))
    return values


def _gain(row: Trained, gained: Interval, accuracies: Accuracies, study: str) -> Datum:
    by_family = {
        family: change(
            accuracies.of(study, row.label, family=family), accuracies.of(study, row.parent, family=family)
        )
        for family in accuracies.families
    }  # fmt: skip
    told = [
        f"{family} {points(one, sign='+')}" for family, one in by_family.items() if one.seeds and one.low * one.high > 0
    ]
    parent, own = accuracies.of(study, row.parent), accuracies.of(study, row.label)
    return {
        "name": row.label if row.is_form_of_parent else f"{row.label} beside {row.parent}",
        "row": row.label,
        "variant": row.label,
        "value": round(100 * gained.mean, 2),
        "low": _bound(gained.low),
        "high": _bound(gained.high),
        "told": verdict(gained),
        "points": points(gained, sign="+"),
        "said": f"{points(gained, sign='+')}, {verdict(gained)}",
        "families": "; ".join(told) or "none is told",
        "seeds": gained.seeds,
        "check": row.is_blindfolded,
        "by_seed": [round(100 * (own[seed] - parent[seed]), 2) for seed in own if seed in parent],
        "doubt": "",
    }


def _bound(value: float) -> float | None:
    return round(100 * value, 2) if math.isfinite(value) else None


def changes(accuracies: Accuracies, study: str) -> Figure | None:
    """What each row gains or loses beside the one that it is compared with."""
    # what a blindfold costs is no finding about a mechanism
    values = [value for value in gains(accuracies, study) if not value["check"]]
    if not values:
        return None
    drawn = [value for value in values if len(values) <= MOST_UNMOVED or any(value["by_seed"])] or values
    drawn.sort(key=lambda value: -value["value"])
    same = len(values) - len(drawn)
    left_out = f"{same} rows that change nothing with any seed are left out. " if same else ""
    return Figure(
        id=f"changes-{study}",
        title=changes_title(values),
        spec=_changes_spec(drawn),
        says=f"{left_out}Points of accuracy beside the row it is compared with: mean, 95 % interval over paired seeds, "
        "and each seed as a small mark. On hovering: the families in which a difference is told.",
    )  # fmt: skip


def changes_title(values: Sequence[Datum]) -> str:
    """How many are told to help or to hurt, and the surest of them."""
    told = [value for value in values if value["told"] in ("helps", "hurts")]
    if not told:
        return f"These seeds tell none of {len(values)} rows from what it is compared with"
    surest = max(told, key=lambda value: min(abs(value["low"]), abs(value["high"])))
    helps = sum(value["told"] == "helps" for value in told)
    of = "The row is" if len(values) == 1 else f"Of {len(values)} rows, {helps} {'is' if helps == 1 else 'are'}"
    text = f"{of} told to be better and {len(told) - helps} to be worse than what they are compared with"
    if len(values) == 1:
        text = f"{of} told to be {'better' if helps else 'worse'} than what it is compared with"
    return f"{text}; surest: {surest['name']}, {surest['points']} points"


def _changes_spec(values: Sequence[Datum]) -> Spec:
    order = [value["name"] for value in values]
    found = [word for word in COLOURS if any(value["told"] == word for value in values)]
    y = {"field": "name", "type": "nominal", "sort": order, "axis": _row_axis(order)}
    x = {"field": "value", "type": "quantitative", "axis": {"title": "change in points of accuracy", "tickCount": 8}}
    legend = {"title": None, "orient": "top", "columns": {"expr": "narrow ? 2 : 6"}}
    each = [
        {"name": value["name"], "variant": value["variant"], "seed": one}
        for value in values
        for one in value["by_seed"]
    ]
    layers: list[Spec] = [
        {
            "data": {"values": [{}]},
            "mark": {"type": "rule", "strokeDash": [3, 3], "color": charts.QUIET},
            "encoding": {"x": {"datum": 0, "type": "quantitative"}, "y": None},
        },
        {
            "data": {"values": each},
            "mark": {"type": "tick", "size": 13, "thickness": 1.5, "opacity": 0.8},
            "encoding": {"x": {"field": "seed", "type": "quantitative"}, "color": {"value": charts.QUIET}},
        },
        {
            "transform": [{"filter": "datum.low !== null"}],
            "mark": {"type": "rule", "strokeWidth": 1.8},
            "encoding": {
                "x": {"field": "low", "type": "quantitative"},
                "x2": {"field": "high"},
                "color": {"value": {"expr": "ink"}},
                "opacity": charts.fades(),
            },
        },
        charts.point(
            x=x,
            color={"field": "told", "type": "nominal", "legend": legend, "scale": _scale(found, COLOURS)},
            fill={"field": "told", "type": "nominal", "legend": legend, "scale": _scale(found, COLOURS)},
            shape={"field": "told", "type": "nominal", "legend": legend, "scale": _scale(found, SHAPES)},
            tooltip=charts.tooltip(
                {"row": "row", "said": "change", "families": "families in which a difference is told", "seeds": "seeds"}
            ),
        ),
    ]
    return charts.chart(values, *layers, height={"step": 22}, encoding={"y": y})


def _scale(found: Sequence[str], chosen: Mapping[str, str]) -> Spec:
    return {"domain": list(found), "range": [chosen[word] for word in found]}


def _row_axis(names: Sequence[str]) -> Spec:
    return charts.row_axis(names, 190, 380, small=True)


def lost(accuracies: Accuracies, study: str) -> list[Datum]:
    """What each change of padding costs each row that loses anything, in points."""
    values: list[Datum] = []
    for row in accuracies.trained(study):
        costs = {way: interval(accuracies.cost(study, row.label, way).values()) for way in accuracies.ways(study)}
        if row.is_control or not any(cost.seeds and (cost.low > 0 or cost.mean > 0.005) for cost in costs.values()):
            continue
        values += [
            {
                "name": row.label,
                "variant": row.label,
                "way": WAYS[way],
                "value": round(100 * cost.mean, 2),
                "low": _bound(cost.low),
                "high": _bound(cost.high),
                "told": cost.low > 0,
                "said": f"{points(cost)}",
                "doubt": "",
            }
            for way, cost in costs.items()
            if cost.seeds
        ]
    most = {value["name"]: 0.0 for value in values}
    for value in values:
        most[value["name"]] = max(most[value["name"]], value["value"])
    return sorted(values, key=lambda value: -most[value["name"]])


def losses(accuracies: Accuracies, study: str) -> Figure | None:
    """What padding costs, row by row; None where it costs nobody anything."""
    values = lost(accuracies, study)
    if not values:
        return None
    return Figure(
        id=f"losses-{study}",
        title=losses_title(values),
        spec=_losses_spec(values),
        says="Points lost on the same questions, where only padding or the batch changed; a correct mask loses none. "
        "Rows that lose nothing are left out.",
    )


def losses_title(values: Sequence[Datum]) -> str:
    """Who loses most, and by what."""
    told = [value for value in values if value["told"]]
    if not told:
        return "No loss to changed padding is told from none"
    most = max(told, key=lambda value: float(value["value"]))
    rows = {value["name"] for value in told}
    others = f"; {len(rows)} rows lose points" if len(rows) > 1 else ""
    return f"With {most['way']}, {most['name']} loses {most['said']} points{others}"


def _losses_spec(values: Sequence[Datum]) -> Spec:
    order = list(dict.fromkeys(value["name"] for value in values))
    ways = [title for title in WAYS.values() if any(value["way"] == title for value in values)]
    legend = {"title": None, "orient": "top", "columns": {"expr": "narrow ? 2 : 4"}}
    colour = {"field": "way", "type": "nominal", "legend": legend,
              "scale": {"domain": ways, "range": _WAY_COLOURS}}  # fmt: skip
    shape = {"field": "way", "type": "nominal", "legend": legend,
             "scale": {"domain": ways, "range": _WAY_MARKS}}  # fmt: skip
    y = {"field": "name", "type": "nominal", "sort": order, "axis": _row_axis(order)}
    offset = {"field": "way", "type": "nominal", "scale": {"domain": ways}}
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.low !== null"}],
            "mark": {"type": "rule", "strokeWidth": 1.6},
            "encoding": {
                "x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}, "yOffset": offset,
                "color": {"value": {"expr": "ink"}}, "opacity": charts.fades(),
            },
        },
        charts.point(
            x={"field": "value", "type": "quantitative", "axis": {"title": "points of accuracy lost", "tickCount": 8}},
            yOffset=offset, color=colour, fill=colour, shape=shape,
            tooltip=charts.tooltip({"name": "row", "way": "what changed", "said": "points lost"}),
        ),
    ]  # fmt: skip
    return charts.chart(values, *layers, height={"step": 14}, encoding={"y": y})


def learnt(accuracies: Accuracies, study: str) -> tuple[list[str], list[list[str]]]:
    """Of each row, how many seeds learnt each family: nearer to all right than to what the question alone allows.

    Returns:
        Column titles, and the rows as text; nothing where no ceiling was measured.
    """
    rows = accuracies.trained(study)
    found = {row.label: accuracies.learnt(study, row) for row in rows}
    families = [family for family in accuracies.families if any(family in by for by in found.values())]
    if not families:
        return [], []
    lines = [
        [f"`{label}`", *("{} of {}".format(*by[family]) if family in by else "" for family in families)]
        for label, by in found.items()
    ]
    return ["row", *families], lines


def by_family(accuracies: Accuracies, study: str) -> tuple[list[str], list[list[str]]]:
    """Of each row that has a parent, its change in each family of questions, in points; strong where it is told.

    Returns:
        Column titles, and the rows as text, those in which most is told first; nothing where there is one family or no
        such row.
    """
    lines = []
    for row in accuracies.trained(study):
        if not row.parent or row.is_blindfolded:
            continue
        changed = [
            change(accuracies.of(study, row.label, family=family), accuracies.of(study, row.parent, family=family))
            for family in accuracies.families
        ]
        if not any(one.seeds for one in changed):
            continue
        said = [points(one, sign="+") if one.seeds else units.MISSING for one in changed]
        strong = [one.seeds and one.low * one.high > 0 for one in changed]
        lines.append(
            [f"`{row.label}`", f"`{row.parent}`"]
            + [f"**{text}**" if told else text for text, told in zip(said, strong, strict=True)]
        )
    lines.sort(key=lambda line: -sum(text.startswith("**") for text in line))
    return (["row", "beside", *accuracies.families], lines) if lines and len(accuracies.families) > 1 else ([], [])


def _study(accuracies: Accuracies, study: str, drawn: Sequence[Figure]) -> Markup:
    table = ablation.study_table(accuracies, study)
    columns = list(table.columns)
    head, rows = learnt(accuracies, study)
    families, by_family_rows = by_family(accuracies, study)
    return render(
        "study.html.jinja",
        shown=MOST_SENTENCES,
        sentences=[*ablation.sentences(accuracies, study), *filter(None, [ablation.power(accuracies, study)])],
        figures=drawn,
        columns=columns,
        rows=table.to_numpy(dtype=object).tolist(),
        numbers=[columns.index(name) for name in _NUMBER_COLUMNS if name in columns],
        learnt_columns=head,
        learnt_rows=rows,
        family_columns=families,
        family_rows=by_family_rows,
    )


def _behind(accuracies: Accuracies) -> Markup:
    rates = ablation.rates_table(accuracies)
    return render(
        "behind_study.html.jinja",
        rates_columns=list(rates.columns),
        rates=rates.to_numpy(dtype=object).tolist(),
        skips=ablation.left_out(accuracies.skips),
        digests=list(accuracies.digests.items()),
    )
