"""Texts from elsewhere as text and nothing else: in Markdown, in the HTML that it becomes, and in spreadsheets.

Names, reasons and summaries come from records, which may come from anybody. `suite.core.records` has taken the
characters from them that a terminal obeys; what a page obeys is taken here, where a page is made.
"""

import html
import re
import string
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, TypeVar

import pandas as pd

from suite.core.records import Artifact, Description, Finding, Measurement, Record, Skip
from suite.report.tables import Tables

T = TypeVar("T")
_MARKS = re.compile(
    r"""(?P<html>[<>|]|&(?=[#\w]))       # tags, columns of a table, entities
      | (?P<mark>[`*~$#]                 # code, emphasis, formulas, headings
          | (?<![^\W_])_ | _(?![^\W_])   # an underscore within a word is one
          | \\(?=[!-/:-@\[-`{-~])        # what already escapes something
          | (?<=\])\( )                  # a link
      | (?P<address>(?<=:)// | (?<=www)\. | @(?=\w))""",  # what becomes a link by itself
    re.VERBOSE | re.IGNORECASE,
)
_OPENING = re.compile(r"\s*(?=[-+>=]|\d+[.)])")
_PLAIN = re.compile(r"[^`<>|\\&]*")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@lru_cache(maxsize=65536)
def prose(text: str) -> str:
    """Markdown that shows a text as it is; an ordinary text stays the same."""
    escaped = _MARKS.sub(_escaped, text.strip())
    if _OPENING.match(escaped):  # a list, a quotation or a rule, at the start of a line
        head, mark, rest = re.split(r"([-+>=.)])", escaped, maxsplit=1)
        escaped = f"{head}\\{mark}{rest}"
    return escaped


def _escaped(match: re.Match[str]) -> str:
    text = match[0]
    if match["mark"]:
        return f"\\{text}"
    return "".join(f"&#{ord(letter)};" for letter in text) if match["address"] or text == "|" else html.escape(text)


def code(text: str) -> str:
    """Markdown that shows a text as code."""
    text = text.strip()
    if _PLAIN.fullmatch(text):
        return f"`{text}`" if text else ""
    marks = {ord(mark): f"&#{ord(mark)};" for mark in string.punctuation}
    return f"<code>{text.translate(marks)}</code>"


def name(text: str) -> str:
    """A name that pages set as code, in bold or in a heading, without the characters that would end it."""
    return re.sub(r"[`<>|\\*~$#&!]|(?<=\])\(|(?<=:)/", "·", text).strip()


def record(given: Record) -> Record:
    """A record whose sentences are `prose`; its names were checked when it was read, its remedy is for `code`."""
    match given:
        case Finding():
            return replace(given, summary=prose(given.summary), details=_details(given.details))
        case Skip():
            return replace(given, reason=prose(given.reason), details=_details(given.details))
        case Measurement(trust=trust) if trust or given.details:
            return replace(given, trust=tuple(map(prose, trust)), details=_details(given.details))
        case Description():
            return replace(given, where=prose(given.where), differs=prose(given.differs))
        case Measurement() | Artifact():
            return given


def _details(given: T) -> T:
    if isinstance(given, str):
        return prose(given)  # type: ignore[return-value]  # a text for a text
    if isinstance(given, list | tuple):
        return [_details(item) for item in given]  # type: ignore[return-value]  # a list for a list
    if isinstance(given, dict):
        return {key: _details(value) for key, value in given.items()}  # type: ignore[return-value]
    return given


def tables(made: Tables) -> Tables:
    """The tables of a run with every sentence as `prose`; remedies stay as they are, for `code`."""
    frames: dict[str, Any] = {item.name: getattr(made, item.name) for item in fields(made)}
    frames = {name: _frame(table) for name, table in frames.items() if isinstance(table, pd.DataFrame)}
    return replace(made, **frames)


def _frame(frame: pd.DataFrame) -> pd.DataFrame:
    changed = frame.copy()
    for column in frame.columns:
        if column not in ("remedy", "form") and not pd.api.types.is_numeric_dtype(frame[column]):
            changed[column] = [prose(value) if isinstance(value, str) else value for value in frame[column]]
    return changed


def spreadsheet(frame: pd.DataFrame) -> pd.DataFrame:
    """A table for a CSV file: no text is a formula to the program that opens it, and several texts are one."""
    changed = frame.copy()
    for column in frame.columns:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            changed[column] = frame[column].map(_in_a_cell)
    return changed


def _in_a_cell(value: object) -> object:
    joined = "; ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"'{joined}" if isinstance(joined, str) and joined.startswith(_FORMULA) else joined
