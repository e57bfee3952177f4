"""Device labels: ``cpu`` (one thread), ``cpu[threads=2]``, ``cuda``, ``cuda:1``, ``mps``, ``xpu``.

In a run on several models of device, a label names its own: ``cuda[model=nvidia-h100]``, ``cpu[model=xeon,threads=2]``.
"""

import re
from dataclasses import dataclass, replace
from typing import Literal, cast

from suite.core.errors import UserError

Kind = Literal["cpu", "cuda", "mps", "xpu"]
EXPECTED = "cpu, cpu[threads=2], cuda, cuda:1, mps or xpu"
_MODEL, _THREADS = "model=[a-z0-9][a-z0-9.-]{0,79}", "threads=[1-9][0-9]{0,5}"
LABEL = rf"cpu(\[({_MODEL}|{_THREADS}|{_MODEL},{_THREADS})\])?|(cuda(:[0-9]{{1,3}})?|mps|xpu)(\[{_MODEL}\])?"


@dataclass(frozen=True)
class Device:
    """Where something runs, and on how many threads of the CPU."""

    kind: Kind
    threads: int = 1
    index: int | None = None
    """The number of one of several; None where none was chosen. What works there sees this one alone, as the first."""
    model: str = ""
    """The model of the device, where a run is on several; times of two models stand in no table together."""

    def __str__(self) -> str:
        index = "" if self.index is None else f":{self.index}"
        given = {"model": self.model, "threads": str(self.threads) if self.threads > 1 else ""}
        options = ",".join(f"{name}={value}" for name, value in given.items() if value)
        return f"{self.kind}{index}" + (f"[{options}]" if options else "")

    @property
    def whatever_threads(self) -> "Device":
        """The same with any number of threads."""
        return replace(self, threads=1)


def parse(label: str) -> Device:
    """Read a label.

    Raises:
        UserError: it is none.
    """
    if re.fullmatch(LABEL, label) is None:
        raise UserError(f"{label!r} is no device: expected {EXPECTED}")
    name, _, options = label.rstrip("]").partition("[")
    kind, _, index = name.partition(":")
    given = dict(option.split("=") for option in options.split(",") if option)
    return Device(cast(Kind, kind), int(given.get("threads", 1)), int(index) if index else None, given.get("model", ""))


def model_named(text: str) -> str:
    """What a device calls itself, as a label has it: ``NVIDIA H100 80GB HBM3`` is ``nvidia-h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:80] or "unknown"
