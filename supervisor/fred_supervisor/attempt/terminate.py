"""Where a trainer is sent the signals that end it: SIGTERM to save and leave, then SIGKILL to its whole tree.

When each is due is decided in `policy/decide.py`. Nothing here waits.
"""

import signal

from fred_supervisor.attempt.keeper import KILL_ORDER
from fred_supervisor.attempt.live_attempt import LiveAttempt
from fred_supervisor.attempt.run_processes import processes_of
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.store.run_spec import RunSpec


def send_sigterm(attempt: LiveAttempt, *, wake: bool) -> None:
    """Ask the trainer to save and leave: who beats, else the command itself. `wake` ends a SIGSTOP, too.

    Of a step all ranks are asked, by Slurm, on every machine.
    """
    if attempt.step is not None:
        attempt.step.send(signal.SIGTERM)
        if wake:
            attempt.step.send(signal.SIGCONT)
        return
    for who in attempt.targets():
        proc.send(who, signal.SIGTERM)
        if wake:
            proc.send(who, signal.SIGCONT)


def kill_by_keeper(keeper: Identity) -> None:
    """The order to a keeper to send SIGKILL to all of its trainer's tree, and to reap it.

    A keeper of version 0.1, which an update has left alive, understands SIGTERM, which later ones ignore.
    """
    proc.send(keeper, KILL_ORDER if proc.ignores(keeper.pid, signal.SIGTERM) else signal.SIGTERM)
    proc.send(keeper, signal.SIGCONT)


def wake_keeper(attempt: LiveAttempt) -> None:
    """SIGCONT to a keeper that is stopped while its trainer has ended: it alone can say how, and would hide it."""
    keeper, trainer = attempt.keeper, attempt.trainer
    if keeper is not None and trainer is not None and not proc.alive(trainer) and proc.stopped(keeper):
        proc.send(keeper, signal.SIGCONT)


def kill_processes_of(spec: RunSpec, spare: frozenset[int] = frozenset()) -> list[Identity]:
    """SIGKILL to every process of a run but `spare`; who that was."""
    strays = [who for who in processes_of(spec) if who.pid not in spare]
    for stray in strays:
        proc.send(stray, signal.SIGKILL)
    return strays
