"""The learning rate."""

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


def test_beyond_the_end_it_stays_low():
    assert learning_rate(2000, total=1000, peak=1.0) == pytest.approx(FLOOR)
