"""Scripted histories in, actions out; and what must hold for every history."""

from dataclasses import replace

import pytest
from tests.policy.scripted import EXACT, NO_PAUSE, OURS, History, oom
from tests.policy.test_cause import FULL, beat

from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.policy.actions import (
    DumpStacks,
    Kill,
    Note,
    Report,
    Terminate,
)
from fred_supervisor.policy.after_exit import backoff_s
from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.policy.decide import wake_s
from fred_supervisor.policy.history import Learned, RunOutcome, advance
from fred_supervisor.policy.message import JournalEvent, Topic
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import BackingOff, Ended, Holding, Paused, Rung, Running, Starting, Stopping
from fred_supervisor.policy.warnings.held import HeldWarning
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.policy.watch import HeartbeatReading, slowest, stop_grace_s
from fred_supervisor.words.sentences import sentence


def test_a_goal_reached_ends_the_run():
    history = History().train(9, 10).end(exit_code=0, beat=beat(done=True))
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.COMPLETED
    assert history.told == []


def test_a_crash_after_the_goal_is_completed_with_a_warning():
    history = History().train(9, 10).end(signal=11, beat=beat(done=True))
    assert isinstance(history.state, Ended)
    assert "crashed afterwards" in sentence(history.state.message)


def test_saved_with_progress_is_relaunched_free_of_charge():
    history = History(replace(NO_PAUSE, max_restarts=0))
    for epoch in range(1, 30):
        history.train(epoch, 1).train(epoch, 2).end(exit_code=75)
    assert history.launches == 30
    assert history.told == []


@pytest.mark.parametrize(("most", "words"), [(1, "1 relaunch without"), (2, "2 relaunches without")])
def test_giving_up_counts_in_words(most: int, words: str):
    history = History(replace(NO_PAUSE, max_restarts=most)).train(1, 1)
    for _ in range(most + 1):
        history.end(exit_code=3)
    assert words in history.told[-1]


def test_the_batch_is_halved_down_to_1_and_the_effective_batch_stays():
    history = History()
    seen = []
    for _ in range(3):
        history.train(5, 1).end(**oom(phase="unfreeze"))
        overrides = history.state.history.overrides
        seen.append((overrides.unfreeze_batch, overrides.accumulate))
    assert seen == [(4, 2), (2, 4), (1, 8)]
    history.train(5, 1).end(**oom(phase="unfreeze"))
    assert isinstance(history.state, Ended)
    assert "smallest batch" in sentence(history.state.message)


def test_an_out_of_memory_in_the_freeze_phase_halves_the_freeze_batch():
    history = History().train(1, 1, phase="freeze").end(**oom(phase="freeze"))
    assert history.state.history.overrides.freeze_batch == 4
    assert history.state.history.overrides.unfreeze_batch is None


def test_after_100_steps_fragmentation_is_tried_first():
    history = History().train(5, 101).end(**oom(phase="unfreeze"))
    assert history.state.history.overrides.expandable_segments
    assert history.state.history.overrides.unfreeze_batch is None
    history.train(5, 101).end(**oom(phase="unfreeze"))
    assert history.state.history.overrides.unfreeze_batch == 4


def test_an_out_of_memory_in_evaluation_halves_that_batch_and_then_does_without():
    history = History()
    history.train(5, 9, section=Section.EVAL).end(**oom(section="eval"))
    assert history.state.history.overrides.eval_batch == 4
    assert not history.state.history.overrides.no_eval_map
    history.end(**oom(section="eval", phase="unfreeze"))
    assert history.state.history.overrides.no_eval_map
    assert history.state.history.overrides.unfreeze_batch is None


def test_a_damaged_checkpoint_is_blamed_then_tried_once_more():
    failed = {
        "exit_code": 1,
        "error": ErrorRecord(kind=ErrorKind.CHECKPOINT, message="bad zip"),
        "resumed_from": "/a.pth",
    }
    history = History().end(**failed)
    assert history.state.history.overrides.blamed == ("/a.pth",)
    history.end(**{**failed, "resumed_from": "/b.pth"})
    assert history.state.history.overrides.blamed == ()
    history.end(**failed)
    assert isinstance(history.state, Ended)


def test_a_loss_that_is_not_finite_is_tried_in_fp32_once():
    failed = {"exit_code": 1, "error": ErrorRecord(kind=ErrorKind.NAN_LOSS, message="NonFiniteLoss: samples 3/000001")}
    history = History().train(1, 1).train(1, 2).end(**failed)
    assert history.state.history.overrides.full_precision
    history.end(**failed)
    assert isinstance(history.state, Ended)
    assert "tried" in sentence(history.state.message)


