"""A trainer that goes on, and prints that it has failed."""

from dataclasses import replace
from typing import Any

import pytest
from tests.policy.scripted import NO_PAUSE, History
from tests.policy.test_cause import beat, error

from fred_supervisor.contract.error_file import ErrorKind
from fred_supervisor.linux import proc
from fred_supervisor.policy.actions import DumpStacks, Kill, Terminate
from fred_supervisor.policy.cause import Cause, EndedBy, Evidence, diagnose
from fred_supervisor.policy.history import RunHistory, RunOutcome
from fred_supervisor.policy.launching import take_over
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.pace import Pace
from fred_supervisor.policy.requests import ENDED_BY, Request
from fred_supervisor.policy.state import Ended, Rung, Running, Stopping
from fred_supervisor.run.state_snapshot import state_file_of
from fred_supervisor.words.sentences import sentence

LINE = say(Topic.FAILED_LINE, line="NCCL timeout", pattern="NCCL .*out")
ENDED: Any = {"failed_line": LINE, "ended_by": EndedBy.OUTPUT}


def test_it_is_ended_with_time_to_save():
    history = History().train(3, 4).see(failed_line=LINE)
    assert isinstance(history.state, Stopping)
    assert history.state.by is EndedBy.OUTPUT
    assert DumpStacks() in history.actions
    history.see(after_s=0.2)
    assert Terminate(wake=True) in history.actions
    history.see(after_s=history.settings.stop_timeout_s - 1)
    assert Kill() not in history.actions
    history.see(after_s=2)
    assert Kill() in history.actions


def test_it_is_relaunched_and_the_incident_names_the_line():
    history = History().train(3, 4).see(failed_line=LINE).see(after_s=0.2).end(exit_code=75, failed_line=LINE)
    assert history.launches == 2
    assert history.told == ["Relaunched at once."]


def test_the_same_line_at_the_same_step_is_the_code_or_the_data():
    history = History(replace(NO_PAUSE, same_failure=3)).train(3, 4)
    for _ in range(3):
        history.train(3, 4).see(failed_line=LINE).see(after_s=0.2).end(signal=15, failed_line=LINE)
    assert isinstance(history.state, Ended)
    assert history.state.outcome is RunOutcome.FAILED


def test_a_person_who_stops_it_is_heard_first():
    history = History().train(3, 4).see(failed_line=LINE, request=Request.STOP)
    assert isinstance(history.state, Stopping)
    assert history.state.by is EndedBy.STOP


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (Evidence(exit_code=75, **ENDED), Cause.CRASH),
        (Evidence(signal=15, **ENDED), Cause.CRASH),
        (Evidence(exit_code=0, unverified=True, failed_line=LINE), Cause.CRASH),
        (Evidence(exit_code=0, unverified=True, done_file=True, failed_line=LINE), Cause.CRASH),
        (Evidence(exit_code=0, beat=beat(done=True), failed_line=LINE), Cause.GOAL),
        (Evidence(exit_code=75, failed_line=LINE), Cause.SAVED),
        (Evidence(exit_code=1, failed_line=LINE, error=error(ErrorKind.CUDA_OOM)), Cause.CUDA_OOM),
        (Evidence(signal=15, error=error(ErrorKind.CUDA_OOM), **ENDED), Cause.CUDA_OOM),
        (Evidence(signal=15, text_kind=ErrorKind.CUDA_OOM, **ENDED), Cause.CUDA_OOM),
        (Evidence(exit_code=75, error=error(ErrorKind.PREEMPTED), **ENDED), Cause.CRASH),
    ],
)
def test_the_cause(seen: Evidence, cause: Cause):
    """What it dies of by itself says more than a line does."""
    assert diagnose(seen).cause is cause


def test_the_words():
    words = sentence(diagnose(Evidence(signal=15, beat=beat(), **ENDED)).message)
    assert words == (
        'The trainer printed "NCCL timeout" in the unfreeze phase at epoch 3, step 4, which means that it has failed'
        " (--fail-output 'NCCL .*out')."
    )


LOST = say(Topic.LOSS_PRINTED, line="loss: nan")


def test_a_loss_that_is_lost_is_not_saved():
    history = History().train(3, 4).see(failed_line=LOST)
    assert Kill() in history.actions
    assert Terminate(wake=True) not in history.actions


def test_a_loss_that_is_printed_as_nan_has_the_rules_of_one_that_is_recorded():
    def told(**end: Any) -> list[str]:
        history = History(replace(NO_PAUSE, foreign=True)).train(3, 4)
        for _ in range(2):
            history.train(3, 4)
            if "failed_line" in end:
                history.see(failed_line=LOST)
            history.end(resumed_from="/r/e2.pt", **end)
        return history.told

    assert told(signal=9, failed_line=LOST) == told(exit_code=1, error=error(ErrorKind.NAN_LOSS))


def test_the_words_of_a_loss_that_is_lost():
    seen = Evidence(signal=9, beat=beat(), failed_line=LOST, ended_by=EndedBy.OUTPUT)
    assert diagnose(seen).cause is Cause.NAN
    assert sentence(diagnose(seen).message) == (
        "The loss was not a finite number in the unfreeze phase at epoch 3, step 4, three times in a row: it printed"
        ' "loss: nan".'
    )


def test_what_is_lost_is_killed_at_once_and_what_failed_has_time_for_its_stacks():
    for line, rung, wait_s, dump_s in (
        (LOST, Rung.KILL, NO_PAUSE.kill_s, None),
        (LINE, Rung.DUMP, NO_PAUSE.dump_s, NO_PAUSE.dump_s / 2),
    ):
        history = History().train(1, 1).see(failed_line=line)
        state = history.state
        assert isinstance(state, Stopping)
        assert (state.rung, state.until_s - history.now_s) == (rung, pytest.approx(wait_s))
        assert state.dump_s == (None if dump_s is None else history.now_s + dump_s)


@pytest.mark.parametrize("by", [None, *EndedBy])
def test_only_a_request_outlives_its_supervisor(by: EndedBy | None):
    """A trainer that was being ended for what it did is watched again, and judged again."""
    state, _ = take_over(NO_PAUSE, RunHistory(attempt=1), by, 100.0)
    assert isinstance(state, Stopping if by in ENDED_BY.values() else Running)
    assert state_file_of(
        state=Stopping(history=RunHistory(), watch=state.watch, by=by or EndedBy.HANG, rung=Rung.TERM, until_s=1.0),
        settings=NO_PAUSE,
        now_s=1.0,
        last_note="",
        warnings=(),
        supervisor=proc.Identity(1, 2, "b"),
        pace=Pace().record(),
        incidents=0,
    ).asked == (by if by in ENDED_BY.values() else None)
