"""The pages of a slot on a GPU: of each of its runs, and SLOT.md, which says how every step ended."""

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from suite.core.errors import UserError

FILE = "slot.json"
SUMMARY = "SUMMARY.txt"
PAGE = "SLOT.md"
_LARGEST_B = 2**28
"""Of what an archive holds, unpacked."""


def told(step: Mapping[str, Any]) -> str:
    """A step that has ended, on one line."""
    return f"{step['way']:>8}  {step['took_s']:6.1f} s  {step['name']}: {step['said'] or step['says']}"


def holds(path: Path) -> bool:
    """Whether a path is a slot's archive, or a folder that one was unpacked to."""
    return path.is_file() or (path / FILE).is_file()


def unpacked(path: Path) -> Path:
    """The folder of a slot: itself, or what an archive holds, unpacked beside it.

    Raises:
        UserError: it is no archive of a slot.
    """
    if path.is_dir():
        return path
    try:
        with tarfile.open(path) as packed:
            members = packed.getmembers()
            tops = {Path(member.name).parts[0] for member in members if member.name.strip("/")}
            occupied = any((path.parent / top).exists() and not holds(path.parent / top) for top in tops)
            if occupied:
                raise UserError(f"{path}: {path.parent / tops.pop()} is in the way: expected nothing, or a slot")
            if len(tops) != 1 or sum(member.size for member in members) > _LARGEST_B:
                raise UserError(f"{path}: expected the archive of a slot, which has one folder")
            packed.extractall(path.parent, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path}: no archive of a slot: {error}") from error
    folder = path.parent / tops.pop()
    if not (folder / FILE).is_file():
        raise UserError(f"{path}: expected the archive of a slot, which has a {FILE}")
    return folder


def write(folder: Path) -> Path:
    """Make the pages of all runs of a slot, and its own.

    Returns:
        The path of SLOT.md.

    Raises:
        UserError: its steps cannot be read.
    """
    from suite.core import folders

    described = folders.json_of(folder / FILE)
    if not isinstance(described, dict) or not isinstance(described.get("steps"), list):
        raise UserError(f"{folder / FILE}: expected an object with steps")
    pages = dict(_pages(folder))
    return folders.write(folder, PAGE, "\n".join(_lines(described, pages)) + "\n")


def _pages(folder: Path) -> Iterator[tuple[str, str]]:
    """By step, where its page is, or why there is none."""
    from suite.core import store
    from suite.core.records import SELFCHECK, Finding
    from suite.report import page, selfcheck
    from suite.report.html import checked

    for path in sorted(folder.glob(f"*/{store.FILE}")):
        run = path.parent
        try:
            records = store.read(run)
            if any(isinstance(record, Finding) and record.quantity == SELFCHECK for record in records):
                selfcheck.write(run)
                made = checked.write(run)
            else:
                made = page.write(run)
            yield run.name, f"[{run.name}]({made.relative_to(folder)})"
        except UserError as error:  # one run that cannot be read costs its own page
            yield run.name, f"no page: {error}"


def _lines(described: Mapping[str, Any], pages: Mapping[str, str]) -> Iterator[str]:
    steps = [step for step in described["steps"] if isinstance(step, dict)]
    what = (
        "A rehearsal over a double of a GPU: no number here is of a device" if described.get("rehearsal") else "A slot"
    )
    yield f"# {what}"
    yield ""
    began, seconds = (_cell(described.get(key, "unknown")) for key in ("began", "seconds"))
    yield f"Begun {began}, {seconds} s were given."
    yield ""
    failed = [step for step in steps if step.get("way") in ("failed", "cut")]
    for step in failed:
        yield f"- **{_cell(step.get('name', ''))}** {_cell(step.get('way', ''))}: {_cell(step.get('said', ''))}"
    if not failed:
        yield "No step failed."
    yield ""
    yield "| step | what it finds out | how it ended | seconds | its last words | page |"
    yield "|---|---|---|---|---|---|"
    for step in steps:
        told = [_cell(step.get(key, "")) for key in ("name", "says", "way", "took_s", "said")]
        yield f"| {' | '.join(told)} | {pages.get(str(step.get('name', '')), '')} |"


def _cell(value: object) -> str:
    from suite.report import escape

    return escape.prose(str(value)[:300])
