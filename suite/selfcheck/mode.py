"""Proof of mode: a name that says more than the code does is caught, and an honest one is not."""

from collections.abc import Iterator, Sequence

from suite.core.records import Finding, Record
from suite.selfcheck.bench import Bench
from suite.selfcheck.row import row

SHAPE = "batch=2,regions=6,words=4,width=16"
SAMPLING_S = 0.2
PLANTED, HONEST = "eager_inside+compile", "pool+compile"
_TENSOR_CORES = ("hmma", "gmma", "16816", "1688", "tensorop", "h16816", "s16816", "bf16_s", "f16_s")
"""In the names of kernels that use them."""


def check(bench: Bench) -> Iterator[Finding]:
    """Rows on planted and honest names."""
    planted = bench.measure(
        bench.asked([PLANTED], shape=SHAPE),
        label="eager inside",
        times=bench.count(default=3, full=10),
        sampling_s=SAMPLING_S,
    )
    yield row(
        "a compiled name on eager code is caught",
        *_verdicts(planted, PLANTED, "broken"),
        at_least=1.0,
        summary=_why(planted, PLANTED),
    )
    honest = bench.measure(
        bench.asked([HONEST], shape=SHAPE),
        label="compiled",
        times=bench.count(default=1, full=3),
        sampling_s=SAMPLING_S,
    )
    yield row(
        "a compiled name on compiled code is believed",
        *_verdicts(honest, HONEST, "holds"),
        at_least=1.0,
        summary=_why(honest, HONEST),
    )
    if bench.device == "cuda":
        yield _tensor_cores(bench)


def _verdicts(repeats: Sequence[Sequence[Record]], variant: str, wanted: str) -> tuple[int, int]:
    """How many findings on a variant's mode came out as wanted, of as many as should be there."""
    found = [_mode_of(records, variant) for records in repeats]
    return sum(finding is not None and finding.verdict == wanted for finding in found), len(found)


def _why(repeats: Sequence[Sequence[Record]], variant: str) -> str:
    found = next((finding for records in repeats if (finding := _mode_of(records, variant))), None)
    return found.summary if found else "no finding on its mode"


def _mode_of(records: Sequence[Record], variant: str) -> Finding | None:
    return next(
        (item for item in records if isinstance(item, Finding) and item.quantity == "mode" and item.variant == variant),
        None,
    )


def _tensor_cores(bench: Bench) -> Finding:
    names = ("parallel+fp16", "parallel+bf16")
    asked = bench.asked(names, shape="batch=64,regions=196,words=32,width=512")
    records = bench.measure(asked, label="tensor cores", sampling_s=SAMPLING_S)[0]
    kernels = {name: _kernels(records, name) for name in names}
    seen = [name for name in names if any(word in kernel.lower() for kernel in kernels[name] for word in _TENSOR_CORES)]
    return row(
        "a half-precision variant runs kernels of the tensor cores",
        len(seen),
        len(names),
        at_least=1.0,
        summary="; ".join(f"{name}: {', '.join(kernels[name][:3])}" for name in names),
    )


def _kernels(records: Sequence[Record], variant: str) -> list[str]:
    finding = _mode_of(records, variant)
    kernels = finding.details.get("kernels") if finding else None
    return [str(kernel) for kernel in kernels] if isinstance(kernels, list | tuple) else []
