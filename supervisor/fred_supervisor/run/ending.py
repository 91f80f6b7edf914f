"""Ending a run from outside, also when its supervisor is dead or hung."""

import os
import select
import signal
import time
from dataclasses import replace

import fred_supervisor
from fred_supervisor.attempt import terminate
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.run_processes import processes_of
from fred_supervisor.contract.files import now_text
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.message import JournalEvent, Topic, say
from fred_supervisor.run.control import live_supervisor
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.sentences import sentence

_ANSWER_S = 5.0
"""A supervisor that lives takes a request within this."""
_LEAVE_S = 0.5
"""A supervisor that could not say that it obeys is given this to leave after its trainer."""
_KILL_S = 10.0
"""From SIGKILL until we call something unkillable."""


class UnseenSupervisorError(Exception):
    """A supervisor holds the run, and cannot be reached from here: it would relaunch whatever we end."""


def stop(spec: RunSpec, timeout_s: float) -> list[Identity]:
    """Ask the trainer to save and leave, then end everything of the run. Returns what SIGKILL could not end.

    `timeout_s` is from the request until SIGKILL. Raises UnseenSupervisorError; nothing has been ended then.
    """
    deadline_s = time.monotonic() + timeout_s
    supervisor = live_supervisor(spec, _ANSWER_S)
    if supervisor is None and lock.held(spec.dir):
        raise UnseenSupervisorError
    asked = False
    while supervisor is not None and not proc.stopped(supervisor):
        if not asked or read_state(spec.dir).asked is not EndedBy.STOP:  # asked twice, it would not let it save
            proc.send(supervisor, signal.SIGTERM)
        asked = True
        if not _obeys(spec, supervisor):
            break
        if not _gone(supervisor, deadline_s - time.monotonic()):
            _end_tree(spec)
        if not _gone(supervisor, _KILL_S):
            break
        if read_state(spec.dir).state in tuple(RunOutcome):
            return _kill_all(spec)
        supervisor = live_supervisor(spec, _ANSWER_S)  # it was killed; its service manager may have started another
    _ask_trainer(spec, deadline_s)
    if supervisor is not None and not _gone(supervisor, _LEAVE_S):
        # Hung or stopped: it must not relaunch what we end.
        proc.send(supervisor, signal.SIGKILL)
        _gone(supervisor, _KILL_S)
    left = _kill_all(spec)
    _record(spec, left)
    return left


def _obeys(spec: RunSpec, supervisor: Identity) -> bool:
    """Whether the supervisor has taken the request: it says so, or it has left. A garbled word is none."""
    end_s = time.monotonic() + _ANSWER_S
    while time.monotonic() < end_s:
        if not proc.alive(supervisor) or read_state(spec.dir).state not in _UNTOUCHED:
            return True
        _gone(supervisor, 0.05)
    return False


_UNTOUCHED = (None, "starting", "running", "waiting", "holding", "paused")


def _gone(who: Identity, timeout_s: float) -> bool:
    """Wait for the end of a process."""
    fd = proc.open_pidfd(who)
    if fd is None:
        return True
    try:
        return bool(select.select([fd], [], [], max(0.0, timeout_s))[0])
    finally:
        os.close(fd)


def _ask_trainer(spec: RunSpec, deadline_s: float) -> None:
    """SIGTERM to what beats, or to the command itself, and time to save."""
    attempt = LiveAttempt(spec=spec, number=last_attempt(spec.dir), keeper=None)
    attempt.read_trainer()
    if attempt.trainer is None or not proc.alive(attempt.trainer):
        return
    terminate.send_sigterm(attempt, wake=True)
    _gone(attempt.trainer, deadline_s - time.monotonic())


def _end_tree(spec: RunSpec) -> None:
    """Have the keeper end its tree, and wait for it."""
    keeper = read_launch(spec.dir.attempt(last_attempt(spec.dir))).keeper
    if keeper is not None and proc.alive(keeper):
        terminate.kill_by_keeper(keeper)
        _gone(keeper, _KILL_S)


def _kill_all(spec: RunSpec) -> list[Identity]:
    """The keeper ends its tree; whatever else carries the run's id is killed. Bounded."""
    _end_tree(spec)
    end_s = time.monotonic() + _KILL_S
    left = processes_of(spec)
    while left and time.monotonic() < end_s:
        terminate.kill_processes_of(spec)
        _gone(left[0], 0.1)
        left = processes_of(spec)
    return left


def _record(spec: RunSpec, left: list[Identity]) -> None:
    """The supervisor can no longer say how the run ended, so we do."""
    fd = lock.take(spec.dir)
    if fd is None:
        return
    try:
        message = say(Topic.STOPPED_BY_OTHERS, survivor=left[0].pid if left else None)
        text = sentence(message)
        before = read_state(spec.dir)
        supervisor = replace(before.supervisor, version=fred_supervisor.__version__)
        stopped = replace(before, time=now_text(), state="stopped", detail=text, asked=None, supervisor=supervisor)
        stopped.write(spec.dir)
        Journal(spec.dir).append(JournalEvent.STOPPED, text=text, facts=message.document())
    finally:
        os.close(fd)
