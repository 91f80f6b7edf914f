"""New progress: what counts as it, what it refills, and what it says of an attempt's time."""

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.policy.scripted import NO_PAUSE, OURS, History
from tests.policy.test_cause import beat

from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.policy.actions import Note, Recovered
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.history import RunHistory, RunOutcome, advance
from fred_supervisor.policy.message import JournalEvent
from fred_supervisor.policy.observation import FreshCheckpoint
from fred_supervisor.policy.state import Ended, Running, Starting
from fred_supervisor.policy.watch import HeartbeatReading

FOREIGN = replace(NO_PAUSE, foreign=True, expects_beats=False)


def touch(history: History, *, after_s: float = 1.0, **seen: Any) -> History:
    """A beat of a trainer that only changes the file."""
    history.begin()
    stamp = str(history.now_s)
    return history.see(after_s=after_s, looks=(HeartbeatReading(stamp=stamp),), **seen)


# -- how far ------------------------------------------------------------------------------------------------------------


def at(**changes: Any) -> Beat:
    nothing = {"epoch": None, "epochs": None, "step": None, "steps": None, "samples": None}
    return beat(**{**nothing, **changes})


@pytest.mark.parametrize(
    ("record", "far"),
    [
        (None, None),
        (at(), None),
        (at(epoch=3), 3.0),
        (at(epoch=3, step=5), 3.0 + 5e-9),
        (at(epoch=3, step=5, steps=10), 3.5),
        (at(epoch=3, steps=10), 3.0),
        (at(epoch=0, step=5, steps=10, samples=9), 0.5),
        (at(step=5, steps=10), 5.0),
        (at(step=5, samples=40), 40.0),
        (at(samples=40), 40.0),
        (at(samples=0, step=9), 0.0),
    ],
)
def test_how_far_a_record_is(record: Beat | None, far: float | None):
    assert advance(record) == far


@pytest.mark.parametrize("counts", [{"samples": 8}, {"step": 8}, {"epoch": 8}])
def test_trainers_that_count_one_thing_only_make_progress_too(counts: dict[str, int]):
    history = History(OURS)
    history.begin()

    def see(add: int) -> None:
        now = at(seq=add, **{key: value + add for key, value in counts.items()})
        history.see(looks=(HeartbeatReading(stamp=str(add), beat=now),))

    see(0)
    assert not history.state.history.progressed, "where a run begins is not yet progress"
    (measure,) = counts
    assert history.state.history.furthest == {measure: 8.0}
    see(1)
    assert history.state.history.progressed
    assert history.state.history.furthest == {measure: 9.0}


# -- what it refills ----------------------------------------------------------------------------------------------------

SPENT = RunHistory(
    attempt=3, furthest={"epoch": 2.5}, spent=4, backoffs=3, tried=("hang in train: relaunch at once",), failures={"x": 2},
    eval_failures={"2": 1}, signal_crashes=1,
)  # fmt: skip


def later_attempt() -> History:
    history = History(OURS)
    history.state = Starting(history=SPENT)
    return history


def told_nothing(history: History) -> RunHistory:
    """What is known of the run but for what its beats have taught."""
    seen = RunHistory()
    found: RunHistory = history.state.history
    return replace(found, learned=seen.learned, learning=seen.learning, trace=seen.trace)


def test_new_progress_refills_every_count_and_incidents_are_over():
    history = later_attempt().train(2, 4)
    assert told_nothing(history) == SPENT
    history.train(2, 5)
    assert told_nothing(history) == SPENT, "as far as before is not further"
    assert Recovered() not in history.actions
    history.train(2, 6)
    assert told_nothing(history) == RunHistory(attempt=3, furthest={"epoch": 2.6}, progressed=True)
    assert history.actions.count(Recovered()) == 1
    history.train(2, 7)
    assert history.state.history.furthest == {"epoch": 2.7}
    assert history.actions.count(Recovered()) == 1, "told once for each attempt"


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_with_a_loss_that_is_no_number_there_is_none(loss: float):
    history = later_attempt().train(2, 9, loss=loss)
    assert told_nothing(history) == SPENT
    history.train(2, 6, loss=0.5)
    assert history.state.history.furthest == {"epoch": 2.6}


def test_the_first_record_of_a_later_attempt_may_be_progress():
    history = later_attempt().train(3, 1)
    assert history.state.history.spent == 0


def test_recovery_is_told_though_the_trainer_is_gone_in_the_same_look():
    history = later_attempt().train(2, 4)
    stamp = HeartbeatReading(stamp="new", beat=beat(epoch=3, step=1, seq=99))
    history.see(looks=(stamp,), ended=None, request=None)
    assert Recovered() in history.actions


# -- level 1: a trainer that only touches its file ----------------------------------------------------------------------


def test_at_level_1_ten_minutes_of_beats_are_progress():
    history = History(FOREIGN)
    touch(history)  # at 2 s
    assert isinstance(history.state, Running)
    assert history.state.watch.main.first_s == 2.0
    touch(history, after_s=599.0)
    assert not history.state.history.progressed
    assert Recovered() not in history.actions
    touch(history, after_s=1.0)
    assert history.state.history.progressed
    assert history.actions.count(Recovered()) == 1
    touch(history, after_s=600.0)
    assert history.actions.count(Recovered()) == 1
    assert history.state.history.furthest == {}


