"""A remedy that makes it worse is taken back, for the whole run, and the failure before is answered otherwise."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.scripted import NO_PAUSE, OURS, History, oom
from tests.policy.test_cause import beat, error

from fred_supervisor.contract.error_file import ErrorKind
from fred_supervisor.policy.actions import Report
from fred_supervisor.policy.after_exit import after_exit
from fred_supervisor.policy.cause import EndedBy, Evidence
from fred_supervisor.policy.history import Overrides, Remedy, RunHistory
from fred_supervisor.policy.message import Topic
from fred_supervisor.policy.state import Ended, Starting, State

DRIVER: dict[str, Any] = {"exit_code": 1, "error": error(ErrorKind.EXCEPTION, "CUDA driver error: unknown error")}
AT_START: dict[str, Any] = {**DRIVER, "beat": None}


def fragmented() -> History:
    """Out of memory after 100 steps: expandable segments are tried."""
    history = History().train(3, 129, phase="unfreeze").end(**oom())
    assert history.state.history.overrides == Overrides(expandable_segments=True)
    return history


@pytest.mark.parametrize(
    "worse", [AT_START, {"signal": 11, "beat": None}, {"exit_code": 0, "beat": beat(epoch=2)}, {**oom(), "beat": None}]
)
def test_what_ends_earlier_with_a_remedy_is_answered_without_it(worse: dict[str, Any]):
    history = fragmented().end(**worse)
    wanted = Overrides(unfreeze_batch=4, accumulate=2, withdrawn=(Remedy.EXPANDABLE,))
    assert history.state.history.overrides == wanted
    action = [one.action for one in history.actions if isinstance(one, Report)][-1]
    assert action.topic is Topic.TAKEN_BACK
    assert "taken back. Relaunched with half the unfreeze batch, 8 → 4" in history.told[-1]


@pytest.mark.parametrize(
    "other",
    [
        {"signal": 9, "beat": None},
        {"exit_code": 1, "last_line": "Stale file handle", "beat": None},
        {"exit_code": 75, "beat": None},
        {"exit_code": 1, "last_line": "ImportError: x", "beat": None},
        {"signal": 9, "ended_by": EndedBy.HANG, "beat": None},
        {**DRIVER, "beat": beat(epoch=3, step=130, samples=3130)},
        {**DRIVER, "beat": beat(epoch=3, step=129, samples=3129)},
    ],
)
def test_a_kill_the_machine_and_a_later_end_say_nothing_against_a_remedy(other: dict[str, Any]):
    assert fragmented().end(**other).state.history.overrides == Overrides(expandable_segments=True)


def test_after_new_progress_a_remedy_has_helped():
    history = fragmented().train(20, 1, phase="unfreeze").end(**{**DRIVER, "beat": beat(epoch=1)})
    assert history.state.history.overrides == Overrides(expandable_segments=True)


def test_what_is_tried_by_degrees_goes_on_by_degrees():
    """Out of memory again, and earlier: the batch is halved again, and not doubled."""
    history = History().train(3, 50, phase="unfreeze").end(**oom()).end(**{**oom(), "beat": beat(epoch=2)})
    assert history.state.history.overrides == Overrides(unfreeze_batch=2, accumulate=4)


def test_what_was_withdrawn_is_not_tried_again_in_the_next_stretch():
    history = fragmented().end(**AT_START).train(90, 200, phase="unfreeze").end(**oom())
    assert history.state.history.overrides == Overrides(unfreeze_batch=2, accumulate=4, withdrawn=(Remedy.EXPANDABLE,))


def test_on_wsl_the_batch_is_halved_at_once():
    history = History(replace(NO_PAUSE, expandable=False)).train(3, 129, phase="unfreeze").end(**oom())
    assert history.state.history.overrides == Overrides(unfreeze_batch=4, accumulate=2)


def test_a_silent_part_that_is_longer_each_time_gets_twice_the_time_each_time():
    """A resume from further on skips longer: five hangs, and each new attempt has twice as long."""
    settings, limits = replace(NO_PAUSE, foreign=True, max_restarts=20), []
    state: State = Starting(history=RunHistory(attempt=1))
    hung = Evidence(signal=9, ended_by=EndedBy.HANG, stalled_in="train", unverified=True)
    while not isinstance(state, Ended):
        state, _ = after_exit(settings, state.history, hung, 100.0)
        limits.append(state.history.learned.factors.get("train", 1.0))
    assert limits == [1.0, 2.0, 4.0, 8.0, 16.0, 16.0]


KINDS = [kind for kind in ErrorKind if kind is not ErrorKind.CONFIG]
ENDS = st.builds(
    lambda kind, signal, epoch, step: {
        "exit_code": None if signal else 1,
        "signal": signal,
        "error": None if signal else error(kind),
        "beat": None if epoch is None else beat(epoch=epoch, step=step, phase="unfreeze"),
    },
    st.sampled_from(KINDS), st.sampled_from([None, None, 11, 7]), st.sampled_from([None, 1, 2, 3]), st.sampled_from([0, 50, 150]),
)  # fmt: skip


@given(st.lists(ENDS, min_size=1, max_size=30))
def test_whatever_follows_what_is_withdrawn_stays_so_and_is_not_in_force(ends: list[dict[str, Any]]):
    history = History(replace(NO_PAUSE, max_restarts=100))
    withdrawn: tuple[str, ...] = ()
    for ended in ends:
        if isinstance(history.state, Ended):
            return
        history.begin() if not hasattr(history.state, "probe_s") else history.see(clear=True)
        if isinstance(history.state, Ended):
            return
        history.end(**ended)
        now = history.state.history.overrides
        assert now.withdrawn[: len(withdrawn)] == withdrawn
        assert len(set(now.withdrawn)) == len(now.withdrawn), "tried again after it was withdrawn"
        assert not (now.expandable_segments and Remedy.EXPANDABLE in now.withdrawn)
        assert not (now.full_precision and Remedy.FULL_PRECISION in now.withdrawn)
        assert now.unfreeze_batch is None or now.unfreeze_batch <= (OURS.unfreeze_batch or 0)
        withdrawn = now.withdrawn
