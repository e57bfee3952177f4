"""Memory: graphs that can be counted by hand, to the byte."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from suite.core.records import Finding, Measurement, Record
from suite.core.workloads import PHASES
from suite.selfcheck.bench import Bench
from suite.selfcheck.row import row
from variants.spec import parse

B, N, V = 4, 32, 64
SHAPE = f"batch={B},regions={N},words=8,width={V}"
_ONE = 4 * B * N * V
"""The image, in bytes; a multiple of the 512 that CUDA's allocator hands out."""
PEAKS = {
    "chain": 2 * _ONE,  # the sum lives until the product is made
    "diamond": 3 * _ONE,  # both sides and their product
    "product": 4 * B * N * N,
    "reduced": _ONE + 4 * B * N,  # the square, then its sum
    "in_place": _ONE,
    "views": 0,
    "squares": 2 * _ONE,  # each square is made from the one before, which then goes
}
"""Bytes above parameters and inputs, at most at one time, in a forward pass without gradients."""
SAVED = {
    "chain": _ONE,  # the sum, for the gradient of its factor
    "diamond": 2 * _ONE,  # a product keeps both sides
    "product": 0,  # its sides are the input
    "reduced": 0,  # a square needs the input alone
    "in_place": _ONE,  # tanh needs its result
    "views": 0,
    "squares": 4 * _ONE,  # the first square keeps the input, which is not counted
}
"""Bytes that the graph keeps for its backward pass, beside parameters and inputs."""


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on closed forms, and on how much repeats differ."""
    asked = bench.asked([f"graph[kind={kind}]" for kind in PEAKS], shape=SHAPE, probes=("memory",), phases=PHASES)
    yield from judge(bench.measure(asked, label="memory", times=bench.count(default=2, full=10)))


def judge(repeats: Sequence[Sequence[Record]]) -> Iterator[Finding]:
    """The rows that follow from measuring every graph several times."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for record in (record for records in repeats for record in records):
        if not isinstance(record, Measurement) or record.value is None:
            continue
        kind = dict(parse(record.variant).options).get("kind", "chain") if record.variant else ""
        if (record.quantity, record.phase) in (
            ("peak_memory", "forward"),
            ("saved_for_backward", "forward+backward"),
        ):
            found[record.quantity, kind].append(record.value)
    wrong = []
    for quantity, expected in (("peak_memory", PEAKS), ("saved_for_backward", SAVED)):
        for kind, size in expected.items():
            values = found.get((quantity, kind), [])
            if not values or set(values) != {float(size)}:
                wrong.append(f"{quantity} of {kind}: {size} by hand, measured {sorted(set(values)) or 'nothing'}")
    graphs = len(PEAKS) + len(SAVED)
    yield row(
        "the measured memory of a graph is the one counted by hand, to the byte",
        graphs - len(wrong),
        graphs,
        at_least=1.0,
        summary="; ".join(wrong) or f"{len(PEAKS)} peaks and {len(SAVED)} counts of what a backward pass needs",
    )
    several = [values for values in found.values() if len(values) > 1]
    yield row(
        "repeats of a graph's memory differ by 0 bytes",
        sum(len(set(values)) == 1 for values in several),
        len(several),
        at_least=1.0,
        summary=f"{max(map(len, several), default=0)} repeats, each in a fresh process",
    )