def test_at_level_1_every_attempt_that_lasts_refills_the_budget_and_others_do_not():
    history = History(replace(FOREIGN, max_restarts=2))
    for _ in range(6):
        touch(history)
        touch(history, after_s=600.0)
        history.end(exit_code=1, last_line=str(history.now_s))
        assert history.state.history.spent == 1
    for _ in range(2):
        touch(history)
        touch(history, after_s=590.0)
        history.end(exit_code=1, last_line=str(history.now_s))
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.FAILED


def test_a_trainer_that_never_beats_makes_no_progress_by_lasting():
    history = History(FOREIGN)
    history.begin()
    history.see(after_s=5000.0)
    assert not history.state.history.progressed


@pytest.mark.parametrize("beats", [False, True])
def test_a_new_checkpoint_of_a_trainer_without_a_position_is_progress(beats: bool):
    history = History(FOREIGN)
    history.begin()
    if beats:
        touch(history)
    history.see(fresh_checkpoint=FreshCheckpoint.NEW)
    assert history.state.history.progressed
    history.see(fresh_checkpoint=FreshCheckpoint.NEW)
    assert history.actions.count(Recovered()) == 1


@pytest.mark.parametrize(("after_s", "progress"), [(1.0, False), (599.0, False), (600.0, True)])
def test_a_rewritten_checkpoint_is_progress_of_an_attempt_that_has_lasted(after_s: float, progress: bool):
    history = History(FOREIGN)
    history.begin()
    history.see(after_s=after_s, fresh_checkpoint=FreshCheckpoint.REWRITTEN)
    assert history.state.history.progressed == progress


@pytest.mark.parametrize(
    ("after_s", "exit_code", "progress"),
    [(1.0, 75, True), (1.0, 1, False), (599.0, 1, False), (600.0, 1, True), (1.0, None, False)],
)
def test_a_checkpoint_of_the_last_moment_is_progress_of_who_says_that_it_saved(
    after_s: float, exit_code: int | None, progress: bool
):
    """Or has lasted: who fails at once may save at each failure, for ever."""
    history = History(FOREIGN)
    history.begin()
    ended = Evidence(exit_code=exit_code, signal=None if exit_code else 9, unverified=True)
    history.see(after_s=after_s, fresh_checkpoint=FreshCheckpoint.NEW, ended=ended)
    assert any(isinstance(action, Recovered) for action in history.actions) == progress


def test_a_new_checkpoint_is_no_progress_where_the_records_say_where_training_is():
    history = History(OURS).train(2, 4).see(fresh_checkpoint=FreshCheckpoint.NEW)
    assert not history.state.history.progressed


def test_records_without_a_position_count_as_touches_do():
    history = History(FOREIGN)
    history.begin()
    for second, after_s in enumerate((1.0, 599.0, 1.0)):
        history.see(after_s=after_s, looks=(HeartbeatReading(stamp=str(second), beat=at(seq=second)),))
    assert history.state.history.progressed


# -- time that was of use -----------------------------------------------------------------------------------------------


def test_the_time_between_the_first_and_the_last_new_progress_is_of_use():
    history = History(NO_PAUSE).train(1, 1)
    history.now_s += 10.0
    history.train(1, 2)
    assert isinstance(history.state, Running)
    assert history.state.passed_s == (history.now_s, history.now_s)
    first_s = history.now_s
    history.now_s += 99.0
    history.train(1, 3)
    assert history.state.passed_s == (first_s, history.now_s)
    begun_s = history.state.since_s
    history.train(1, 2).see(after_s=50.0).end(exit_code=1)
    assert history.state.history.useful_s == pytest.approx(100.0)
    assert history.state.history.lived_s == pytest.approx(history.now_s - begun_s)


def test_what_cannot_be_told_counts_as_useful():
    history = History(FOREIGN)
    touch(history)
    begun_s = history.state.since_s
    history.see(after_s=1000.0).end(exit_code=1)
    assert history.state.history.lived_s == history.state.history.useful_s == history.now_s - begun_s


def test_an_attempt_that_trained_no_further_was_of_no_use():
    history = later_attempt().train(1, 1).see(after_s=100.0).end(exit_code=1)
    assert history.state.history.useful_s == 0.0
    assert history.state.history.lived_s > 100.0


@pytest.mark.parametrize("by_hang", [False, True])
def test_a_run_that_only_hangs_is_given_up_too(by_hang: bool):
    """Two hours of attempts, each with a little progress: however they end, their time is counted."""
    settings = replace(NO_PAUSE, hang_timeout_s={"train": 1000.0}) if by_hang else NO_PAUSE
    history = History(settings)
    for epoch in range(1, 20):
        if isinstance(history.state, Ended):
            break
        history.train(epoch, 1).train(epoch, 5).see(after_s=1000.0)
        if by_hang:
            history.see(after_s=0.1)
        history.end(exit_code=1)
    assert isinstance(history.state, Ended)
    assert history.state.history.attempt in (7, 8)


def test_a_tree_that_outlives_its_trainer_has_lived_too():
    history = History(OURS).train(1, 1).see(after_s=100.0, survivors=(Survivor(pid=1),))
    assert history.state.history.lived_s > 100.0


def test_moving_again_is_told():
    history = History().train(1, 1).see(after_s=1200.0)
    assert not any(isinstance(a, Note) and a.event is JournalEvent.MOVES_AGAIN for a in history.actions)
    history.train(1, 2)
    history.train(1, 3)
    events = [action.event for action in history.actions if isinstance(action, Note)]
    assert events == [JournalEvent.STALLED, JournalEvent.MOVES_AGAIN]
