"""The page of an ablation draws what changes anything, the largest gain first, and no check as if it were a finding."""

import re
from dataclasses import replace

from suite.core.records import Measurement, Record
from suite.report.accuracies import Accuracies
from suite.report.html import document, study

SEEDS = (0.50, 0.52, 0.51, 0.53, 0.50)


def row(name: str, parent: str, shift: float, *, sight: str = "both", seeds: int = 5) -> list[Record]:
    details = {
        "study": "core",
        "question": "What?",
        "data": "d",
        "row": name,
        "sight": sight,
        "parent": parent,
        "width": 32,
    }
    found: list[Record] = [
        Measurement(task=name, variant=name, quantity="parameters", unit="1", value=10.0, details=details)
    ]
    return found + [
        Measurement(
            task=name, variant=name, quantity="accuracy", unit="1", value=value + shift,
            details=details | {"seed": seed, "family": "all", "evaluation": "as_is"},
        )
        for seed, value in enumerate(SEEDS[:seeds])
    ]  # fmt: skip


def test_rows_stand_with_the_largest_gain_first_and_the_title_counts_each() -> None:
    made = row("base", "", 0) + row("worse", "base", -0.1) + row("better", "base", 0.2)
    made += row("blind", "base", -0.3, sight="question", seeds=4)
    figure = study.changes(Accuracies(made), "core")
    assert figure is not None
    data = figure.spec["data"]
    assert isinstance(data, dict)
    assert [value["row"] for value in data["values"]] == ["better", "worse"], "a blindfold's cost is no finding"
    assert figure.title.startswith("Of 2 rows, 1 is told to be better and 1 to be worse than what they are")


def test_of_many_rows_those_that_change_nothing_are_counted_and_not_drawn() -> None:
    made = row("base", "", 0) + row("worse", "base", -0.1)
    for at in range(study.MOST_UNMOVED):
        made += row(f"same {at}", "base", 0.0)
    figure = study.changes(Accuracies(made), "core")
    assert figure is not None
    data = figure.spec["data"]
    assert isinstance(data, dict)
    assert [value["row"] for value in data["values"]] == ["worse"]
    assert figure.says.startswith(f"{study.MOST_UNMOVED} rows that change nothing with any seed are left out")
    assert figure.title.startswith(f"Of {study.MOST_UNMOVED + 1} rows, 0 are told to be better and 1 to be worse")


def test_fewer_seeds_behind_a_check_are_said_beside_those_behind_the_mechanisms() -> None:
    made = row("base", "", 0) + row("better", "base", 0.2) + row("blind", "base", -0.3, sight="question", seeds=4)
    answer = study.answers(Accuracies(made), ["core"])[-1]
    assert answer.short == "5 seeds or more"
    assert answer.lead == "Of the checks with a blindfold, 4 or more."


def test_a_long_table_shows_its_first_rows_and_the_others_behind_their_number() -> None:
    rows = [[f"row {at}", "1 of 2"] for at in range(15)]
    shown = document.render(
        "study.html.jinja", shown=6, sentences=[], figures=[], columns=["row"], rows=[], numbers=[],
        learnt_columns=["row", "pair"], learnt_rows=rows, family_columns=[], family_rows=[],
    )  # fmt: skip
    before, _, after = shown.partition("and 3 more rows")
    assert all(f">row {at}<" in (before if at < 12 else after) for at in range(15))


def test_families_in_which_most_is_told_come_first() -> None:
    def of_families(name: str, parent: str, *shifts: float) -> list[Record]:
        made = row(name, parent, 0)
        return made + [
            replace(one, value=(one.value or 0) + shift, details={**one.details, "family": family})
            for one in made
            if isinstance(one, Measurement) and one.quantity == "accuracy"
            for family, shift in zip(("pair", "count"), shifts, strict=True)
        ]

    made = of_families("base", "", 0, 0) + of_families("alike", "base", 0, 0)
    made += of_families("told", "base", 0.2, 0.3) + of_families("once", "base", 0, 0.3)
    _, rows = study.by_family(Accuracies(made), "core")
    assert [line[0] for line in rows] == ["`told`", "`once`", "`alike`"]


def test_the_short_answer_is_what_a_part_is_worth_in_the_digits_of_its_sentence() -> None:
    made = row("pool", "", 0) + row("base", "pool", 0.2825)
    (answer, *_) = study.answers(Accuracies(made), ["core"])
    (said,) = (line for line in map(str, answer.lines) if "28." in line)
    assert answer.short == f"base beside pool +{re.findall(r'28[.][0-9]', said)[0]} points"
    made += row("base-part", "base", 0.1825)
    (answer, *_) = study.answers(Accuracies(made), ["core"])
    assert answer.short == "base-part \N{MINUS SIGN}10.0 points"
