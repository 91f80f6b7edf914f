"""How a trainer is ended, rung by rung, and when `decide` wants to be asked again."""

from dataclasses import replace
from typing import Any

import pytest
from tests.policy.messages import said
from tests.policy.scripted import EXACT, NO_PAUSE, OURS, History
from tests.policy.test_cause import beat

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.policy.actions import Action, DumpStacks, Kill, Note, Report, Terminate
from fred_supervisor.policy.cause import Cause, EndedBy, Evidence
from fred_supervisor.policy.decide import wake_s
from fred_supervisor.policy.history import Learned, RunHistory, RunOutcome
from fred_supervisor.policy.message import JournalEvent, Topic
from fred_supervisor.policy.requests import Request, prevailing
from fred_supervisor.policy.state import (
    AwaitingGpu,
    BackingOff,
    Ended,
    Holding,
    Paused,
    Rung,
    Running,
    Starting,
    Stopping,
    Unkillable,
)
from fred_supervisor.policy.watch import HeartbeatReading, begin

STUCK = (Survivor(pid=4711, wchan="nfs_wait_bit"),)


def hung(**settings: Any) -> History:
    """At the limit: the stacks have just been asked for."""
    history = History(replace(EXACT, **settings)).train(1, 1).see(after_s=10.0)
    assert isinstance(history.state, Stopping)
    return history


def signals(history: History) -> list[Action]:
    return [action for action in history.actions if isinstance(action, DumpStacks | Terminate | Kill)]


# -- a hang -------------------------------------------------------------------------------------------------------------


def test_the_ladder_of_a_hang_step_by_step():
    history = hung()
    now_s = history.now_s
    assert history.state.by is EndedBy.HANG
    assert history.state.stalled_s == 10.0
    assert history.state.rank is None
    assert (history.state.rung, history.state.dump_s, history.state.until_s) == (Rung.DUMP, now_s + 0.05, now_s + 0.1)
    assert wake_s(EXACT, history.state) == now_s + 0.05
    history.see(after_s=0.049)
    assert signals(history) == [DumpStacks()]
    history.now_s = now_s
    history.see(after_s=0.05)
    assert signals(history) == [DumpStacks(), DumpStacks()], "once more, to see whether they move"
    assert wake_s(EXACT, history.state) == now_s + 0.1
    history.see(after_s=0.04)
    assert history.state.rung is Rung.DUMP
    history.now_s = now_s
    history.see(after_s=0.1)
    assert (history.state.rung, history.state.until_s) == (Rung.TERM, now_s + 0.1 + 0.1)
    assert signals(history)[2:] == [Terminate(wake=True)], "one that is stopped must wake to see it"
    history.now_s = now_s
    history.see(after_s=0.2)
    assert (history.state.rung, history.state.until_s) == (Rung.KILL, now_s + 0.2 + 10.0)
    assert signals(history)[3:] == [Kill()]
    history.see(after_s=9.9)
    assert isinstance(history.state, Stopping)


def test_a_look_that_comes_too_late_for_the_second_dump_goes_on_without():
    history = hung().see(after_s=0.1)
    assert history.state.rung is Rung.TERM
    assert signals(history) == [DumpStacks(), Terminate(wake=True)]
    assert wake_s(EXACT, history.state) == history.state.until_s, "what was missed is not waited for"


@pytest.mark.parametrize(("moved", "grace_s"), [(None, 0.1), (False, 0.1), (True, 5.0)])
def test_stacks_that_move_may_still_save(moved: bool | None, grace_s: float):
    history = hung().see(after_s=0.1, stacks_moved=moved)
    assert history.state.until_s == history.now_s + grace_s


def test_a_dump_is_waited_for_and_not_for_ever():
    history = hung()
    end_s = history.state.until_s + 1.0
    history.see(after_s=0.1, dumping=True)
    assert history.state.rung is Rung.DUMP
    assert wake_s(EXACT, history.state) == pytest.approx(history.now_s + 0.05), "it does not spin meanwhile"
    history.see(after_s=0.5, dumping=True)
    assert history.state.rung is Rung.DUMP
    history.now_s = end_s
    history.see(after_s=0.0, dumping=True)
    assert history.state.rung is Rung.TERM
    done = hung().see(after_s=0.1, dumping=True).see(after_s=0.1, dumping=False)
    assert done.state.rung is Rung.TERM


