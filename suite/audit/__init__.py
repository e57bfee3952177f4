"""Is it masked correctly? Point the audit at any module: in a test, or with ``run_all.py audit file.py:NAME``."""

from suite.audit.testing import assert_masked, property_tests
from suite.audit.understand import Adapter, NotUnderstood, understand

__all__ = ["Adapter", "NotUnderstood", "assert_masked", "property_tests", "understand"]
