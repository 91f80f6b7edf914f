"""Signals for all ranks of a step, by `scancel`: processes of their own, for Slurm's controller may not answer."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain
from fred_supervisor.store.layout import AttemptDir
from fred_supervisor.store.nodes.node_files import step_of

_LIMIT_S: Final = 120.0
"""scancel gives up by itself after some tries; one that does not is ended."""
_KILL_AGAIN_S: Final = 5.0


class Step:
    """The step of one attempt."""

    def __init__(self, folder: AttemptDir) -> None:
        self._folder = folder
        self._senders: list[tuple[Identity, float]] = []
        self._killed_s = -_KILL_AGAIN_S

    def send(self, number: int) -> bool:
        """To every process of every rank, on every machine; False where there is no step yet, or no scancel.

        Slurm signals what a rank has started, too. Nothing is waited for.
        """
        step = step_of(self._folder)
        if step is None:
            return False
        name = signal.Signals(number).name.removeprefix("SIG")
        actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
        words = ["scancel", f"--signal={name}", step]
        try:
            pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions, setsid=True, setsigmask=())
        except OSError as error:
            complain(f"scancel: {error.strerror}; step {step} is not sent {name}")
            return False
        if (who := proc.identify(pid)) is not None:
            self._senders.append((who, time.monotonic() + _LIMIT_S))
        return True

    def kill(self) -> bool:
        """SIGKILL, now and then: whoever calls it does so until nothing is left."""
        now_s = time.monotonic()
        if now_s - self._killed_s < _KILL_AGAIN_S:
            return True
        self._killed_s = now_s
        return self.send(signal.SIGKILL)

    @property
    def pids(self) -> frozenset[int]:
        """Of the scancels that are at work; one that takes too long is ended."""
        now_s = time.monotonic()
        self._senders = [(who, end_s) for who, end_s in self._senders if proc.alive(who)]
        for who, end_s in self._senders:
            if now_s >= end_s:
                proc.send(who, signal.SIGKILL)
        return frozenset(who.pid for who, _ in self._senders)


def main(folder: str, name: str) -> None:
    """Becomes the scancel of a keeper, which imports no more than it must; exits with 1 where there is no step."""
    step = step_of(AttemptDir(Path(folder)))
    if step is None:
        sys.exit(1)
    words = ["scancel", f"--signal={name}", step]
    os.execvp(words[0], words)