def test_only_the_first_rung_waits_for_a_dump():
    history = hung().see(after_s=0.1).see(after_s=0.1, dumping=True)
    assert history.state.rung is Rung.KILL


def test_an_end_after_a_hang_is_reported_as_a_hang_with_its_silence():
    history = hung().see(after_s=0.1).end(exit_code=75)
    (report,) = [action for action in history.actions if isinstance(action, Report)]
    assert report.diagnosis.cause is Cause.HANG
    assert (report.evidence.stalled_s, report.evidence.ended_by) == (10.0, EndedBy.HANG)
    assert isinstance(history.state, Starting)
    assert history.state.history.restarts.hang == 1


@pytest.mark.parametrize("after_s", [1200.0, 2000.0])
def test_a_limit_that_is_not_exact_is_a_warning_first(after_s: float):
    history = History().train(1, 1).see(after_s=after_s, busy=False)
    assert isinstance(history.state, Running)
    assert history.state.watch.stalled_s == history.now_s
    assert history.state.watch.stalled_rank == 0
    (note,) = [action for action in history.actions if isinstance(action, Note)]
    assert note.event is JournalEvent.STALLED
    assert note.message.facts == {"rank": None, "section": "train", "silent_s": after_s, "limit_s": 1200.0}
    assert signals(history) == [DumpStacks()]
    history.see(busy=True).see(busy=None)
    assert signals(history) == [DumpStacks()], "told once"
    history.see(busy=False)
    assert isinstance(history.state, Stopping)
    told = history.actions[-2].message.facts
    assert (told["idle"], told["factor"], told["silent_s"]) == (True, 3.0, after_s + 3.0)


def test_a_busy_one_has_three_times_its_limit():
    history = History().train(1, 1)
    silent_since_s = history.now_s
    history.see(after_s=1200.0)
    assert wake_s(NO_PAUSE, history.state) == silent_since_s + 3600.0
    history.see(after_s=2399.9, busy=True)
    assert isinstance(history.state, Running)
    history.now_s = silent_since_s
    history.see(after_s=3600.0, busy=True)
    assert isinstance(history.state, Stopping)
    assert history.actions[-2].message.facts["idle"] is False


def test_under_the_limit_nothing_is_said():
    history = History().train(1, 1).see(after_s=1199.9, busy=False)
    assert isinstance(history.state, Running)
    assert history.state.watch.stalled_s is None
    assert signals(history) == []


def test_one_that_beats_again_while_it_is_ended_teaches_its_gap():
    history = hung()
    one = beat(epoch=1, step=2, seq=9999)
    history.see(after_s=0.01, looks=(HeartbeatReading(stamp="late", beat=one),))
    assert isinstance(history.state, Stopping)
    assert history.state.watch.main.beat == one
    assert history.state.history.learned.gaps_s == {"startup": 1.0, "train": pytest.approx(10.01)}


# -- our own pause ------------------------------------------------------------------------------------------------------


def test_time_that_we_were_held_up_is_nobodys_silence():
    history = History(EXACT).train(1, 1)
    history.see(after_s=100.0, late_s=95.0)
    assert isinstance(history.state, Running)
    assert history.state.watch.main.changed_s == history.now_s - 5.0
    history.see(after_s=4.9)
    assert isinstance(history.state, Running)
    history.see(after_s=0.1)
    assert isinstance(history.state, Stopping)
    assert isinstance(History(EXACT).train(1, 1).see(after_s=100.0).state, Stopping)


