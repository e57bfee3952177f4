"""What the records say, as tables of numbers in base units: every page and plot is made from these."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from suite.core import devices, stats, workloads
from suite.core.described import Descriptions
from suite.core.errors import UserError
from suite.core.latencies import Latencies, Place, doubts
from suite.core.records import (
    ANCHOR,
    FAILURES,
    HARNESS,
    WORST_FIRST,
    Artifact,
    Cell,
    Description,
    Finding,
    Measurement,
    Record,
    Skip,
)

K = TypeVar("K", bound=Hashable)
_MEASURED = {
    "device": "device_s",
    "device_cold": "device_cold_s",
    "latency_cold": "cold_latency_s",
    "launch": "launch_s",
    "first_call": "first_call_s",
    "compile_time": "compile_time_s",
    "cold_start": "cold_start_s",
    "peak_memory": "peak_memory_bytes",
    "saved_for_backward": "saved_for_backward_bytes",
    "reserved_memory": "reserved_memory_bytes",
    "graph_pool_memory": "graph_pool_bytes",
    "matmul_flops": "matmul_flops",
    "least_bytes": "least_bytes",
    "agreement_error": "agreement_error",
    "graphs": "graphs",
    "graph_breaks": "graph_breaks",
    "recompiles": "recompiles",
}
_MOSTLY = 0.9
"""Share of valid slots from which on passing over the others saves next to nothing."""
CELL_COLUMNS = (
    *("workload", "phase", "device", "variant", "mechanism", "role", "form", "precision", "execution", "dtype"),
    *("latency_s", "latency_low_s", "latency_high_s", "spread", "samples", "processes", "examples_per_s"),
    *("parent", "speedup", "speedup_low", "speedup_high", "speedup_rounds", "verdict"),
    *("over_anchor", "over_anchor_low", "over_anchor_high", "over_anchor_rounds", "over_anchor_verdict"),
    *_MEASURED.values(),
    *("flop_per_s", "of_machine", "of_machine_low", "of_machine_high", "bound"),
    *("masking_verdict", "masking", "agreement_verdict", "agreement", "hidden_by", "hidden", "known"),
    *("trust", "skipped", "remedy", "ours", "nearest"),
)

GROWTH_COLUMNS = (
    *("workload", "phase", "device", "variant", "mechanism", "role", "form", "precision", "execution", "parent"),
    *("latency_s", "examples_per_s", "peak_memory_bytes", "hidden", "trust"),
)
"""What a sweep repeats of its cells."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """A run as tables."""

    cells: pd.DataFrame
    """One row per variant, workload, phase and device; columns `CELL_COLUMNS`."""
    findings: pd.DataFrame
    """One row per finding, as recorded."""
    masking: pd.DataFrame
    """Variants by properties: the verdict that a person must see first; ``titles`` among its attributes are the few
    words that findings give each property."""
    skips: pd.DataFrame
    """What was not measured, why, and the command that measures it."""
    growth: pd.DataFrame
    """One row per cell of a sweep, with the axis, its value, and the slope over the whole sweep."""
    peaks: pd.DataFrame
    """What the machine can do: the fastest matrix product by dtype, and the fastest copy, that anything reached."""
    artifacts: pd.DataFrame
    """Files beside the records."""
    scatter: stats.Scatter
    """How much the ratio of two times differs between processes, as its intervals have it."""
    conditions: pd.DataFrame
    """One row per timed cell: the task whose records hold its samples, why sampling stopped, and what was seen."""
    described: Descriptions
    """What the name of each variant says, and where published code is from."""


def make(records: Iterable[Record]) -> Tables:
    """Every table of a run."""
    by_kind: dict[type, list[Record]] = defaultdict(list)
    for record in records:
        by_kind[type(record)].append(record)
    measurements = [record for record in by_kind[Measurement] if isinstance(record, Measurement)]
    findings = [record for record in by_kind[Finding] if isinstance(record, Finding)]
    skips = [record for record in by_kind[Skip] if isinstance(record, Skip)]
    artifacts = [record for record in by_kind[Artifact] if isinstance(record, Artifact)]
    peaks = _peaks(measurements)
    described = Descriptions(by_kind[Description])
    times = Latencies(measurements)
    cells, peaks = _cells(times, measurements, findings, skips, peaks, described)
    return Tables(
        cells=cells,
        findings=_findings(findings),
        masking=_masking(findings, described),
        skips=_skips(skips),
        growth=_growth(cells),
        peaks=peaks,
        conditions=_conditions(measurements),
        scatter=times.scatter,
        described=described,
        artifacts=pd.DataFrame(
            [(item.quantity, item.variant, item.workload, item.phase, item.device, item.path) for item in artifacts],
            columns=["quantity", "variant", "workload", "phase", "device", "path"],
        ),
    )


EAGER, FULL = "eager", "float32"
"""How a variant runs, and its precision, where no transform says otherwise."""


def _named(described: Description) -> dict[str, object]:
    """What the columns of a cell say of its variant."""
    words = described.transforms
    return {
        "variant": described.variant,
        "mechanism": described.mechanism,
        "role": described.role,
        "parent": described.parent,
        "form": "".join(f"+{word}" for word in words.values()),
        "precision": words.get("precision", FULL),
        "execution": next((word for axis, word in words.items() if axis != "precision"), EAGER),
        "dtype": described.dtype,
        "ours": described.ours,
        "nearest": described.nearest,
    }


def property_order(name: str) -> tuple[int, int, str]:
    """P1, P1n, P2, ..., P10, and then what has no number."""
    match = re.fullmatch(r"P(\d+)(.*)", name)
    return (0, int(match[1]), match[2]) if match else (1, 0, name)


def _cells(
    times: Latencies,
    measurements: Sequence[Measurement],
    findings: Sequence[Finding],
    skips: Sequence[Skip],
    peaks: pd.DataFrame,
    described: Descriptions,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    measured: dict[tuple[Place, str], dict[str, Measurement]] = defaultdict(dict)
    for record in measurements:
        if not (record.variant and record.workload and record.phase) or record.quantity in HARNESS:
            continue
        if record.quantity != "latency":
            measured[_place(record), record.variant][record.quantity] = record
    timed = [
        (place, variant) for place, tasks in times.places.items() for variant in dict.fromkeys(chain(*tasks.values()))
    ]
    ratios = _ratios(timed, times, described)
    skipped = {
        (_place(skip), skip.variant): skip
        for skip in skips
        if skip.variant and skip.workload and skip.phase and skip.quantity in ("latency", "")
    }
    judged = _Judgements(findings)
    rows = []
    for place, variant in dict.fromkeys((*timed, *measured, *skipped)):
        row: dict[str, object] = place._asdict() | _named(described[variant])
        trust: list[str] = []
        own = times.timed(place, variant)
        if own:
            row |= _latency(variant, place, times) | ratios[place, variant]
            trust += [reason for record in own for reason in record.trust] + doubts(own)
        elif (place, variant) in skipped:
            skip = skipped[place, variant]
            row |= {"skipped": skip.reason, "remedy": skip.remedy}
        for quantity, record in measured.get((place, variant), {}).items():
            if quantity in _MEASURED:
                row[_MEASURED[quantity]] = _value(record)
                trust += record.trust
        row |= judged.of(place, variant)
        row["trust"] = tuple(dict.fromkeys(trust))
        rows.append(row)
    cells = pd.DataFrame(rows, columns=list(CELL_COLUMNS))
    texts = ["masking_verdict", "masking", "agreement_verdict", "agreement", "hidden_by", "hidden", "known"]
    texts += ["skipped", "remedy", "verdict", "over_anchor_verdict"]
    cells[texts] = cells[texts].astype(object).fillna("")
    numbers = [name for name in cells.columns if name.endswith(("_s", "_bytes", "flops"))]
    numbers += ["speedup", "speedup_low", "speedup_high", "over_anchor", "over_anchor_low", "over_anchor_high"]
    numbers += ["processes", "speedup_rounds", "over_anchor_rounds"]
    numbers += ["spread", "samples", "agreement_error", "graphs", "graph_breaks", "recompiles"]
    cells[numbers] = cells[numbers].apply(pd.to_numeric)
    peaks = _add_roofline(cells, peaks, _task_medians(times))
    return _in_reading_order(cells), peaks


def _place(record: Cell) -> Place:
    return Place(record.workload, record.phase, record.device)


def _value(record: Measurement) -> float | None:
    return record.value if record.value is not None else stats.summarise(record.samples).median


def _latency(variant: str, place: Place, times: Latencies) -> dict[str, object]:
    """What every process that timed it says together."""
    time = times.time(place, variant)
    summaries = [stats.summarise(record.samples) for record in times.timed(place, variant)]
    row: dict[str, object] = {
        "latency_s": time.estimate,
        "latency_low_s": time.low or np.nan,
        "latency_high_s": time.high if np.isfinite(time.high) else np.nan,
        "spread": float(np.median([summary.spread for summary in summaries])),
        "samples": time.count,
        "processes": len(summaries),
        "examples_per_s": workloads.named(place.workload).batch / time.estimate if place.workload else math.nan,
    }
    return row


def _ratios(
    timed: Iterable[tuple[Place, str]], times: Latencies, described: Descriptions
) -> dict[tuple[Place, str], dict[str, object]]:
    """Over its own eager form and over the anchor, with verdicts that hold together in the table of one place."""
    tables: dict[Place, list[tuple[str, str, stats.Ratio]]] = defaultdict(list)
    for place, variant in timed:
        for prefix, base in (("speedup", described[variant].parent), ("over_anchor", ANCHOR)):
            ratio = times.ratio(place, variant, base) if base != variant else None
            if ratio is not None:
                tables[place].append((variant, prefix, ratio))
    found: dict[tuple[Place, str], dict[str, object]] = defaultdict(dict)
    for place, table in tables.items():
        told = stats.corrected([ratio for _, _, ratio in table])
        for (variant, prefix, _), ratio in zip(table, told, strict=True):
            found[place, variant] |= {
                prefix: 1 / ratio.estimate,
                f"{prefix}_low": 1 / ratio.high,
                f"{prefix}_high": 1 / ratio.low if ratio.low > 0 else np.inf,
                f"{prefix}_rounds": ratio.count,
                "verdict" if prefix == "speedup" else f"{prefix}_verdict": ratio.verdict,
            }
    return found


class _Judgements:
    """What was found about a variant, wherever it was found."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self._of: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in findings:
            self._of[finding.variant, finding.workload].append(finding)

    def of(self, place: Place, variant: str) -> dict[str, object]:
        """The findings that speak about this cell: an empty field of theirs means all of them.

        Where a variant was audited on another device alone, as eager forms are beside a GPU, that audit speaks: the
        mask is the same mask there.
        """
        both = [
            finding
            for finding in (*self._of.get((variant, ""), ()), *self._of.get((variant, place.workload), ()))
            if finding.phase in ("", place.phase)
        ]
        here = [it for it in both if _whatever_threads(it.device) in ("", _whatever_threads(place.device))]
        if not any(map(_is_of_masking, here)):
            here += filter(_is_of_masking, both)
        broken = [finding for finding in here if finding.verdict == "broken"]
        masking = _worst(list(filter(_is_of_masking, here)))
        agreement = _worst([finding for finding in here if finding.quantity == "agreement"])
        return {
            "masking_verdict": masking.verdict,
            "masking": masking.text,
            "agreement_verdict": agreement.verdict,
            "agreement": agreement.text,
            "hidden_by": f"{broken[0].quantity} {broken[0].verdict}" if broken else "",
            "hidden": "; ".join(dict.fromkeys(_sentence(finding) for finding in broken)),
            "known": "; ".join(dict.fromkeys(_sentence(finding) for finding in here if finding.verdict == "known")),
        }


