"""The page of the public modules, from the records alone."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

HEAD = """\
# Public modules, held against a padding test of their own

Attention over two sets as packages of the index have it, audited as it is installed. Each module has a padding test
that was written for it alone and knows nothing of the audit (`public_modules/truth.py` and the case beside it): the
same examples with other numbers in the padding, with more padding, and each alone without any, in float64. What that
test finds is called *right* here. Weights are seeded and small; no checkpoint is involved. This page is written by

    pip install --no-deps -r results/reference/public-modules/requirements.txt
    python results/reference/public-modules/audit_all.py          # audits what is installed, then writes this page
    python results/reference/public-modules/audit_all.py --page   # this page again, from audits.jsonl

*Correct* means: nothing real moves by more than rounding when padding changes, grows or goes. Most modules, correct
ones too, let NaN in padding through, because a weight of 0 times NaN is NaN: the audit calls that *fragile*. Calling a
module wrong here says how it behaves in the version named, when it is called as the line says; its author may have
promised no more.
"""

OUTCOMES = {
    "agrees": "the audit agrees",
    "not judged": "the audit does not judge it, and says why",
    "accused": "the audit accuses a correct module",
    "missed": "the audit misses what is wrong",
}


def page(records: Sequence[Record]) -> str:
    parts = [HEAD, _counts(records), "## What is wrong with some of them\n", *_defects(records)]
    parts += ["## Each module\n", _table(records), "## What the audit read, and what it said\n"]
    parts += [_account(record) for record in records]
    return "\n".join(parts)


def _counts(records: Sequence[Record]) -> str:
    outcomes = Counter(record["outcome"] for record in records)
    rights = Counter(record["right"] for record in records)
    packages = sorted({f"{record['package']} {record['version']}" for record in records})
    lines = [
        f"{len(records)} modules of {len(packages)} packages: {', '.join(packages)}.",
        f"By their own tests {rights['correct']} are correct, {rights['wrong']} are wrong, or are called in a way that "
        f"is, and {rights['cannot be judged']} take no mask, so that there is nothing to judge.",
        "",
        "| | modules |",
        "|---|---|",
        *(f"| {words} | {outcomes[key]} |" for key, words in OUTCOMES.items()),
        "",
    ]
    return "\n".join(lines)


def _defects(records: Iterable[Record]) -> list[str]:
    """One paragraph for each line to change, with the modules that it makes wrong."""
    by_line: dict[str, list[Record]] = {}
    for record in records:
        if record["right"] == "wrong":
            by_line.setdefault(record["line"], []).append(record)
    parts = []
    for line, found in by_line.items():
        first = found[0]
        names = ", ".join(f"`{record['module']}`" for record in found)
        parts.append(f"**{names}** ({first['package']} {first['version']}). {first['why']} Where: {line}\n")
        parts += [f"- {record['module']}: {_moved(record)}." for record in found]
        parts.append("")
    return parts


def _moved(record: Record) -> str:
    """How far real outputs moved, for each question of the truth that fails."""
    words = {
        "finite": "an ordinary padded batch",
        "content": "other numbers in the padding",
        "count": "more padding",
        "trimmed": "padding trimmed",
        "gradient": "other numbers in the padding, in gradients",
        "train": "other numbers in the padding, in train mode",
    }
    return ", ".join(f"{_number(record['truth'][name])} with {words[name]}" for name in record["breaks"])


def _number(value: float | str) -> str:
    return "not finite" if isinstance(value, str) else f"{value:.2g}"


def _table(records: Iterable[Record]) -> str:
    lines = [
        "Outputs and gradients move relative to their own size; *rounding* is what that test allows.",
        "",
        "| module | package | right | moves most | rounding | the audit, as it is | through an adapter | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        given = {each["how"]: each["answer"] for each in record["answers"]}
        worst = max(
            (record["truth"].get(name, 0.0) for name in ("content", "count", "trimmed", "gradient", "train")), key=_size
        )
        cells = [
            record["module"],
            f"{record['package']} {record['version']}",
            record["right"],
            _number(worst),
            _number(record["truth"]["tolerance"]),
            given.get("as it is", ""),
            given.get("through an adapter", ""),
            OUTCOMES[record["outcome"]].removeprefix("the audit ") if record["outcome"] != "agrees" else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _size(value: float | str) -> float:
    return float(value)


def _account(record: Record) -> str:
    lines = [
        f"### {record['module']}",
        "",
        f"{record['package']} {record['version']}, {record['right']}. {record['why']}",
        "",
    ]
    for each in record["answers"]:
        lines.append(f"Audited {each['how']}, in {each['seconds']:.0f} s: **{each['answer']}**.")
        lines.append("")
        lines += [f"- {_plain(line)}" for line in each["account"] if line.strip()]
        lines += [f"- > {_plain(line)}" for line in each["says"] if line.strip()]
        lines.append("")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """One line that Markdown leaves as it is."""
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
