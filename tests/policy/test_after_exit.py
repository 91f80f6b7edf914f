"""What an end costs: budget, back-off, counts; and where a run goes from it."""

from dataclasses import replace
from typing import Any

import pytest
from tests.policy.messages import said
from tests.policy.scripted import NO_PAUSE, OURS, History, oom
from tests.policy.test_cause import FULL, beat, error

from fred_supervisor.contract.error_file import ErrorKind
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.actions import AskGpu, Note, Report, Spawn
from fred_supervisor.policy.after_exit import after_exit, backoff_s
from fred_supervisor.policy.cause import Cause, EndedBy, Evidence
from fred_supervisor.policy.history import Overrides, Restarts, RunHistory, RunOutcome, lived
from fred_supervisor.policy.message import JournalEvent, Message, Topic, say
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import AwaitingGpu, BackingOff, Ended, Holding, Paused, Starting

CRASH = Evidence(exit_code=1, error=error(ErrorKind.EXCEPTION), beat=beat())
OOM = Evidence(**oom(), beat=beat())
HANG = Evidence(signal=9, ended_by=EndedBy.HANG, beat=beat())
SAVED = Evidence(exit_code=75, beat=beat())


def after(ended: Evidence, settings: Settings = NO_PAUSE, **history: Any) -> RunHistory:
    return after_exit(settings, RunHistory(attempt=1, **history), ended, 100.0)[0].history


# -- the budget ---------------------------------------------------------------------------------------------------------


def test_progress_of_one_attempt_does_not_pay_for_the_next():
    """An attempt that trained further once, and then attempts that save at once and leave: they are not free."""
    history = History(replace(NO_PAUSE, max_restarts=2)).train(1, 1).train(1, 2).end(exit_code=75)
    assert history.state.history.spent == 0
    for _ in range(3):
        history.end(exit_code=75)
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.FAILED
    assert history.launches == 4


def test_an_attempt_that_saved_and_made_progress_is_free():
    state, actions = after_exit(NO_PAUSE, RunHistory(attempt=1, progressed=True, spent=3), SAVED, 100.0)
    assert isinstance(state, Starting)
    assert (state.history.spent, state.history.restarts, state.history.progressed) == (3, Restarts(), False)
    assert [type(action) for action in actions] == [Note, Spawn]
    assert actions[0].event is JournalEvent.SAVED


@pytest.mark.parametrize(
    ("ended", "restarts"), [(CRASH, Restarts(crash=2, hang=1, oom=1)), (HANG, Restarts(crash=1, hang=2, oom=1)), (OOM, Restarts(crash=1, hang=1, oom=2))]
)  # fmt: skip
def test_every_relaunch_is_counted_by_kind(ended: Evidence, restarts: Restarts):
    found = after(ended, restarts=Restarts(crash=1, hang=1, oom=1), spent=1)
    assert (found.restarts, found.spent, found.attempt) == (restarts, 2, 2)
    assert found.restarts.total == 4


@pytest.mark.parametrize(("spent", "most", "left"), [(1, 2, True), (2, 2, False), (3, 2, False), (0, 0, False)])
def test_the_budget_is_checked_before_a_relaunch(spent: int, most: int, left: bool):
    state, actions = after_exit(replace(NO_PAUSE, max_restarts=most), RunHistory(attempt=1, spent=spent), OOM, 100.0)
    assert isinstance(state, Starting if left else Ended)
    if isinstance(state, Ended):
        assert state.history.overrides == Overrides(), "what was chosen is never tried"
        (report,) = [action for action in actions if isinstance(action, Report)]
        assert report.action.topic is Topic.GIVEN_UP_BUDGET
        assert report.action.facts["relaunches"] == spent
        assert actions[-1].event is JournalEvent.FAILED


@pytest.mark.parametrize(
    ("lived_s", "useful_s", "left"),
    [(7200.0, 719.0, False), (7200.0, 720.0, True), (7199.0, 0.0, True), (14000.0, 1300.0, False)],
)
def test_a_run_must_be_of_use_a_tenth_of_its_time(lived_s: float, useful_s: float, left: bool):
    state, actions = after_exit(
        NO_PAUSE, RunHistory(lived_s=lived_s, useful_s=useful_s, restarts=Restarts(crash=7)), CRASH, 100.0
    )
    assert isinstance(state, Starting if left else Ended)
    if not left:
        action = next(a.action for a in actions if isinstance(a, Report))
        assert action.topic is Topic.GIVEN_UP_USELESS
        assert action.facts == {"hours": lived_s / 3600, "share": useful_s / lived_s, "relaunches": 7}


