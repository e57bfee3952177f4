"""Numbers as a person reads them: the cells of a table as text, and the sentences above it."""

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import cast

import pandas as pd

from suite.report import units

Row = Mapping[Hashable, object]


def number(row: Row, name: str) -> float | None:
    """A number of a row, or None where the table holds none."""
    value = row[name]
    return float(value) if isinstance(value, int | float) and units.is_number(float(value)) else None


def rows(cells: pd.DataFrame) -> list[Row]:
    """The rows of a table as mappings from column to value."""
    # not to_dict or itertuples: they make an object per column of every group, which takes seconds for a large run
    names = list(cells.columns)
    return [dict(zip(names, values, strict=True)) for values in cells.to_numpy(dtype=object).tolist()]


def latency(row: Row) -> str:
    """``12.3 ms (12.1–12.6)``; in its place the finding that hides it, or why it was not measured."""
    if row["hidden"]:
        return f"not shown: {short(str(row['hidden']))}"
    time_s = number(row, "latency_s")
    if time_s is None:
        return f"not measured: {row['skipped']}" if row["skipped"] else units.MISSING
    return units.seconds_between(time_s, number(row, "latency_low_s"), number(row, "latency_high_s"))


def speedup(row: Row, prefix: str = "speedup") -> str:
    """``×2.31 (2.20–2.42)``, and the verdict where it is not plain from the interval."""
    value, low, high = (number(row, name) for name in (prefix, f"{prefix}_low", f"{prefix}_high"))
    if row["hidden"] or value is None:
        return units.MISSING
    verdict = row["verdict" if prefix == "speedup" else f"{prefix}_verdict"]
    said = units.factor_between(value, low, high)
    return said if verdict in ("faster", "slower") else f"{said} {verdict}"


def rounds(row: Row) -> str:
    """How many stand behind its intervals, and in how many processes where these are several: ``40``, ``60 in 3``."""
    count, processes = (number(row, name) for name in ("samples", "processes"))
    if row["hidden"] or count is None:
        return units.MISSING
    return f"{count:.0f}" if processes in (None, 1) else f"{count:.0f} in {processes:.0f}"


def of_machine(row: Row) -> str:
    """``67 %``, or from the least to the most over the tasks in which it was timed, such as ``70–90 %``."""
    if row["hidden"]:
        return units.MISSING
    low, high = (units.percent(number(row, f"of_machine_{end}")) for end in ("low", "high"))
    return high if low == high else f"{low.removesuffix(' %')}–{high}"


def short(sentence: str, limit: int = 90) -> str:
    """As much of a sentence as fits, cut at a word."""
    first = sentence.split("; ")[0]
    return first if len(first) <= limit else first[: limit - 1].rsplit(" ", 1)[0] + " …"


def trusted(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells whose speed may be shown: measured, and without an unexpected finding."""
    return cells[cells["latency_s"].notna() & (cells["hidden"] == "")]


def doubted(cells: pd.DataFrame) -> "pd.Series[bool]":
    """Whether there is a reason not to believe the times of a cell."""
    return cells["trust"].map(len).astype(int) > 0


def footnotes(cells: pd.DataFrame) -> dict[str, str]:
    """Reasons against believing a cell, each with the letter that stands for it in the table."""
    return lettered(reason for own in cells["trust"] for reason in own)


def lettered(reasons: Iterable[str]) -> dict[str, str]:
    """Each reason with a letter; those that differ in numbers alone share one."""
    reasons = dict.fromkeys(reasons)
    kinds = dict.fromkeys(_kind(reason) for reason in reasons)
    letters = {kind: _letter(index) for index, kind in enumerate(kinds)}
    return {reason: letters[_kind(reason)] for reason in reasons}


def flags(row: Row, letters: Mapping[str, str]) -> list[str]:
    """The letters of a cell's reasons, each once and in order."""
    return sorted({letters[reason] for reason in trust(row)}, key=lambda letter: (len(letter), letter))


def trust(row: Row) -> tuple[str, ...]:
    """The reasons not to believe the times of a cell."""
    return cast(tuple[str, ...], row["trust"])


def _kind(reason: str) -> str:
    """A reason without its numbers: 12 % and 21 % of the same thing share a letter."""
    return re.sub(r"\d+(\.\d+)?", "#", reason)


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else _letter(index // 26 - 1) + _letter(index % 26)


def doubts(cells: pd.DataFrame) -> list[str]:
    """What the letters of a table of cells stand for."""
    return explained(footnotes(cells))


def explained(letters: Mapping[str, str]) -> list[str]:
    """What letters of reasons stand for, a line each."""
    return [f"{letter}: {meaning}" for letter, meaning in meanings(letters).items()]


def meanings(letters: Mapping[str, str]) -> dict[str, str]:
    """By letter, the reason that it stands for; several reasons that differ in numbers give an example."""
    by_letter: dict[str, list[str]] = {}
    for reason, letter in letters.items():
        by_letter.setdefault(letter, []).append(reason)
    return {letter: _with_others(alike) for letter, alike in by_letter.items()}


def reasons(found: Sequence[str]) -> str:
    """The reasons of one cell, those that differ in numbers alone as one: ``samples spread by 26% (and 3 more …)``."""
    by_kind: dict[str, list[str]] = {}
    for reason in found:
        by_kind.setdefault(_kind(reason), []).append(reason)
    return "; ".join(_with_others(alike) for alike in by_kind.values())


def _with_others(alike: list[str]) -> str:
    return alike[0] + (f" (and {len(alike) - 1} more with other numbers)" if len(alike) > 1 else "")


def markdown(table: pd.DataFrame, *, right: Collection[str] = ()) -> str:
    """A table in GitHub's Markdown; the columns of ``right`` are aligned there."""
    lines = [list(map(str, table.columns)), ["---:" if name in right else "---" for name in table]]
    lines += [[str(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def without_middles(names: Iterable[str], letters: int) -> dict[str, str]:
    """By each name that is longer than so many letters, a beginning and an end of it that no other name is left with.

    Ends tell variants apart as often as beginnings do. Where names differ in a part that is left out whatever is kept
    of them, they stay alike.
    """
    every = list(dict.fromkeys(names))
    taken = {name for name in every if len(name) <= letters}
    found: dict[str, str] = {}
    for name in every:
        if len(name) <= letters:
            continue
        heads = sorted(range(1, letters - 1), key=lambda head: abs(2 * head - letters + 1))
        made = [f"{name[:head]}\N{HORIZONTAL ELLIPSIS}{name[head + 1 - letters :]}" for head in heads]
        found[name] = next((short for short in made if short not in taken), made[0] if made else name)
        taken.add(found[name])
    return found
