"""The README's table, made from the committed reference runs, so that nobody types a number into it."""

from pathlib import Path

from suite.core import devices, folders, store
from suite.core.errors import UserError
from suite.report import summary, tables, wording

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
    """Every mechanism, its fastest form, and whether it is right: the newest reference run of each kind of device.

    A table per workload.

    Raises:
        UserError: there is no reference run.
    """
    found = sorted(path.parent for path in references.glob(f"*/{store.FILE}"))
    if not found:
        raise UserError(f"{references} holds no run: measure one with python run_all.py --out {references}/<device>")
    described = {folder: folders.environment_or_nothing(folder) for folder in found}
    shown: set[str] = set()
    parts = []
    for folder in sorted(found, key=lambda folder: str(described[folder].get("started", "")), reverse=True):
        device, torch = (str(described[folder].get(name, "unknown")) for name in ("device", "torch"))
        made = tables.make(store.read(folder))
        kinds = {label: devices.parse(label).kind for label in made.cells["device"].unique()}
        newest = made.cells[~made.cells["device"].map(kinds).isin(shown)]
        shown |= set(kinds.values())
        for (workload, label), cells in newest.groupby(["workload", "device"], sort=False):
            parts.append(
                f"{device}, torch {torch}; `{workload}` on `{label}`, from "
                f"[{folder.name}](results/reference/{folder.name}/REPORT.md):\n\n"
                f"{wording.markdown(summary.table(cells), right=summary.RIGHT)}"
            )
    return "\n\n".join(parts)
