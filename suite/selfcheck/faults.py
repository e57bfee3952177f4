"""Faults: a variant that fails leaves a typed record, and takes no neighbour along."""

from collections.abc import Iterator, Sequence

from suite.core.records import Finding, Record, Skip
from suite.selfcheck.bench import Bench, latencies
from suite.selfcheck.row import row

SHAPE = "batch=2,regions=6,words=4,width=16"
SAMPLING_S = 0.5
TIMEOUT_S = 12.0
HEALTHY = ("parallel", "fault")
CAUSES = {
    "fault[kind=memory]": "memory",
    "fault[kind=hang]": "timeout",
    "fault[kind=segfault]": "killed",
    "fault[kind=error]": "error",
}
WRONG = "fault[kind=nan]"


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on the failures of one comparison, and on those that stood beside them."""
    asked = bench.asked(["fault", *CAUSES, WRONG], shape=SHAPE, timeout_s=TIMEOUT_S)
    times = bench.count(default=1, full=5)
    comparisons = bench.measure(asked, label="faults", times=times, sampling_s=SAMPLING_S)
    compared = bench.asked([WRONG], shape=SHAPE, probes=("agreement",))
    yield from judge(comparisons, bench.measure(compared, label="not a number", times=times))


def judge(comparisons: Sequence[Sequence[Record]], compared: Sequence[Sequence[Record]]) -> Iterator[Finding]:
    """The rows that follow from comparisons with planted failures, and from agreement with a planted NaN."""
    typed, lost, untyped = 0, [], []
    for records in comparisons:
        causes = {(record.variant, record.cause) for record in records if isinstance(record, Skip)}
        typed += sum(pair in causes for pair in CAUSES.items())
        untyped += [f"{name}: no skip by {cause}" for name, cause in CAUSES.items() if (name, cause) not in causes]
        lost += [name for name in (*HEALTHY, WRONG) if name not in latencies(records)]
    for records in compared:
        noticed = any(
            isinstance(record, Finding) and record.quantity == "agreement" and record.verdict == "broken"
            for record in records
        )
        typed += noticed
        untyped += [] if noticed else [f"{WRONG}: agreement is not broken"]
    trials = len(CAUSES) * len(comparisons) + len(compared)
    yield row(
        "running out of memory, hanging, a segfault, an error and NaN leave a typed record each",
        typed,
        trials,
        at_least=1.0,
        summary="; ".join(dict.fromkeys(untyped)),
    )
    yield row(
        "a cell beside them is lost",
        len(lost),
        len(comparisons) * (len(HEALTHY) + 1),
        at_most=0.0,
        summary="; ".join(dict.fromkeys(lost)),
    )
