"""Runs without a trainer: before its launch, in a back-off, held, paused; and the GPUs that they let go of."""

from dataclasses import replace

import pytest
from tests.policy.messages import said
from tests.policy.scripted import NO_PAUSE, OURS, History
from tests.policy.test_cause import FULL, GONE

from fred_supervisor.policy.actions import AnswerStart, AskGpu, Note, ReleaseGpus, Report
from fred_supervisor.policy.cause import Cause, EndedBy, Evidence
from fred_supervisor.policy.decide import decide, wake_s
from fred_supervisor.policy.gpu_admission import Admit, Deny
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.machine_fault import FaultKind, MachineFault
from fred_supervisor.policy.message import JournalEvent, Topic, say
from fred_supervisor.policy.observation import Observation, SpawnFailure
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.state import AwaitingGpu, BackingOff, Ended, Holding, Paused, Running, Starting, Stopping
from fred_supervisor.policy.watch import begin

NO_PROCESS = MachineFault(kind=FaultKind.NO_PROCESS, why="Resource temporarily unavailable", seen=True)
UNEXECUTABLE = MachineFault(kind=FaultKind.UNEXECUTABLE, path="/p", why="Text file busy", seen=True)
NIGHT = said("quiet hours (daily)")


# -- states without a trainer -------------------------------------------------------------------------------------------


def test_a_hold_is_looked_at_every_half_minute_and_never_in_the_past():
    history = History().end(exit_code=1, fault=FULL)
    for _ in range(4):
        probe_s = history.state.probe_s
        assert wake_s(NO_PAUSE, history.state) == probe_s == history.now_s + 30.0
        history.see(after_s=29.9, clear=False)
        assert history.state.probe_s == probe_s
        history.now_s = probe_s
        history.see(after_s=0.0, clear=False)


def test_a_hold_lasts_a_day_at_most():
    history = History().end(exit_code=1, fault=FULL)
    since_s = history.now_s
    history.now_s = since_s
    assert isinstance(history.see(after_s=86399.0, clear=False).state, Holding)
    assert isinstance(history.see(after_s=1.0, clear=False).state, Ended)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (Request.STOP, Ended),
        (Request.PAUSE, Paused),
        (Request.QUIET, Paused),
        (Request.RESTART, Holding),
        (Request.RESUME, Holding),
    ],
)
def test_a_hold_obeys(request_: Request, kind: type):
    history = History().end(exit_code=1, fault=FULL).see(request=request_, clear=False)
    assert isinstance(history.state, kind)


def test_a_hold_that_clears_says_so():
    history = History().end(exit_code=1, fault=FULL)
    condition = history.state.condition
    history.see(clear=True)
    cleared = [a for a in history.actions if isinstance(a, Note) and a.event is JournalEvent.CLEARED]
    assert [note.message.facts["condition"] for note in cleared] == [condition]
    assert history.launches == 2


@pytest.mark.parametrize(
    ("request_", "state"),
    [
        (Request.PAUSE, Paused(history=RunHistory(attempt=1))),
        (Request.QUIET, Paused(history=RunHistory(attempt=1), quiet=NIGHT)),
        (Request.RESUME, Starting),
        (Request.RESTART, Starting),
        (Request.STOP, Ended),
    ],
)
def test_a_pause_obeys(request_: Request, state: Paused | type):
    history = History()
    history.state = Paused(history=RunHistory(attempt=1), quiet=said("quiet hours (weekly)"))
    history.see(request=request_, quiet=NIGHT)
    if isinstance(state, Paused):
        assert history.state == state
    else:
        assert isinstance(history.state, state)
        assert history.state.history.attempt == (2 if state is Starting else 1)


def test_a_pause_by_a_person_is_not_renamed_by_quiet_hours():
    history = History()
    history.state = Paused(history=RunHistory())
    assert history.see(quiet=NIGHT).state == Paused(history=RunHistory())


@pytest.mark.parametrize("request_", [Request.PAUSE, Request.QUIET])
def test_a_back_off_that_is_paused_says_by_whom(request_: Request):
    history = History(OURS).end(signal=9).see(after_s=0.1, request=request_, quiet=NIGHT)
    assert isinstance(history.state, Paused)
    assert history.state.quiet == (NIGHT if request_ is Request.QUIET else None)
    assert history.actions[-1].event is JournalEvent.PAUSED