@cache
def _whatever_threads(device: str) -> str:
    """The label of a device without its threads: what is wrong there is wrong with any number of them."""
    return str(devices.parse(device).whatever_threads) if device else ""


def _is_of_masking(finding: Finding) -> bool:
    return finding.quantity.startswith("P")


def _sentence(finding: Finding) -> str:
    return f"{finding.quantity} {finding.verdict}" + (f": {finding.summary}" if finding.summary else "")


class _Worst(NamedTuple):
    """The verdict that must be seen first, and the properties that have it."""

    verdict: str
    """Empty where nothing was examined."""
    properties: tuple[str, ...]

    @property
    def text(self) -> str:
        """``holds``, or with its properties, such as ``broken: P1, P3``."""
        if self.verdict in ("", "holds", "not applicable"):
            return self.verdict
        return f"{self.verdict}: {', '.join(self.properties)}"


def _worst(findings: Sequence[Finding]) -> _Worst:
    for verdict in WORST_FIRST:
        names = {finding.quantity for finding in findings if finding.verdict == verdict}
        if names:
            return _Worst(verdict, tuple(sorted(names, key=property_order)))
    return _Worst("", ())


def _rank(mechanism: str, role: str) -> int:
    """The paper's mechanisms, the others, somebody's own, the published implementations; as they came otherwise."""
    if mechanism in workloads.CLASSIC:
        return workloads.CLASSIC.index(mechanism)
    return len(workloads.CLASSIC) + (role == "published")


