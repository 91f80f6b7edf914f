"""Helper processes of the supervisor: each in its own session, with a pipe to its input."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity


class ChildProcess:
    """One process that runs a module of ours; its output goes into the supervisor's log."""

    def __init__(self, who: Identity, pipe: int) -> None:
        self.who = who
        self._pipe: int | None = pipe

    @classmethod
    def start(cls, module: str, log: Path | None, *names: str) -> Self | None:
        """Start `python -m module`; None when it ended at once. Raises OSError.

        `log` None: where our own errors go. `names` are for those who list processes.
        """
        read, write = os.pipe2(os.O_CLOEXEC)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        log_fd = os.dup(2) if log is None else os.open(log, flags, 0o600)
        words = [sys.executable, "-m", module, *names]
        actions = [(os.POSIX_SPAWN_DUP2, read, 0), (os.POSIX_SPAWN_DUP2, log_fd, 1), (os.POSIX_SPAWN_DUP2, log_fd, 2)]
        try:
            pid = os.posix_spawn(sys.executable, words, os.environ, file_actions=actions, setsid=True, setsigmask=())
        except OSError:
            os.close(write)
            raise
        finally:
            os.close(read)
            os.close(log_fd)
        os.set_blocking(write, False)
        who = proc.identify(pid)
        if who is None:
            os.close(write)
            return None
        return cls(who, write)

    def write(self, **line: Any) -> bool:
        """Writes one JSON line; False when the process does not read, and the line is lost."""
        if self._pipe is None:
            return False
        with contextlib.suppress(OSError):
            data = json.dumps(line).encode() + b"\n"
            return os.write(self._pipe, data) == len(data)
        return False

    def close(self) -> None:
        """Ends its input: the process exits by itself then."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def leaves(self, within_s: float) -> bool:
        """Whether it ends within this time."""
        return proc.gone(self.who, within_s)

    def kill(self) -> None:
        """SIGKILL to it and to all that it has started."""
        below = proc.alive_below({self.who.pid}) if proc.alive(self.who) else []
        for who in (self.who, *below):
            proc.send(who, signal.SIGKILL)
