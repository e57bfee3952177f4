"""Device labels: ``cpu`` (one thread), ``cpu[threads=2]``, ``cuda``, ``cuda:1``, ``mps``, ``xpu``."""

import re
from dataclasses import dataclass
from typing import Literal, cast

from suite.core.errors import UserError

Kind = Literal["cpu", "cuda", "mps", "xpu"]
EXPECTED = "cpu, cpu[threads=2], cuda, cuda:1, mps or xpu"
LABEL = r"cpu(\[threads=[1-9][0-9]{0,5}\])?|cuda(:[0-9]{1,3})?|mps|xpu"
_LABEL = re.compile(
    r"(?P<kind>cpu|cuda|mps|xpu)(?:(?<=cpu)\[threads=(?P<threads>[1-9][0-9]{0,5})\]|(?<=cuda):(?P<index>[0-9]{1,3}))?"
)


@dataclass(frozen=True)
class Device:
    """Where something runs, and on how many threads of the CPU."""

    kind: Kind
    threads: int = 1
    index: int | None = None
    """Which of several; None where it was not chosen. Whatever works there sees no other, and it as the first."""

    def __str__(self) -> str:
        if self.index is not None:
            return f"{self.kind}:{self.index}"
        return self.kind + (f"[threads={self.threads}]" if self.threads > 1 else "")


def parse(label: str) -> Device:
    """Read a label.

    Raises:
        UserError: it is none.
    """
    match = _LABEL.fullmatch(label)
    if match is None:
        raise UserError(f"{label!r} is no device: expected {EXPECTED}")
    index = None if match["index"] is None else int(match["index"])
    return Device(cast(Kind, match["kind"]), int(match["threads"] or 1), index)
