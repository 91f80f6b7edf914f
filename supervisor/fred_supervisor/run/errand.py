"""Errands: short-lived processes that do slow things for the supervisor. Looked after, never waited for."""

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import fred_supervisor
from fred_supervisor.run import proc
from fred_supervisor.run.journal import complain
from fred_supervisor.run.proc import Identity

_SOURCE_ROOT: Final = str(Path(fred_supervisor.__file__).parents[1])
_RUN: Final = (
    "import os, sys; os.nice(10); sys.path[:0] = [sys.argv[1]]; from importlib import import_module;"
    " import_module(sys.argv[2]).main(*sys.argv[3:])"
)


@dataclass(frozen=True, kw_only=True)
class Errand:
    """One of them."""

    name: str
    who: Identity
    end_s: float
    """When it is ended if it is still at work."""
    done: Callable[[], None]


class Errands:
    """Those that are under way."""

    def __init__(self) -> None:
        self._errands: list[Errand] = []

    @property
    def pids(self) -> frozenset[int]:
        return frozenset(errand.who.pid for errand in self._errands)

    def busy(self, name: str) -> bool:
        """Whether such an errand is under way."""
        return any(errand.name == name for errand in self._errands)

    def send(self, name: str, *words: str, limit_s: float, log: Path, done: Callable[[], None]) -> bool:
        """Start `main(*words)` of the module `run.<name>`; False: it could not be started.

        `done` is called after its end, whatever came of it.
        """
        argv = [sys.executable, "-I", "-S", "-c", _RUN, _SOURCE_ROOT, f"fred_supervisor.run.{name}", *words]
        appended = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), appended, (os.POSIX_SPAWN_DUP2, 1, 2)]
        try:
            pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=actions, setsid=True, setsigmask=())
        except OSError as error:
            complain(f"{name}: {error}")
            return False
        who = proc.identify(pid)
        if who is not None:
            self._errands.append(Errand(name=name, who=who, end_s=time.monotonic() + limit_s, done=done))
        return who is not None

    def look(self, now_s: float) -> None:
        """Take in what is done; end what takes too long."""
        under_way = []
        for errand in self._errands:
            if not proc.alive(errand.who):
                errand.done()
                continue
            if now_s >= errand.end_s:
                proc.send(errand.who, signal.SIGKILL)
            under_way.append(errand)
        self._errands = under_way

    def leave(self) -> None:
        """The run has ended: nothing of ours stays behind."""
        for errand in self._errands:
            proc.send(errand.who, signal.SIGKILL)
        self._errands = []