# -- the time of a run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "added", "after"),
    [
        ((0.0, 0.0), (50.0, 5.0), (50.0, 5.0)),
        ((100.0, 50.0), (100.0, 10.0), (200.0, 60.0)),
        ((100.0, 50.0), (101.0, 10.0), (100.5, 30.0)),
        ((100.0, 40.0), (700.0, 0.0), (200.0, 10.0)),
    ],
)
def test_what_is_older_than_two_windows_weighs_less(
    before: tuple[float, float], added: tuple[float, float], after: tuple[float, float]
):
    found = lived(
        RunHistory(lived_s=before[0], useful_s=before[1]), lived_s=added[0], useful_s=added[1], window_s=100.0
    )
    assert (found.lived_s, found.useful_s) == after


# -- back-off -----------------------------------------------------------------------------------------------------------


def test_a_back_off_has_its_time_and_that_time_is_of_no_use():
    settings = Settings(backoff_first_s=4.0, backoff_max_s=300.0)
    state, actions = after_exit(settings, RunHistory(attempt=1, backoffs=1, lived_s=10.0, useful_s=5.0), CRASH, 100.0)
    assert isinstance(state, BackingOff)
    assert state.until_s == 108.0
    assert (state.history.lived_s, state.history.useful_s) == (18.0, 5.0)
    assert (state.history.backoffs, state.history.spent, state.history.attempt) == (2, 1, 1)
    (report,) = actions
    assert report.action.topic is Topic.RELAUNCHED_AFTER
    assert report.action.facts["wait_s"] == 8.0


def test_without_a_back_off_it_is_launched_at_once_and_told():
    state, actions = after_exit(NO_PAUSE, RunHistory(attempt=1), CRASH, 100.0)
    assert isinstance(state, Starting)
    assert [type(action) for action in actions] == [Spawn, Report]
    assert state.history.lived_s == 0.0


def test_back_offs_grow_for_one_stretch_and_stay_finite():
    assert [backoff_s(OURS, count) for count in (1, 2, 5)] == [1.0, 2.0, 16.0]
    huge = Settings(backoff_first_s=1e-18, backoff_max_s=1e9)
    assert backoff_s(huge, 62) == backoff_s(huge, 61) == 1e-18 * 2.0**60
    assert backoff_s(huge, 60) == 1e-18 * 2.0**59


# -- counts of a stretch ------------------------------------------------------------------------------------------------


def test_the_same_failure_is_counted_by_its_place():
    first = after(CRASH)
    (signature,) = first.failures
    assert first.failures == {signature: 1}
    assert after(CRASH, failures={signature: 1, "x": 5}).failures == {signature: 2, "x": 5}
    assert len(after(replace(CRASH, beat=beat(step=5)), failures=first.failures).failures) == 2
    assert after(Evidence(signal=9, beat=beat())).failures == {}, "somebody's hand is never the same failure"


@pytest.mark.parametrize(
    ("ended", "counted"),
    [
        (replace(CRASH, beat=beat(epoch=5, section=Section.EVAL)), {"4": 1, "5": 2}),
        (replace(CRASH, beat=beat(epoch=6, section=Section.EVAL)), {"4": 1, "5": 1, "6": 1}),
        (replace(CRASH, beat=beat(epoch=5), error=error(ErrorKind.EXCEPTION, section="eval")), {"4": 1, "5": 2}),
        (replace(CRASH, beat=None, error=error(ErrorKind.EXCEPTION, section="eval")), {"4": 1, "5": 1}),
        (replace(CRASH, beat=beat(epoch=5, section=Section.EVAL), error=error(ErrorKind.EXCEPTION, section="train")), {"4": 1, "5": 1}),
        (replace(CRASH, beat=beat(epoch=5)), {"4": 1, "5": 1}),
        (Evidence(signal=9, beat=beat(epoch=5, section=Section.EVAL)), {"4": 1, "5": 2}),
        (Evidence(signal=9), {"4": 1, "5": 1}),
    ],
)  # fmt: skip
def test_failures_in_evaluation_are_counted_by_epoch(ended: Evidence, counted: dict[str, int]):
    assert after(ended, eval_failures={"4": 1, "5": 1}).eval_failures == counted


@pytest.mark.parametrize(
    ("ended", "counted"),
    [
        (Evidence(signal=11, beat=beat()), 2),
        (Evidence(signal=11, beat=beat(phase="freeze")), 1),
        (Evidence(signal=11), 1),
        (Evidence(signal=9, beat=beat()), 1),
        (CRASH, 1),
    ],
)
def test_crashes_by_a_signal_are_counted_while_unfreezing(ended: Evidence, counted: int):
    assert after(ended, signal_crashes=1).signal_crashes == counted


# -- where it goes from there -------------------------------------------------------------------------------------------


