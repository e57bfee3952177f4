"""How a run or an ablation ends: its pages are written, and only then anything is printed."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import RenderableType

from suite.core import errors, exits, interrupts, store, streams
from suite.core.answer import Answer, Manner, fail, give
from suite.core.records import Record

if TYPE_CHECKING:
    from suite.report.tables import Tables


def finish(folder: Path, manner: Manner, *, interrupted: bool, resume: str) -> int:
    """Make the pages of what was measured, print the answer, and say how it ended.

    Args:
        folder: of the run.
        manner: in which the answer is wanted.
        interrupted: whether somebody ended it early.
        resume: the command that continues it.

    Returns:
        The exit code.
    """
    if interrupted:
        manner.console().print("interrupted: the pages of what was measured are made (Ctrl-C once more ends at once)")
    from suite.report import ablation, page  # here, since what draws takes seconds to load and is needed last

    records = store.read(folder)
    judged = store.current(records) if ablation.is_ablation(records) else records
    code = exits.INTERRUPTED if interrupted else exits.code(judged)
    made = page.made_of(records)
    path, failure = None, None
    try:
        path = page.write(folder, records, made)
    except (OSError, errors.UserError) as error:
        failure = errors.of_the_system(error, folder) if isinstance(error, OSError) else str(error)
        if failure is None:
            raise
        code = exits.INTERRUPTED if interrupted else exits.CELLS_FAILED
    found = answer(records, folder, path, code=code, made=made)
    extra = {"interrupted": True, "resume": resume} if interrupted else {}
    if failure is not None:
        extra["error"] = failure
    code = give(Answer(code=code, words=found.words, last=found.last, data=extra | dict(found.data)), manner)
    if failure is not None:
        streams.error(
            f"{failure}: the page could not be written; every record is stored, and "
            f"python run_all.py report {shlex.quote(str(folder))} makes it again"
        )
    if interrupted:
        say_how_to_go_on(manner, resume)
    return code


def seen_through(work: Callable[[], int], folder: Path, manner: Manner, *, resume: str) -> int:
    """The exit code of work on a folder, also where it is interrupted before its end or the system refuses something.

    Args:
        work: all of it, `finish` included.
        folder: that it writes into.
        manner: in which the answer is wanted.
        resume: the command that continues it.
    """
    try:
        with interrupts.heeded():
            return work()
    except KeyboardInterrupt:
        fail("interrupted", exits.INTERRUPTED, manner, data={"folder": folder, "resume": resume}, aloud=False)
        say_how_to_go_on(manner, resume)
        return exits.INTERRUPTED
    except OSError as error:
        refused = errors.of_the_system(error, folder)
        if refused is None:
            raise
        hint = f"what is stored is whole; once that is mended, {resume} continues"
        return fail(f"{refused}; {hint}", exits.CELLS_FAILED, manner, data={"folder": folder, "resume": resume})


def answer(
    records: Sequence[Record], folder: Path, path: Path | None, *, code: int, made: "Tables | None" = None
) -> Answer:
    """What a folder's records say, once its page is written from them and, for a run, from the tables made."""
    from suite.report import ablation, selfcheck, tables, terminal

    words: list[RenderableType]
    if ablation.is_ablation(records):
        words, data = ablation.words(records), ablation.data(records)
    elif selfcheck.is_selfcheck(records):
        words, data = selfcheck.words(records), {"rows": selfcheck.data(records)}
    else:
        made = tables.make(records) if made is None else made
        words, data = terminal.words(made), terminal.data(made)
    return Answer(
        code=code,
        words=words,
        last=str(path or folder),
        data={"folder": folder, "page": path, "records": folder / store.FILE} | data,
    )


def say_how_to_go_on(manner: Manner, resume: str) -> None:
    """After an interruption: the command on a line of its own, so that it can be copied."""
    console = manner.console()
    console.print("interrupted; this continues:")
    console.print(f"  {resume}", soft_wrap=True)