def test_host_memory_costs_workers_first_then_the_batch():
    history = History().end(signal=9, oom_killed=True)
    assert history.state.history.overrides.workers == 2
    history.end(signal=9, oom_killed=True)
    assert history.state.history.overrides.unfreeze_batch == 4


@pytest.mark.parametrize("begun", [True, False])
def test_a_kill_that_was_warned_of_is_told_as_a_leak(begun: bool):
    history = History().train(1, 1)
    assert isinstance(history.state, Running)
    known = history.state.history
    leak = HeldWarning(kind=WarningKind.LEAK, about="memory", begun=begun, facts={"per_hour": 812.3})
    history.state = replace(history.state, history=replace(known, warnings=(leak,)))
    history.end(signal=9, oom_killed=True)
    (report,) = [one for one in history.actions if isinstance(one, Report)]
    told = sentence(report.diagnosis.message)
    assert told.startswith("The machine ran out of memory")
    assert told.endswith("A leak led to it: the trainer's memory had grown by 812 MiB an hour.") == begun


def test_the_second_crash_by_a_signal_while_unfreezing_halves():
    history = History().train(5, 1).end(signal=11)
    assert history.state.history.overrides.unfreeze_batch is None
    history.train(5, 1).end(signal=11)
    assert history.state.history.overrides.unfreeze_batch == 4


def test_sigkill_never_halves_and_only_the_budget_counts():
    history = History(replace(NO_PAUSE, max_restarts=5))
    for _ in range(6):
        history.train(5, 1).end(signal=9)
    assert history.state.history.overrides.unfreeze_batch is None
    assert isinstance(history.state, Ended)
    assert "5 relaunches" in sentence(history.state.message)
    assert history.launches == 6


def test_the_second_failure_in_one_evaluation_leaves_it_out():
    history = History()
    for off in (False, True):
        history.train(5, 10, section=Section.EVAL).end(exit_code=1, last_line="AssertionError: nonsense")
        assert history.state.history.overrides.no_eval_map is off


@pytest.mark.parametrize("tries", [1, 2, 3, 4])
def test_an_import_error_is_tried_exactly_as_often_as_set(tries: int):
    history = History(replace(NO_PAUSE, same_failure=tries))
    while not isinstance(history.state, Ended):
        history.end(exit_code=1, last_line="ImportError: cannot import name 'x'")
    assert history.launches == tries


def test_an_environment_that_failed_is_waited_for_without_cost():
    history = History().end(exit_code=1, fault=FULL)
    assert isinstance(history.state, Holding)
    assert history.launches == 1
    history.see(after_s=31.0, clear=False)
    assert isinstance(history.state, Holding)
    history.see(after_s=31.0, clear=True)
    assert isinstance(history.state, Starting)
    assert history.state.history.spent == 0


def test_holding_has_an_end():
    history = History().end(exit_code=1, fault=FULL).see(after_s=86401.0, clear=False)
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.FAILED


