"""What is said of a checkpoint's times follows from its rounds, and no sentence denies another."""

from io import StringIO

import numpy as np
import pytest
from rich.console import Console, Group

from suite.core.records import Measurement
from suite.report import checkpoint


def timed(variant: str, samples: list[float]) -> Measurement:
    rounds = tuple(range(len(samples)))
    return Measurement(
        task="t", variant=variant, workload="batch=8,regions=196,words=26", phase="forward", device="cpu",
        quantity="latency", unit="s", samples=tuple(samples), rounds=rounds,
    )  # fmt: skip


def test_medians_that_deny_the_rounds_are_not_told() -> None:
    # each round the published one is a tenth quicker, but for some rounds of a pace of their own, in which it is slower
    base = np.linspace(1.0, 3.0, 21)
    factor = np.where((base > 1.9) & (base < 2.4), 1.3, 0.9)
    records = [timed("published_one", list(base * factor)), timed("parallel", list(base))]
    assert np.median(records[0].samples) > np.median(records[1].samples)
    said = checkpoint.data(records)
    ratio, latency = said["published_over_corrected"], said["latency_s"]
    assert isinstance(ratio, dict)
    assert isinstance(latency, dict)
    assert ratio["estimate"] < 1
    assert latency["published_one"] / latency["parallel"] == pytest.approx(ratio["estimate"])
    text = StringIO()
    Console(file=text, width=200).print(Group(*checkpoint.words(records), checkpoint.speed(records)))
    assert "parallel takes 2.00 s forward" in text.getvalue()
    assert "published_one takes ×0.9" in text.getvalue()
    assert text.getvalue().count("takes") == 2, "one time, and the other by what it is of it"
