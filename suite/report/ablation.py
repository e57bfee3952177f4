"""The page of an ablation: accuracies with intervals over seeds, what each part is worth, and what leaks cost."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

import pandas as pd
from rich.console import RenderableType

from suite.core import folders, trained
from suite.core.records import Measurement, Record, Skip
from suite.report import escape, units, wording
from suite.report.accuracies import (
    FEW_ROWS,
    MARGIN,
    POWER,
    WAYS,
    Accuracies,
    Interval,
    between,
    change,
    detectable,
    interval,
    points,
    verdict,
)
from suite.report.columns import Column, Columns, indented, literal

CEILINGS = {
    "oracle": "*oracle*",
    "question only": "*best possible from the question alone*",
    "image only": "*upper bound from the image alone*",
}

_ALONE = ", alone"
"""After a verdict that does not hold together with the others of its study."""
_SHOWN = ("row", "seeds", "accuracy", "change", "verdict")


def is_ablation(records: Iterable[Record]) -> bool:
    """Whether these are the records of an ablation."""
    return any(isinstance(record, Measurement) and record.quantity == "parameters" for record in records)


def table(accuracies: Accuracies) -> pd.DataFrame:
    """One line per study, row, family and evaluation, in base units."""
    lines = []
    for study, rows in accuracies.rows.items():
        for row in rows.values():
            for family in ("all", *accuracies.families):
                for evaluation in ("as_is", *WAYS, "as_is_of_alone", "longer"):
                    found = accuracies.of(study, row.label, family=family, evaluation=evaluation)
                    if not found:
                        continue
                    here = interval(found.values())
                    parent = accuracies.of(study, row.parent, family=family, evaluation=evaluation)
                    gained = change(found, parent)
                    lines.append(
                        {
                            "study": study,
                            "row": row.label,
                            "variant": row.variant,
                            "parent": row.parent,
                            "parameters": row.parameters,
                            "family": family,
                            "evaluation": evaluation,
                            "seeds": here.seeds,
                            "accuracy": here.mean,
                            "low": here.low,
                            "high": here.high,
                            "change": gained.mean,
                            "change_low": gained.low,
                            "change_high": gained.high,
                            "verdict": verdict(gained) if parent else "",
                        }
                    )
    return pd.DataFrame(lines)


def study_table(accuracies: Accuracies, study: str) -> pd.DataFrame:
    """The table of a study as text: accuracies, the change from the parent, and what changed padding costs."""
    lines = []
    longer = any(accuracies.of(study, row.label, evaluation="longer") for row in accuracies.trained(study))
    together = accuracies.told_together(study)
    for row in accuracies.trained(study):
        gained = change(accuracies.of(study, row.label), accuracies.of(study, row.parent))
        line = {
            "row": f"`{row.label}`",
            "parameters": units.count(row.parameters),
            "seeds": str(len(accuracies.of(study, row.label))),
            "accuracy": points(interval(accuracies.of(study, row.label).values())),
            **{
                family: points(interval(accuracies.of(study, row.label, family=family).values()), digits=0)
                for family in accuracies.families
            },
            "compared with": f"`{row.parent}`" if row.parent else "",
            "change": points(gained, sign="+") if row.parent and gained.seeds else "",
            "verdict": _said_of(gained, row.is_blindfolded or (row.label, row.parent) in together)
            if row.parent and gained.seeds
            else "",
        }
        if longer:
            line["on longer sets"] = points(interval(accuracies.of(study, row.label, evaluation="longer").values()))
            line["change on longer sets"] = points(accuracies.change_on_longer(study, row.label), sign="+")
        if not row.is_control:
            line |= {
                f"lost: {title}": points(interval(accuracies.cost(study, row.label, way).values()))
                for way, title in accuracies.ways(study).items()
            }
        lines.append(line)
    data = next((row.data for row in accuracies.rows[study].values()), "")
    learnt_from = {row.data for rows in accuracies.rows.values() for row in rows.values()}
    long_data = next((name for name, _ in accuracies.ceilings if name not in learnt_from), "")
    for what, title in CEILINGS.items():
        ceiling = accuracies.ceilings.get((data, what))
        if not ceiling:
            continue
        line = {"row": title, "accuracy": _share(ceiling, "all")}
        line |= {family: _share(ceiling, family, digits=0) for family in accuracies.families}
        if longer:
            line["on longer sets"] = _share(accuracies.ceilings.get((long_data, what), {}), "all")
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


def _share(by_family: Mapping[str, float], family: str, *, digits: int = 1) -> str:
    return f"{100 * by_family[family]:.{digits}f}" if family in by_family else ""


def _said_of(gained: Interval, holds: bool) -> str:
    """The verdict of a change, and whether it is one by itself alone."""
    found = verdict(gained)
    return f"{found}{_ALONE}" if found in ("helps", "hurts") and not holds else found


def power(accuracies: Accuracies, study: str) -> str:
    """How large a change has to be for these seeds to tell it, in a sentence; empty where nothing is compared."""
    sizes = sorted(
        100 * detectable(gained) for gained in accuracies.changes(study).values() if gained.low < gained.high
    )
    if not sizes:
        return ""
    about = f"{median(sizes):.1f} points"
    if len(sizes) > 1:
        about += f" in the median of {len(sizes)} comparisons, from {sizes[0]:.1f} to {sizes[-1]:.1f}"
    return f"A change that is told in {100 * POWER:g} of 100 studies of this size: {about}."


def sentences(accuracies: Accuracies, study: str) -> list[str]:
    """What the study found, one sentence a comparison, and what it could not tell."""
    together, count = accuracies.told_together(study), len(accuracies.comparisons(study))
    said: list[str] = []
    open_: list[str] = []
    alike: dict[str, list[str]] = defaultdict(list)
    rows = [row for row in accuracies.trained(study) if not row.is_blindfolded]
    for place, row in enumerate(rows):
        if row.is_control:
            continue
        others = [other.label for other in rows[:place]] if len(rows) <= FEW_ROWS else []
        for parent in dict.fromkeys((*filter(None, [row.parent]), *others)):
            gained = change(accuracies.of(study, row.label), accuracies.of(study, parent))
            found = verdict(gained)
            if found in ("helps", "hurts"):
                word = "above" if found == "helps" else "below"
                size = f"{100 * abs(gained.mean):.1f} points {word} `{parent}` {between(gained)}"
                alone = count > 1 and (row.label, parent) not in together
                note = f"; by itself alone, not after Holm's correction over {count} comparisons" if alone else ""
                said.append(f"`{row.label}` ends {size}, over {gained.seeds} seeds{note}.")
            elif gained.seeds > 1 and gained.low == gained.high == 0:
                alike[parent].append(f"`{row.label}`")
            elif gained.seeds:
                open_.append(f"`{row.label}` and `{parent}` ({found}: {points(gained, sign='+')})")
        ways = accuracies.ways(study)
        costs = {title: interval(accuracies.cost(study, row.label, way).values()) for way, title in ways.items()}
        lost = [f"{title} {points(cost)}" for title, cost in costs.items() if cost.low > 0]
        if lost:
            said.append(f"`{row.label}` loses points: {', '.join(lost)}.")
        moved = accuracies.change_on_longer(study, row.label)
        if moved.seeds:
            longer, parents = (accuracies.of(study, name, evaluation="longer") for name in (row.label, row.parent))
            gained = change(longer, parents)
            beside = f", where it stands {points(gained, sign='+')} beside `{row.parent}` ({verdict(gained)})"
            size = f"{points(moved, sign='+')} points on longer sets"
            said.append(f"`{row.label}` changes by {size}{beside if gained.seeds else ''}.")
    for parent, labels in alike.items():
        said.append(f"As accurate as `{parent}` with every seed: {', '.join(labels)}.")
    parted = [
        f"`{row.label}` ({', '.join(f'*{name}* {learnt[name][0]} of {learnt[name][1]}' for name in names)})"
        for row in rows
        if (names := accuracies.of_two_kinds(study, row)) and (learnt := accuracies.learnt(study, row))
    ]
    if parted:
        said.append(
            f"Some seeds learnt a family and others did not, so that a mean is of two kinds: {', '.join(parted)}."
        )
    if open_:
        said.append("These seeds cannot tell apart: " + "; ".join(open_) + ".")
    return said


def rates_table(accuracies: Accuracies) -> pd.DataFrame:
    """Every learning rate that was tried, and what it gave in the mean of its seeds; in bold what was used."""
    by_row: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for tried_out, accuracy in accuracies.tuning:
        by_row[tried_out.data, tried_out.row][tried_out.learning_rate].append(accuracy)
    rates = sorted({rate for tried in by_row.values() for rate in tried})
    lines = []
    for (data, row), tried in by_row.items():
        used = accuracies.used_rates.get((data, row)) or {trained.best_rate(tried)}
        cells = {}
        for rate, found in tried.items():
            value = f"{100 * sum(found) / len(found):.1f}"
            cells[f"{rate:g}"] = (f"**{value}**" if rate in used else value) + (f" ({len(found)})" * (len(found) > 1))
        lines.append({"data": data, "row": f"`{row}`"} | cells)
    return pd.DataFrame(lines, columns=["data", "row", *(f"{rate:g}" for rate in rates)]).fillna("")


def write(folder: Path, records: Sequence[Record]) -> Path:
    """Write REPORT.md, tables/ablation.csv and plots/*.png into the folder of an ablation."""
    from suite.report import ablation_plots

    accuracies = Accuracies(records)
    folders.made(folder, "tables")
    escape.spreadsheet(table(accuracies)).to_csv(folders.target(folder, "tables/ablation.csv"), index=False)
    plots = ablation_plots.write(accuracies, folder)
    return folders.write(folder, "REPORT.md", _page(accuracies, plots, title=escape.name(folder.resolve().name)))


def _page(accuracies: Accuracies, plots: Mapping[str, Sequence[str]], *, title: str) -> str:
    lines = [
        f"# {title}",
        "",
        "Accuracies are means over seeds in percent, with 95 % t intervals in brackets; a change is paired, since the "
        "same seed means the same batches. *Helps* and *hurts*: the interval leaves zero out; *alone*: not after "
        "Holm's correction over all comparisons of the study. *No difference seen*: the interval "
        f"lies within {100 * MARGIN:g} point of zero. *Unclear*: neither. What padding costs is taken on the same "
        "questions, with nothing changed that a correct mask could see: it loses none.",
        "",
    ]
    for study in accuracies.rows:
        if not accuracies.trained(study):
            continue
        lines += [f"## {study}: {accuracies.questions[study]}", ""]
        lines += [f"- {sentence}" for sentence in sentences(accuracies, study)]
        lines += [f"- {line}" for line in filter(None, [power(accuracies, study)])]
        lines += ["", *(f"![{study}]({path})\n" for path in plots.get(study, ()))]
        lines += [wording.markdown(study_table(accuracies, study)), ""]
    if plots.get("attention"):
        lines += ["## Attention", ""]
        lines += [
            "A disc is as large as the weight of its region, which stands beside it in percent; the bar below is what "
            "padding has, and all of it adds up to 100. A word is as dark as its own weight, darkest from a half.",
            "",
            *(f"![attention]({path})\n" for path in plots["attention"]),
        ]
    rates = rates_table(accuracies)
    if not rates.empty:
        lines += ["## Learning rates that were tried", ""]
        lines += [
            "Accuracy on the validation set after a short training, or the mean of as many as stand in brackets. In "
            "bold: what was used. Where that is more than one, leaving out one of the trainings decided between them.",
            "",
        ]
        lines += [wording.markdown(rates), ""]
    left = _skips(accuracies.skips)
    if not left.empty:
        lines += ["## Not trained, tested or drawn", "", wording.markdown(left), ""]
    if accuracies.digests:
        lines += ["## Tested on", ""]
        lines += [
            f"- {escape.prose(data)}: SHA-256 {escape.code(digest)}" for data, digest in accuracies.digests.items()
        ]
    return "\n".join(lines) + "\n"


def left_out(skips: Iterable[Skip], name: Callable[[str], str] = str) -> list[tuple[str, str, str]]:
    """The rows that were left out for one reason, that reason, and the command that trains them.

    Some seeds of a row may have been trained, so which one was not, or how many, stands behind its name.

    Args:
        skips: of an ablation.
        name: how a row's name is written.
    """
    grouped: dict[tuple[str, str], dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for skip in skips:
        seeds = grouped[skip.reason, skip.remedy][name(str(skip.details.get("row", skip.variant)))]
        seed = skip.details.get("seed")
        seeds |= {seed} if isinstance(seed, int) else set()
    return [
        (", ".join(row + _counted(seeds) for row, seeds in rows.items()), reason, remedy)
        for (reason, remedy), rows in grouped.items()
    ]


def _counted(seeds: Collection[int]) -> str:
    return "" if not seeds else f" (seed {min(seeds)})" if len(seeds) == 1 else f" ({len(seeds)} seeds)"


def _skips(given: Sequence[Skip]) -> pd.DataFrame:
    return pd.DataFrame(
        {"rows": rows, "why": escape.prose(reason), "what trains it": escape.code(remedy)}
        for rows, reason, remedy in left_out(given, escape.code)
    )


def words(records: Sequence[Record]) -> list[RenderableType]:
    """The table of every study, and what it says, for a terminal."""
    accuracies = Accuracies(records)
    parts: list[RenderableType] = []
    for study in _trained(accuracies):
        shown = (*_SHOWN, *(f"lost: {title}" for title in accuracies.ways(study).values()))
        columns = [
            Column(title=name.removeprefix("lost: "), number=name not in ("row", "verdict"), words=name == "verdict")
            for name in shown
        ]
        rows = wording.rows(study_table(accuracies, study))
        parts += [literal(f"{study}: {accuracies.questions[study]}", style="bold")]
        parts += [Columns(columns, [[str(row.get(name, "")).strip("`*") for name in shown] for row in rows])]
        said = [*sentences(accuracies, study), *filter(None, [power(accuracies, study)])]
        parts += [literal(sentence.replace("`", "")) for sentence in said]
    if not parts:
        parts += [literal("Nothing was trained to its end.")]
        why = dict.fromkeys((skip.reason, skip.remedy) for skip in accuracies.skips)
        parts += [indented(reason, remedy) for reason, remedy in why]
    return parts


def data(records: Sequence[Record]) -> dict[str, object]:
    """The same for a program: shares of one."""
    accuracies = Accuracies(records)
    return {
        "answer": [
            {
                "study": study,
                "question": accuracies.questions[study],
                "sentences": sentences(accuracies, study),
                "power": power(accuracies, study),
            }
            for study in _trained(accuracies)
        ],
        "rows": list(wording.rows(table(accuracies))),
    }


def _trained(accuracies: Accuracies) -> list[str]:
    return [study for study in accuracies.rows if accuracies.trained(study)]