def test_a_hold_is_looked_at_again_after_half_a_minute():
    full = Evidence(exit_code=1, fault=FULL)
    state, actions = after_exit(NO_PAUSE, RunHistory(attempt=1), full, 100.0)
    assert isinstance(state, Holding)
    assert (state.cause, state.since_s, state.probe_s, state.unkillable) == (Cause.DISK, 100.0, 130.0, None)
    assert (state.history.spent, state.history.attempt) == (0, 1)
    (report,) = actions
    assert (report.evidence, report.action.topic) == (full, Topic.HELD_UNTIL_CLEAR)
    assert state.condition == report.diagnosis.message


@pytest.mark.parametrize(
    ("by", "kind", "quiet"), [(EndedBy.PAUSE, Paused, None), (EndedBy.QUIET, Paused, say(Topic.QUIET_HOURS, window=None, until=None)), (EndedBy.STOP, Ended, None), (EndedBy.RESTART, Starting, None)]
)  # fmt: skip
def test_what_we_asked_for_is_no_failure(by: EndedBy, kind: type, quiet: Message | None):
    state, actions = after_exit(NO_PAUSE, RunHistory(attempt=1), replace(CRASH, ended_by=by), 100.0)
    assert isinstance(state, kind)
    assert (state.history.spent, state.history.failures, state.history.restarts) == (0, {}, Restarts())
    assert not any(isinstance(action, Report) for action in actions)
    if isinstance(state, Paused):
        assert state.quiet == quiet
    if isinstance(state, Ended):
        assert state.outcome is RunOutcome.STOPPED


@pytest.mark.parametrize(
    ("ended", "topic"),
    [
        (Evidence(exit_code=0, beat=beat(done=True)), Topic.COMPLETED),
        (Evidence(signal=11, beat=beat(done=True)), Topic.COMPLETED_BEFORE_CRASH),
        (Evidence(exit_code=1, beat=beat(done=True)), Topic.COMPLETED_BEFORE_CRASH),
        (Evidence(exit_code=0, unverified=True, done_file=True), Topic.COMPLETED_DONE_FILE),
        (Evidence(exit_code=0, unverified=True, beat=beat(epoch=9)), Topic.COMPLETED_AT_LAST),
        (Evidence(exit_code=0, unverified=True, beat=beat(epochs=None, step=10)), Topic.COMPLETED_UNVERIFIED),
        (Evidence(exit_code=0, unverified=True, beat=beat(epoch=None, epochs=None, step=10)), Topic.COMPLETED_AT_LAST),
        (Evidence(exit_code=0, unverified=True), Topic.COMPLETED_UNVERIFIED),
    ],
)
def test_how_a_goal_was_reached(ended: Evidence, topic: Topic):
    state, actions = after_exit(NO_PAUSE, RunHistory(attempt=1), replace(ended, ended_by=EndedBy.STOP), 100.0)
    assert isinstance(state, Ended)
    assert (state.outcome, state.message.topic) == (RunOutcome.COMPLETED, topic)
    assert [action.event for action in actions if isinstance(action, Note)] == [JournalEvent.COMPLETED]


def test_a_run_that_is_given_up_tells_the_cause_and_what_was_tried():
    refused = Evidence(exit_code=78, last_line="no such flag")
    state, actions = after_exit(NO_PAUSE, RunHistory(attempt=1), refused, 100.0)
    assert isinstance(state, Ended)
    report, note = actions
    assert (report.evidence, report.diagnosis.cause) == (refused, Cause.CONFIG)
    assert state.message.facts == {"cause": report.diagnosis.message, "action": report.action}
    assert note == Note(event=JournalEvent.FAILED, message=state.message)


def test_where_a_gpu_may_be_used_every_relaunch_asks_for_one():
    on_gpu = replace(NO_PAUSE, uses_gpu=True)
    for ended in (CRASH, OOM, HANG, replace(CRASH, ended_by=EndedBy.RESTART)):
        state, actions = after_exit(on_gpu, RunHistory(attempt=1), ended, 100.0)
        assert isinstance(state, AwaitingGpu)
        assert AskGpu() in actions


def test_memory_that_others_hold_costs_nothing():
    found = after(replace(OOM, gpu_others=said("GPU 0: process 1")))
    assert (found.spent, found.overrides) == (0, Overrides())


def test_a_silent_exit_is_counted_as_one():
    seen = Evidence(exit_code=0, attempt=1, beat=beat())
    found = after(seen, restarts=Restarts(crash=1))
    assert found.restarts.by_kind == {"crash": 1, "silent_exit": 1}
    assert found.restarts.total == 2
    assert after(seen, restarts=found.restarts).restarts.by_kind["silent_exit"] == 2
