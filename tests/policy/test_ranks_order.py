"""Who is to blame among ranks: who may still wait, who is stopped, who has got least far, who fell silent first."""

from typing import Any

import pytest
from tests.policy.test_cause import beat

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.policy.actions import Note
from fred_supervisor.policy.decide import decide
from fred_supervisor.policy.history import Learned, RunHistory
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Running, Stopping
from fred_supervisor.policy.watch import RankWatch, Slowest, Watch, laggard, overdue, slowest

EXACT = Settings(hang_timeout_s={"train": 10.0, "checkpoint": 100.0})


def at(epoch: int | None, step: int | None = None, samples: int | None = None, **more: Any) -> Beat:
    return beat(epoch=epoch, step=step, samples=samples, **more)


def rank(record: Beat | None, *, changed_s: float = 0.0, **more: Any) -> RankWatch:
    return RankWatch(stamp="x", beat=record, changed_s=changed_s, **more)


def watch(*ranks: RankWatch) -> Watch:
    return Watch(ranks=dict(enumerate(ranks)))


# -- laggard ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behind", "ahead"),
    [
        (at(1, 90), at(2, 1)),
        (at(2, 1, 900), at(2, 2, 100)),
        (at(2, 2, 100), at(2, 2, 101)),
        (at(None, 5), at(1, None)),
        (at(1, None), at(1, 0)),
        (at(1, 0, None), at(1, 0, 0)),
        (at(None, None, None), at(0, None, None)),
        (None, at(0, None, None)),
        (None, at(None, 0, None)),
        (None, at(None, None, 0)),
    ],
    ids=str,
)
def test_the_one_that_got_least_far_by_epoch_then_step_then_samples(behind: Beat | None, ahead: Beat):
    """At an epoch's end the steps begin anew: the one with more steps may be behind."""
    for changed_s in (0.0, 1.0):  # whoever fell silent first
        assert laggard(watch(rank(ahead), rank(behind, changed_s=changed_s)), 1.0, 60.0) == 1
        assert laggard(watch(rank(behind, changed_s=changed_s), rank(ahead)), 1.0, 60.0) == 0


def test_at_the_same_point_it_is_the_one_that_fell_silent_first():
    same = at(2, 2, 2)
    assert laggard(watch(rank(same, changed_s=2.0), rank(same, changed_s=1.0)), 2.0, 60.0) == 1
    assert laggard(watch(rank(None, changed_s=2.0), rank(at(None), changed_s=1.0)), 2.0, 60.0) == 1


def test_one_that_is_stopped_is_to_blame_though_it_got_further():
    assert laggard(watch(rank(at(1)), rank(at(2), stopped=True)), 0.0, 60.0) == 1
    assert laggard(watch(rank(at(1), stopped=True), rank(at(2), stopped=True)), 0.0, 60.0) == 0


@pytest.mark.parametrize(("changed_s", "blamed"), [(30.0, 1), (30.1, 0), (55.0, 0)])
def test_only_who_has_been_silent_half_as_long(changed_s: float, blamed: int):
    """Silent since 20 s, now it is 40 s: who was heard of in the last 10 s goes on."""
    assert laggard(watch(rank(at(2), changed_s=20.0), rank(at(1), changed_s=changed_s)), 20.0, 40.0) == blamed


def test_one_that_cannot_be_seen_is_not_to_blame_and_nobody_else_is_rank_0():
    assert laggard(watch(rank(at(2)), rank(at(1), blind=True)), 0.0, 60.0) == 0
    assert laggard(watch(rank(at(2), blind=True), rank(at(1), blind=True)), 0.0, 60.0) == 0


# -- overdue ------------------------------------------------------------------------------------------------------------


def judge(ranks: Watch, now_s: float) -> Slowest | None:
    found = slowest(EXACT, Learned(), ranks)
    assert found is not None
    return overdue(EXACT, Learned(), ranks, found, now_s)


SAVES = at(1, 1, section=Section.CHECKPOINT)


@pytest.mark.parametrize(
    ("other", "now_s", "waits"),
    [
        (rank(SAVES, changed_s=1.0), 20.0, True),
        (rank(SAVES, changed_s=1.0), 100.9, True),
        (rank(SAVES, changed_s=1.0), 101.0, False),
        (rank(SAVES, changed_s=1.0, blind=True), 20.0, False),
        (rank(at(1, 2, section=Section.CHECKPOINT), changed_s=1.0), 20.0, False),
        (rank(at(1, 3, section=Section.CHECKPOINT), changed_s=1.0), 20.0, False),
        (RankWatch(stamp="touched", changed_s=15.0), 20.0, False),
    ],
)
def test_who_waits_for_one_that_is_behind_and_has_time_left_does_not_hang(other: RankWatch, now_s: float, waits: bool):
    found = judge(watch(rank(at(1, 2), changed_s=0.0), other), now_s)
    assert (found is None) == waits


def test_one_that_never_beat_and_is_not_judged_holds_nobody_back():
    foreign = Settings(foreign=True, expects_beats=False, hang_timeout_s={"train": 10.0})
    ranks = watch(rank(at(1, 2)), RankWatch(changed_s=0.0))
    found = slowest(foreign, Learned(), ranks)
    assert found is not None
    assert overdue(foreign, Learned(), ranks, found, 20.0) is not None


def test_the_one_to_blame_comes_with_what_is_known_of_it():
    ranks = watch(rank(at(1, 2), changed_s=0.0), rank(at(1, 1), changed_s=2.0))
    found = judge(ranks, 60.0)
    assert found is not None
    assert (found.rank, found.seen) == (1, ranks.ranks[1])
    assert (found.deadline_s, found.limit_s, found.exact) == (10.0, 10.0, True)


def test_the_rank_to_blame_goes_with_the_end():
    ranks = watch(rank(at(1, 2), changed_s=0.0), rank(at(1, 1), changed_s=2.0))
    state = Running(history=RunHistory(attempt=1), watch=ranks, since_s=0.0)
    after, actions = decide(EXACT, state, Observation(now_s=60.0))
    assert isinstance(after, Stopping)
    assert (after.rank, after.stalled_s) == (1, 58.0)
    (note,) = [action for action in actions if isinstance(action, Note)]
    assert note.message.facts == {"rank": 1, "section": "train", "silent_s": 58.0, "limit_s": 10.0}
