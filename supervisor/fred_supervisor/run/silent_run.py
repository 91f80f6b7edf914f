"""Ending a run whose file system does not answer: nothing of its folder is touched, only its processes."""

import os
import signal
import time
from typing import Final

from fred_supervisor.contract import environment
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.requests import Request
from fred_supervisor.run.control import ask, is_supervisor
from fred_supervisor.store.registry import ListedRun

_LOOK_S: Final = 0.1
_KILL_S: Final = 5.0
"""From SIGKILL until a process is said not to end."""


def stop_silent(run: ListedRun, timeout_s: float) -> tuple[Identity | None, list[Identity]]:
    """Ask supervisor and trainer to end; SIGKILL to the trainer's tree after `timeout_s`.

    Returns the supervisor while it lives (it takes the request when its file system answers), and whoever is left.
    """
    supervisor = run.supervisor if run.supervisor is not None and proc.alive(run.supervisor) else None
    if supervisor is not None and not (is_supervisor(supervisor) and ask(supervisor, Request.STOP)):
        supervisor = None  # a forged list, or one of another machine
    for who in trainers_of(run):
        proc.send(who, signal.SIGTERM)
    _wait(run, timeout_s)
    for who in trainers_of(run):
        proc.send(who, signal.SIGKILL)
    left = _wait(run, _KILL_S)
    if supervisor is not None and proc.gone(supervisor, _LOOK_S):
        supervisor = None
    return supervisor, left


def trainers_of(run: ListedRun) -> list[Identity]:
    """Every process of ours that was launched as a trainer of the run, or by one."""
    return proc.alive_below([pid for pid in proc.pids() if _is_of(pid, run)])


def _is_of(pid: int, run: ListedRun) -> bool:
    """By what it was given at its launch: whose place lies where cannot be looked at."""
    given = proc.environment(pid, {environment.RUN_DIR, environment.RUN_ID})
    return environment.RUN_ID in given and given.get(environment.RUN_DIR) == run.run_dir and _is_ours(pid, run)


def _is_ours(pid: int, run: ListedRun) -> bool:
    """Another user's process is not of the run, whatever stands in its environment."""
    who = run.supervisor
    owner = proc.owner(who.pid) if who is not None and proc.alive(who) else os.geteuid()
    return proc.owner(pid) == owner


def _wait(run: ListedRun, timeout_s: float) -> list[Identity]:
    """Until nothing is left, or for this long; whoever is left."""
    end_s = time.monotonic() + timeout_s
    left = trainers_of(run)
    while left and time.monotonic() < end_s:
        proc.gone(left[0], min(_LOOK_S, end_s - time.monotonic()))
        left = trainers_of(run)
    return left
