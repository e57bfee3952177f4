"""What was found out about a published checkpoint: for a terminal, and as plain data."""

import math
from collections.abc import Sequence

from rich.console import RenderableType

from suite.core import stats
from suite.core.records import Finding, Measurement, Record
from suite.report.columns import literal
from suite.report.units import factor_between, seconds

_UNREMARKABLE = ("holds", "not applicable", "not judged")


def words(
    records: Sequence[Record],
    *,
    wrapper: str = "",
    unwrapped: bool = False,
    left_out: Sequence[str] = (),
    alike: Sequence[str] = (),
) -> list[RenderableType]:
    """What is amiss, what the correction changes, and how long both take.

    Args:
        records: of the published mechanism and of the corrected one.
        wrapper: the prefix that was taken from the names in the file.
        unwrapped: whether names of wrappers were taken out of their middle.
        left_out: beginnings of names beside them that were left out.
        alike: prefixes of other layers that would have done as well.
    """
    lines = ["names taken without those of wrappers inside them"] if unwrapped else []
    lines += [f"names taken without {wrapper!r}, as --prefix would"] if wrapper else []
    if alike:
        lines.append(f"it is the first of {len(alike) + 1} such layers; --prefix {alike[0]} takes the next")
    if left_out:
        lines.append(f"left out, as nothing there takes them: {', '.join(left_out)}")
    lines += [
        f"{found.variant}  {found.quantity}  {found.verdict}: {found.summary}"
        for found in records
        if isinstance(found, Finding) and found.verdict not in _UNREMARKABLE
    ]
    lines += [_change(record) for record in _of(records, "correction")]
    _, corrected, _ = _ratio(records)
    # of one alone: the other's follows by the ratio, which the two medians may contradict
    lines.append(
        f"{corrected.variant} takes {seconds(stats.summarise(corrected.samples).median)} forward at "
        f"{corrected.workload}"
    )
    return [literal(line) for line in lines]


def speed(records: Sequence[Record]) -> str:
    """One line: the published time over the corrected one."""
    published, corrected, taken = _ratio(records)
    between = factor_between(taken.estimate, taken.low, taken.high)
    return f"{published.variant} takes {between} of the time of {corrected.variant}: {taken.verdict}"


def data(records: Sequence[Record]) -> dict[str, object]:
    """All of it for a program, in base units."""
    published, corrected, taken = _ratio(records)
    corrected_s = stats.summarise(corrected.samples).median
    return {
        "findings": [
            {
                "variant": found.variant,
                "property": found.quantity,
                "verdict": found.verdict,
                "severity": found.severity,
                "summary": found.summary,
            }
            for found in records
            if isinstance(found, Finding)
        ],
        "changes": [
            {"variant": record.variant, "relative_change": record.value} | dict(record.details)
            for record in _of(records, "correction")
        ],
        "latency_s": {published.variant: taken.estimate * corrected_s, corrected.variant: corrected_s},
        "published_over_corrected": {
            "estimate": taken.estimate,
            "low": taken.low,
            "high": taken.high,
            "verdict": taken.verdict,
        },
    }


def _ratio(records: Sequence[Record]) -> tuple[Measurement, Measurement, stats.Ratio]:
    published, corrected = _of(records, "latency")
    return published, corrected, stats.ratio(published.samples, published.rounds, corrected.samples, corrected.rounds)


def _of(records: Sequence[Record], quantity: str) -> list[Measurement]:
    return [record for record in records if isinstance(record, Measurement) and record.quantity == quantity]


def _change(record: Measurement) -> str:
    corrected, output, condition = (record.details[key] for key in ("corrected", "output", "condition"))
    moved = "not finite" if record.value is None or not math.isfinite(record.value) else f"{record.value:.2g}"
    return f"{output} of {record.variant} is {moved} from that of {corrected}, {condition}"
