"""Looks at places that may never answer: a child process of ours takes the look, and we wait for a bounded time.

Whoever touches a mount that hangs sleeps in the kernel, and SIGKILL may not end it: so it must not be us. What lies on
the way to our own folder is looked at directly.
"""

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from fred_supervisor.contract.files import now_text
from fred_supervisor.linux import proc
from fred_supervisor.linux.mounts import mount_beyond, mount_points, mount_table
from fred_supervisor.linux.proc import Identity

T = TypeVar("T")

PATIENCE_S: Final = 0.3
"""For a look of every second: a network file system answers in some milliseconds."""
_AGAIN_S: Final = 5.0
"""Between two looks at the links on the way to the same paths, and at a place that did not answer."""
_MOST_FDS: Final = 1 << 16
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


class NoAnswerError(Exception):
    """A place does not answer; `path` says which, `since` since when (RFC 3339, UTC)."""

    def __init__(self, path: str, since: str) -> None:
        super().__init__(f"{path} does not answer")
        self.path, self.since = path, since


@dataclass
class _Silence:
    """A look that has not come back."""

    since: str
    lookers: tuple[Identity | None, ...]
    again_s: float


@dataclass
class Lookout:
    """Who looks from `home`, an absolute path."""

    home: str = "/"
    _silent: dict[str, _Silence] = field(default_factory=dict)
    _elsewhere: dict[tuple[str, ...], tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    """Paths → until when it holds, and the mounts that they lead into."""
    _mounts: bytes = b""
    """The table of mounts for which that holds."""
    _places: frozenset[str] = frozenset()
    """Of that table."""
    _told: set[str] = field(default_factory=set)

    def look(self, paths: Sequence[str], function: Callable[[], T], *, patience_s: float = PATIENCE_S) -> T:
        """What `function` returns, which touches `paths` (or patterns) only: JSON, so that tuples come back as lists.

        Raises NoAnswerError, after `patience_s` at most; at once while an earlier look there has not come back.
        Raises OSError when there is no process for it, or it could not look.
        """
        mounts = self._far(tuple(paths))
        if not mounts:
            return function()
        now_s = time.monotonic()
        for mount in mounts:
            before = self._silent.get(mount)
            if before is not None and (now_s < before.again_s or any(map(proc.alive, before.lookers))):
                raise NoAnswerError(mount, before.since)
        data, looker = _ask(function, patience_s)
        if data is None:
            mount, second = _silent_one(mounts)
            since = self._silent[mount].since if mount in self._silent else now_text()
            self._silent[mount] = _Silence(since, (looker, second), time.monotonic() + _AGAIN_S)
            raise NoAnswerError(mount, since)
        for mount in mounts:
            self._silent.pop(mount, None)
        try:
            found: T = json.loads(data)
        except ValueError:  # it raised, or was killed in the middle
            raise OSError(errno.EIO, "could not be looked at", mounts[0]) from None
        return found

    def reach(self, paths: Sequence[str], function: Callable[[], T], *, patience_s: float = PATIENCE_S) -> T:
        """The same for what is no JSON, and seldom: when a child has come back from there, we go ourselves."""
        if self._far(tuple(paths)):
            self.look(paths, lambda: _comes_back(function), patience_s=patience_s)
        return function()

    @property
    def pids(self) -> frozenset[int]:
        """Of those who have not come back."""
        lookers = (looker for one in self._silent.values() for looker in one.lookers)
        return frozenset(one.pid for one in lookers if one is not None)

    def news(self) -> list[tuple[str, str | None]]:
        """Places that do not answer any more, each with since when; and those that do again, with None."""
        silent = {path: one.since for path, one in self._silent.items()}
        gone = [(path, since) for path, since in silent.items() if path not in self._told]
        back = [(path, None) for path in self._told if path not in silent]
        self._told = set(silent)
        return [*gone, *back]

    def _far(self, paths: tuple[str, ...]) -> tuple[str, ...]:
        """The mounts that the paths lead into, and the way to `home` does not."""
        table = mount_table()
        if table != self._mounts:
            self._mounts, self._places = table, mount_points(table)
            self._elsewhere.clear()
        until_s, far = self._elsewhere.get(paths, (0.0, ()))
        if time.monotonic() >= until_s:
            mounts = (mount_beyond(path, self.home, self._places) for path in paths)
            far = tuple(dict.fromkeys(mount for mount in mounts if mount is not None))
            self._elsewhere[paths] = time.monotonic() + _AGAIN_S, far
        return far


def _comes_back(function: Callable[[], object]) -> bool:
    """True, also with an error: we shall see it ourselves."""
    with contextlib.suppress(OSError):
        function()
    return True


def _ask(function: Callable[[], object], patience_s: float) -> tuple[bytes | None, Identity | None]:
    """The answer of a child, and who it is; None for one that did not answer in time, and was sent SIGKILL."""
    end_s = time.monotonic() + patience_s
    with _own_children_only():
        pid, fd = _fork(function)
        looker = proc.identify(pid)
        data = _read(fd, end_s)
        if data is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            with contextlib.suppress(ChildProcessError):  # reaped by who waits for all
                os.waitpid(pid, 0)
    return data, looker


@contextlib.contextmanager
def _own_children_only() -> Iterator[None]:
    """No SIGCHLD for a child that was reaped in here: a loop that it wakes would look again, and so for ever."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        yield
    finally:
        if signal.SIGCHLD not in before and not _others_have_ended():
            signal.sigtimedwait({signal.SIGCHLD}, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _others_have_ended() -> bool:
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _silent_one(mounts: tuple[str, ...]) -> tuple[str, Identity | None]:
    """Which of several does not answer, and who waits there; the first where all do by now."""
    for mount in mounts if len(mounts) > 1 else ():
        data, looker = _ask(lambda: len(os.listdir(mount)), PATIENCE_S)  # noqa: B023 - asked at once
        if data is None:
            return mount, looker
    return mounts[0], None


def _fork(function: Callable[[], object]) -> tuple[int, int]:
    """A child that writes what `function` returns to a pipe, nothing where it raises. We have one thread only."""
    reads, writes = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:
        os.close(reads)
        os.close(writes)
        raise
    if pid:
        os.close(writes)
        return pid, reads
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):  # whoever reads what we write would wait for the child, too
            os.dup2(null, fd)
        os.closerange(3, writes)  # above all the lock of the run, which would outlive its supervisor
        os.closerange(writes + 1, _MOST_FDS)
        data = memoryview(json.dumps(function()).encode())
        while data:
            data = data[os.write(writes, data) :]
    finally:
        os._exit(0)


def _read(fd: int, end_s: float) -> bytes | None:
    """All that comes before `end_s` of the monotonic clock; None when there may be more."""
    data = b""
    try:
        while select.select([fd], [], [], max(0.0, end_s - time.monotonic()))[0]:
            more = os.read(fd, 1 << 16)
            if not more:
                return data
            data += more
    finally:
        os.close(fd)
    return None
