"""The detail of every state of a run, as one plain sentence."""

import time

import pytest

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.policy.cause import Cause, EndedBy
from fred_supervisor.policy.history import RunHistory, RunOutcome
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.settings import OnDivergence, Settings
from fred_supervisor.policy.state import (
    AwaitingGpu,
    BackingOff,
    Ended,
    Holding,
    Paused,
    Rung,
    Running,
    Starting,
    State,
    Stopping,
)
from fred_supervisor.policy.warnings.held import HeldWarning
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.policy.watch import begin
from fred_supervisor.words.detail import detail_message
from fred_supervisor.words.sentences import sentence

NOW_S = 100.0
ONE = RunHistory(attempt=1)
GONE = say(Topic.DATA_GONE, path="/data")
QUIET = say(Topic.QUIET_HOURS, window="daily 08:00-19:00 UTC", until=None)

STATES: list[tuple[State, str]] = [
    (AwaitingGpu(history=ONE), "Attempt 2 is being launched."),
    (AwaitingGpu(history=ONE, waits_for=GONE), "Attempt 2 is being launched. Waits for a moment: /data is not there."),
    (Starting(history=ONE), "Attempt 1 is being launched."),
    (
        Running(history=ONE, watch=begin(NOW_S), since_s=NOW_S),
        "Running; it does not beat, so it is watched for its exit only: --progress-output, --progress-file or $FRED_HEARTBEAT would show more.",
    ),
    (BackingOff(history=ONE, until_s=NOW_S + 4), "It crashed. Next attempt in 4 s."),
    (
        Holding(history=ONE, cause=Cause.ENVIRONMENT, condition=GONE, since_s=0.0, probe_s=0.0),
        "Held: /data is not there.",
    ),
    (Paused(history=ONE), "Paused; `fred-supervise resume` goes on."),
    (
        Paused(history=ONE, quiet=QUIET),
        "Paused for quiet hours (daily 08:00-19:00 UTC) for ever; `fred-supervise resume` goes on now.",
    ),
    (Ended(history=ONE, outcome=RunOutcome.STOPPED, message=say(Topic.STOPPED)), "Stopped by request."),
]  # fmt: skip


@pytest.mark.parametrize(("state", "words"), STATES)
def test_a_state_is_one_plain_sentence(state: State, words: str):
    assert sentence(detail_message(state, Settings(expects_beats=False), NOW_S, "It crashed.")) == words


def test_every_state_is_among_them():
    assert {type(state) for state, _ in STATES} | {Stopping} == set(State.__args__)


@pytest.mark.parametrize("by", EndedBy)
@pytest.mark.parametrize("rung", Rung)
def test_every_rung_of_an_end_has_its_words(by: EndedBy, rung: Rung):
    state = Stopping(history=ONE, watch=begin(NOW_S), by=by, rung=rung, until_s=NOW_S)
    words = sentence(detail_message(state, Settings(), NOW_S, "Asked to stop."))
    assert words.startswith(f"The trainer is being ended ({by}): ")
    assert words.endswith(" Asked to stop.")


@pytest.mark.parametrize(("limit_s", "told"), [(60.0, "60 s"), (3600.0, "60 min"), (130.0, "130 s")])
def test_the_limit_stands_beside_the_section(limit_s, told):
    settings = Settings(hang_timeout_s={Section.STARTUP: limit_s}, expects_beats=True)
    words = sentence(detail_message(Running(history=ONE, watch=begin(NOW_S), since_s=NOW_S), settings, NOW_S, ""))
    assert words == f"Attempt 1 starts up: imports, data, model (limit without progress: {told})."


@pytest.fixture(autouse=True)
def own_time():
    """The time zone of the tests again, whatever one has set."""
    yield
    time.tzset()


@pytest.mark.parametrize(
    ("window", "until", "words"),
    [
        (None, None, "quiet hours"),
        ("daily", None, "quiet hours (daily) for ever"),
        ("daily", "2026-11-22T19:00:00Z", "quiet hours (daily) until Mon 23 Nov 03:00"),
    ],
)
def test_quiet_hours_are_named_as_far_as_they_are_known(monkeypatch, window: str | None, until: str | None, words: str):
    """In the reader's own time."""
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    assert sentence(say(Topic.QUIET_HOURS, window=window, until=until)) == words


def test_a_run_that_is_paused_because_it_diverges_says_so():
    diverging = HeldWarning(kind=WarningKind.DIVERGING, about="loss", begun=True)
    paused = Paused(history=RunHistory(attempt=1, warnings=(diverging,)))
    told = [sentence(detail_message(paused, Settings(on_divergence=one), NOW_S, "")) for one in OnDivergence]
    assert [text.startswith("Paused: training diverges, and --on-divergence is hold") for text in told] == [
        one is OnDivergence.HOLD for one in OnDivergence
    ]
