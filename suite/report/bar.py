"""The bar of what runs long: how far it is, how long it still takes, and what it is at."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


@contextlib.contextmanager
def progress_bar(console: Console) -> Iterator[Progress]:
    """A bar whose tasks have a field ``left`` besides their description; nothing where the console is no terminal."""
    # no markup: it would take the [options] of a variant for its own
    texts = (TextColumn(text, markup=False) for text in ("{task.fields[left]}", "{task.description}"))
    with Progress(BarColumn(), *texts, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress
