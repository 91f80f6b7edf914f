"""The first losses after a resume, held against those at that place before: within their own noise nothing is said."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.policy.warnings.held import Sign
from fred_supervisor.policy.warnings.resumed import LossTrace, judge, trace


def curve(step: int, noise: float, seed: int) -> float:
    """As losses fall: quickly, then slowly, never smoothly."""
    return (0.2 + 2.0 * math.exp(-step / 60)) * math.exp(random.Random(f"{seed} {step}").gauss(0, noise))


def verdict(losses: list[tuple[int, float]], resumed: list[tuple[int, float]]) -> Sign | None:
    """Of a second attempt with these (step, loss) after a first one with those."""
    known, found = LossTrace(), None
    for attempt, seen in ((1, losses), (2, resumed)):
        for step, loss in seen:
            known = trace(known, attempt, float(step), loss)
            known, sign = judge(known)
            found = sign if attempt == 2 and sign is not None else found
    return found


@pytest.mark.parametrize("loss", [math.nan, math.inf, None])
def test_a_loss_that_is_no_number_is_not_kept(loss: float | None):
    assert trace(LossTrace(), 1, 3.0, loss).points == ()


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.4])
def test_a_healthy_resume_is_never_told(noise: float):
    """200 runs, resumed where they failed, or far before that."""
    for seed in range(200):
        before = [(step, curve(step, noise, seed)) for step in range(1, 200)]
        at = 20 + seed % 160
        after = [(step, curve(step, noise, seed + 1000)) for step in range(at, at + 10)]
        found = verdict(before, after)
        assert found is not None
        assert found.message is None, (seed, at, found.message)


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.2])
def test_a_state_that_was_lost_is_told_once(noise: float):
    """It goes on at its place with the loss of fresh weights."""
    before = [(step, curve(step, noise, 1)) for step in range(1, 200)]
    after = [(step, curve(step - 150, noise, 2)) for step in range(150, 170)]
    found = verdict(before, after)
    assert found is not None
    assert found.message is not None
    assert found.message.facts["loss"] > 1.5 * found.message.facts["before"]


def test_what_is_not_known_gives_no_sign():
    before = [(step, 1.0) for step in range(1, 100)]
    assert verdict(before[:5], [(step, 9.0) for step in range(50, 60)]) is None
    assert verdict(before, [(step, 9.0) for step in range(1, 20)]) is None, "it began from the beginning"
    assert verdict(before, [(50, 9.0)] * 20) is None, "one look says nothing"
    assert verdict([], []) is None


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1e6) | st.none(), st.floats(-1e9, 1e9) | st.none())))
def test_whatever_is_seen_little_is_kept(looks):
    known = LossTrace()
    for attempt, place, loss in looks:
        known, _ = judge(trace(known, attempt, place, loss))
        assert len(known.points) <= 129
