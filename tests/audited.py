"""The audit of a variant, which several tests read: made once in a process."""

from functools import cache

from suite.bench.probes.masking import audit
from suite.core.records import Finding, Record


@cache
def audited(name: str) -> tuple[Record, ...]:
    """All records of the audit of a variant on the CPU, with seed 0."""
    return tuple(audit(name, "cpu", task="t"))


def findings(name: str) -> list[Finding]:
    return [record for record in audited(name) if isinstance(record, Finding)]
