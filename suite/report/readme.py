"""The README's table, made from the committed reference runs, so that nobody types a number into it."""

from pathlib import Path

import pandas as pd

from suite import folders, store
from suite.errors import UserError
from suite.report import published, tables, units, wording
from suite.report.wording import number
from suite.workloads import PHASES

BEGIN = "<!-- table:begin -->"
END = "<!-- table:end -->"
REFERENCES = Path("results/reference")


def write(path: Path, references: Path) -> None:
    """Put the tables of all reference runs between the marks of a README.

    Raises:
        UserError: there is no such file, its marks are not there once each, or there is no reference run.
    """
    if not path.is_file():
        raise UserError(f"--readme {path}: there is no such file")
    text = path.read_text(encoding="utf-8")
    before, after = around(text, path)
    path.write_text(f"{before}{BEGIN}\n{made_of(references)}\n{END}{after}", encoding="utf-8")


def around(text: str, path: Path) -> tuple[str, str]:
    """What stands before and after the marks.

    Raises:
        UserError: they are not there once each.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(f"{path}: expected {BEGIN} and, below it, {END}, once each")
    return text.partition(BEGIN)[0], text.partition(END)[2]


def made_of(references: Path) -> str:
    """A table per workload of each reference run: every mechanism, its fastest form, and whether it is right.

    Raises:
        UserError: there is no reference run.
    """
    found = sorted(path.parent for path in references.glob(f"*/{store.FILE}"))
    if not found:
        raise UserError(f"{references} holds no run: measure one with python run_all.py --out {references}/<device>")
    parts = []
    for folder in found:
        environment = folders.environment_or_nothing(folder)
        device, torch = (str(environment.get(name, "unknown")) for name in ("device", "torch"))
        made = tables.make(store.read(folder))
        for (workload, label), cells in made.cells.groupby(["workload", "device"], sort=False):
            parts.append(
                f"{device}, torch {torch}; `{workload}` on `{label}`, from "
                f"[{folder.name}](results/reference/{folder.name}/REPORT.md):\n\n{wording.markdown(_table(cells))}"
            )
    return "\n\n".join(parts)


def _table(cells: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for parent, forms in cells.groupby("parent", sort=False):
        row = {"variant": f"`{parent}`"}
        for phase in PHASES:
            here = forms[forms["phase"] == phase]
            own = here[here["variant"] == parent]
            row[phase] = wording.latency(next(iter(wording.rows(own)))) if len(own) else units.MISSING
            row[f"fastest form or nearest of ours, {phase}"] = published.corrected(
                str(parent), cells[cells["phase"] == phase]
            ) or _fastest(here)
        last = forms[forms["variant"] == parent].tail(1)
        row[f"peak memory, {PHASES[-1]}"] = next(
            (units.binary(number(item, "peak_memory_bytes")) for item in wording.rows(last)), units.MISSING
        )
        row["masking"] = _masking(forms)
        rows.append(row)
    return pd.DataFrame(rows)


def _fastest(cells: pd.DataFrame) -> str:
    """The transforms of the fastest form, what they gain, and how far they are from float64."""
    for best in wording.rows(wording.trusted(cells).nsmallest(1, "latency_s")):
        transforms = tables.transforms_of(str(best["variant"]))
        if not transforms:
            return "as it is"
        error = number(best, "agreement_error")
        off = "" if error is None else f", error {units.error(error)}"
        return f"`{'+'.join(('', *transforms))}` {wording.speedup(best)}{off}"
    return units.MISSING


def _masking(forms: pd.DataFrame) -> str:
    """Of all forms together: how many hold every property, and the verdicts of the others."""
    said = forms.drop_duplicates("variant")["masking"]
    good = int((said == "holds").sum())
    others = [text for text in dict.fromkeys(said) if text not in ("", "holds")]
    held = f"holds in {good} of {int((said != '').sum())} forms" if good else ""
    return "; ".join(filter(None, [held, *others])) or units.MISSING
