"""What an ablation's records say beside their numbers goes into a file and comes back as it was."""

from dataclasses import MISSING, fields

import pytest

from suite.core import records, trained
from suite.core.records import Measurement, decode, encode

TOLD: tuple[trained.Told, ...] = (
    trained.Trainable(study="s", question="Why?", data="d", row="pool", parent="", sight="both", width=64),
    trained.Accuracy(data="d", study="s", row="pool", seed=3, family="all", evaluation="as_is", examples=9),
    trained.Tuning(data="d", row="pool", learning_rate=0.003, epochs=2, seed=1, examples=9),
    trained.Loss(data="d", row="pool", seed=3, learning_rate=0.003),
    trained.Ceiling(data="d", of="question only", family="all"),
    trained.TestedOn(data="d", sha256="abc"),
)


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told.quantity)
def test_what_is_written_is_read_back(told: trained.Told) -> None:
    written = Measurement(task="t", quantity=told.quantity, unit="1", value=0.5, details=told.details())
    back = decode(encode(written))
    assert isinstance(back, Measurement)
    assert trained.read(type(told), back) == told  # type: ignore[type-var]  # each is one of those that can be read


@pytest.mark.parametrize("told", TOLD, ids=lambda told: told.quantity)
def test_a_file_without_what_has_no_default_is_refused_with_its_name(told: trained.Told) -> None:
    needed = [one.name for one in fields(told) if one.default is MISSING]
    assert set(needed) == set(records._DETAILS[told.quantity])
    for name in needed:
        details = {key: value for key, value in told.details().items() if key != name}
        line = encode(Measurement(task="t", quantity=told.quantity, unit="1", value=0.5, details=details))
        with pytest.raises(ValueError, match=f"without '{name}'"):
            decode(line)
