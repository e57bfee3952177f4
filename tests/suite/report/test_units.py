"""A number becomes text in one place, with one rule."""

import math

import pytest

from suite.report import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123, "12.3 ms"),
        (0.00999951, "10.0 ms"),
        (0.9999, "1.00 s"),
        (9.996e-3, "10.0 ms"),
        (1.0, "1.00 s"),
        (4.2e-6, "4.20 µs"),
        (83e-9, "83.0 ns"),
        (119.6, "120 s"),
        (185.0, "3 min 05 s"),
        (3599.9, "60 min 00 s"),
        (0.0, "0 s"),
        (None, units.MISSING),
        (math.nan, units.MISSING),
    ],
)
def test_times_take_si_prefixes_and_three_digits(value: float | None, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (4.5 * 2**20, "4.50 MiB"), (2**30 - 1, "1.00 GiB"), (None, "–")],
)
def test_bytes_take_binary_prefixes(value: float | None, text: str) -> None:
    assert units.binary(value) == text


def test_rates_of_bytes_are_binary_and_others_decimal() -> None:
    assert units.binary_per_second(10e9) == "9.31 GiB/s"
    assert units.per_second(76.1e9, "FLOP") == "76.1 GFLOP/s"
    assert units.per_second(832) == "832 /s"


def test_an_interval_has_one_unit() -> None:
    assert units.seconds_between(0.00104, 0.00098, 0.00112) == "1.04 ms (0.980–1.12)"
    assert units.factor_between(1.349, 1.311, 1.392) == "×1.35 (1.31–1.39)"
    assert units.factor_between(1.349, None, None) == "×1.35"
    assert units.factor_between(0.0331, 0.0326, 0.0335) == "×0.033 (0.033–0.034)"
    assert units.seconds_between(None, 1.0, 2.0) == units.MISSING


@pytest.mark.parametrize(("value", "text"), [(0.61, "61 %"), (0.0951, "9.5 %"), (0.0999, "10 %"), (1.0, "100 %")])
def test_shares_are_percent(value: float, text: str) -> None:
    assert units.percent(value) == text


def test_errors_are_powers_of_ten_and_exactness_is_zero() -> None:
    assert units.error(3.14e-7) == "3.1e-07"
    assert units.error(0.0) == "0"


def test_a_record_knows_which_text_it_needs() -> None:
    assert units.quantity(0.5, "s") == "500 ms"
    assert units.quantity(2048, "B") == "2.00 KiB"
    assert units.quantity(3, "1") == "3"
    assert units.quantity(2.5e9, "1") == "2.50 G"
    assert units.quantity(2e-7, "1") == "2.0e-07"
    with pytest.raises(ValueError, match="unknown unit 'kg'"):
        units.quantity(1, "kg")
