"""Ending a run from outside, also when its supervisor is dead or hung."""

import os
import select
import signal
import time
from dataclasses import asdict

import fred_supervisor
from fred_supervisor.contract import environment
from fred_supervisor.contract.files import now_text, read_json, write_json
from fred_supervisor.run import lock, proc, snapshot
from fred_supervisor.run.asked import Asked
from fred_supervisor.run.attempts import last_attempt
from fred_supervisor.run.journal import Journal
from fred_supervisor.run.proc import Identity
from fred_supervisor.run.requests import live_supervisor
from fred_supervisor.run.sight import LiveAttempt

_ANSWER_S = 5.0
"""A supervisor that lives takes a request within this."""
_KILL_S = 10.0
"""From SIGKILL until we call something unkillable."""


def stop(asked: Asked, timeout_s: float) -> list[Identity]:
    """Ask the trainer to save and leave, then end everything of the run. Returns what SIGKILL could not end.

    `timeout_s` is from the request until SIGKILL.
    """
    deadline_s = time.monotonic() + timeout_s
    supervisor = live_supervisor(asked, _ANSWER_S)
    if supervisor is not None and not proc.stopped(supervisor):
        proc.send(supervisor, signal.SIGTERM)
        if _obeys(asked, supervisor):
            if not _gone(supervisor, deadline_s - time.monotonic()):
                _end_tree(asked)
            if _gone(supervisor, _KILL_S):
                return _left(asked)
    _ask_trainer(asked, deadline_s)
    if supervisor is not None and proc.alive(supervisor):
        # Hung or stopped: it must not relaunch what we end.
        proc.send(supervisor, signal.SIGKILL)
        _gone(supervisor, _KILL_S)
    left = _kill_all(asked)
    _record(asked, left)
    return left


def _obeys(asked: Asked, supervisor: Identity) -> bool:
    """Whether the supervisor has taken the request: it says so, or it has left."""
    end_s = time.monotonic() + _ANSWER_S
    while time.monotonic() < end_s:
        if not proc.alive(supervisor) or (read_json(asked.dir.state) or {}).get("state") not in _UNTOUCHED:
            return True
        _gone(supervisor, 0.05)
    return False


_UNTOUCHED = ("starting", "running", "waiting", "holding", "paused")


def _gone(who: Identity, timeout_s: float) -> bool:
    """Wait for the end of a process."""
    fd = proc.open_pidfd(who)
    if fd is None:
        return True
    try:
        return bool(select.select([fd], [], [], max(0.0, timeout_s))[0])
    finally:
        os.close(fd)


def _ask_trainer(asked: Asked, deadline_s: float) -> None:
    """SIGTERM to what beats, or to the command itself, and time to save."""
    attempt = LiveAttempt(asked=asked, number=last_attempt(asked.dir), keeper=None)
    attempt.read_trainer()
    if attempt.trainer is None or not proc.alive(attempt.trainer):
        return
    for target in attempt.targets():
        proc.send(target, signal.SIGTERM)
        proc.send(target, signal.SIGCONT)
    _gone(attempt.trainer, deadline_s - time.monotonic())


def _left(asked: Asked) -> list[Identity]:
    return proc.with_environment(environment.RUN_ID, asked.run_id)


def _end_tree(asked: Asked) -> None:
    """Have the keeper end its tree, and wait for it."""
    launch = read_json(asked.dir.attempt(last_attempt(asked.dir)).launch) or {}
    keeper = proc.identity_from(launch.get("keeper"))
    if keeper is not None and proc.alive(keeper):
        proc.send(keeper, signal.SIGTERM)
        proc.send(keeper, signal.SIGCONT)
        _gone(keeper, _KILL_S)


def _kill_all(asked: Asked) -> list[Identity]:
    """The keeper ends its tree; whatever else carries the run's id is killed. Bounded."""
    _end_tree(asked)
    end_s = time.monotonic() + _KILL_S
    left = _left(asked)
    while left and time.monotonic() < end_s:
        for stray in left:
            proc.send(stray, signal.SIGKILL)
        _gone(left[0], 0.1)
        left = _left(asked)
    return left


def _record(asked: Asked, left: list[Identity]) -> None:
    """The supervisor can no longer say how the run ended, so we do."""
    fd = lock.take(asked.dir)
    if fd is None:
        return
    try:
        before = read_json(asked.dir.state) or {}
        text = "Stopped by request; its supervisor was dead or hung."
        if left:
            text += f" Process {left[0].pid} does not end on SIGKILL."
        write_json(
            asked.dir.state,
            {
                **before,
                "format": 1,
                "time": now_text(),
                "state": "stopped",
                "detail": text,
                "book": asdict(snapshot.book_from(before)),
                "supervisor": {**(before.get("supervisor") or {}), "version": fred_supervisor.__version__},
            },
        )
        Journal(asked.dir).append("stopped", text=text)
    finally:
        os.close(fd)
