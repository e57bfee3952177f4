"""Is it masked correctly? Point the audit at any module: in a test, or with ``run_all.py audit file.py:NAME``."""

from suite.audit.reading import Adapter, NotUnderstood, Stated, understand
from suite.audit.testing import NothingJudged, assert_masked, property_tests

__all__ = ["Adapter", "NotUnderstood", "NothingJudged", "Stated", "assert_masked", "property_tests", "understand"]