# -- a request ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "by", "event"),
    [
        (Request.STOP, EndedBy.STOP, JournalEvent.STOP),
        (Request.PAUSE, EndedBy.PAUSE, JournalEvent.PAUSE),
        (Request.RESTART, EndedBy.RESTART, JournalEvent.RESTART),
        (Request.QUIET, EndedBy.QUIET, JournalEvent.QUIET_HOURS),
    ],
)
def test_a_request_begins_at_sigterm(request_: Request, by: EndedBy, event: JournalEvent):
    history = History().train(1, 1).see(request=request_)
    assert isinstance(history.state, Stopping)
    assert (history.state.by, history.state.rung, history.state.until_s) == (by, Rung.TERM, history.now_s + 120.0)
    assert (history.state.dump_s, history.state.stalled_s) == (None, None)
    assert history.state.watch.main.beat is not None
    assert wake_s(NO_PAUSE, history.state) == history.now_s + 120.0
    note, terminate = history.actions[-2:]
    assert (note.event, terminate) == (event, Terminate(wake=True))


def test_resume_of_a_run_that_runs_changes_nothing():
    history = History().train(1, 1)
    before = history.state
    history.see(request=Request.RESUME)
    assert history.state == before
    assert signals(history) == []


def test_the_grace_of_a_request_is_learned_from_the_saves():
    history = History().train(1, 1).train(1, 2, section=Section.CHECKPOINT).see(after_s=60.0).train(1, 3)
    history.see(request=Request.STOP)
    assert history.state.until_s == history.now_s + 3 * 61.0


def test_stop_twice_kills_and_then_waits_for_the_kernel():
    history = History().train(1, 1).see(request=Request.STOP).see(request=Request.STOP)
    assert (history.state.rung, history.state.until_s) == (Rung.KILL, history.now_s + 10.0)
    assert signals(history)[-1] == Kill()
    history.see(after_s=0.1, survivors=STUCK)
    assert isinstance(history.state, Stopping), "it has had no moment yet"
    history.see(after_s=1.0, request=Request.STOP)
    assert history.state.until_s == history.now_s - 1.1 + 10.0, "a third time changes nothing"
    assert signals(history).count(Kill()) == 1


@pytest.mark.parametrize("request_", [Request.PAUSE, Request.RESTART, Request.RESUME])
def test_what_is_asked_while_it_is_ended_for_something_else_is_too_late(request_: Request):
    history = History().train(1, 1).see(request=Request.STOP)
    before = history.state
    history.see(request=request_)
    assert history.state == before


@pytest.mark.parametrize("first", [Request.PAUSE, Request.RESTART, None])
def test_a_stop_outranks_why_a_trainer_is_being_ended(first: Request | None):
    history = History(EXACT).train(1, 1)
    history.see(request=first) if first else history.see(after_s=10.0)
    rung, until_s = history.state.rung, history.state.until_s
    history.see(after_s=0.01, request=Request.STOP)
    assert (history.state.by, history.state.rung, history.state.until_s) == (EndedBy.STOP, rung, until_s)
    history.end(exit_code=75)
    assert isinstance(history.state, Ended)


def test_a_stop_in_the_look_that_sees_the_end_counts():
    history = History().train(1, 1).see(request=Request.PAUSE)
    history.see(request=Request.STOP, ended=Evidence(exit_code=75))
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.STOPPED


@pytest.mark.parametrize(
    ("earlier", "later", "counts"),
    [
        (None, None, None),
        (Request.PAUSE, None, Request.PAUSE),
        (None, Request.PAUSE, Request.PAUSE),
        (Request.PAUSE, Request.RESTART, Request.RESTART),
        (Request.STOP, Request.RESTART, Request.STOP),
        (Request.PAUSE, Request.STOP, Request.STOP),
    ],
)
def test_of_two_requests_a_stop_counts_else_the_later(
    earlier: Request | None, later: Request | None, counts: Request | None
):
    assert prevailing(earlier, later) is counts


# -- quiet hours --------------------------------------------------------------------------------------------------------

NIGHT = said("quiet hours (daily)")


def test_a_stop_in_the_look_in_which_quiet_hours_begin_is_a_stop():
    history = History().train(1, 1).see(request=Request.STOP, quiet=NIGHT)
    assert history.state.by is EndedBy.STOP
    history.end(exit_code=75)
    assert isinstance(history.state, Ended)