def _in_reading_order(cells: pd.DataFrame) -> pd.DataFrame:
    """Workloads and devices as they came, forward first, a parent before its transformed forms."""
    order = {
        name: {value: index for index, value in enumerate(dict.fromkeys(cells[name]))}
        for name in ("workload", "device", "mechanism", "parent", "variant")
    }
    roles = dict(zip(cells["mechanism"], cells["role"], strict=True))
    ranked = sorted(order["mechanism"], key=lambda name: _rank(name, roles[name]))
    order["mechanism"] = {name: index for index, name in enumerate(ranked)}
    order["phase"] = {phase: index for index, phase in enumerate(workloads.PHASES)}
    by = ["workload", "device", "phase", "mechanism", "parent", "variant"]
    keys = pd.DataFrame({name: cells[name].map(order[name]) for name in by})
    keys["variant"] = keys["variant"].where(cells["variant"] != cells["parent"], -1)
    return cells.loc[keys.sort_values(by, kind="stable").index].reset_index(drop=True)


def _peaks(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """The best of what was seen on each device: a peak is what can be reached, not what usually is."""
    best: dict[tuple[str, str], float] = {}
    times: Counter[tuple[str, str]] = Counter()
    for record in measurements:
        if record.quantity in ("gemm_time", "copy_time"):
            is_gemm = record.quantity == "gemm_time"
            work = record.details.get("flops" if is_gemm else "bytes")
            time_s = min(record.samples) if record.samples else record.value
            if isinstance(work, int | float) and time_s:
                what = str(record.details.get("dtype", "float32")) if is_gemm else "copy"
                key = (record.device, what)
                best[key] = max(best.get(key, 0.0), work / time_s)
                times[key] += 1
    return pd.DataFrame(
        [(*key, rate, "B" if key[1] == "copy" else "1", times[key]) for key, rate in best.items()],
        columns=["device", "what", "per_second", "unit", "times_measured"],
    ).assign(reached_by="")


def _conditions(measurements: Sequence[Measurement]) -> pd.DataFrame:
    """What stands behind each median: every figure that was noted beside the samples, of each task that took some."""
    harness = {record.task: record.value for record in measurements if record.quantity == "harness_time"}
    rows = [
        {
            **_place(record)._asdict(),
            "variant": record.variant,
            "task": record.task,
            "samples": len(record.samples),
            "harness_s": harness.get(record.task),
            **{name: value for name, value in record.details.items() if isinstance(value, str | int | float)},
            "trust": "; ".join(record.trust),
        }
        for record in measurements
        if record.quantity == "latency" and record.samples
    ]
    first = [*Place._fields, "variant", "task", "samples", "stopped", "every", "harness_s", "trust"]
    noted = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in first]
    return pd.DataFrame(rows, columns=[*first, *noted])


