"""What many runs say together, as sentences and a table in the terminal, and as rows for a program."""

from collections.abc import Sequence

from rich.console import RenderableType

from suite.core.history import FEWEST, History, Move, Series
from suite.core.records import ANCHOR
from suite.report import units
from suite.report.columns import Column, Columns, literal

_MOST_LINES = 60


def words(history: History) -> list[RenderableType]:
    """Every change that is told, for a terminal."""
    columns = [
        Column(title="variant"), Column(title="where", words=True), Column(title="changed in", words=True),
        Column(title="after / before (95 %)", number=True), Column(title="of it", words=True),
    ]  # fmt: skip
    rows = [texts(one, move, history) for one in history.series for move in one.moves][:_MOST_LINES]
    table: list[RenderableType] = [Columns(columns, rows)] if rows else []
    return [*table, *(literal(sentence) for sentence in sentences(history))]


def texts(one: Series, move: Move, history: History) -> list[str]:
    """A change as text: what, where, since which run, by how much, and what was compared."""
    ratio = move.ratio
    return [
        one.cell.variant,
        " · ".join(text for text in one.cell[1:] if text),
        called(history, move.at),
        f"{units.factor_between(ratio.estimate, ratio.low, ratio.high)} {ratio.verdict}",
        "its own time" if one.cell.variant == ANCHOR else f"over {ANCHOR}",
    ]


def called(history: History, at: int) -> str:
    """A run's name, and its commit where it is known."""
    run = history.runs[at]
    return f"{run.name} ({run.commit})" if run.commit else run.name


def sentences(history: History) -> list[str]:
    """What to take away."""
    count = len(history.runs)
    moved = [one for one in history.series if one.moves]
    limit = units.percent(history.fail_above)
    lines = []
    if count < FEWEST:
        lines.append(
            f"{count} runs cannot tell a change from one odd run: it takes two on either side, {FEWEST} in all; "
            "compare two of them for what they say alone"
        )
    else:
        lines.append(
            f"{len(moved)} of {len(history.series)} times changed within {count} runs by more than noise explains; "
            f"in the end {len(history.slower)} are slower beyond {limit} and {len(history.faster)} faster"
        )
        lines.append(
            f"runs differ {units.factor(history.noise)} as much as their own intervals say; a change is told at 1 % "
            "over all times, with two runs or more on either side, and where it would be without any one run"
        )
    lines += _anchor_moved(history)
    return lines


def _anchor_moved(history: History) -> list[str]:
    """Runs in which most of a place changed alike, which is the anchor's doing rather than theirs."""
    lines = []
    for where in dict.fromkeys(one.cell[1:] for one in history.series):
        beside = [one for one in history.series if one.cell[1:] == where and one.cell.variant != ANCHOR]
        for at in sorted({move.at for one in beside for move in one.moves}):
            here = [move.ratio.estimate > 1 for one in beside for move in one.moves if move.at == at]
            most = max(sum(here), len(here) - sum(here))
            if most > 1 and 2 * most > len(beside):
                lines.append(
                    f"on {', '.join(text for text in where if text)}, {most} of {len(beside)} changed alike in "
                    f"{called(history, at)}: it may be {ANCHOR} itself that changed, which they are compared with"
                )
    return lines


def rows(history: History) -> list[dict[str, object]]:
    """Every point and whether it begins a change, in base units."""
    found: list[dict[str, object]] = []
    for one in history.series:
        begins = {move.at: move.ratio for move in one.moves}
        for point in one.points:
            ratio = begins.get(point.run)
            found.append(
                one.cell._asdict()
                | {
                    "run": history.runs[point.run].name,
                    "commit": history.runs[point.run].commit,
                    "of": "seconds" if one.cell.variant == ANCHOR else f"time over {ANCHOR}",
                    "estimate": point.estimate,
                    "low": point.low,
                    "high": point.high,
                    "changed_by": ratio.estimate if ratio else None,
                    "changed_low": ratio.low if ratio else None,
                    "changed_high": ratio.high if ratio else None,
                }
            )
    return found


def data(history: History) -> dict[str, object]:
    """The same for a program."""
    return {
        "sentences": sentences(history),
        "fail_above": history.fail_above,
        "noise": history.noise,
        "runs": [run._asdict() for run in history.runs],
        "points": rows(history),
        "changes": [
            one.cell._asdict()
            | {"in": history.runs[move.at].name, "ratio": move.ratio.estimate, "low": move.ratio.low}
            | {"high": move.ratio.high}
            for one in history.series
            for move in one.moves
        ],
    }


def ordered(series: Sequence[Series]) -> list[Series]:
    """Those that changed first, the largest change foremost."""
    return sorted(
        series, key=lambda one: -max((abs(move.ratio.estimate - 1) for move in one.moves), default=0.0)
    )  # fmt: skip
