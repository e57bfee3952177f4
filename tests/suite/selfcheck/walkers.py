"""Ways to go paths that are none of a GPU: what a process of `suite.selfcheck.device` may meet."""

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any


def go(lane: str, names: tuple[str, ...]) -> Iterator[Mapping[str, Any]]:
    """Each name says what becomes of it."""
    for name in names:
        yield {"at": name}
        if name.startswith("crashes"):
            os.abort()
        if name.startswith("hangs"):
            time.sleep(600)
        verdict = {"f": "broken", "s": "not applicable"}.get(name[0], "holds")
        yield {"name": name, "verdict": verdict, "said": f"of {lane}", "took_s": 0.1}
