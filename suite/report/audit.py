"""A page of one audit: self-contained, from plain text alone."""

from collections.abc import Sequence
from html import escape

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td, th { padding: .2rem .6rem; text-align: left; vertical-align: top; }
tr { border-top: 1px solid #8884; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
.broken { color: #b3261e; font-weight: 600; } .holds { color: #1b6e3c; } .verdict { font-size: 1.15rem; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e3e3e3; } .broken { color: #ff8a80; }
.holds { color: #7fd6a2; } }
"""
COLUMNS = ("property", "verdict", "severity", "leak", "limit", "/ noise", "what")


def page(name: str, verdict: str, account: Sequence[str], rows: Sequence[Sequence[str]], closing: Sequence[str]) -> str:
    """The page, as HTML.

    Args:
        name: what was audited.
        verdict: the one line that matters most.
        account: what was made of its signature.
        rows: one for each property, a cell for each of `COLUMNS`.
        closing: what else there is to say.
    """
    items = "".join(f"<li>{escape(line)}</li>" for line in account)
    heads = "".join(f"<th scope=col>{escape(title)}</th>" for title in COLUMNS)
    body = "".join(f"<tr>{''.join(_cell(index, cell) for index, cell in enumerate(row))}</tr>" for row in rows)
    further = "".join(f"<p>{escape(line)}</p>" for line in closing)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Audit of {escape(name)}</title><style>{STYLE}</style>"
        f"<h1>{escape(name)}</h1><p class=verdict>{escape(verdict)}</p>{further}"
        f"<h2>How it was read</h2><ul>{items}</ul>"
        f"<h2>Properties</h2><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></html>\n"
    )


def _cell(index: int, cell: str) -> str:
    kind = (
        f" class={cell}" if index == 1 and cell in ("broken", "holds") else " class=number" if 3 <= index <= 5 else ""
    )
    return f"<td{kind}>{escape(cell)}</td>"
