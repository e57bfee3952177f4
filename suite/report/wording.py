"""Numbers as a person reads them: the cells of a table as text, and the sentences above it."""

import re
from collections.abc import Hashable, Iterable, Mapping

import pandas as pd

from suite.records import ANCHOR
from suite.report import units

Row = Mapping[Hashable, object]
CONTROLS = ("pool", "cross")
"""What people would use instead: in every table, but never its winner."""


def number(row: Row, name: str) -> float | None:
    """A number of a row, or None where the table holds none."""
    value = row[name]
    return float(value) if isinstance(value, int | float) and units.is_number(float(value)) else None


def rows(cells: pd.DataFrame) -> Iterable[Row]:
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


def short(sentence: str, limit: int = 90) -> str:
    """As much of a sentence as fits, cut at a word."""
    first = sentence.split("; ")[0]
    return first if len(first) <= limit else first[: limit - 1].rsplit(" ", 1)[0] + " …"


def trusted(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells whose speed may be shown: measured, and without an unexpected finding."""
    return cells[cells["latency_s"].notna() & (cells["hidden"] == "")]


def contenders(cells: pd.DataFrame) -> pd.DataFrame:
    """What may win: co-attentions of ours whose speed may be shown, the fastest first."""
    shown = trusted(cells).sort_values("latency_s")
    return shown[[may_win(str(mechanism)) for mechanism in shown["mechanism"]]]


def headline(cells: pd.DataFrame) -> str:
    """Which co-attention of one place is the fastest, by how much and how surely, and what the controls cost."""
    # plain rows, since a large run has hundreds of places and each filter of a table takes a third of a millisecond
    timed = [row for row in rows(cells) if number(row, "latency_s") is not None and not row["hidden"]]
    shown = sorted(timed, key=lambda row: number(row, "latency_s") or 0.0)
    ours = [row for row in shown if may_win(str(row["mechanism"]))]
    if not ours:
        return _without_a_winner(cells)
    best = ours[0]
    text = f"**{best['variant']}** is the fastest co-attention: {latency(best)}"
    if best["variant"] != ANCHOR and number(best, "over_anchor") is not None:
        ends = (number(best, f"over_anchor{end}") for end in ("", "_low", "_high"))
        verdict = best["over_anchor_verdict"]
        text += f", {units.factor_between(*ends)} as fast as {ANCHOR} in eager float32"
        text += "" if verdict in ("faster", "slower") else f" ({verdict})"
    level = [str(row["variant"]) for row in ours[1:] if _overlap(best, row)]
    if level:
        text += f"; not told apart from {', '.join(level)}"
    controls = {row["mechanism"]: row for row in reversed(shown) if row["mechanism"] in CONTROLS}
    beside = [
        f"{row['variant']} takes {units.seconds(number(row, 'latency_s'))}" for row in reversed(controls.values())
    ]
    return text + (f" (beside it, {' and '.join(beside)})." if beside else ".")


def may_win(mechanism: str) -> bool:
    """Whether it is a co-attention of ours: neither a control nor published code."""
    return mechanism not in CONTROLS and not mechanism.startswith("published_")


def _without_a_winner(cells: pd.DataFrame) -> str:
    """What there is to say of a place in which no co-attention of ours has a time that may be shown."""
    said = []
    timed = cells[cells["latency_s"].notna()]
    hidden = timed[timed["hidden"] != ""]
    if not hidden.empty:
        said.append(f"no speed is shown of {_names(hidden)}, because of what was found")
    shown = trusted(cells).sort_values("latency_s")
    said += [f"{row['variant']} takes {latency(row)}" for row in rows(shown.head(1))]
    if timed.empty:
        said.append("no time was taken")
    for column, verb in (("agreement", "agree with float64"), ("masking", "are masked correctly")):
        examined = cells[~cells[column].isin(("", "not applicable"))]
        if not examined.empty:
            holding = int((examined[column] == "holds").sum())
            others = examined[examined[column] != "holds"]
            said.append(f"{holding} of {len(examined)} {verb}" + (f", not {_names(others)}" if len(others) else ""))
    lean = cells.dropna(subset="peak_memory_bytes").sort_values("peak_memory_bytes")
    said += [f"{row['variant']} needs the least memory, {units.binary(number(row, 'peak_memory_bytes'))}"
             for row in rows(lean.head(1))]  # fmt: skip
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _names(cells: pd.DataFrame) -> str:
    return ", ".join(dict.fromkeys(map(str, cells["variant"])))


def _overlap(best: Row, other: Row) -> bool:
    """Whether two variants' intervals over the anchor meet; the anchor itself is 1 exactly."""
    low = number(best, "over_anchor_low") if best["variant"] != ANCHOR else 1.0
    high = number(other, "over_anchor_high") if other["variant"] != ANCHOR else 1.0
    return low is not None and high is not None and low <= high


def footnotes(cells: pd.DataFrame) -> dict[str, str]:
    """Reasons against believing a cell, each with the letter that stands for it in the table."""
    reasons = dict.fromkeys(reason for text in cells["trust"] if text for reason in str(text).split("; "))
    kinds = dict.fromkeys(_kind(reason) for reason in reasons)
    letters = {kind: _letter(index) for index, kind in enumerate(kinds)}
    return {reason: letters[_kind(reason)] for reason in reasons}


def flags(row: Row, letters: Mapping[str, str]) -> str:
    """The letters of a cell's reasons, such as ``a b``."""
    found = [letters[reason] for reason in str(row["trust"]).split("; ") if reason]
    return " ".join(dict.fromkeys(found))


def _kind(reason: str) -> str:
    """A reason without its numbers: 12 % and 21 % of the same thing share a letter."""
    return re.sub(r"\d+(\.\d+)?", "#", reason)


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else _letter(index // 26 - 1) + _letter(index % 26)


def place_table(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of one place as text, a row per variant; columns in which nothing was measured are left out."""
    letters = footnotes(cells)
    table = pd.DataFrame(
        [
            {
                "variant": f"`{row['variant']}`",
                "latency (95 %)": latency(row),
                "examples/s": units.MISSING if row["hidden"] else units.count(number(row, "examples_per_s")),
                "over its eager float32": speedup(row),
                f"over `{ANCHOR}`": speedup(row, "over_anchor"),
                "peak memory": units.binary(number(row, "peak_memory_bytes")),
                "graph pool": units.binary(number(row, "graph_pool_bytes")),
                "saved for backward": units.binary(number(row, "saved_for_backward_bytes")),
                "error": units.error(number(row, "agreement_error")),
                "masking": row["masking"] or units.MISSING,
                "of this machine": units.MISSING if row["hidden"] else units.percent(number(row, "of_machine")),
                "first call": units.seconds(number(row, "first_call_s")),
                "of it compiling": units.seconds(number(row, "compile_time_s")),
                "cold start": units.seconds(number(row, "cold_start_s")),
                "graphs": units.count(number(row, "graphs")),
                "graph breaks": units.count(number(row, "graph_breaks")),
                "recompiles": units.count(number(row, "recompiles")),
                "cold cache": units.seconds(number(row, "cold_latency_s")),
                "launch": units.seconds(number(row, "launch_s")),
                "doubt": flags(row, letters) or units.MISSING,
            }
            for row in rows(cells)
        ]
    )
    return table[[name for name in table if (table[name] != units.MISSING).any()]]


def doubts(cells: pd.DataFrame) -> list[str]:
    """What the letters of `place_table` stand for; several reasons that differ in numbers give an example."""
    by_letter: dict[str, list[str]] = {}
    for reason, letter in footnotes(cells).items():
        by_letter.setdefault(letter, []).append(reason)
    return [
        f"{letter}: {reasons[0]}" + (f" (and {len(reasons) - 1} more with other numbers)" if len(reasons) > 1 else "")
        for letter, reasons in by_letter.items()
    ]


def markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns)]
    lines += [[str(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