def test_an_end_in_the_look_in_which_quiet_hours_begin_is_an_end():
    history = History().train(1, 1).see(quiet=NIGHT, ended=Evidence(attempt=1, exit_code=1, last_line="x"))
    assert isinstance(history.state, Starting)
    assert history.state.history.spent == 1


def test_a_pause_in_quiet_hours_is_a_persons():
    history = History().train(1, 1).see(request=Request.PAUSE, quiet=NIGHT)
    assert history.state.by is EndedBy.PAUSE
    history.end(exit_code=75)
    history.see(quiet=NIGHT).see()
    assert isinstance(history.state, Paused)


def test_a_pause_for_quiet_hours_says_which():
    history = History().train(1, 1).see(quiet=NIGHT)
    history.see(quiet=NIGHT, ended=Evidence(attempt=1, exit_code=75))
    assert history.state == Paused(history=history.state.history, quiet=NIGHT)
    over = History().train(1, 1).see(quiet=NIGHT).see(ended=Evidence(attempt=1, exit_code=75))
    assert isinstance(over.state, Paused), "it resumes at the next look"
    assert isinstance(over.see().state, Starting)


@pytest.mark.parametrize("request_", [Request.RESUME, Request.RESTART])
def test_whoever_trains_within_quiet_hours_waives_them_until_they_are_over(request_: Request):
    history = History().train(1, 1).see(quiet=NIGHT, request=request_)
    assert history.state.history.waived
    if isinstance(history.state, Stopping):
        history.see(quiet=NIGHT, ended=Evidence(attempt=1, exit_code=75)).see(quiet=NIGHT, launched=True)
    history.see(quiet=NIGHT)
    assert isinstance(history.state, Running)
    history.see()
    assert not history.state.history.waived
    assert isinstance(history.see(quiet=NIGHT).state, Stopping)


@pytest.mark.parametrize("request_", [Request.RESUME, Request.RESTART])
def test_outside_quiet_hours_there_is_nothing_to_waive(request_: Request):
    history = History().train(1, 1).see(request=request_)
    assert not history.state.history.waived
    paused = History().train(1, 1).see(request=Request.PAUSE).end(exit_code=75).see(request=request_)
    assert not paused.state.history.waived


def test_what_has_ended_has_nothing_to_waive():
    ended = Ended(history=RunHistory(waived=True), outcome=RunOutcome.STOPPED, message=None)
    history = History()
    history.state = ended
    assert history.see(request=Request.RESUME, quiet=NIGHT).state == ended
    assert history.see().state == ended


# -- what does not end --------------------------------------------------------------------------------------------------


def killed(request: Request | None = None) -> History:
    """SIGKILL was sent, ten seconds ago, and something of it is left."""
    history = History(EXACT).train(1, 1)
    history.see(request=request) if request else history.see(after_s=10.0)
    while history.state.rung is not Rung.KILL:
        history.now_s = history.state.until_s
        history.see(after_s=0.0)
    history.now_s = history.state.until_s
    return history


@pytest.mark.parametrize(
    ("request_", "by", "stalled_s"),
    [(None, EndedBy.HANG, 10.0), (Request.PAUSE, EndedBy.PAUSE, None), (Request.RESTART, EndedBy.RESTART, None)],
)
def test_what_outlives_sigkill_is_held_for(request_: Request | None, by: EndedBy, stalled_s: float | None):
    history = killed(request_).see(after_s=0.0, survivors=STUCK)
    now_s = history.now_s
    assert history.state == Holding(
        history=history.state.history,
        cause=Cause.UNKILLABLE,
        condition=history.state.condition,
        since_s=now_s,
        probe_s=now_s + 30.0,
        unkillable=Unkillable(survivors=STUCK, by=by, stalled_s=stalled_s),
    )
    assert history.state.condition.topic is Topic.UNKILLABLE
    assert history.state.condition.facts == {"survivors": ((4711, "nfs_wait_bit"),)}
    note, kill = history.actions[-2:]
    assert (note.event, kill) == (JournalEvent.UNKILLABLE, Kill())
    before = len(history.actions)
    history.see(after_s=1.0, ended=Evidence(attempt=1, signal=9))
    reports = [action for action in history.actions if isinstance(action, Report)]
    assert [(report.evidence.ended_by, report.evidence.stalled_s) for report in reports] == (
        [(by, stalled_s)] if request_ is None else []
    )
    assert isinstance(history.state, Paused if request_ is Request.PAUSE else Starting)
    assert history.actions[before].event is JournalEvent.CLEARED, "told first, then what follows"


