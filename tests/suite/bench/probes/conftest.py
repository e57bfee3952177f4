"""Small things that several probes are tried on."""

import pytest

from suite.core.workloads import WORKLOADS, Workload, override


@pytest.fixture
def tiny() -> Workload:
    return override(WORKLOADS["tiny"], {"batch": "2", "regions": "7", "words": "5", "width": "16"})
