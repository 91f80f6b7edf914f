"""What single odd values do not move."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Final

_OF_NORMAL: Final = 1.4826
"""Times the median deviation is a normal distribution's σ."""


def median(values: Iterable[float]) -> float:
    """Of one value at least.

    Raises:
        statistics.StatisticsError: There is none.
    """
    from statistics import median as middle  # noqa: PLC0415 - a megabyte that no reader of a status needs

    return middle(values)


def spread(values: Sequence[float]) -> float:
    """What σ is for a normal distribution: from the median deviation."""
    usual = median(values)
    return _OF_NORMAL * median(abs(value - usual) for value in values)


def slope(points: tuple[tuple[float, float], ...]) -> float:
    """By Theil and Sen, of points (time, value) at distinct times, two at least."""
    return median((v - u) / (t - s) for (s, u), (t, v) in combinations(points, 2))
