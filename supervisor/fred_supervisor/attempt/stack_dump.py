"""Stack dumps of a live trainer: by SIGUSR1 where it is caught, by py-spy for the others where that is installed."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fred_supervisor.contract.files import open_file
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.store.layout import AttemptDir

_SPIED: Final = 4
"""At most so many processes are read by py-spy at once: the trainer and its first workers."""
_SPY_S: Final = 3.0
"""A py-spy that takes longer is ended: it has been seen to spin on a process that it cannot read."""
_TURN_S: Final = 0.03
"""For one of several ranks to write its stacks."""
_WRITING_S: Final = 0.003
"""A file that has grown, and not within this, holds the whole dump."""
_MOST_BYTES: Final = 65536


@dataclass(frozen=True)
class StackDump:
    """Stacks of a trainer, and where in its output they begin."""

    text: str = ""
    start: int | None = None


@cache
def py_spy() -> str | None:
    """Where it is: beside our Python, or on the path."""
    beside = Path(sys.executable).with_name("py-spy")
    if os.access(beside, os.X_OK):
        return str(beside)
    import shutil  # noqa: PLC0415 - rare, and slow to import

    return shutil.which("py-spy")


class StackDumper:
    """The dumps of one attempt."""

    def __init__(self, folder: AttemptDir) -> None:
        self._folder = folder
        self._starts: list[int] = []
        self._spied_from = 0
        self._spies: list[tuple[Identity, float]] = []
        self.dump = StackDump()
        """The newest one that was kept."""
        self.differed: bool | None = None
        """What `moved` has said last."""

    def ask(self, beating: Iterable[Identity], tree: Iterable[int]) -> bool:
        """Ask for a dump; False when there is nobody who could be asked, and no tool that could look.

        Who beats and catches SIGUSR1 writes its own into the output. Anybody else would die of that signal: its Python
        processes are read from outside, without stopping them.
        """
        with contextlib.suppress(OSError):
            self._starts.append(self._folder.output.stat().st_size)
        catching = [who for who in beating if proc.catches(who.pid, signal.SIGUSR1)]
        if len(catching) > 1:
            sent = [self._ask_in_turn(who) for who in catching]
            return any(sent)
        if catching:
            return proc.send(catching[0], signal.SIGUSR1)
        return self._spy(tree)

    def _ask_in_turn(self, who: Identity) -> bool:
        """Of several ranks one after the other, each below a line that names it: at once, their stacks would mix."""
        output, end_s = self._folder.output, time.monotonic() + _TURN_S
        try:
            with open(open_file(output, os.O_WRONLY | os.O_APPEND), "ab", buffering=0) as file:
                file.write(f"--- stacks of process {who.pid} ---\n".encode())
            before = size = output.stat().st_size
            sent = proc.send(who, signal.SIGUSR1)
            while time.monotonic() < end_s and (size == before or size != output.stat().st_size):
                size = output.stat().st_size
                time.sleep(_WRITING_S)
        except OSError:
            return proc.send(who, signal.SIGUSR1)
        return sent

    def _spy(self, tree: Iterable[int]) -> bool:
        tool = py_spy()
        if tool is None or self._spies:
            return bool(self._spies)
        with contextlib.suppress(OSError):
            self._spied_from = self._folder.stacks.stat().st_size
        for pid in [pid for pid in tree if proc.is_python(pid)][:_SPIED]:
            words = [tool, "dump", "--nonblocking", "--pid", str(pid)]
            opened = (os.POSIX_SPAWN_OPEN, 1, str(self._folder.stacks), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), opened, (os.POSIX_SPAWN_DUP2, 1, 2)]
            with contextlib.suppress(OSError):
                spy = os.posix_spawn(tool, words, os.environ, file_actions=actions, setsid=True, setsigmask=())
                who = proc.identify(spy)
                if who is not None:
                    self._spies.append((who, time.monotonic() + _SPY_S))
        return bool(self._spies)

    @property
    def writing(self) -> bool:
        """Whether a py-spy is still at work."""
        self._spies = [(who, end_s) for who, end_s in self._spies if proc.alive(who)]
        return bool(self._spies)

    def end_overdue(self, now_s: float) -> None:
        """Kill a py-spy that takes too long."""
        for who, end_s in self._spies:
            if now_s >= end_s:
                proc.send(who, signal.SIGKILL)

    @property
    def pids(self) -> frozenset[int]:
        """Of the tools that are at work."""
        return frozenset(who.pid for who, _ in self._spies)

    @property
    def requests(self) -> int:
        """How many dumps were asked for."""
        return len(self._starts)

    def text(self) -> str:
        """What was written since a dump was asked for last."""
        return (_from(self._folder.output, self._starts[-1]) if self._starts else "") or self._spied()

    def moved(self) -> bool | None:
        """Whether the last two dumps differ; None when there are no two. Keeps the newest."""
        parts = [_from(self._folder.output, at) for at in self._starts[-2:]]
        text = next((part for part in reversed(parts) if part), "") or self._spied()
        self.dump = StackDump(text, self._starts[-2:][0] if self._starts else None)
        self.differed = None if len(parts) < 2 or not parts[1] else parts[0].removesuffix(parts[1]) != parts[1]
        return self.differed

    def _spied(self) -> str:
        return _from(self._folder.stacks, self._spied_from)


def _from(path: Path, start: int) -> str:
    try:
        with open(open_file(path), "rb") as file:
            file.seek(start)
            return file.read(_MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