def _task_medians(times: Latencies) -> dict[tuple[Place, str], tuple[float, float]]:
    """The lowest and the highest median over the tasks in which a variant was timed."""
    medians: dict[tuple[Place, str], list[float]] = defaultdict(list)
    for place, tasks in times.places.items():
        for members in tasks.values():
            for variant, record in members.items():
                medians[place, variant].append(float(np.median(record.samples)))
    return {key: (min(found), max(found)) for key, found in medians.items()}


def _mostly_valid(workload: str) -> bool:
    """Whether nearly all slots of a workload are valid; those of an unknown one are taken to be."""
    try:
        return workloads.named(workload).valid_share >= _MOSTLY
    except UserError:
        return True


def _add_roofline(
    cells: pd.DataFrame, peaks: pd.DataFrame, medians: Mapping[tuple[Place, str], tuple[float, float]]
) -> pd.DataFrame:
    """How near each cell comes to the least time that this machine allows by its fastest route to the same function.

    What a variant does is itself a measurement of the machine: where one without a doubt exceeds a measured peak, the
    peak is what it did. So no share exceeds 1; where a doubted time would, there is none. Counted are the products of
    all slots: where many are padding, a variant that passes over them may seem to exceed what it does not.

    Returns:
        The peaks, with the variant in ``reached_by`` where one exceeded what was measured.
    """
    measured = dict(zip(zip(peaks["device"], peaks["what"], strict=True), peaks["times_measured"], strict=True))
    rates = dict(zip(zip(peaks["device"], peaks["what"], strict=True), peaks["per_second"].tolist(), strict=True))
    reached = dict.fromkeys(rates, "")
    devices, dtypes = list(map(str, cells["device"])), list(map(str, cells["dtype"]))
    keys = zip(cells["workload"], cells["phase"], devices, cells["variant"], strict=True)
    ranges = [medians.get((Place(*key[:3]), key[3]), (math.nan, math.nan)) for key in keys]
    shortest, longest = (np.array([ends[end] for ends in ranges], dtype=float) for end in (0, 1))
    flops, moved = (cells[name].to_numpy(dtype=float) for name in ("matmul_flops", "least_bytes"))
    sure = (cells["trust"].map(len).eq(0) & (cells["hidden"] == "") & cells["workload"].map(_mostly_valid)).to_numpy()
    done, copied = flops / shortest, moved / shortest
    for at in np.nonzero(sure)[0]:
        device, variant = devices[at], str(cells["variant"].iloc[at])
        for what, rate, roof in (
            (dtypes[at], done[at], _route(rates, device, dtypes[at])),
            ("copy", copied[at], rates.get((device, "copy"), math.nan)),
        ):
            if rate > roof:  # never where the machine was not measured
                rates[device, what], reached[device, what] = float(rate), variant
    products = np.array([_route(rates, *key) for key in zip(devices, dtypes, strict=True)])
    copies = np.array([rates.get((device, "copy"), math.nan) for device in devices])
    computing, moving = flops / products, moved / copies
    latency_s = cells["latency_s"].to_numpy(dtype=float)
    least_s = np.maximum(computing, moving)
    cells["flop_per_s"] = flops / latency_s
    for name, time_s in (("of_machine", latency_s), ("of_machine_low", longest), ("of_machine_high", shortest)):
        share = least_s / time_s
        cells[name] = np.where(least_s / shortest <= 1 + 1e-9, np.minimum(share, 1.0), math.nan)
    cells["bound"] = np.where(cells["of_machine"].isna(), "", np.where(computing >= moving, "arithmetic", "memory"))
    table = [
        (*key, rate, "B" if key[1] == "copy" else "1", measured.get(key, 0), reached[key])
        for key, rate in rates.items()
    ]
    return pd.DataFrame(table, columns=list(peaks.columns))