def test_a_back_off_ends_at_its_time():
    history = History(OURS).end(signal=9)
    until_s = history.state.until_s
    history.now_s = until_s
    assert isinstance(history.see(after_s=-0.001).state, BackingOff)
    history.now_s = until_s
    assert isinstance(history.see(after_s=0.0).state, Starting)


# -- before there is a trainer --------------------------------------------------------------------------------------------

ON_GPU = replace(NO_PAUSE, uses_gpu=True)
TAKEN = SpawnFailure(gpu_taken=True)


@pytest.mark.parametrize(
    ("request_", "kind"),
    [(Request.STOP, Ended), (Request.PAUSE, Paused), (Request.RESTART, AwaitingGpu), (Request.RESUME, AwaitingGpu)],
)
def test_what_was_asked_before_another_run_took_the_gpu_is_obeyed(request_: Request, kind: type):
    history = History(ON_GPU).see(admission=Admit()).see(request=request_).see(spawn_failure=TAKEN)
    assert isinstance(history.state, kind)
    assert history.state.history.attempt == 0, "no attempt was made"


@pytest.mark.parametrize("later", [None, Request.RESTART])
def test_a_stop_before_the_launch_is_not_forgotten(later: Request | None):
    history = History().see(request=Request.STOP).see(request=later).see(launched=True)
    assert isinstance(history.state, Stopping)
    assert history.state.by is EndedBy.STOP
    assert (history.state.watch.main.changed_s, history.state.until_s) == (history.now_s, history.now_s + 120.0)


def test_a_launch_begins_the_watch():
    history = History().see(launched=True)
    assert history.state == Running(history=RunHistory(attempt=1), watch=begin(history.now_s), since_s=history.now_s)


@pytest.mark.parametrize(
    ("failure", "at_start", "cause"),
    [
        (SpawnFailure(reason="no room", fault=FULL), False, Cause.DISK),
        (SpawnFailure(reason="no room", fault=FULL), True, Cause.DISK),
        (SpawnFailure(reason="no process", fault=NO_PROCESS), False, Cause.ENVIRONMENT),
        (SpawnFailure(reason="no program", fault=GONE), False, Cause.ENVIRONMENT),
        (SpawnFailure(reason="no program", fault=GONE), True, Cause.ENVIRONMENT),
        (SpawnFailure(reason="an argument list that is too long"), False, Cause.CONFIG),
    ],
)
def test_why_an_attempt_has_no_process(failure: SpawnFailure, at_start: bool, cause: Cause):
    history = History()
    history.state = Starting(history=RunHistory(attempt=4), at_start=at_start)
    history.see(spawn_failure=failure)
    (report,) = [action for action in history.actions if isinstance(action, Report)]
    assert (report.diagnosis.cause, report.evidence.attempt) == (cause, 4)
    assert report.evidence.last_line == failure.reason
    assert report.evidence.exec_error == failure.reason
    assert report.evidence.fault == (None if cause is Cause.CONFIG else failure.fault)
    assert isinstance(history.state, Ended if cause is Cause.CONFIG else Holding)
    assert at_start == (AnswerStart(error=None) in history.actions), "a run that has trained is held, and not given up"


@pytest.mark.parametrize("fault", [GONE, NO_PROCESS, FULL])
def test_a_person_is_told_why_a_first_attempt_could_not_be_launched(fault: MachineFault):
    history = History()
    history.state = Starting(history=RunHistory(attempt=1), at_start=True)
    history.see(spawn_failure=SpawnFailure(reason="x", fault=fault))
    assert isinstance(history.state, Ended)
    assert AnswerStart(error="x") in history.actions


