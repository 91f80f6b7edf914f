"""Ending a run from outside, also when its supervisor is dead or hung."""

import contextlib
import signal
import time
from dataclasses import replace
from pathlib import Path

import fred_supervisor
from fred_supervisor.attempt import terminate
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.nodes.step import Step
from fred_supervisor.attempt.run_processes import processes_of, remove_group
from fred_supervisor.contract.files import now_text
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.cause import EndedBy
from fred_supervisor.policy.history import RunOutcome
from fred_supervisor.policy.message import JournalEvent, Topic, say
from fred_supervisor.policy.requests import Request
from fred_supervisor.run.control import ask, live_supervisor, wait_for
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import keeper_unseen, read_launch
from fred_supervisor.store.journal import Journal
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state
from fred_supervisor.words.sentences import stored_sentence

_ANSWER_S = 5.0
"""A supervisor that lives takes a request within this."""
_LEAVE_S = 0.5
"""A supervisor that could not say that it obeys is given this to leave after its trainer."""
_KILL_S = 10.0
"""From SIGKILL until we call something unkillable."""


class UnseenSupervisorError(Exception):
    """A supervisor or a keeper holds `path` of the run, and cannot be reached from here."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


def stop(spec: RunSpec, timeout_s: float, *, replaced_s: float = 0.0) -> list[Identity]:
    """Ask the trainer to save and leave, then end everything of the run. Returns what SIGKILL could not end.

    `timeout_s` is from the request until SIGKILL. A supervisor that has died is replaced by its service manager within
    `replaced_s`. Raises UnseenSupervisorError; nothing has been ended then.
    """
    deadline_s = time.monotonic() + timeout_s
    before = read_state(spec.dir)
    asked, watched = False, before.state not in tuple(RunOutcome) and not before.old
    while True:
        supervisor = live_supervisor(spec, _ANSWER_S)
        if supervisor is None and lock.held(spec.dir):
            raise UnseenSupervisorError(spec.dir.lock)  # it would relaunch whatever we end
        if supervisor is None and keeper_unseen(spec.dir):
            raise UnseenSupervisorError(spec.dir.attempt(last_attempt(spec.dir)).path)
        if supervisor is not None and not proc.stopped(supervisor):
            if not asked or read_state(spec.dir).asked is not EndedBy.STOP:  # asked twice, it would not let it save
                ask(supervisor, Request.STOP)
            asked = True
            if _obeys(spec, supervisor):
                if not proc.gone(supervisor, deadline_s - time.monotonic()):
                    _end_tree(spec)
                proc.gone(supervisor, _KILL_S)
        if asked and not lock.held(spec.dir) and read_state(spec.dir).state in tuple(RunOutcome):
            return _kill_all(spec)
        _record_request(spec)
        asked = True
        _ask_trainer(spec, deadline_s)
        if supervisor is not None and not proc.gone(supervisor, _LEAVE_S):
            # Hung or stopped: it must not relaunch what we end.
            proc.send(supervisor, signal.SIGKILL)
            if not proc.gone(supervisor, _KILL_S):
                return [supervisor, *_kill_all(spec)]
        left = _kill_all(spec)
        if not (watched and wait_for(lambda: lock.held(spec.dir), replaced_s)) and _record(spec, left):
            return left


def _obeys(spec: RunSpec, supervisor: Identity) -> bool:
    """Whether the supervisor has taken the request: it says so, or it has left. A garbled word is none."""
    end_s = time.monotonic() + _ANSWER_S
    while time.monotonic() < end_s:
        if not proc.alive(supervisor) or read_state(spec.dir).state not in _UNTOUCHED:
            return True
        proc.gone(supervisor, 0.05)
    return False


_UNTOUCHED = (None, "starting", "running", "waiting", "holding", "paused")


def _ask_trainer(spec: RunSpec, deadline_s: float) -> None:
    """SIGTERM to what beats, or to the command itself, and time to save."""
    attempt = LiveAttempt(spec=spec, number=last_attempt(spec.dir), keeper=None)
    attempt.read_trainer()
    if attempt.trainer is None or not proc.alive(attempt.trainer):
        return
    terminate.send_sigterm(attempt, wake=True)
    proc.gone(attempt.trainer, deadline_s - time.monotonic())


def _end_tree(spec: RunSpec) -> None:
    """Have the keeper end its tree, and wait for it."""
    keeper = read_launch(spec.dir.attempt(last_attempt(spec.dir))).keeper
    if keeper is not None and proc.alive(keeper):
        terminate.kill_by_keeper(keeper)
        proc.gone(keeper, _KILL_S)


def _kill_all(spec: RunSpec) -> list[Identity]:
    """The keeper ends its tree; whatever else carries the run's id is killed. Bounded."""
    _end_tree(spec)
    if spec.under_slurm:
        Step(spec.dir.attempt(last_attempt(spec.dir))).kill()
    end_s = time.monotonic() + _KILL_S
    left = processes_of(spec)
    while left and time.monotonic() < end_s:
        terminate.kill_processes_of(spec)
        proc.gone(left[0], 0.1)
        left = processes_of(spec)
    remove_group(spec)
    return left


def _record_request(spec: RunSpec) -> None:
    """Whoever takes the run up meanwhile goes on with the stop: its supervisor is dead, or could not write it."""
    before = read_state(spec.dir)
    if before.state not in tuple(RunOutcome):
        with contextlib.suppress(OSError):  # of a disk that cannot be written: `_record` says so
            replace(before, asked=EndedBy.STOP).write(spec.dir)


def _record(spec: RunSpec, left: list[Identity]) -> bool:
    """The supervisor can no longer say how the run ended, so we do; False: another one has taken it up, and will."""
    try:
        fd = lock.take(spec.dir)
        if fd is None:
            return False
        with open(fd, closefd=True):
            message = say(Topic.STOPPED_BY_OTHERS, survivor=left[0].pid if left else None)
            text = stored_sentence(message)
            before = read_state(spec.dir)
            supervisor = replace(before.supervisor, version=fred_supervisor.__version__)
            stopped = replace(before, time=now_text(), state="stopped", detail=text, asked=None, supervisor=supervisor)
            stopped.write(spec.dir)
            Journal(spec.dir).append(JournalEvent.STOPPED, text=text, facts=message.document())
    except OSError as error:
        complain(f"the run is stopped; that could not be written: {error}")
    return True