def _route(rates: Mapping[tuple[str, str], float], device: str, dtype: str) -> float:
    """The fastest product for a dtype on a device, or for float32 where that is faster; ``nan`` where not measured."""
    return max((rates[device, what] for what in (dtype, "float32") if (device, what) in rates), default=math.nan)


def _findings(findings: Sequence[Finding]) -> pd.DataFrame:
    columns = ["variant", "quantity", "verdict", "severity", "value", "limit", "workload", "phase", "device", "summary"]
    rows = [tuple(getattr(finding, name) for name in columns) for finding in findings]
    return pd.DataFrame(rows, columns=columns).rename(columns={"quantity": "property"})


def _masking(findings: Sequence[Finding], described: Descriptions) -> pd.DataFrame:
    worst: dict[str, dict[str, str]] = defaultdict(dict)
    for finding in findings:
        if finding.variant:
            known = worst[finding.variant].get(finding.quantity, WORST_FIRST[-1])
            worst[finding.variant][finding.quantity] = min(known, finding.verdict, key=WORST_FIRST.index)
    properties = sorted({name for row in worst.values() for name in row}, key=property_order)
    ranks = {described[name].parent: _rank(described[name].mechanism, described[name].role) for name in worst}
    order = sorted(ranks, key=ranks.__getitem__)
    variants = sorted(worst, key=lambda name: order.index(described[name].parent))
    rows = [[name, *(worst[name].get(word, "") for word in properties)] for name in variants]
    table = pd.DataFrame(rows, columns=["variant", *properties])
    table.attrs["titles"] = {
        one.quantity: str(one.details["title"])[:40] for one in findings if one.details.get("title")
    }
    return table


