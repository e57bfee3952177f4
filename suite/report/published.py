"""What the public implementations do differently, which defects that makes, and what it costs: one section each."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from suite.core import stats
from suite.core.described import Descriptions
from suite.core.records import Description, Finding, Measurement, Record
from suite.report import standing, units, wording

MOST_SHOWN = 4
"""Ways in which one defect shows that are quoted, the largest first; the findings hold all of them."""
VERDICTS = {
    "slower": "so the published code is slower",
    "faster": "so the published code is faster",
    "same": "so they take the same time",
    "unclear": "so it is unclear which is faster",
}


def section(cells: pd.DataFrame, records: Iterable[Record]) -> str:
    """A part per published implementation that the run audited or timed; empty where there is none."""
    records = list(records)
    described = Descriptions(records)

    def is_published(variant: str) -> bool:
        """Whether it is published code as it was published, without options and transforms of ours."""
        return described[variant].role == "published" and described[variant].mechanism == variant

    known: dict[str, list[Finding]] = defaultdict(list)
    apart: dict[str, Measurement] = {}
    for record in records:
        if isinstance(record, Finding) and is_published(record.variant):
            known[record.variant].append(record)
        elif isinstance(record, Measurement) and record.quantity == "deviation_from_corrected":
            apart[record.variant] = record
    timed = [str(name) for name in cells["variant"] if is_published(str(name))]
    names = dict.fromkeys([*known, *apart, *timed])
    return "\n\n".join("\n".join(_part(described[name], known[name], apart.get(name), cells)) for name in names)


def _part(
    origin: Description, findings: Sequence[Finding], apart: Measurement | None, cells: pd.DataFrame
) -> list[str]:
    lines = [f"### `{origin.variant}`", ""]
    if origin.where:  # runs of before it was on record do not say
        said = f"From {origin.where}. Differs from the paper: {origin.differs}. Corrected here as `{origin.ours}`."
        lines += [said, ""]
    if apart is not None:
        lines += [_apart(apart), ""]
    by_defect: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.verdict == "known":
            declared = finding.details.get("defects")
            for defect in declared if isinstance(declared, list | tuple) else [finding.quantity]:
                by_defect[str(defect)].append(finding)
    for defect, shown in by_defect.items():
        shown.sort(key=lambda finding: finding.value or 0.0, reverse=True)
        lines.append(f"- **{defect}**")
        lines += [f"  - {finding.quantity}: {finding.summary}" for finding in shown[:MOST_SHOWN]]
        if len(shown) > MOST_SHOWN:
            lines.append(f"  - and as {', '.join(finding.quantity for finding in shown[MOST_SHOWN:])}")
    examined = [finding for finding in findings if finding.verdict not in ("not applicable", "not judged")]
    if examined and not by_defect:
        lines.append("- none of its known defects showed in this run")
    speeds = _speeds(origin.variant, cells)
    return [*lines, *([""] if speeds else []), *speeds]


def _apart(record: Measurement) -> str:
    """Both with the same weights on the same padded batch, and without padding."""
    outputs = {name: value for name, value in record.details.items() if name != "unpadded"}
    moved = ", ".join(f"{name} by {_number(value)}" for name, value in outputs.items())
    return (
        f"With the same weights on a batch padded on both sides it differs from the corrected mechanism in {moved} "
        f"(relative to the corrected output); without padding, by {_number(record.details['unpadded'])} at most."
    )


def _number(value: object) -> str:
    if not isinstance(value, int | float):
        return "something not finite"
    return units.digits(value) if value >= 0.01 else units.error(value)


def _speeds(name: str, cells: pd.DataFrame) -> list[str]:
    """Its time beside the corrected mechanism's, through the anchor that stood beside both."""
    lines = []
    for _, here in wording.trusted(cells).groupby(["workload", "phase", "device"], sort=False):
        found = {str(row["variant"]): row for row in wording.rows(here)}
        if name not in found:
            continue
        place = f"{found[name]['workload']}, {found[name]['phase']}, {found[name]['device']}"
        text = f"{place}: {wording.latency(found[name])}"
        if (beside := _beside(found[name], found)) is not None:
            other, ratio = beside
            said = units.factor_between(ratio.estimate, ratio.low, ratio.high)
            text += f", `{other}` is {said} as fast ({VERDICTS[ratio.verdict]})"
        lines.append(f"- {text}")
    return lines


def corrected(name: str, cells: pd.DataFrame) -> str:
    """The nearest mechanism of ours that was timed, and how many times as fast it is; empty if unknown.

    Args:
        name: of a published implementation.
        cells: of one workload, phase and device.
    """
    found = {str(row["variant"]): row for row in wording.rows(wording.trusted(cells))}
    beside = _beside(found[name], found) if name in found else None
    if beside is None:
        return ""
    other, ratio = beside
    verdict = "" if ratio.verdict in ("faster", "slower") else f" {ratio.verdict}"
    return f"`{other}` {units.factor(ratio.estimate)}{verdict}"


def _beside(row: wording.Row, found: dict[str, wording.Row]) -> tuple[str, stats.Ratio] | None:
    for other in dict.fromkeys((str(row["ours"]), str(row["nearest"]))):
        ratio = standing.over(row, found[other]) if other in found else None
        if ratio is not None:
            return other, ratio
    return None
