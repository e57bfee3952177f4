"""GPUs as a plan sees them: what products of each type they were seen to do in a second, about, and their memory."""

from suite.bench.estimate import Speed
from suite.core.records import Measurement

GIB = 2**30
GPUS: dict[str, tuple[dict[str, float], int]] = {
    "h100": ({"float32": 5.2e13, "tf32": 3.8e14, "bfloat16": 7.5e14, "float16": 7.5e14}, 80 * GIB),
    "a10": ({"float32": 1.4e13, "tf32": 3.5e13, "bfloat16": 6.5e13, "float16": 6.5e13}, 24 * GIB),
    "laptop": ({"float32": 8.0e12, "tf32": 1.7e13, "bfloat16": 3.4e13, "float16": 3.4e13}, 8 * GIB),
    "without bf16": ({"float32": 7.0e12, "bfloat16": 2.0e12, "float16": 3.5e13}, 16 * GIB),
}


def records(name: str) -> list[Measurement]:
    """What the machine task of a run on this GPU leaves."""
    rates, memory = GPUS[name]
    found = [
        Measurement(
            task="machine cuda", device="cuda", quantity="gemm_time", unit="s", value=2 * 8192**3 / rate,
            details={"dtype": dtype, "flops": 2 * 8192**3},
        )
        for dtype, rate in rates.items()
    ]  # fmt: skip
    copied = Measurement(
        task="machine cuda", device="cuda", quantity="copy_time", unit="s", value=1e-3,
        details={"bytes": GIB, "memory_B": memory},
    )  # fmt: skip
    return [*found, copied]


def speed(name: str) -> Speed:
    """The speed that a plan for this GPU stands on."""
    return Speed.measured(records(name))
