"""``run_all.py audit``: what was understood, one paragraph, one line per property; a page and JSON of the same."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from suite.audit.findings import settled, why_nothing
from suite.audit.rows import rows
from suite.core import exits
from suite.core.answer import SPOKEN, Answer, Manner, fail, give, screen
from suite.core.errors import UserError, check_seconds
from suite.core.records import Finding, decode
from suite.execution import guest
from suite.report.audit import page
from suite.report.columns import Column, Columns, indented, literal

TIMEOUT_S = 600.0
"""After which an audit counts as hung, unless asked otherwise."""

_COLOUR = {
    "holds": "green",
    "broken": "red",
    "known": "yellow",
    "unclear": "yellow",
    "not judged": "yellow",
    "not applicable": "dim",
}

ROOMY = 110
"""Characters of a line from which on the table has its numbers."""

_COLUMNS = (
    Column(title=""),
    *(Column(title="") for _ in range(2)),
    *(Column(title=title, number=True) for title in ("leak", "limit", "/ noise")),
    Column(title="", words=True),
)


def start(
    target: str,
    *,
    strict: bool = False,
    seed: int = 0,
    manner: Manner = SPOKEN,
    stated: Mapping[str, object] | None = None,
    html: Path | None = None,
    timeout_s: float = TIMEOUT_S,
) -> int:
    """Audit a module in a file, or a built-in variant, and print what was found.

    It runs in a process of its own: whatever a user's file does there, hang, exit or crash, what was found until then
    is told; and Ctrl-C is never taken for an exception of the module's.

    Args:
        target: ``path/to/file.py:NAME`` or a variant's name.
        strict: whether what is merely fragile counts.
        seed: of the batches.
        manner: in which the answer is wanted.
        stated: what `told` makes of the flags about arguments.
        html: where a page of the audit is written.
        timeout_s: after how many seconds an audit counts as hung.

    Returns:
        0 where nothing is wrong, 1 where something is, 2 where it cannot be judged, since the signature is not
        understood well enough or nothing could be tried, 5 where the audit did not come to its end and had found
        nothing wrong until then.

    Raises:
        UserError: there is no such file, name or variant.
    """
    path, colon, _ = target.rpartition(":")
    if not colon and target.endswith(".py"):
        raise UserError(f"{target!r} names a file alone: expected path/to/file.py:NAME, a class or factory in it")
    if colon and not Path(path).is_file():
        raise UserError(f"audit {path}: there is no such file")
    if html is not None and not html.absolute().parent.is_dir():
        raise UserError(f"--html {html}: there is no folder {html.absolute().parent}")
    check_seconds("--timeout", timeout_s)
    arguments = (target, seed, dict(stated or {}))
    console = manner.console()
    heard = Heard()
    try:
        for row in guest.stream(rows, *arguments, timeout_s=timeout_s):
            said = heard.take(row)
            if said and console.is_terminal:
                console.print(literal(said))
    except guest.Lost as lost:
        if not colon and lost.ending.way == "raised":  # nothing of a user's ran: the mistake is this program's
            raise RuntimeError(f"the audit of {target} broke off\n{lost.ending.trace}") from lost
        heard.lost = lost.ending.reason
    if heard.refused:
        if heard.adapter and not (manner.json or manner.quiet):
            print(f"# an adapter to complete, beside it in the same file; audit that instead\n{heard.adapter}")
        return fail(heard.refused, exits.WRONG_COMMAND, manner, data={"target": target, "adapter": heard.adapter})
    answer = answered(target, heard, strict=strict)
    if html is not None:
        again = said_again(target, seed, stated or {})
        made = page(heard.name, answer.last, heard.account, heard.found, heard.closing, again)
        try:
            html.write_text(made, encoding="utf-8")
        except OSError as error:  # what was found is printed all the same
            console.print(f"--html {html}: {error.strerror}")
        else:
            answer = replace(answer, data=dict(answer.data) | {"page": html})
    room = screen()
    if room.is_terminal:  # which breaks words where the line does not
        answer = replace(answer, last=fill(answer.last, room.width))
    return give(answer, manner)


class Heard:
    """What has been told of an audit so far."""

    def __init__(self) -> None:
        self.name = ""
        self.account: list[str] = []
        self.remarks: list[str] = []
        self.refused = self.adapter = self.begun = self.lost = ""
        self.early: list[Finding] = []
        self.final: list[Finding] = []
        self.closing: list[str] = []

    def take(self, row: Mapping[str, Any]) -> str:
        """Keep a row; gives the line to show meanwhile."""
        match row:
            case {"refused": refused, "adapter": adapter}:
                self.refused, self.adapter = str(refused), str(adapter)
            case {"name": name, "account": account, "remarks": remarks}:
                self.name, self.account, self.remarks = str(name), list(account), list(remarks)
            case {"begun": begun}:
                self.begun = str(begun)
            case {"outcome": record}:
                self.early.append(_finding(record))
                last = self.early[-1]
                said = "" if last.verdict in ("holds", "not applicable") else f"  {last.summary}"
                return f"{last.quantity:4} {last.verdict}{said}"
            case {"finding": record}:
                self.final.append(_finding(record))
        return ""

    @property
    def found(self) -> list[Finding]:
        """The findings; of an audit that broke off, what was known of each property that was examined."""
        return self.early if self.lost else self.final


class _Table:
    """One line per property; where a terminal is narrow, without the numbers, which would leave words no room."""

    def __init__(self, found: Sequence[Finding]) -> None:
        self._found = found

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        rows = [_row(finding) for finding in self._found]
        if options.max_width >= ROOMY:
            yield Columns(_COLUMNS, rows)
        else:
            yield Columns(
                [column for column in _COLUMNS if not column.number],
                [[cell for cell, column in zip(row, _COLUMNS, strict=True) if not column.number] for row in rows],
            )


def _finding(record: object) -> Finding:
    found = decode(str(record), where="audit")
    assert isinstance(found, Finding)
    return found


def answered(target: str, heard: Heard, *, strict: bool) -> Answer:
    found = heard.found
    wrong = [
        f for f in found if f.verdict == "broken" and (strict or f.severity == "wrong" or f.details.get("missing"))
    ]
    doubted_of = any(f.details.get("doubted") for f in found)
    if heard.lost:
        where = f"while {heard.begun} was examined" if heard.begun else "before anything was examined"
        lines = [f"NOT FINISHED: its process was lost {where}: {heard.lost}; what was found until then counts."]
        lines += paragraph(found) if any(f.verdict == "broken" for f in found) else []
    else:
        lines = paragraph(found)
    verdict, *heard.closing = [*lines, *heard.remarks]
    unsure = exits.WRONG_COMMAND if doubted_of or not settled(found) else exits.DONE
    code = exits.INCORRECT if wrong else exits.CELLS_FAILED if heard.lost else unsure
    return Answer(
        code=code,
        words=[
            literal(heard.name or target, style="bold"),
            *(indented(said) for said in heard.account),
            _Table(found),
            *map(literal, heard.closing),
        ],
        last=verdict,
        data={
            "target": target,
            "verdict": verdict,
            "further": heard.closing,
            "understood": heard.account,
            "remarks": heard.remarks,
            "finished": not heard.lost,
            "properties": [asdict(finding) for finding in found],
        },
    )


def said_again(target: str, seed: int, stated: Mapping[str, Any]) -> str:
    """The command that makes an audit again, with what was said of its arguments."""
    words = ["python", "run_all.py", "audit", target, *(["--seed", str(seed)] if seed else [])]
    for flag, given in (("--mask", stated.get("masks", {})), ("--inputs", stated.get("inputs", {}))):
        words += [word for name, kind in given.items() for word in (flag, f"{name}={kind}")]
    words += [word for name in stated.get("ignore", ()) for word in ("--ignore", name)]
    return shlex.join(words)


def told(masks: Sequence[str], inputs: Sequence[str], ignore: Sequence[str]) -> dict[str, object]:
    """What flags say of arguments: ``NAME=valid``, ``NAME=side``, ``NAME``; several may stand in one, with commas.

    Raises:
        UserError: one is none of these; says what was expected.
    """
    kinds = ("valid", "padding", "additive", "lengths")
    found_masks, found_inputs = {}, {}
    for written in _apart(masks):
        name, equals, kind = written.partition("=")
        if not equals or kind not in kinds:
            raise UserError(f"--mask {written}: expected NAME=KIND, where KIND is one of {', '.join(kinds)}")
        found_masks[name] = kind
    for written in _apart(inputs):
        name, _, side = written.partition("=")
        if not name.isidentifier() or (side and not side.isidentifier()):
            raise UserError(f"--inputs {written}: expected NAME=SIDE, an argument and the name of the side it is of")
        found_inputs[name] = side or name
    both = set(found_masks) & set(found_inputs)
    if both:
        raise UserError(f"--mask and --inputs both name {min(both)}: it is one or the other")
    left = list(dict.fromkeys(_apart(ignore)))
    for flag, found in (("--mask", found_masks), ("--inputs", found_inputs)):
        both = set(left) & set(found)
        if both:
            raise UserError(f"--ignore and {flag} both name {min(both)}: it is left out or it is told of")
    return {"masks": found_masks, "inputs": found_inputs, "ignore": left}


def _apart(written: Sequence[str]) -> Iterator[str]:
    for one in written:
        yield from filter(None, (part.strip() for part in one.split(",")))


def paragraph(found: Sequence[Finding]) -> list[str]:
    """What a person needs to know: whether it is wrong, fragile or right, and the worst of it with its cause."""
    broken = [finding for finding in found if finding.verdict == "broken"]
    wrong = [finding for finding in broken if finding.severity == "wrong"]
    fragile = [finding for finding in broken if finding.severity == "fragile"]
    known = [finding for finding in found if finding.verdict == "known"]
    judged = len(settled(found))
    unjudged = [finding for finding in found if finding.verdict == "not judged"]
    lines = []
    if wrong:
        lines.append(f"WRONG: {len(wrong)} of {judged} properties are broken. {_sentence(wrong[0])}")
        lines += [f"Also: {_sentence(finding)}" for finding in _other_causes(wrong[0], wrong[1:])]
    elif fragile:
        lines.append(
            f"FRAGILE, not wrong: it breaks on NaN, empty rows, narrow types or odd shapes. {_sentence(fragile[0])}"
        )
        lines += [f"Also: {_sentence(finding)}" for finding in _other_causes(fragile[0], fragile[1:])]
    elif known:
        lines.append(f"As published, with its known defects: {_sentence(_worst_known(known))}")
    elif not judged:
        lines.append(f"NOT JUDGED: of no property could it be told whether it holds: {_ended(why_nothing(found))}")
    elif unjudged:
        lines.append(f"Nothing was found wrong in what could be judged: {judged} properties.")
    else:
        lines.append(f"Masked correctly: {judged} properties hold.")
    if wrong and fragile:
        lines.append(f"Fragile besides: {', '.join(finding.quantity for finding in fragile)}.")
    if known:
        lines.append(f"Known defects, found: {', '.join(finding.quantity for finding in known)}.")
        defects = [str(defect) for finding in known for defect in _listed(finding.details.get("defects"))]
        lines += [f"  {defect}" for defect in dict.fromkeys(defects)]
    unclear = [finding.quantity for finding in found if finding.verdict == "unclear"]
    if unclear:
        lines.append(f"Unclear, its own noise is too large: {', '.join(unclear)}.")
    if unjudged:
        lines.append("Not judged:")
        reasons: dict[str, list[str]] = {}
        for finding in unjudged:
            reasons.setdefault(finding.summary, []).append(finding.quantity)
        lines += [f"  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return lines


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()


def _worst_known(known: Sequence[Finding]) -> Finding:
    """What is wrong before what is fragile."""
    return next((finding for finding in known if finding.severity == "wrong"), known[0])


def _other_causes(first: Finding, others: Sequence[Finding]) -> list[Finding]:
    """Of further failures, the first of each other cause."""
    seen = {_cause(first)}
    kept = []
    for finding in others:
        if _cause(finding) not in seen:
            seen.add(_cause(finding))
            kept.append(finding)
    return kept


def _cause(finding: Finding) -> str:
    return str(finding.details.get("causes", ""))


def _sentence(finding: Finding) -> str:
    return f"{finding.quantity}: {_ended(finding.summary)}"


def _ended(text: str) -> str:
    """A sentence with its full stop, which what a user's exception says may have."""
    return text if text.endswith(".") else f"{text}."


def _row(finding: Finding) -> list[Text]:
    quantity, verdict, *rest = _cells(finding)
    return [literal(quantity), literal(verdict, style=_COLOUR[finding.verdict]), *map(literal, rest)]


def _cells(finding: Finding) -> list[str]:
    holds = finding.verdict == "holds"
    what = str(finding.details.get("statement", "")) if holds else str(finding.details.get("said", finding.summary))
    numbers = (finding.value, finding.limit, finding.details.get("leak_over_noise"))
    return [finding.quantity, finding.verdict, finding.severity, *map(_number, numbers), what]


def _number(value: object) -> str:
    return f"{value:.1e}" if isinstance(value, int | float) and value else "0" if value == 0 else ""
