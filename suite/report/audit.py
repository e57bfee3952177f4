"""A page of one audit: self-contained, from plain text alone."""

from collections.abc import Sequence

from suite.report.html.answers import Answer, screen_of
from suite.report.html.document import Page, Screen, document, render

COLUMNS = ("property", "verdict", "severity", "leak", "limit", "/ noise", "what")
_WORST_FIRST = ("broken", "known", "unclear", "not judged", "holds", "not applicable")


def page(name: str, verdict: str, account: Sequence[str], rows: Sequence[Sequence[str]], closing: Sequence[str]) -> str:
    """The page, as HTML.

    Args:
        name: what was audited.
        verdict: the one line that matters most.
        account: what was made of its signature.
        rows: one for each property, a cell for each of `COLUMNS`.
        closing: what else there is to say.
    """
    answer = screen_of([_answer(verdict, rows, closing)])
    ordered = sorted(rows, key=lambda row: _rank(row[1]))
    body = render("audit.html.jinja", account=account, columns=COLUMNS, rows=ordered)
    screens = [answer, Screen(id="properties", title="Every property", short="Properties", body=body)]
    return document(Page(title=f"Audit of {name}", screens=screens))


def _answer(verdict: str, rows: Sequence[Sequence[str]], closing: Sequence[str]) -> Answer:
    said = [row[1] for row in rows]
    mood = "bad" if "broken" in said else "care" if {"known", "unclear", "not judged"} & set(said) else "good"
    counted = [f"{said.count(word)} {word}" for word in _WORST_FIRST if word in said]
    broken = [row[0] for row in rows if row[1] == "broken"]
    return Answer(
        question="Masked correctly?",
        short=verdict,
        mood=mood if rows else "care",
        lead=f"Properties: {', '.join(counted)}." if counted else "",
        names=[("✗", "broken", broken)] if broken else [],
        lines=list(closing),
    )


def _rank(verdict: str) -> int:
    return _WORST_FIRST.index(verdict) if verdict in _WORST_FIRST else len(_WORST_FIRST)