def test_it_is_looked_at_every_half_minute_and_never_in_the_past():
    history = killed().see(after_s=0.0, survivors=STUCK)
    first_s = history.state.probe_s
    history.see(after_s=29.9)
    assert history.state.probe_s == first_s
    history.now_s = first_s
    for _ in range(5):
        history.see(after_s=0.0)
        assert wake_s(EXACT, history.state) == history.now_s + 30.0
        history.now_s += 30.0


def test_it_is_not_held_for_ever():
    history = killed().see(after_s=0.0, survivors=STUCK)
    since_s = history.state.since_s
    history.now_s = since_s
    history.see(after_s=86399.0)
    assert isinstance(history.state, Holding)
    history.see(after_s=1.0)
    assert isinstance(history.state, Ended)
    assert (history.state.outcome, history.state.message.topic) == (RunOutcome.FAILED, Topic.HELD_TOO_LONG)


@pytest.mark.parametrize(
    ("request_", "by"),
    [
        (Request.PAUSE, EndedBy.PAUSE),
        (Request.RESTART, EndedBy.RESTART),
        (Request.RESUME, EndedBy.HANG),
        (None, EndedBy.HANG),
    ],
)
def test_a_request_while_it_is_held_for_is_obeyed_at_its_end(request_: Request | None, by: EndedBy):
    history = killed().see(after_s=0.0, survivors=STUCK).see(request=request_)
    assert isinstance(history.state, Holding)
    assert history.state.unkillable == Unkillable(survivors=STUCK, by=by, stalled_s=10.0)


def test_a_tree_that_outlives_its_trainer_is_held_for_without_blame():
    history = History(OURS).train(1, 1).see(survivors=STUCK)
    assert history.state.unkillable == Unkillable(survivors=STUCK, by=None)
    assert history.actions[-1] == Kill()


# -- when to be asked again ---------------------------------------------------------------------------------------------


def test_when_decide_wants_to_be_asked_again():
    history = RunHistory(attempt=1)
    assert wake_s(OURS, AwaitingGpu(history=history)) is None
    assert wake_s(OURS, AwaitingGpu(history=history, ask_s=3.0)) == 3.0
    assert wake_s(OURS, Starting(history=history)) is None
    assert wake_s(OURS, Paused(history=history)) is None
    assert wake_s(OURS, BackingOff(history=history, until_s=7.0)) == 7.0
    assert wake_s(OURS, Running(history=history, watch=begin(5.0), since_s=5.0)) == 5.0 + 3600.0
    stopping = Stopping(history=history, watch=begin(0.0), by=EndedBy.STOP, rung=Rung.TERM, until_s=9.0)
    assert wake_s(OURS, stopping) == 9.0
    assert wake_s(OURS, replace(stopping, dump_s=8.0)) == 8.0


def test_a_running_trainer_is_looked_at_at_its_limit_and_at_three_times_of_it():
    history = RunHistory(attempt=1)
    stalled = replace(begin(5.0), stalled_s=3605.0)
    running = Running(history=history, watch=stalled, since_s=5.0)
    assert wake_s(OURS, running) == 5.0 + 3 * 3600.0
    assert wake_s(replace(OURS, hang_timeout_s={"startup": 10.0}), running) == 15.0
    foreign = replace(OURS, foreign=True, expects_beats=False)
    assert wake_s(foreign, running) is None
    beaten = replace(running, history=replace(history, learned=Learned(beats=True)))
    assert wake_s(foreign, beaten) == 5.0 + 3 * 3600.0
