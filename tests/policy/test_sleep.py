"""A machine that slept: told once, held for where CUDA cannot go on, and never a hang."""

import pytest
from tests.policy.test_cause import beat

from fred_supervisor.contract.error_file import ErrorKind, ErrorRecord
from fred_supervisor.policy.after_exit import after_exit
from fred_supervisor.policy.cause import Cause, Evidence
from fred_supervisor.policy.history import RunHistory
from fred_supervisor.policy.message import JournalEvent, Topic, say
from fred_supervisor.policy.observation import Observation
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.signs import with_warnings
from fred_supervisor.policy.state import BackingOff, Holding, Running
from fred_supervisor.policy.warnings.held import HeldWarning, Sign
from fred_supervisor.policy.warnings.rows import WarningKind
from fred_supervisor.policy.watch import HeartbeatReading, begin, look
from fred_supervisor.words.sentences import sentence

AT_START = "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment"
ANYWHERE = "RuntimeError: CUDA error: unknown error"
SLEPT = (HeldWarning(kind=WarningKind.SLEEP, begun=True),)


@pytest.mark.parametrize(
    ("text", "warnings", "held"),
    [(AT_START, (), True), (AT_START, SLEPT, True), (ANYWHERE, SLEPT, True), (ANYWHERE, (), False)],
)
def test_cudas_unknown_error_is_held_for_with_the_command(text: str, warnings, held: bool):
    ended = Evidence(exit_code=1, error=ErrorRecord(kind=ErrorKind.EXCEPTION, message=text))
    state, _ = after_exit(Settings(), RunHistory(warnings=warnings), ended, 0.0)
    assert isinstance(state, Holding if held else BackingOff)
    if held:
        assert state.cause is Cause.ENVIRONMENT
        assert "modprobe nvidia_uvm" in sentence(state.condition)


def test_a_sleep_is_a_line_of_the_journal_and_a_resume_that_lost_something_holds():
    alarmed = beat(alarm="resume")
    watch, _ = look(begin(0.0), RunHistory().learned, (HeartbeatReading(stamp="1", beat=alarmed),), 1.0)
    running = Running(history=RunHistory(), watch=watch, since_s=0.0)
    slept = Sign(kind=WarningKind.SLEEP, message=say(Topic.SLEPT, slept_s=3600.0))
    state, notes = with_warnings(Settings(), running, Observation(now_s=2.0, signs=(slept,)))
    assert {note.message.facts["kind"] for note in notes} == {"sleep", "resume"}
    assert {note.event for note in notes} == {JournalEvent.WARNING}
    again, notes = with_warnings(Settings(), state, Observation(now_s=3.0))
    assert notes == ()
    assert {one.kind for one in again.history.warnings} == {WarningKind.SLEEP, WarningKind.RESUME}
