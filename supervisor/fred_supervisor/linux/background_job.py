"""Background jobs: short-lived processes that do slow work for the supervisor, which never waits for them."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import fred_supervisor
from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain

_SOURCE_ROOT: Final = str(Path(fred_supervisor.__file__).parents[1])
_RUN: Final = (
    "import os, sys; os.nice(10); sys.path[:0] = [sys.argv[1]]; from importlib import import_module;"
    " import_module(sys.argv[2]).main(*sys.argv[3:])"
)


@record
class BackgroundJob:
    """One job that runs."""

    name: str
    who: Identity
    end_s: float
    """When it is killed, if it still runs."""


class BackgroundJobs:
    """The jobs that run."""

    def __init__(self) -> None:
        self._jobs: list[BackgroundJob] = []

    @property
    def pids(self) -> frozenset[int]:
        return frozenset(job.who.pid for job in self._jobs)

    def busy(self, main: Callable[..., None]) -> bool:
        """Whether a job with this function runs."""
        return any(job.name == main.__module__ for job in self._jobs)

    def send(self, main: Callable[..., None], *words: str, limit_s: float, log: Path) -> bool:
        """Start `main(*words)`, a function at the top of a module; False: it could not be started."""
        name = main.__module__
        argv = [sys.executable, "-I", "-S", "-c", _RUN, _SOURCE_ROOT, name, *words]
        appended = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), appended, (os.POSIX_SPAWN_DUP2, 1, 2)]
        try:
            pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions, setsid=True, setsigmask=())
        except OSError as error:
            complain(f"{name}: {error}")
            return False
        who = proc.identify(pid)
        if who is not None:
            self._jobs.append(BackgroundJob(name=name, who=who, end_s=time.monotonic() + limit_s))
        return who is not None

    def finished(self) -> tuple[str, ...]:
        """The names of those that have ended since the last call, whatever came of them."""
        done = [job for job in self._jobs if not proc.alive(job.who)]
        self._jobs = [job for job in self._jobs if job not in done]
        return tuple(job.name for job in done)

    def end_overdue(self, now_s: float) -> None:
        """Kill those that take too long."""
        for job in self._jobs:
            if now_s >= job.end_s:
                proc.send(job.who, signal.SIGKILL)

    def end(self, main: Callable[..., None]) -> None:
        """Kill the job with this function, where it runs."""
        for job in self._jobs:
            if job.name == main.__module__:
                proc.send(job.who, signal.SIGKILL)

    def close(self) -> None:
        """The run has ended: nothing of ours stays behind."""
        for job in self._jobs:
            proc.send(job.who, signal.SIGKILL)
        self._jobs = []