@pytest.mark.parametrize("fault", [GONE, UNEXECUTABLE, NO_PROCESS, FULL])
@pytest.mark.parametrize("attempt", [1, 9])
def test_a_service_holds_for_an_error_of_the_machine_at_its_start(fault: MachineFault, attempt: int):
    """Nobody waits for word; only a command that never was there is final."""
    starting = Starting(history=RunHistory(attempt=attempt), at_start=True)
    seen = Observation(now_s=1.0, spawn_failure=SpawnFailure(reason="x", fault=fault))
    after, actions = decide(replace(NO_PAUSE, service=True), starting, seen)
    final = attempt == 1 and fault in (GONE, UNEXECUTABLE)
    assert isinstance(after, Ended if final else Holding)
    assert AnswerStart(error="x" if final else None) in actions


@pytest.mark.parametrize("fault", [GONE, UNEXECUTABLE, NO_PROCESS, FULL])
@pytest.mark.parametrize("attempt", [1, 2, 9])
def test_only_the_first_attempt_can_show_that_a_command_was_never_there(fault: MachineFault, attempt: int):
    """It was at the start already that a GPU had to be waited for: the first launch is not always at the start."""
    history = History()
    history.state = Starting(history=RunHistory(attempt=attempt))
    history.see(ended=Evidence(attempt=attempt, exec_error="x", fault=fault))
    never_there = attempt == 1 and fault in (GONE, UNEXECUTABLE)
    assert isinstance(history.state, Ended if never_there else Holding)


def test_what_is_held_for_is_told_as_it_is_now():
    history = History().end(exit_code=1, fault=FULL)
    now = replace(FULL, free_mib=9.0)
    history.see(clear=False, fault=now)
    assert isinstance(history.state, Holding)
    assert (history.state.condition, history.state.fault) == (now.message, now)
    assert isinstance(history.see(clear=True).state, Starting)


def test_what_only_words_speak_of_is_tried_less_and_less_often():
    """An I/O error of one file for ever, without anything to look at."""
    settings = replace(OURS, reprobe_s=30.0, backoff_max_s=300.0, hold_max_s=3000.0)
    history, waits = History(settings), []
    while not isinstance(history.state, Ended):
        history.end(exit_code=1, last_line="OSError: [Errno 5] Input/output error")
        if isinstance(history.state, Holding):
            waits.append(history.state.probe_s - history.now_s)
            history.see(after_s=waits[-1], clear=True)
        elif isinstance(history.state, BackingOff):
            history.see(after_s=history.state.until_s - history.now_s)
    assert waits == [30.0, 60.0, 120.0, 240.0, *[300.0] * 5]
    assert history.launches == 10


def test_what_is_seen_is_looked_at_every_half_minute_for_a_day():
    history = History(OURS)
    for _ in range(300):
        history.end(exit_code=1, fault=FULL)
        assert isinstance(history.state, Holding)
        assert history.state.probe_s - history.now_s == OURS.reprobe_s
        history.see(after_s=30.0, clear=True)


@pytest.mark.parametrize(
    ("request_", "by"), [(Request.STOP, EndedBy.STOP), (Request.PAUSE, EndedBy.PAUSE), (Request.RESTART, None)]
)
def test_an_end_before_the_launch_obeys_a_stop_and_a_pause(request_: Request, by: EndedBy | None):
    history = History().see(request=request_).see(ended=Evidence(attempt=1, exit_code=1))
    reports = [action.evidence.ended_by for action in history.actions if isinstance(action, Report)]
    assert reports == ([] if by else [None])
    assert isinstance(history.state, {EndedBy.STOP: Ended, EndedBy.PAUSE: Paused, None: Starting}[by])


def test_what_is_for_people_only_is_passed_on():
    note = Note(event=JournalEvent.LAUNCHED, message=say(Topic.LAUNCHED))
    before = len(History().actions)
    history = History().see(notes=(note,), launched=True)
    assert history.actions[before] == note
    assert history.see(notes=(note, note), ended=Evidence(attempt=1, signal=9)).actions.count(note) == 3


# -- GPUs are let go of, once -----------------------------------------------------------------------------------------------


def released(history: History) -> list[bool]:
    return [action.nvml for action in history.actions if isinstance(action, ReleaseGpus)]


