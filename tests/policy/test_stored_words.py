"""Words that stand in files and JSON keep their spelling: old journals and incidents are read by new versions.

New words may be added to the lists; none may go.
"""

from pathlib import Path

from fred_supervisor.policy.cause import IncidentKind
from fred_supervisor.policy.machine_fault import FaultKind
from fred_supervisor.policy.message import AlertKind, JournalEvent, Topic
from fred_supervisor.policy.requests import Request, prevailing

JOURNAL = """
adopted|alarm|alarm over|alert lost|alert sent|checkpoint passed over|cleared|completed|daily summary|disk|diverging|failed|GPU
GPU unknown|hang|held|incident|keeper lost|launched|memory forecast|monitor|moves again|output capped|pause|paused
ping lost|place|position|quiet hours|restart|run dir lost|saved|set by hand|stalled|stop|stopped|stray|superseded
unkillable|warning|warning over
"""
ALERTS = "incident stalled holding disk warning failed completed"
FAULTS = ("full", "missing", "read", "written", "executed", "process", "memory", "open file")
KINDS = "crash hang oom silent_exit nan_loss learning data checkpoint disk gpu config supervisor"


def test_the_events_of_a_journal_keep_their_words():
    assert set(JOURNAL.strip().replace("\n", "|").split("|")) <= {event.value for event in JournalEvent}


def test_the_kinds_of_alerts_and_incidents_keep_their_words():
    assert set(ALERTS.split()) <= {kind.value for kind in AlertKind}
    assert set(KINDS.split()) <= {kind.value for kind in IncidentKind}
    assert set(FAULTS) <= {kind.value for kind in FaultKind}


def test_the_topics_of_stored_facts_keep_their_words():
    words = Path(__file__).with_name("topics.txt").read_text().splitlines()
    assert set(words) <= {topic.value for topic in Topic}


def test_requests_are_told_in_these_words():
    assert [request.value for request in Request] == ["stop", "leave", "pause", "resume", "restart", "quiet hours"]


def test_of_two_requests_a_stop_counts_else_the_later_one():
    for request in Request:
        assert prevailing(Request.STOP, request) is prevailing(request, Request.STOP) is Request.STOP
    assert prevailing(Request.PAUSE, Request.RESUME) is Request.RESUME
    assert prevailing(Request.PAUSE, None) is Request.PAUSE
    assert prevailing(None, None) is None
