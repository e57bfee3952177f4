"""A page of one audit: self-contained, from its findings."""

from collections.abc import Sequence

from suite.core.records import WORST_FIRST, Finding
from suite.report import units
from suite.report.html.answers import Answer, screen_of
from suite.report.html.document import Page, Screen, document, render

COLUMNS = ("property", "verdict", "that is", "moved by", "allowed", "over its noise", "what was seen")
NUMBERS = (3, 4, 5)
"""Places of columns that hold numbers."""
LONGEST = 90
"""Letters of a verdict that can be read from across a room."""


def page(
    name: str, verdict: str, account: Sequence[str], found: Sequence[Finding], closing: Sequence[str], command: str
) -> str:
    """The page, as HTML.

    Args:
        name: what was audited.
        verdict: the one line that matters most.
        account: what was made of its signature.
        found: one for each property.
        closing: what else there is to say.
        command: makes the audit again.
    """
    answer = screen_of([_answer(verdict, found, closing, command)])
    ordered = sorted(found, key=lambda finding: WORST_FIRST.index(finding.verdict))
    body = render(
        "audit.html.jinja", account=account, columns=COLUMNS, rows=list(map(_texts, ordered)), numbers=NUMBERS
    )
    screens = [answer, Screen(id="properties", title="Every property", short="Properties", body=body)]
    return document(Page(title=f"Audit of {name}", screens=screens))


def _answer(verdict: str, found: Sequence[Finding], closing: Sequence[str], command: str) -> Answer:
    said = [finding.verdict for finding in found]
    mood = "bad" if "broken" in said else "care" if {"known", "unclear", "not judged"} & set(said) else "good"
    counted = [f"{said.count(word)} {'hold' if word == 'holds' else word}" for word in WORST_FIRST if word in said]
    wrong, fragile = (
        [_property(finding) for finding in found if finding.verdict == "broken" and finding.severity == severity]
        for severity in ("wrong", "fragile")
    )
    short, rest = headline(verdict)
    return Answer(
        question="Masked correctly?",
        short=short,
        mood=mood if found else "care",
        lead=f"Properties: {', '.join(counted)}." if counted else "",
        names=[("✗", word, names) for word, names in (("wrong", wrong), ("fragile", fragile)) if names],
        lines=[*([rest] if rest else []), *closing, "This makes it again:"],
        command=command,
    )


def headline(verdict: str) -> tuple[str, str]:
    """What of a verdict is read from across a room, and the rest of it: cut at a sentence, or else at a colon."""
    for mark in (". ", ": "):
        first, found, rest = verdict.partition(mark)
        if found and len(first) <= LONGEST:
            return first, rest
    return verdict, ""


def _property(finding: Finding) -> str:
    return f"{finding.quantity} {finding.details.get('title', '')}".strip()


def _texts(finding: Finding) -> list[str]:
    holds = finding.verdict == "holds"
    noise = finding.details.get("leak_over_noise")
    return [
        _property(finding),
        finding.verdict,
        finding.severity if finding.verdict == "broken" else "",
        units.moved(finding.value),
        units.moved(finding.limit),
        units.factor(float(noise)) if isinstance(noise, int | float) and noise else "",
        str(finding.details.get("statement", "")) if holds else finding.summary,
    ]
