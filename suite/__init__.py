"""The harness: what measures, audits and compares the variants."""

__version__ = "0.1.0"
