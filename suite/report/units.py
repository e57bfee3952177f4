"""The one place where a number becomes text.

Records hold seconds, bytes and pure numbers. Times, counts and rates take SI prefixes (powers of 1000); bytes take
binary ones (powers of 1024), in rates too. Three significant digits everywhere: no probe knows a fourth.
"""

import math
from typing import TypeGuard

MISSING = "–"
"""What a table prints where nothing was measured."""
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SMALL = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BINARY = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def digits(value: float) -> str:
    """Three significant digits without an exponent, such as ``12.3`` or ``0.00457``."""
    if value == 0:
        return "0"
    places = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, places)
    # 9.996 rounds up to 10.0, which has a digit more before the point
    places = 2 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(places, 0)}f}"


def seconds(value: float | None) -> str:
    """A duration, such as ``12.3 ms``; two minutes and more as ``3 min 05 s``."""
    if not is_number(value):
        return MISSING
    if value >= 120:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    return _prefixed(value, _SMALL)


def seconds_between(value: float | None, low: float | None, high: float | None) -> str:
    """A duration with its interval in the same unit, such as ``12.3 ms (12.1–12.6)``."""
    if not is_number(value):
        return MISSING
    if not (is_number(low) and is_number(high)):
        return seconds(value)
    scale, symbol = _scale(value, _SMALL)
    return f"{digits(value / scale)} {symbol} ({digits(low / scale)}–{digits(high / scale)})"


def round_seconds(value: float) -> str:
    """A round duration, as axes have them: ``20 ms``."""
    scale, symbol = _scale(value, _SMALL)
    return f"{value / scale:g} {symbol}"


def round_binary(value: float) -> str:
    """A round size, as axes have them: ``64 MiB``."""
    scale, symbol = _scale(value, _BINARY)
    return f"{value / scale:g} {symbol}"


def binary(value: float | None) -> str:
    """A size in bytes, such as ``4.5 MiB``; whole below a KiB."""
    if not is_number(value):
        return MISSING
    if value < 1024:
        return f"{value:.0f} B"
    scale, symbol = _scale(value, _BINARY)
    return f"{digits(value / scale)} {symbol}"


def count(value: float | None) -> str:
    """How many, such as ``832`` or ``1.2 G``."""
    if not is_number(value):
        return MISSING
    if value < 1000 and value == round(value):
        return f"{value:.0f}"
    scale, symbol = _scale(value, _SI)
    return f"{digits(value / scale)} {symbol}".rstrip()


def per_second(value: float | None, what: str = "") -> str:
    """A rate, such as ``76.1 GFLOP/s``."""
    if not is_number(value):
        return MISSING
    scale, symbol = _scale(value, _SI)
    return f"{digits(value / scale)} {symbol}{what}/s"


def binary_per_second(value: float | None) -> str:
    """A rate of bytes, such as ``9.31 GiB/s``."""
    return f"{binary(value)}/s" if is_number(value) else MISSING


def factor(value: float | None) -> str:
    """How many times as fast, or as large: ``×1.35``; two digits below a tenth."""
    return f"×{_ratio(value)}" if is_number(value) else MISSING


def factor_between(value: float | None, low: float | None, high: float | None) -> str:
    """A factor with its interval, such as ``×1.35 (1.31–1.39)``."""
    if is_number(low) and is_number(high):
        return f"{factor(value)} ({_ratio(low)}–{_ratio(high)})"
    return factor(value)


def _ratio(value: float) -> str:
    return digits(value) if abs(value) >= 0.1 else f"{value:.2g}"


def percent(value: float | None) -> str:
    """A share, such as ``61 %``; below ten with one digit after the point."""
    if not is_number(value):
        return MISSING
    return f"{value * 100:.0f} %" if abs(value) >= 0.0995 else f"{value * 100:.1f} %"


def error(value: float | None) -> str:
    """A relative error, such as ``3.1e-07``; 0 where nothing differs at all."""
    if not is_number(value):
        return MISSING
    return "0" if value == 0 else f"{value:.1e}"


def moved(value: float | None) -> str:
    """By how much something moved, relative: ``0.45`` where it is plain, ``3.1e-07`` where it is rounding."""
    return digits(value) if is_number(value) and abs(value) >= 0.01 else error(value)


def many(number: int, thing: str) -> str:
    """A count of things in words: ``1 workload``, ``2 workloads``."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def quantity(value: float | None, unit: str) -> str:
    """A value in a record's unit: ``s``, ``B`` or ``1``.

    Raises:
        ValueError: another unit.
    """
    if unit == "s":
        return seconds(value)
    if unit == "B":
        return binary(value)
    if unit == "1":
        if not is_number(value):
            return MISSING
        return error(value) if 0 < abs(value) < 1e-3 else count(value)
    raise ValueError(f"unknown unit {unit!r}; expected s, B or 1")


def is_number(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number; tables hold NaN where records hold nothing."""
    return value is not None and math.isfinite(value)


def _scale(value: float, prefixes: tuple[tuple[float, str], ...]) -> tuple[float, str]:
    if value == 0:  # nothing has no size: the unit itself
        return next(prefix for prefix in prefixes if prefix[0] == 1.0)
    for scale, symbol in prefixes:
        # 999.6 is printed as 1000, which belongs to the next prefix
        if abs(value) >= scale * 0.9995:
            return scale, symbol
    return prefixes[-1]


def _prefixed(value: float, prefixes: tuple[tuple[float, str], ...]) -> str:
    scale, symbol = _scale(value, prefixes)
    return f"{digits(value / scale)} {symbol}"
