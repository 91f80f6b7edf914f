"""Slurm or Kubernetes has asked us to leave: save, end, and say that we are to be run again."""

import pytest
from tests.policy.scripted import History

from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.message import Topic
from fred_supervisor.policy.requests import Request, prevailing
from fred_supervisor.policy.state import Ended, Rung, Stopping


@pytest.mark.parametrize(
    ("end", "saved"), [({"exit_code": 75}, True), ({"signal": 9}, False), ({"exit_code": 1}, False)]
)
def test_it_saves_and_is_run_again(end, saved):
    state = History().train(1, 1).see(request=Request.LEAVE).end(**end).state
    assert isinstance(state, Ended)
    assert (state.outcome, state.again) == (RunOutcome.STOPPED, True)
    assert (state.message.topic, state.message.facts["saved"]) == (Topic.LEFT_FOR_ENGINE, saved)


def test_asked_twice_it_is_not_hurried():
    """Slurm's signal before the time limit, then its SIGTERM: the second says nothing new."""
    history = History().train(1, 1).see(request=Request.LEAVE)
    until_s = history.state.until_s
    state = history.see(request=Request.LEAVE).state
    assert isinstance(state, Stopping)
    assert (state.rung, state.until_s) == (Rung.TERM, until_s)


def test_a_person_who_stops_it_meanwhile_is_obeyed():
    state = History().train(1, 1).see(request=Request.LEAVE).see(request=Request.STOP).end(exit_code=75).state
    assert isinstance(state, Ended)
    assert not state.again


def test_it_outranks_a_restart_under_way():
    state = History().train(1, 1).see(request=Request.RESTART).see(request=Request.LEAVE).end(exit_code=75).state
    assert isinstance(state, Ended)
    assert state.again


def test_a_goal_that_was_reached_stays_reached():
    state = History().train(1, 1).see(request=Request.LEAVE).end(exit_code=0, done_file=True).state
    assert isinstance(state, Ended)
    assert (state.outcome, state.again) == (RunOutcome.COMPLETED, False)


@pytest.mark.parametrize("other", [None, *Request])
def test_only_a_stop_outranks_it(other):
    expected = Request.STOP if other is Request.STOP else Request.LEAVE
    assert prevailing(Request.LEAVE, other) is prevailing(other, Request.LEAVE) is expected
