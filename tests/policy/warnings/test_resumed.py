"""The first losses after a resume, held against those at that place before: within their own noise nothing is said."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fred_supervisor.policy.warnings.held import Sign
from fred_supervisor.policy.warnings.resumed import LossTrace, judge, trace


def curve(step: int, noise: float, seed: int) -> float:
    """As losses fall: quickly, then slowly, never smoothly."""
    return (0.2 + 2.0 * math.exp(-step / 60)) * math.exp(random.Random(f"{seed} {step}").gauss(0, noise))


def verdict(losses: Sequence[tuple[float, float]], resumed: Sequence[tuple[float, float]]) -> Sign | None:
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


@pytest.mark.parametrize("looks", [1, 2, 5])
@pytest.mark.parametrize("last", [13, 30])
def test_a_lost_state_is_told_of_a_trainer_that_says_its_loss_seldom(last: int, looks: int):
    """Some twenty steps an epoch, and few looks: a few dozen losses hold the whole descent."""

    def seen(first: int, last: int, age: int, seed: int) -> list[tuple[float, float]]:
        places = [epoch + look / looks for epoch in range(first, last) for look in range(looks)]
        return [(place, curve(int(20 * (place - age)), 0.05, seed)) for place in places]

    before = seen(1, last, 1, 1)
    lost, well = verdict(before, seen(12, 20, 12, 2)), verdict(before, seen(12, 20, 1, 2))
    assert lost is not None
    assert lost.message is not None
    assert well is not None
    assert well.message is None


def test_a_loss_that_rises_as_it_rose_at_that_place_before_is_not_told():
    rising = [(float(step), 0.3 * 1.2 ** max(0, step - 20) * (1 + step % 3 / 50)) for step in range(1, 44)]
    for at in range(10, 36):
        found = verdict(rising, rising[at : at + 8])
        assert found is not None
        assert found.message is None, at


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