def test_back_off_doubles_up_to_its_longest():
    assert [backoff_s(OURS, n) for n in (1, 2, 3, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300]
    history = History(OURS).end(signal=9)
    assert isinstance(history.state, BackingOff)
    assert wake_s(OURS, history.state) == history.now_s + 1.0
    history.see(after_s=0.5)
    assert isinstance(history.state, BackingOff)
    history.see(after_s=0.5)
    assert isinstance(history.state, Starting)


def test_new_progress_refills_everything_that_is_counted():
    history = History(OURS)
    for _ in range(3):
        history.train(2, 1).end(signal=9).see(after_s=400.0)
    assert history.state.history.spent == 3
    history.train(2, 2)
    after = history.state.history
    assert (after.spent, after.backoffs, after.tried, dict(after.failures)) == (0, 0, (), {})


def test_training_again_what_was_trained_before_is_not_progress():
    history = History(OURS).train(2, 5).end(signal=9).see(after_s=2.0).train(1, 1).train(2, 4).train(2, 5)
    assert history.state.history.spent == 1
    assert not history.state.history.progressed


def test_the_furthest_point_does_not_depend_on_the_batch():
    assert advance(beat(epoch=3, step=5, steps=10)) == advance(beat(epoch=3, step=10, steps=20))


# -- hangs ------------------------------------------------------------------------------------------------------------


def test_at_a_limit_set_by_hand_the_ladder_begins_at_once():
    history = History(EXACT).train(1, 1)
    history.see(after_s=9.9)
    assert isinstance(history.state, Running)
    history.see(after_s=0.1)
    assert isinstance(history.state, Stopping)
    assert history.state.rung is Rung.DUMP
    history.see(after_s=0.1, stacks_moved=False)
    assert history.state.rung is Rung.TERM
    assert history.state.until_s == pytest.approx(history.now_s + 0.1)
    history.see(after_s=0.1)
    assert history.state.rung is Rung.KILL
    order = [type(a) for a in history.actions if isinstance(a, DumpStacks | Terminate | Kill)]
    assert order == [DumpStacks, Terminate, Kill]


def test_stacks_that_move_give_it_five_seconds_to_save():
    history = History(EXACT).train(1, 1).see(after_s=10.0).see(after_s=0.1, stacks_moved=True)
    assert history.state.until_s == pytest.approx(history.now_s + 5.0)


def test_an_idle_tree_is_ended_at_the_limit_and_a_busy_one_at_three_times():
    idle = History().train(1, 1).see(after_s=1200.0)
    assert isinstance(idle.state, Running), "stalled first: stacks and an alert"
    assert idle.state.watch.stalled_s is not None
    assert isinstance(idle.see(busy=None).state, Running), "not knowing is no reason to kill"
    assert isinstance(idle.see(busy=False).state, Stopping)
    busy = History().train(1, 1).see(after_s=1200.0)
    for _ in range(23):
        assert isinstance(busy.see(after_s=100.0, busy=True).state, Running)
    assert isinstance(busy.see(after_s=200.0, busy=True).state, Stopping)


def test_what_moves_again_is_no_longer_stalled():
    history = History().train(1, 1).see(after_s=1200.0).train(1, 2)
    assert isinstance(history.state, Running)
    assert history.state.watch.stalled_s is None


def test_a_trainer_that_never_beats_is_never_judged():
    history = History(replace(NO_PAUSE, foreign=True, expects_beats=False)).see(launched=True)
    for _ in range(10):
        history.see(after_s=86400.0)
    assert isinstance(history.state, Running)


# -- requests ---------------------------------------------------------------------------------------------------------


def test_stop_asks_waits_and_kills():
    history = History().train(1, 1).see(request=Request.STOP)
    assert isinstance(history.state, Stopping)
    history.see(after_s=119.0)
    assert history.state.rung is Rung.TERM
    history.see(after_s=1.0)
    assert history.state.rung is Rung.KILL
    history.end(signal=9)
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.STOPPED
    assert history.told == []


def test_stop_twice_is_at_once():
    history = History().train(1, 1).see(request=Request.STOP).see(request=Request.STOP)
    assert history.state.rung is Rung.KILL


def test_stop_while_a_hang_is_being_ended_means_stop():
    history = History(EXACT).train(1, 1).see(after_s=10.0).see(after_s=0.01, request=Request.STOP).end(signal=9)
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.STOPPED


def test_pause_and_resume_cost_nothing():
    history = History().train(1, 1).see(request=Request.PAUSE).end(exit_code=75)
    assert isinstance(history.state, Paused)
    history.see(after_s=1e6)
    assert isinstance(history.state, Paused)
    history.see(request=Request.RESUME)
    assert isinstance(history.state, Starting)
    assert history.state.history.spent == 0


def test_restart_leaves_the_budget_alone():
    history = History().train(1, 1).see(request=Request.RESTART).end(exit_code=75)
    assert isinstance(history.state, Starting)
    assert history.state.history.spent == 0
    assert history.state.history.restarts.total == 0


@pytest.mark.parametrize("request_", list(Request))
def test_waiting_obeys(request_: Request):
    history = History(OURS).end(signal=9).see(after_s=0.1, request=request_)
    expected = {Request.STOP: Ended, Request.LEAVE: Ended, Request.PAUSE: Paused, Request.QUIET: Paused}
    expected |= {Request.RESUME: Starting, Request.RESTART: Starting}
    assert isinstance(history.state, expected[request_])


def touched(stamp: str) -> tuple[HeartbeatReading, ...]:
    """A heartbeat file that was changed, and holds no record."""
    return (HeartbeatReading(stamp=stamp),)


@pytest.mark.parametrize(
    ("settings", "looks", "section"),
    [
        (replace(NO_PAUSE, level1_limit_s=60.0), touched("1"), "train"),
        (replace(NO_PAUSE, section_limit_s=60.0), (), "startup"),
    ],
    ids=["it touches the file", "it is silent"],
)
def test_the_limit_of_a_trainer_without_records_is_doubled_too(settings, looks, section):
    history = History(settings)
    for limit_s in (60.0, 60.0, 120.0):
        history.see(after_s=0.1, launched=True).see(after_s=0.1, looks=looks)
        history.see(after_s=limit_s - 1)
        assert isinstance(history.state, Running)
        assert history.state.watch.stalled_s is None, f"before {limit_s} s"
        history.see(after_s=2.0).see(after_s=1.0, busy=False)
        assert isinstance(history.state, Stopping)
        history.end(signal=9)
    assert history.told[1] == f"Relaunched with twice the limit for {section}."


# -- what does not end ------------------------------------------------------------------------------------------------

STUCK = (Survivor(pid=4711, wchan="nfs_wait_bit"),)


def unkillable(request: Request | None = None) -> History:
    """A hang, or a request, whose SIGKILL does not end the trainer."""
    history = History(replace(NO_PAUSE, hang_timeout_s={"train": 10.0})).train(1, 1)
    history.see(request=request) if request else history.see(after_s=11.0)
    for _ in range(3):
        if isinstance(history.state, Stopping):
            history.see(after_s=130.0, survivors=STUCK)
    return history


@pytest.mark.parametrize("request_", [None, Request.PAUSE, Request.RESTART])
def test_what_sigkill_does_not_end_is_held_for(request_: Request | None):
    history = unkillable(request_)
    assert isinstance(history.state, Holding)
    assert "4711 (in nfs_wait_bit)" in sentence(history.state.condition)
    history.see(after_s=3600.0, clear=True)
    assert isinstance(history.state, Holding), "nothing but the end of the process leads on"
    history.end(signal=9)
    assert isinstance(history.state, Paused if request_ is Request.PAUSE else Starting)


def test_what_sigkill_does_not_end_is_not_waited_for_by_stop():
    assert isinstance(unkillable(Request.STOP).state, Ended)
    held = unkillable().see(after_s=1.0, request=Request.STOP).state
    assert isinstance(held, Ended)
    assert held.outcome is RunOutcome.STOPPED
    assert "4711" in sentence(held.message)


def test_a_tree_that_outlives_its_trainer_is_held_for():
    history = History(OURS).train(1, 1).see(survivors=STUCK)
    assert isinstance(history.state, Holding)
    history.end(signal=9)
    assert isinstance(history.state, BackingOff)


# -- time that was of use ---------------------------------------------------------------------------------------------


def crawl(lived_s: float, useful_s: float, attempts: int) -> History:
    """Attempts that each train further for `useful_s` of the `lived_s` that they take, and then crash."""
    history = History()
    for at in range(1, attempts + 1):
        if isinstance(history.state, Ended):
            break
        history.train(at, 1)
        history.now_s += useful_s - 1.0
        history.train(at, 5).see(after_s=lived_s - useful_s).end(exit_code=1)
    return history


def test_a_run_that_hardly_trains_is_given_up_after_two_hours():
    """It makes a little progress each time, so neither the budget nor the same failure ends it."""
    ended = crawl(1100.0, 50.0, 20).state
    assert isinstance(ended, Ended)
    assert "only 4% brought training further" in sentence(ended.message)
    assert ended.history.attempt == 7, "two hours of attempts"


def test_a_run_that_trains_a_fifth_of_its_time_goes_on():
    assert not isinstance(crawl(1100.0, 220.0, 30).state, Ended)


# -- the grace of a stop ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "save_s", "expected_s"),
    [
        (Settings(), 5.0, 120.0),
        (Settings(), 100.0, 300.0),
        (Settings(stop_timeout_s=10.0, stop_timeout_set=True), 100.0, 10.0),
    ],
)
def test_the_grace_of_a_stop_is_learned_from_the_saves(given: Settings, save_s: float, expected_s: float):
    assert stop_grace_s(given, Learned(gaps_s={"checkpoint": save_s})) == expected_s


