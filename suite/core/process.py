"""This process: when it was started."""

import time

import psutil

_LONGEST_LOAD_S = 300.0
"""A process that is older has had something else to do, or its clock was set."""


def began() -> float:
    """When this process was started, in seconds on the clock of ``time.monotonic``."""
    age_s = time.time() - psutil.Process().create_time()
    return time.monotonic() - (age_s if 0 <= age_s < _LONGEST_LOAD_S else time.process_time())
