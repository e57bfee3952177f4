"""What a doubt about the reading does to what was found."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from suite.core.records import Finding


def doubted(found: Iterable[Finding], doubts: tuple[str, ...]) -> Iterator[Finding]:
    """The findings; where the reading is in doubt, nothing is broken, and what looks so is not judged.

    Args:
        found: by the audit.
        doubts: why the reading may be another one.
    """
    for finding in found:
        if doubts and finding.verdict == "broken":
            reason = f"{'; '.join(doubts)}; state it with --mask, or write an adapter"
            details = {**finding.details, "doubted": True, "seen": finding.summary}
            finding = replace(finding, verdict="not judged", summary=reason, details=details)
        yield finding