def test_hangs_of_one_section_without_progress_stretch_the_limit_then_end_the_run():
    """The first is relaunched as it was, the second with twice the limit; a third is the same failure again."""
    seen: list[float] = []
    settings = replace(NO_PAUSE, train_limit_s=10.0, same_failure=99)
    history = History(settings).train(1, 5)
    while not isinstance(history.state, Ended):
        found = slowest(settings, history.state.history.learned, history.train(1, 5).state.watch)
        seen.append(found.limit_s)
        history.now_s = found.deadline_s
        history.see(after_s=0.0, busy=False).see(after_s=0.1, busy=False)
        assert isinstance(history.state, Stopping)
        assert history.state.by is EndedBy.HANG
        history.end(signal=9)
    assert seen == [10.0, 10.0, 20.0]
    assert history.state.history.restarts.hang == 2


def test_what_was_asked_for_and_what_ends_a_trainer_is_told():
    history = History(EXACT).train(1, 1).see(after_s=10.0)
    (hang,) = [action for action in history.actions if isinstance(action, Note)]
    assert (hang.event, hang.message.topic) == (JournalEvent.HANG, Topic.SILENT)
    for request in (Request.STOP, Request.PAUSE, Request.RESTART, Request.QUIET):
        (asked,) = [
            action for action in History(EXACT).train(1, 1).see(request=request).actions if isinstance(action, Note)
        ]
        topic = Topic.QUIET_HOURS_BEGIN if request is Request.QUIET else Topic.ASKED
        assert (asked.event, asked.message.topic) == (JournalEvent(request), topic)
