"""A trend: what goes steadily towards a bound, and when it is there."""

import pytest

from fred_supervisor.monitor.forecast import _LEAST_POINTS, Trend, slope


def trend(values: list[float], *, step_s: float = 10.0, least_s: float = 100.0) -> Trend:
    made = Trend(window_s=1000.0, least_s=least_s)
    for number, value in enumerate(values):
        made.add(number * step_s, value)
    return made


@pytest.mark.parametrize(
    ("values", "bound", "left_s"),
    [
        ([float(n) for n in range(20)], 119.0, 1000.0),
        ([float(n) for n in range(20)], 19.0, 0.0),
        ([float(n) for n in range(20)], 18.0, None),
        ([float(-n) for n in range(20)], -29.0, 100.0),
        ([float(-n) for n in range(20)], 29.0, None),
        ([5.0] * 20, 5.0, 0.0),
        ([5.0] * 20, 6.0, None),
    ],
)
def test_when_a_bound_is_reached(values: list[float], bound: float, left_s: float | None) -> None:
    found = trend(values).reaches_in_s(bound)
    assert found == (None if left_s is None else pytest.approx(left_s))


def test_there_is_no_forecast_before_its_time() -> None:
    values = [float(n) for n in range(11)]
    assert trend(values, least_s=100.0).reaches_in_s(20.0) == pytest.approx(100.0)
    assert trend(values, least_s=100.1).reaches_in_s(20.0) is None
    assert Trend(window_s=10.0, least_s=0.0).reaches_in_s(1.0) is None


STEP_UP = [0.0] * 10 + [100.0 + n for n in range(10)]
STEP_THEN_FLAT = [float(n) for n in range(10)] + [100.0] * 10


@pytest.mark.parametrize("values", [STEP_UP, STEP_THEN_FLAT, [*range(10), *range(8, -2, -1)]])
def test_one_half_that_does_not_go_there_is_no_trend(values: list[float]) -> None:
    """An allocator takes what it needs and stays: the window rises, its halves do not."""
    assert trend([float(value) for value in values]).reaches_in_s(10000.0) is None


def test_both_halves_of_a_rise_with_a_step_may_rise() -> None:
    values = [float(n) for n in range(10)] + [100.0 + n for n in range(10)]
    assert trend(values).reaches_in_s(10000.0) is not None


def test_a_slope_is_that_of_least_squares() -> None:
    assert slope([(float(t), 1.0 + 2.0 * t) for t in range(5)]) == pytest.approx(2.0)
    assert slope([(10.0 * t, 1.0 - t) for t in range(5)]) == pytest.approx(-0.1)
    assert slope([(float(t), v) for t, v in enumerate([0.0, 1.0, 2.0, 1.0, 0.0])]) == pytest.approx(0.0)
    assert slope([(2.0 * t, v) for t, v in enumerate([0.0, 0.0, 1.0, 0.0, 4.0])]) == pytest.approx(0.4)


def test_too_few_points_or_no_time_between_them_have_no_slope() -> None:
    for count in range(_LEAST_POINTS):
        assert slope([(float(t), float(t)) for t in range(count)]) is None
    assert slope([(float(t), float(t)) for t in range(_LEAST_POINTS)]) is not None
    assert slope([(1.0, float(t)) for t in range(_LEAST_POINTS)]) is None


def test_points_are_a_four_hundredth_of_the_window_apart_and_within_it() -> None:
    made = Trend(window_s=400.0, least_s=0.0)
    for now_s in (0.0, 0.5, 0.99, 1.0, 1.5, 2.0):
        made.add(now_s, now_s)
    assert [at_s for at_s, _ in made.points] == [0.0, 1.0, 2.0]
    made.add(400.0, 1.0)
    assert made.points[0][0] == 0.0
    made.add(401.0, 1.0)
    assert made.points[0][0] == 1.0
    made.clear()
    assert not made.points
