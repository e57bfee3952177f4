"""What the public implementations do differently, which defects that makes, and what it costs: one section each."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from suite.core import stats
from suite.core.records import Finding, Measurement, Record
from suite.report import standing, units, wording

MOST_SHOWN = 4
"""Ways in which one defect shows that are quoted, the largest first; the findings hold all of them."""
VERDICTS = {
    "slower": "so the published code is slower",
    "faster": "so the published code is faster",
    "same": "so they take the same time",
    "unclear": "so it is unclear which is faster",
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an implementation comes from, and what it does that the paper does not say."""

    where: str
    differs: str
    ours: str
    """The mechanism that computes the same with its masks right."""


ORIGINS = {
    "published_csdn": Origin(
        where="the PyTorch port of CSDN article 117292683",
        differs="no tanh on the affinity; a softmax of a softmax on the question; both projections formed twice",
        ours="parallel[affinity=linear]",
    ),
    "published_skyol5": Origin(
        where="SkyOL5/VQA-CoAttention",
        differs="no tanh on the affinity; 30 hidden units; no mask on either side",
        ours="parallel[affinity=linear]",
    ),
    "published_skyol5_net": Origin(
        where="SkyOL5/VQA-CoAttention, the whole network",
        differs="no tanh on the affinity; a dilated bigram that skips the neighbour; examples sorted by length",
        ours="hierarchical",
    ),
    "published_zhangtd_parallel": Origin(
        where="Zhangtd/Models-reproducing",
        differs="no tanh on the affinity; the mask is accepted and then ignored",
        ours="parallel[affinity=linear]",
    ),
    "published_zhangtd_alternating": Origin(
        where="Zhangtd/Models-reproducing",
        differs="biases per position fix the lengths; the guide is one constant per row, which the softmax cancels",
        ours="alternating",
    ),
    "published_hiecoatt_parallel": Origin(
        where="jiasenlu/HieCoAttenVQA, the authors of the paper",
        differs="biases; the mask is on the question's softmax alone",
        ours="parallel[bias=true]",
    ),
    "published_hiecoatt_alternating": Origin(
        where="jiasenlu/HieCoAttenVQA, the authors of the paper",
        differs="weights of its own for each of the three steps; biases",
        ours="alternating[bias=true]",
    ),
    "published_hiecoatt": Origin(
        where="jiasenlu/HieCoAttenVQA, the authors of the paper",
        differs="tanh after the maximum of the phrase level; a hand-written backward that takes gradient from padding",
        ours="hierarchical",
    ),
    "published_dcn": Origin(
        where="cvlab-tohoku/Dense-CoAttention-Network, the authors of the paper",
        differs="fills masked scores with -65504; keeps its attention maps on itself",
        ours="dense",
    ),
    "published_mcan": Origin(
        where="MILVLG/mcan-vqa, the authors of the paper",
        differs="takes regions of zeros for padding; fills with -1e9; unbiased standard deviation in its norm",
        ours="modular",
    ),
}


def section(cells: pd.DataFrame, records: Iterable[Record]) -> str:
    """A part per published implementation that the run audited or timed; empty where there is none."""
    known: dict[str, list[Finding]] = defaultdict(list)
    apart: dict[str, Measurement] = {}
    for record in records:
        if isinstance(record, Finding) and record.variant in ORIGINS:
            known[record.variant].append(record)
        elif isinstance(record, Measurement) and record.quantity == "deviation_from_corrected":
            apart[record.variant] = record
    timed = [str(name) for name in cells["variant"] if name in ORIGINS]
    names = dict.fromkeys([*known, *apart, *timed])
    return "\n\n".join("\n".join(_part(name, ORIGINS[name], known[name], apart.get(name), cells)) for name in names)


def _part(
    name: str, origin: Origin, findings: Sequence[Finding], apart: Measurement | None, cells: pd.DataFrame
) -> list[str]:
    lines = [
        f"### `{name}`",
        "",
        f"From {origin.where}. Differs from the paper: {origin.differs}. Corrected here as `{origin.ours}`.",
        "",
    ]
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
    speeds = _speeds(name, origin.ours, cells)
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


def _speeds(name: str, ours: str, cells: pd.DataFrame) -> list[str]:
    """Its time beside the corrected mechanism's, through the anchor that stood beside both."""
    lines = []
    for _, here in wording.trusted(cells).groupby(["workload", "phase", "device"], sort=False):
        found = {str(row["variant"]): row for row in wording.rows(here)}
        if name not in found:
            continue
        place = f"{found[name]['workload']}, {found[name]['phase']}, {found[name]['device']}"
        text = f"{place}: {wording.latency(found[name])}"
        if (beside := _beside(name, ours, found)) is not None:
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
    beside = _beside(name, ORIGINS[name].ours, found) if name in ORIGINS and name in found else None
    if beside is None:
        return ""
    other, ratio = beside
    verdict = "" if ratio.verdict in ("faster", "slower") else f" {ratio.verdict}"
    return f"`{other}` {units.factor(ratio.estimate)}{verdict}"


def _beside(name: str, ours: str, found: dict[str, wording.Row]) -> tuple[str, stats.Ratio] | None:
    for other in dict.fromkeys((ours, ours.partition("[")[0])):
        ratio = standing.over(found[name], found[other]) if other in found else None
        if ratio is not None:
            return other, ratio
    return None
