"""The first screen of a run: four questions, each with its answer, what it rests on, and what to do next."""

from collections.abc import Sequence

import pandas as pd
from markupsafe import Markup

from suite.report import standing, summary, units, wording
from suite.report.html.answers import Answer, screen_of
from suite.report.html.document import Screen, inline
from suite.report.matrix import PROPERTY
from suite.report.tables import Tables
from suite.report.wording import number

MOST_NAMED = 24
MOST_PLACES = 6
MOST_DOUBTS = 8
MOST_LETTERS = 300
"""Of a reason to doubt on the first screen; the table has the whole."""
GLYPHS = {"broken": "✗", "known": "!", "unclear": "?", "not judged": "·", "holds": "✓", "not applicable": "–"}
CALLED = {
    "broken": "broken",
    "known": "with known defects",
    "unclear": "unclear",
    "not judged": "not judged in everything",
}


def screen(made: Tables) -> Screen:
    """The answers of a run."""
    answers = [masked(made), cost(made), parts(), believed(made.cells)]
    return screen_of(answers)


def audited(masking: pd.DataFrame) -> pd.DataFrame:
    """The variants of which a property of masking was examined, and those properties."""
    properties = [name for name in masking if PROPERTY.fullmatch(str(name))]
    found = masking[["variant", *properties]] if properties else masking[[]]
    return found[(found.drop(columns="variant") != "").any(axis=1)] if properties else found


def masked(made: Tables) -> Answer:
    """How many hold everything, and those that do not by name."""
    question = "Masked correctly?"
    found = audited(made.masking)
    if found.empty:
        return Answer(
            question=question,
            short="not audited",
            lines=["No variant of this run was audited. A module of yours is judged by"],
            command="python run_all.py audit FILE.py:NAME",
        )
    by_worst = summary.by_worst(found)
    right = len(by_worst.get("holds", ()))
    return Answer(
        question=question,
        short=f"{right} of {len(found)}",
        mood="bad" if "broken" in by_worst else "care" if right < len(found) else "good",
        lead="variants hold every property of masking that was judged.",
        names=[
            (GLYPHS[worst], CALLED[worst], _some(by_worst[worst])) for worst in CALLED if worst in by_worst
        ],
    )  # fmt: skip


def _some(names: Sequence[str]) -> list[str]:
    return [*names[:MOST_NAMED], *([f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else [])]


def cost(made: Tables) -> Answer:
    """The fastest of each place, those that cannot be told apart from it, and how far from the machine they are."""
    question = "What does it cost?"
    places = list(made.cells.groupby(["workload", "phase", "device"], sort=False))
    if not places:
        return Answer(question=question, short="nothing was measured")
    short, mood = _fastest(places[0][1])
    close = _not_told_apart(places[0][1])
    where = [Markup("<span class=where>{}</span> ").format(" · ".join(map(str, place))) for place, _ in places]
    said = [[inline(standing.headline(here)), *_of_machine(here)] for _, here in places[:MOST_PLACES]]
    folded = [
        (title + _fastest(here)[0], lines)
        for title, (_, here), lines in zip(where[1:], places[1:], said[1:], strict=False)
    ]
    lines: list[Markup | str] = [where[0] + said[0][0], *said[0][1:]]
    lines += summary.lacking(made.peaks, made.cells)
    if len(places) > MOST_PLACES:
        left = len(places) - MOST_PLACES
        lines.append(f"{left} more {'place is' if left == 1 else 'places are'} in the table below.")
    return Answer(
        question=question,
        short=short,
        mood=mood,
        lines=lines,
        folded=folded,
        names=[("?", "may be the fastest", _some(close))] if len(close) > 2 else [],
    )


def _not_told_apart(cells: pd.DataFrame) -> list[str]:
    """Who may be the fastest of a place."""
    rows = standing.contenders(cells)
    return [str(row["variant"]) for row in standing.leaders(rows)] if rows else []


def _fastest(cells: pd.DataFrame) -> tuple[str, str]:
    """The fastest of a place in a few words: who is told to be, or how many are not told apart."""
    rows = standing.contenders(cells)
    first = standing.leaders(rows) if rows else []
    if not first:
        return "no speed to show", "care"
    if len(first) == 1:
        row = first[0]
        gain = number(row, "over_anchor") if standing.over_anchor(row, cells) else None
        return f"fastest: {row['variant']}" + (f" {units.factor(gain)}" if gain else ""), "good"
    if len(first) == 2:
        return f"fastest: {first[0]['variant']} or {first[1]['variant']}", "care"
    times = [number(row, "latency_s") or 0.0 for row in first]
    return f"fastest: one of {len(first)}, {units.seconds(min(times))} to {units.seconds(max(times))}", "care"


def _of_machine(cells: pd.DataFrame) -> list[str]:
    """How near the fastest come to what the machine was measured to do."""
    rows = standing.contenders(cells)
    first = standing.leaders(rows) if rows else []
    shares = [(row, wording.of_machine(row)) for row in first[: standing.MOST_NAMED]]
    said = [f"{row['variant']} {share}" for row, share in shares if share != units.MISSING]
    return [f"Of what this machine can do by its fastest route: {', '.join(said)}."] if said else []


def parts() -> Answer:
    """A run trains nothing."""
    return Answer(
        question="Which part earns its keep?",
        short="not asked here",
        lines=["This run trained nothing. Accuracy with and without each part, over seeds:"],
        command="python run_all.py ablate",
    )


def believed(cells: pd.DataFrame) -> Answer:
    """What was doubted, and why, in words."""
    question = "Can these numbers be believed?"
    timed = cells[cells["latency_s"].notna()]
    if timed.empty:
        return Answer(question=question, short="there are none", lines=["No time was taken."])
    doubted = timed[wording.doubted(timed)]
    reasons = list(wording.meanings(wording.footnotes(timed)).values())
    lines: list[Markup | str] = [
        reason if len(reason) <= MOST_LETTERS else f"{reason[: MOST_LETTERS - 1]}…" for reason in reasons[:MOST_DOUBTS]
    ]
    if len(reasons) > MOST_DOUBTS:
        lines.append(f"{len(reasons) - MOST_DOUBTS} more reasons stand in the table.")
    lines.append("The clocks and the audit are themselves tried on this machine by")
    every = list(dict.fromkeys(map(str, timed["variant"])))
    names = list(dict.fromkeys(map(str, doubted["variant"])))
    sure = [name for name in every if name not in names]
    # the shorter list is the one that is read
    named = ("✓", "nothing against", sure) if 0 < len(sure) < len(names) else ("?", "doubted", names)
    return Answer(
        question=question,
        short="yes, nothing is doubted" if doubted.empty else f"{len(doubted)} of {len(timed)} times doubted",
        mood="good" if doubted.empty else "care",
        lead=summary.believed(cells),
        lines=lines,
        names=[(named[0], named[1], _some(named[2]))] if names else [],
        command="python run_all.py selfcheck",
    )
