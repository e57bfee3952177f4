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
    nearest: str = ""
    """Of our own mechanisms, the one that does the same job, where what is right is the published one corrected."""


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
    "published_ban": Origin(
        where="jnhwkim/ban-vqa, the authors of the paper",
        differs="one gain for a whole array of weights; takes regions of zeros for padding; no mask on words",
        ours="bilinear[factor=3]",
    ),
    "published_drugban": Origin(
        where="peizhenbai/DrugBAN, the authors of the paper",
        differs="weights are scores without a softmax; one vector for both sides, normed over the batch; no mask",
        ours="published_drugban[corrected=true]",
        nearest="bilinear",
    ),
    "published_lxmert": Origin(
        where="airsplay/lxmert, the authors of the paper",
        differs="one attention, its norm included, for both directions; adds -10000 to padding",
        ours="published_lxmert[corrected=true]",
        nearest="transformer",
    ),
    "published_vilbert": Origin(
        where="facebookresearch/vilbert-multi-task, the authors of the paper",
        differs="two linear maps that nothing uses; its own norm fails in half precision; adds -10000 to padding",
        ours="published_vilbert[corrected=true]",
        nearest="transformer",
    ),
    "published_gdino": Origin(
        where="IDEA-Research/GroundingDINO, the authors of the paper",
        differs="subtracts the largest score of the whole batch and clamps; the residual starts behind the norm",
        ours="published_gdino[corrected=true]",
        nearest="bidirectional",
    ),
    "published_lightglue": Origin(
        where="cvg/LightGlue, the authors of the paper",
        differs="one projection for both roles and sides; NaN is turned into 0 forwards alone",
        ours="published_lightglue[corrected=true]",
        nearest="bidirectional",
    ),
    "published_mcat": Origin(
        where="mahmoodlab/MCAT, the authors of the paper",
        differs="its maps are scores before the softmax; the genes' own branch never reads the patches; no mask",
        ours="published_mcat[corrected=true]",
        nearest="bags",
    ),
    "published_bidaf": Origin(
        where="galsang/BiDAF-pytorch",
        differs="squeezes that drop a batch of one; words one after another; no mask",
        ours="flow[projected=false]",
    ),
    "published_allennlp": Origin(
        where="allenai/allennlp-models",
        differs="scores of padding become 0 and are cut out behind the softmax",
        ours="flow[projected=false]",
    ),
    "published_coatt": Origin(
        where="atulkum/co-attention",
        differs="each softmax over the axis that the paper gives to the other; lengths serve its encoder alone",
        ours="published_coatt[corrected=true]",
        nearest="dynamic",
    ),
    "published_bacpi": Origin(
        where="CSUBioGroup/BACPI, the authors of the paper",
        differs="four rounds side by side; a softmax with the maximum of padding and a constant in its sum",
        ours="published_bacpi[corrected=true]",
        nearest="parallel",
    ),
    "published_blip2": Origin(
        where="transformers 5.24.0, BLIP-2's Q-Former",
        differs="text beside a ragged image raises; an empty image is read evenly",
        ours="published_blip2[corrected=true]",
        nearest="queries",
    ),
    "published_flamingo": Origin(
        where="lucidrains/flamingo-pytorch",
        differs="the latents read themselves beside the tokens; no mask",
        ours="published_flamingo[corrected=true]",
        nearest="queries",
    ),
    "published_perceiver": Origin(
        where="lucidrains/perceiver-pytorch",
        differs="what is read is not added to the queries; an empty side is read evenly",
        ours="published_perceiver[corrected=true]",
        nearest="queries",
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
    speeds = _speeds(name, origin, cells)
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


def _speeds(name: str, origin: Origin, cells: pd.DataFrame) -> list[str]:
    """Its time beside the corrected mechanism's, through the anchor that stood beside both."""
    lines = []
    for _, here in wording.trusted(cells).groupby(["workload", "phase", "device"], sort=False):
        found = {str(row["variant"]): row for row in wording.rows(here)}
        if name not in found:
            continue
        place = f"{found[name]['workload']}, {found[name]['phase']}, {found[name]['device']}"
        text = f"{place}: {wording.latency(found[name])}"
        if (beside := _beside(name, origin, found)) is not None:
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
    beside = _beside(name, ORIGINS[name], found) if name in ORIGINS and name in found else None
    if beside is None:
        return ""
    other, ratio = beside
    verdict = "" if ratio.verdict in ("faster", "slower") else f" {ratio.verdict}"
    return f"`{other}` {units.factor(ratio.estimate)}{verdict}"


def _beside(name: str, origin: Origin, found: dict[str, wording.Row]) -> tuple[str, stats.Ratio] | None:
    for other in dict.fromkeys((origin.ours, origin.nearest or origin.ours.partition("[")[0])):
        ratio = standing.over(found[name], found[other]) if other in found else None
        if ratio is not None:
            return other, ratio
    return None
