"""``run_all.py audit``: what was understood, one paragraph, one line per property."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from suite import exits, user_files
from suite.answer import SPOKEN, Answer, Manner, fail, give
from suite.audit.findings import findings
from suite.audit.properties import examine
from suite.audit.reading import NotUnderstood, Understood, understand
from suite.audit.reading.doubt import doubted
from suite.audit.subject import from_variant
from suite.errors import UserError, as_users
from suite.probes.masking import WIDTH
from suite.records import Finding
from suite.report.columns import Column, Columns, indented, literal
from variants import Skip, build

_COLOUR = {
    "holds": "green",
    "broken": "red",
    "known": "yellow",
    "unclear": "yellow",
    "not judged": "yellow",
    "not applicable": "dim",
}


_COLUMNS = (
    Column(title=""),
    *(Column(title="") for _ in range(2)),
    *(Column(title=title, number=True) for title in ("leak", "limit", "/ noise")),
    Column(title="", words=True),
)


def start(target: str, *, strict: bool = False, seed: int = 0, manner: Manner = SPOKEN) -> int:
    """Audit a module in a file, or a built-in variant, and print what was found.

    Args:
        target: ``path/to/file.py:NAME`` or a variant's name.
        strict: whether what is merely fragile counts.
        seed: of the batches.
        manner: in which the answer is wanted.

    Returns:
        0 where nothing is wrong, 1 where something is, 2 where the signature is not understood, or not well enough.

    Raises:
        UserError: there is no such file, name or variant.
    """
    try:
        understood = _subject(target, seed)
    except NotUnderstood as error:
        if error.adapter and not manner.json:
            print(f"# an adapter to complete, beside it in the same file; audit that instead\n{error.adapter}")
        return fail(error.why, exits.WRONG_COMMAND, manner, data={"adapter": error.adapter})
    subject = understood.subject
    rows = findings(subject, examine(subject, seed=seed), task="audit", device=subject.device.type, seed=seed)
    found = tuple(doubted(rows, understood.doubts))
    wrong = [
        f for f in found if f.verdict == "broken" and (strict or f.severity == "wrong" or f.details.get("missing"))
    ]
    doubted_of = any(f.details.get("doubted") for f in found)
    verdict, *further = [*paragraph(found), *understood.remarks]
    answer = Answer(
        code=exits.INCORRECT if wrong else exits.WRONG_COMMAND if doubted_of else exits.DONE,
        words=[
            literal(subject.name, style="bold"),
            *(indented(said) for said in understood.account),
            Columns(_COLUMNS, [_row(finding) for finding in found]),
            *map(literal, further),
        ],
        last=verdict,
        data={
            "target": target,
            "verdict": verdict,
            "further": further,
            "understood": understood.account,
            "properties": [asdict(finding) for finding in found],
        },
    )
    return give(answer, manner)


def paragraph(found: Sequence[Finding]) -> list[str]:
    """What a person needs to know: whether it is wrong, fragile or right, and the worst of it with its cause."""
    broken = [finding for finding in found if finding.verdict == "broken"]
    wrong = [finding for finding in broken if finding.severity == "wrong"]
    fragile = [finding for finding in broken if finding.severity == "fragile"]
    known = [finding for finding in found if finding.verdict == "known"]
    judged = sum(finding.verdict not in ("not applicable", "not judged") for finding in found)
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
    return f"{finding.quantity}: {finding.summary}."


def _row(finding: Finding) -> list[Text]:
    holds = finding.verdict == "holds"
    what = str(finding.details.get("statement", "")) if holds else str(finding.details.get("said", finding.summary))
    numbers = (finding.value, finding.limit, finding.details.get("leak_over_noise"))
    return [
        literal(finding.quantity),
        literal(finding.verdict, style=_COLOUR[finding.verdict]),
        literal(finding.severity),
        *(literal(_number(number)) for number in numbers),
        literal(what),
    ]


def _number(value: object) -> str:
    return f"{value:.1e}" if isinstance(value, int | float) and value else "0" if value == 0 else ""


def _subject(target: str, seed: int) -> Understood:
    path, colon, name = target.rpartition(":")
    if not colon:
        if target.endswith(".py"):
            raise UserError(f"{target!r} names a file alone: expected path/to/file.py:NAME, a class or factory in it")
        try:
            with as_users():
                subject = from_variant(build(target, width=WIDTH, seed=seed))
        except Skip as reason:
            raise UserError(f"{target!r} cannot be had here: {reason}") from reason
        return Understood(subject=subject, account=("a built-in variant",))
    module = user_files.load(Path(path), given_as="audit")
    if not hasattr(module, name):
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UserError(f"{path} has no {name!r}; it has {', '.join(public) or 'nothing'}")
    return understand(getattr(module, name), name=name)
