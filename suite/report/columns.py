"""Tables that fit whatever terminal they are printed in, without a word or number broken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from suite.core.errors import inert
from suite.report import units

GAP = 2
"""Blanks between columns."""
COMFORT = 16
"""Cells of words are not made narrower than that while there is another way."""
MOST_PARTS = 3
"""A table that would fall into more of them becomes a list."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a column is called, and how it may be set."""

    title: str
    number: bool = False
    """Stands to the right."""
    words: bool = False
    """May take several lines, broken between words."""
    of_last: bool = False
    """Says something of the column before it, and stands beside it where it can."""


class Columns:
    """A table whose first column names the rows.

    Where it is wider than the terminal, cells of words are wrapped first; then the table is set in parts, one below the
    other, each with the first column; and in a very narrow terminal each row becomes a paragraph. Columns that say
    nothing are left out.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> None:
        made = [[cell if isinstance(cell, Text) else literal(cell) for cell in row] for row in rows]
        said = [
            index for index in range(len(columns)) if index == 0 or any(_says_something(row[index]) for row in made)
        ]
        self._columns = [columns[index] for index in said]
        self._rows = [[row[index] for index in said] for row in made]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        room = options.max_width
        parts = self._parts(room)
        if parts is None:
            yield from self._paragraphs()
            return
        for number, part in enumerate(parts):
            if number:
                yield Text()
            yield self._table(part, room)

    def _parts(self, room: int) -> list[list[int]] | None:
        """Which columns stand side by side; None where too few of them can."""
        key = self._least(0)
        parts: list[list[int]] = [[0]]
        taken = key
        for index in range(1, len(self._columns)):
            wide = GAP + self._least(index)
            if key + wide > room:
                return None
            together = wide + sum(GAP + self._least(other) for other in self._followers(index))
            if taken + (together if key + together <= room else wide) > room:
                parts.append([0])
                taken = key
            parts[-1].append(index)
            taken += wide
        return parts if len(parts) <= MOST_PARTS and key <= room else None

    def _followers(self, index: int) -> Iterator[int]:
        for other in range(index + 1, len(self._columns)):
            if not self._columns[other].of_last:
                return
            yield other

    def _least(self, index: int) -> int:
        """Cells that a column needs so that nothing in it is broken."""
        column = self._columns[index]
        title = _longest_word(column.title)
        if column.words:
            widest = self._natural(index)
            word = max((_longest_word(row[index].plain) for row in self._rows), default=0)
            return max(title, word, min(widest, COMFORT))
        return max([title, *(row[index].cell_len for row in self._rows)])

    def _natural(self, index: int) -> int:
        """Cells that a column takes on one line."""
        return max([cell_len(self._columns[index].title), *(row[index].cell_len for row in self._rows)])

    def _table(self, part: Sequence[int], room: int) -> Table:
        widths = {index: self._least(index) for index in part}
        spare = room - sum(widths.values()) - GAP * (len(part) - 1)
        # titles first: they need little
        for index in sorted(part, key=lambda index: self._columns[index].words):
            more = min(spare, self._natural(index) - widths[index])
            widths[index] += more
            spare -= more
        titled = any(self._columns[index].title for index in part)
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0), show_header=titled)
        for index in part:
            column = self._columns[index]
            table.add_column(
                Text(column.title), justify="right" if column.number else "left", width=widths[index], overflow="fold"
            )
        for row in self._rows:
            table.add_row(*(row[index] for index in part))
        return table

    def _paragraphs(self) -> Iterator[RenderableType]:
        for row in self._rows:
            yield row[0]
            said = [
                Text.assemble(f"{column.title} ".lstrip(), cell)
                for column, cell in list(zip(self._columns, row, strict=True))[1:]
                if _says_something(cell)
            ]
            yield Padding(_Items(said), (0, 0, 0, 2), expand=False)


class _Items:
    """Short texts one after the other, a line ending between two of them where it can."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self._texts = texts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        now = Text()
        for number, text in enumerate(self._texts):
            item = text if number == len(self._texts) - 1 else text + Text(",")
            if now.plain and now.cell_len + 1 + item.cell_len > options.max_width:
                yield now
                now = Text()
            now = now + Text(" ") + item if now.plain else item
        if now.plain:
            yield now


def literal(text: object, *, style: str = "") -> Text:
    """One line of text of any origin: shown sign by sign, whatever a terminal might take it for."""
    return Text(inert(str(text)), style=style)


def indented(text: str, *further: str, style: str = "") -> RenderableType:
    """A paragraph, and what belongs to it, further in."""
    lines = [(2, text), *((4, more) for more in further if more)]
    return Group(*(Padding(literal(said, style=style), (0, 0, 0, inward), expand=False) for inward, said in lines))


def _says_something(cell: Text) -> bool:
    return cell.plain not in ("", units.MISSING)


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)