def _skips(skips: Sequence[Skip]) -> pd.DataFrame:
    columns = ["variant", "workload", "phase", "device", "quantity", "cause", "reason", "remedy"]
    table = pd.DataFrame([tuple(getattr(skip, name) for name in columns) for skip in skips], columns=columns)
    table.insert(0, "failed", table["cause"].isin(FAILURES))
    return table.drop_duplicates(ignore_index=True)


def _growth(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells whose workloads differ in one axis alone, with the slope of log latency over log axis."""
    columns = [*("axis", "start", "value", "slope"), *GROWTH_COLUMNS]
    shapes = {name: workloads.named(name) for name in dict.fromkeys(cells["workload"]) if name}
    found = []
    for axis, (_, names) in workloads.AXES.items():
        lines: dict[tuple[object, ...], dict[str, float]] = defaultdict(dict)
        for workload, shape in shapes.items():
            values = {getattr(shape, name) for name in names}
            rest = tuple(getattr(shape, item.name) for item in fields(shape) if item.name not in (*names, "overrides"))
            if len(values) == 1:
                lines[rest][workload] = values.pop()
        for line in lines.values():
            if len(set(line.values())) < 2:
                continue
            table = cells[cells["workload"].isin(list(line))].copy()
            table["axis"], table["start"] = axis, next(iter(line))
            table["value"] = table["workload"].map(line)
            keys = list(zip(table["phase"], table["device"], table["variant"], strict=True))
            powers = _slopes(keys, table["value"], table["latency_s"])
            table["slope"] = [powers.get(key, np.nan) for key in keys]
            found.append(table.sort_values("value", kind="stable"))
    return pd.concat(found, ignore_index=True)[columns] if found else pd.DataFrame(columns=columns)


def slopes(line: pd.DataFrame, quantity: str) -> dict[str, float]:
    """By variant, the power of the axis with which a quantity grows: the slope of its logarithms."""
    return _slopes(list(map(str, line["variant"])), line["value"], line[quantity])


def _slopes(keys: Sequence[K], values: Iterable[float], costs: Iterable[float]) -> dict[K, float]:
    """Least squares of log cost over log value, per key with at least two values."""
    points: dict[K, list[tuple[float, float]]] = defaultdict(list)
    for key, value, cost in zip(keys, values, costs, strict=True):
        if cost > 0:
            points[key].append((math.log(value), math.log(cost)))
    powers = {}
    for key, pairs in points.items():
        x_mean = sum(x for x, _ in pairs) / len(pairs)
        variance = sum((x - x_mean) ** 2 for x, _ in pairs)
        if variance > 0:
            powers[key] = sum((x - x_mean) * y for x, y in pairs) / variance
    return powers