@pytest.mark.parametrize(
    ("evidence", "nvml"),
    [({"exit_code": 1, "fault": FULL}, False), ({"exit_code": 1, "gpu_trouble": say(Topic.GPU_DRIVER)}, True)],
)
def test_a_held_run_lets_go_of_its_gpus_and_of_nvml_where_a_reset_is_waited_for(evidence: dict, nvml: bool):
    history = History(ON_GPU).train(1, 1).end(**evidence)
    assert released(history) == [nvml]
    history.see(clear=False)
    assert released(history) == [nvml], "once"
    history.see(request=Request.PAUSE)
    assert released(history) == [nvml, False]
    history.see(request=Request.STOP)
    assert released(history) == [nvml, False, False]


def test_a_run_without_a_gpu_lets_go_of_none():
    assert released(History().train(1, 1).end(exit_code=1, fault=FULL)) == []


def test_a_back_off_keeps_what_it_has():
    assert released(History(replace(OURS, uses_gpu=True)).train(1, 1).end(exit_code=1)) == []


# -- a GPU that is waited for -----------------------------------------------------------------------------------------------

SOON = Deny(cause=Cause.GPU_MEMORY, message=say(Topic.GPU_DRIVER), soon=True)
NO = Deny(cause=Cause.GPU_MEMORY, message=say(Topic.GPU_TAKEN))


def test_memory_that_is_being_freed_is_asked_for_every_fifth_of_a_second():
    history = History(ON_GPU)
    for _ in range(3):
        history.see(admission=SOON)
        assert (history.state.ask_s, history.state.waits_for) == (history.now_s + 0.2, SOON.message)
        at_s = history.state.ask_s
        assert wake_s(ON_GPU, history.state) == at_s
        history.now_s = at_s
        asked = history.actions.count(AskGpu())
        assert history.see(after_s=-0.01).actions.count(AskGpu()) == asked
        history.now_s = at_s
        history.see(after_s=0.0)
        assert history.actions[-1] == AskGpu()
        assert history.state.ask_s is None


def test_a_hold_for_a_gpu_asks_every_half_minute_and_once():
    history = History(ON_GPU).see(admission=NO)
    assert history.state.since_s == history.now_s
    asked = history.actions.count(AskGpu())
    history.see(after_s=29.0)
    assert history.actions.count(AskGpu()) == asked
    history.see(after_s=1.0)
    assert history.actions.count(AskGpu()) == asked + 1
    history.see(after_s=1.0, admission=NO)
    assert history.actions[-1] == ReleaseGpus()
    assert history.actions.count(AskGpu()) == asked + 1


def test_a_hold_for_a_gpu_is_not_cleared_by_a_disk():
    history = History(ON_GPU).see(admission=NO).see(clear=True)
    assert isinstance(history.state, Holding)


def test_a_pause_before_the_launch_says_whose_it_is():
    history = History(ON_GPU).see(request=Request.PAUSE, quiet=NIGHT)
    assert history.state == Paused(history=RunHistory())
    assert History(ON_GPU).see(quiet=NIGHT).state == Paused(history=RunHistory(), quiet=NIGHT)


def test_a_gpu_that_does_not_exist_is_bad_input_at_the_start():
    absent = Deny(cause=Cause.GPU, message=say(Topic.NO_SUCH_GPU, word="7", there=()), absent=True)
    history = History(ON_GPU)
    history.state = AwaitingGpu(history=RunHistory(attempt=2), at_start=True)
    history.see(admission=absent)
    (report,) = [action for action in history.actions if isinstance(action, Report)]
    assert (report.diagnosis.cause, report.evidence.attempt) == (Cause.CONFIG, 3)


def test_what_is_held_for_something_else_is_not_told_of_gpus():
    history = History(ON_GPU).end(exit_code=1, fault=FULL)
    before = history.state
    history.see(admission=NO, clear=False)
    assert isinstance(history.state, Holding)
    assert (history.state.cause, history.state.condition) == (before.cause, before.condition)


def test_a_hold_that_is_given_up_says_how_many_hours_it_lasted():
    state = History(NO_PAUSE).end(exit_code=1, fault=FULL).see(after_s=86400.0, clear=False).state
    assert isinstance(state, Ended)
    assert state.message.facts["hours"] == 24
