"""Device labels: ``cpu`` (one thread), ``cpu[threads=2]``, ``cuda``."""

import re
from dataclasses import dataclass
from typing import Literal

from suite.core.errors import UserError

_LABEL = re.compile(r"(?P<kind>cpu|cuda)(?:\[threads=(?P<threads>[0-9]+)\])?")


@dataclass(frozen=True)
class Device:
    """Where something runs, and on how many threads of the CPU."""

    kind: Literal["cpu", "cuda"]
    threads: int = 1

    def __str__(self) -> str:
        return self.kind + (f"[threads={self.threads}]" if self.threads > 1 else "")


def parse(label: str) -> Device:
    """Read a label.

    Raises:
        UserError: it is none.
    """
    match = _LABEL.fullmatch(label)
    threads = int(match["threads"] or 1) if match else 0
    if match is None or threads < 1 or (match["kind"] == "cuda" and threads > 1):
        raise UserError(f"{label!r} is no device: expected cpu, cpu[threads=2] or cuda")
    return Device("cuda" if match["kind"] == "cuda" else "cpu", threads)
