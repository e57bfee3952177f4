"""The bar of what runs long: how far it is, how long it still takes, and what it is at."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.text import Text

from suite.core import interrupts
from suite.report.columns import literal

WIDEST = 40
"""Signs of the bar itself."""


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """A bar whose tasks have a field ``left`` besides their description; nothing where the console is no terminal."""
    bar = BarColumn(bar_width=max(4, min(WIDEST, console.width // 4)))
    disabled = not console.is_terminal or console.quiet

    def restore() -> None:
        if not disabled:
            console.show_cursor(True)

    with (
        Progress(bar, _Words(), console=console, transient=True, disable=disabled) as progress,
        # the bar hides the cursor, and a process that ends at once would leave it so
        interrupts.before_ending(restore),
    ):
        yield progress


class _Words(ProgressColumn):
    """What a task says, on one line: the time left is whole, and what it is at is cut at the terminal's edge."""

    def render(self, task: Task) -> Text:
        # no markup: it would take the [options] of a variant for its own
        said = literal(f"{task.fields['left']} {task.description}".strip())
        said.no_wrap, said.overflow = True, "ellipsis"
        return said
