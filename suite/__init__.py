"""The harness: what measures, audits and compares the variants."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what a program loads first of all loads next to nothing
    from pathlib import Path

    from suite.report.frames import Frames

__version__ = "0.1.0"


def load(folder: "Path | str") -> "Frames":
    """A run folder as pandas frames: cells, findings and raw samples, without torch.

    Raises:
        UserError: it holds no records, or a line that is none; says which.
    """
    from suite.report import frames

    return frames.load(folder)
