"""The learning rate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_trainer.train.schedule import FLOOR, WARMUP_SAMPLES_MAX, WARMUP_SHARE, learning_rate


@given(st.integers(100, 10**7), st.floats(1e-5, 1), st.data())
def test_it_stays_between_floor_and_peak_and_never_jumps(total, peak, data):
    samples = data.draw(st.integers(0, total - 1))
    here, next_ = (learning_rate(n, total=total, peak=peak) for n in (samples, samples + 1))
    assert here >= FLOOR * peak * 0.999
    assert here <= peak * 1.001
    steepest = max(1 / min(WARMUP_SHARE * total, WARMUP_SAMPLES_MAX), 2 / total)
    assert abs(next_ - here) <= 1.01 * peak * steepest


def test_it_rises_then_falls():
    rates = [learning_rate(n, total=1000, peak=1.0) for n in range(0, 1001, 10)]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(1.0)
    assert top == 5
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(FLOOR)


@pytest.mark.parametrize(
    ("samples", "share"),
    [
        (0, 0.01),
        (1, 0.01),
        (20, 0.1),
        (100, 0.5),
        (200, 1.0),
        (1150, 0.01 + 0.99 * (1 + math.cos(math.pi / 4)) / 2),
        (2100, 0.505),
        (3050, 0.01 + 0.99 * (1 + math.cos(3 * math.pi / 4)) / 2),
        (4000, 0.01),
    ],
)
def test_the_shape_between_the_ends(samples, share):
    """A cliff right after the warm-up falls, too, and trains nothing: half-way, half of the peak is left."""
    assert learning_rate(samples, total=4000, peak=2.0) == pytest.approx(2.0 * share)


def test_the_warm_up_of_a_long_training_is_8000_samples():
    assert learning_rate(4000, total=10**6, peak=1.0) == pytest.approx(0.5)
    assert learning_rate(8000, total=10**6, peak=1.0) == pytest.approx(1.0)
    assert learning_rate(8000 + 496000, total=10**6, peak=1.0) == pytest.approx(0.505)


@pytest.mark.parametrize(
    ("samples", "total", "rate"),
    [
        (0, 20, 0.01),
        (20, 20, 0.01),
        (0, 1, 0.01),
        (1, 1, 0.01 + 0.99 * (1 + math.cos(math.pi * 0.95)) / 2),
        (0, 0, 1.0),
    ],
)
def test_a_training_of_a_few_samples_or_none_has_rates_too(samples, total, rate):
    assert learning_rate(samples, total=total, peak=1.0) == pytest.approx(rate)


def test_beyond_the_end_it_stays_low():
    assert learning_rate(2000, total=1000, peak=1.0) == pytest.approx(FLOOR)
