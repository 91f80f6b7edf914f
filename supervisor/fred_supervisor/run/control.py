"""What a person asks of a live supervisor, as signals: the kernel checks who may, nothing can get lost."""

import signal
import time
from collections.abc import Callable, Mapping
from typing import Final

from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.watch import stop_grace_s
from fred_supervisor.store import lock
from fred_supervisor.store.run_spec import RunSpec
from fred_supervisor.store.state_file import read_state

SIGNALS: Final[Mapping[int, Request]] = {
    signal.SIGTERM: Request.STOP,
    signal.SIGINT: Request.STOP,
    signal.SIGUSR1: Request.RESTART,
    signal.SIGUSR2: Request.PAUSE,
    signal.SIGRTMIN: Request.RESUME,
    signal.SIGRTMIN + 1: Request.STOP,
    signal.SIGRTMIN + 2: Request.RESTART,
}
UNDER_ENGINE: Final[Mapping[int, Request]] = {
    **SIGNALS,
    signal.SIGTERM: Request.LEAVE,
    signal.SIGUSR1: Request.LEAVE,
}
"""Slurm and Kubernetes know these two only; people have those that nobody else sends."""
_LOOK_S: Final = 0.02


def live_supervisor(spec: RunSpec, wait_s: float) -> Identity | None:
    """The live supervisor that takes requests; one that has just been started may need `wait_s` until it does.

    The kernel says who holds the run's lock. Only where it cannot (another container's process) the snapshot does.
    None while `lock.held`: there is one, and it cannot be asked from here.
    """
    end_s = time.monotonic() + wait_s
    while lock.held(spec.dir):
        named = read_state(spec.dir).supervisor.identity
        known = named is not None and proc.alive(named) and lock.holds(named.pid, spec.dir)
        who = named if known else lock.holder(spec.dir)
        if who is not None and is_supervisor(who):
            return who
        if time.monotonic() > end_s:
            return None
        time.sleep(_LOOK_S)
    return None


def is_supervisor(who: Identity) -> bool:
    """Whether a process is one of ours that takes requests: a stranger may lock what file it likes."""
    return proc.catches(who.pid, signal.SIGUSR2) and any("fred" in word for word in proc.command_line(who.pid))


def ask(supervisor: Identity, request: Request) -> bool:
    """Signal a supervisor; False when it is gone, or does not take this request."""
    fitting = [number for number, meant in SIGNALS.items() if meant is request and number != signal.SIGINT]
    number = next((one for one in reversed(fitting) if proc.catches(supervisor.pid, one)), None)
    return number is not None and proc.send(supervisor, number)


def wait_for(fits: Callable[[], bool], timeout_s: float) -> bool:
    """Whether something that the files of a run tell becomes true in time."""
    end_s = time.monotonic() + timeout_s
    while not fits():
        if time.monotonic() > end_s:
            return False
        time.sleep(_LOOK_S)
    return True


def stop_limit_s(spec: RunSpec) -> float:
    """How long the trainer of a run is given to save and leave, by what its saves have taught."""
    return stop_grace_s(spec.settings(), read_state(spec.dir).history.learned)
