"""Questions and their answers, side by side: the first screen of every page."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from suite.report.html.document import Screen, render


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question and what is said of it."""

    question: str
    short: str
    """What is read from across a room."""
    mood: str = ""
    """``good``, ``bad``, ``care`` or nothing; the words say it too."""
    lead: str = ""
    """The sentence that goes on from there."""
    lines: Sequence[Markup | str] = ()
    names: Sequence[tuple[str, str, Sequence[str]]] = ()
    """A glyph, what it stands for, and the variants of which it is said."""
    folded: Sequence[tuple[Markup | str, Sequence[Markup | str]]] = ()
    """A line each, and what is read below it by who asks for more."""
    command: str = ""


def screen_of(answers: Sequence[Answer]) -> Screen:
    """The answers, side by side where there is room."""
    return Screen(id="answer", title="The answer", short="Answer", body=render("verdict.html.jinja", answers=answers))
