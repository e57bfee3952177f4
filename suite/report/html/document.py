"""One HTML file from screens: its looks, its scripts and its data are inside it, and it may fetch nothing.

What records say is data: in markup it is escaped by the template or by `inline`, and in a script it is JSON without a
character that could end the script. The policy in the head lets those scripts run that were hashed when the page was
made, and no others, whatever a record holds.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup, escape

from suite.core.errors import inert

FILE = "report.html"
VENDORED = ("vega.min.js", "vega-lite.min.js", "vega-embed.min.js")
_FILES = resources.files("suite.report.html")
_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)
_MARKED = re.compile(r"\*\*(?P<strong>.+?)\*\*|`(?P<code>[^`]+)`|(?<!\w)\*(?P<quiet>[^*\s][^*]*)\*(?!\w)")
_UNSAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart, with the sentence that it shows."""

    id: str
    title: str
    """A function of the points that are drawn."""
    spec: Mapping[str, object]
    """Vega-Lite, as plain JSON; its data is inside."""
    says: str = ""
    """How to read it."""
    when: Mapping[str, str] = field(default_factory=dict)
    """The choices under which it is shown, such as its ``place``; none: always."""
    drawn: bool = True
    """Points that nobody sees need no chart: the title stays, as it says why."""


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A part of the page that the navigation names."""

    id: str
    title: str
    body: Markup
    short: str = ""
    """What the navigation calls it, where the title is long."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What `document` makes a file of."""

    title: str
    screens: Sequence[Screen]
    figures: Sequence[Figure] = ()
    data: Mapping[str, object] = field(default_factory=dict)
    """What the scripts read, under the names that they know."""
    about: Sequence[str] = ()
    """Below the title, in small letters."""


def document(page: Page) -> str:
    """The whole file."""
    figures = {figure.id: figure.spec for figure in page.figures if figure.drawn}
    scripts = [*(_vendored() if figures else ()), _text("page.js")]
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            page=page,
            title=inert(page.title),
            style=Markup(_text("page.css")),
            policy=_policy(scripts),
            data=in_script({"figures": figures, **page.data}),
            scripts=[Markup(script) for script in scripts],
        )
    )


def render(template: str, **values: object) -> Markup:
    """A part of a page from one of this room's templates; every text in it is escaped."""
    return Markup(_environment().get_template(template).render(**values))


def inline(text: str) -> Markup:
    """A sentence with ``**strong**`` words, ``*quiet*`` ones and names in backticks, and nothing else of Markdown."""

    def marked(match: re.Match[str]) -> str:
        name = {"strong": "strong", "code": "code", "quiet": "em"}[match.lastgroup or "strong"]
        return f"<{name}>{match[match.lastgroup or 'strong']}</{name}>"

    return Markup(_MARKED.sub(marked, str(escape(text))))


def in_script(value: object) -> Markup:
    """JSON that a script element holds whole: nothing in it can end the element.

    Raises:
        ValueError: a number is not finite.
    """
    return Markup(json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_UNSAFE))


def _policy(scripts: Sequence[str]) -> str:
    """Nothing is fetched from anywhere; pictures come from the file itself; only these scripts run."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text), undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.filters["inline"] = inline
    return made


@cache
def _text(name: str) -> str:
    # a browser reads a carriage return as a newline, and would find another hash
    return _FILES.joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")


@cache
def _vendored() -> tuple[str, ...]:
    """As their authors publish them, but for the address of a file that is not there."""
    return tuple(_SOURCE_MAP.sub("", _text(f"vendor/{name}")) for name in VENDORED)
