"""`--diagnose`: before a run is given up for a failure that came again and again, a replay tells the code from the machine."""

from dataclasses import replace

import pytest
from tests.policy.test_cause import beat

from fred_supervisor.bundle import verdict
from fred_supervisor.bundle.manifest import Manifest, Place
from fred_supervisor.bundle.verdict import Verdict
from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.policy.actions import Replay
from fred_supervisor.policy.after_exit import after_exit
from fred_supervisor.policy.cause import Cause, Diagnosis, Evidence, IncidentKind
from fred_supervisor.policy.decide import decide
from fred_supervisor.policy.history import RunHistory, RunOutcome
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.observation import Observation, ReplayOutcome
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.state import Ended, Holding, Paused, Starting

SETTINGS = Settings(diagnose=True, backoff_first_s=0.0, backoff_max_s=0.0)
FAILED = Evidence(exit_code=1, error=ErrorRecord(kind=ErrorKind.EXCEPTION, message="KeyError: 7"))


def failed(settings: Settings = SETTINGS, times: int = 3):
    """The answer to the last of several failures in the same way."""
    history = RunHistory()
    for _ in range(times - 1):
        history = after_exit(settings, history, FAILED, 0.0)[0].history
    return after_exit(settings, history, FAILED, 0.0)


def held() -> Holding:
    state, actions = failed()
    assert isinstance(state, Holding)
    assert Replay() in actions
    return state


def test_without_the_flag_it_is_given_up_at_once():
    assert isinstance(failed(replace(SETTINGS, diagnose=False))[0], Ended)
    assert isinstance(failed(replace(SETTINGS, foreign=True))[0], Ended)


AGAIN = ReplayOutcome(passed=False, message=say(Topic.REPLAY_AGAIN, cause=say(Topic.GOAL_REACHED)))
PASSED = ReplayOutcome(passed=True, message=say(Topic.REPLAY_PASSED, epoch=1, step=2, gpu=False))


def test_what_fails_again_is_given_up_with_the_verdict():
    state, _ = decide(SETTINGS, held(), Observation(now_s=9.0, replayed=AGAIN))
    assert isinstance(state, Ended)
    assert state.outcome is RunOutcome.FAILED
    assert AGAIN.message in state.message.facts["parts"]


def test_what_does_not_gets_one_more_attempt_and_no_second_replay():
    state, _ = decide(SETTINGS, held(), Observation(now_s=9.0, replayed=PASSED))
    assert isinstance(state, Starting)
    after, actions = after_exit(SETTINGS, state.history, FAILED, 10.0)
    assert isinstance(after, Ended)
    assert Replay() not in actions


def test_while_it_runs_nothing_else_clears_it_and_a_person_may_end_it():
    state, actions = decide(SETTINGS, held(), Observation(now_s=99.0, clear=True))
    assert isinstance(state, Holding)
    assert actions == ()
    for request, kind in ((Request.STOP, Ended), (Request.PAUSE, Paused), (Request.RESTART, Starting)):
        assert isinstance(decide(SETTINGS, held(), Observation(now_s=9.0, request=request))[0], kind)
    late = decide(SETTINGS, held(), Observation(now_s=SETTINGS.hold_max_s + 1))[0]
    assert isinstance(late, Ended)


MANIFEST = Manifest(
    format=1, name="t", attempt=3, incident=3, kind="crash", topic="exception", detail="KeyError: 7",
    place=Place(section="train", epoch=2, step=5),
)  # fmt: skip


def crash(detail: str, kind: IncidentKind = IncidentKind.CRASH, cause: Cause = Cause.CRASH) -> Diagnosis:
    message = say(Topic.EXCEPTION, detail=detail, place=None, rank=None)
    return Diagnosis(cause=cause, kind=kind, message=message, signature="")


@pytest.mark.parametrize(
    ("found", "at", "told"),
    [
        (crash("KeyError: 7"), (2, 5), Verdict.AGAIN),
        (crash("KeyError: 8"), (2, 4), Verdict.AGAIN),
        (crash("ValueError: x"), (2, 5), Verdict.AGAIN),
        (crash("ValueError: x"), (1, 1), Verdict.UNKNOWN),
        (crash("KeyError: 7", kind=IncidentKind.DATA), (2, 5), Verdict.UNKNOWN),
        (crash("no data", kind=IncidentKind.CONFIG, cause=Cause.CONFIG), (None, None), Verdict.UNKNOWN),
        (crash("", cause=Cause.GOAL), (2, 9), Verdict.PASSED),
    ],
)
def test_the_end_of_a_replay(found: Diagnosis, at: tuple[int | None, int | None], told: Verdict):
    assert verdict.ended(MANIFEST, found, Place(epoch=at[0], step=at[1]), on_gpu=False).verdict is told


@pytest.mark.parametrize(
    ("section", "now", "past"),
    [
        ("train", beat(epoch=2, step=5), False),
        ("train", beat(epoch=2, step=7), False),
        ("train", beat(epoch=2, step=8), True),
        ("train", beat(epoch=3, step=0), True),
        ("train", beat(epoch=1, step=99), False),
        ("train", None, False),
        ("train", replace(beat(epoch=1, step=1), done=True), True),
        ("eval", beat(epoch=2, step=99), False),
        ("eval", beat(epoch=3, step=1), True),
    ],
)
def test_when_a_replay_is_past_the_step(section: str, now, past: bool):
    manifest = replace(MANIFEST, place=replace(MANIFEST.place, section=section))
    assert verdict.is_past(now, manifest, margin=verdict.margin_of(workers=1, accumulate=1)) is past


def test_a_hang_that_comes_again():
    assert verdict.hung(replace(MANIFEST, kind="hang"), silent_s=9.0).verdict is Verdict.AGAIN
    assert verdict.hung(MANIFEST, silent_s=9.0).verdict is Verdict.UNKNOWN
