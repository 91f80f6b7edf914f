"""Processes by identity, read from /proc. Standard library only: the keeper uses it too.

A pid alone names nobody: it is reused. An identity is (boot, pid, start time in clock ticks since boot).
"""

import contextlib
import ctypes
import errno
import os
import select
import signal
from collections.abc import Collection, Iterator
from functools import cache
from typing import NamedTuple

_PROC = "/proc"
_CHUNK = 1 << 16
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
BLIND = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that say nothing of the process that is asked for."""


def _read(name: str) -> bytes:
    """All of a file of /proc, in the fewest calls: a supervisor reads one every second. Raises OSError."""
    fd = os.open(f"{_PROC}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.read(fd, _CHUNK)
        while more := os.read(fd, _CHUNK):
            data += more
    finally:
        os.close(fd)
    return data


@cache
def boot_id() -> str:
    """Differs after every boot."""
    return _read("sys/kernel/random/boot_id").decode("ascii").strip()


class Identity(NamedTuple):
    """Names one process; no other process ever has the same identity."""

    pid: int
    start_ticks: int
    """Field 22 of /proc/<pid>/stat."""
    boot: str

    def document(self) -> dict[str, object]:
        return self._asdict()


class Survivor(NamedTuple):
    """A process that SIGKILL does not end: it waits in the kernel, for a disk, a network file system or a driver."""

    pid: int
    wchan: str | None = None
    """The kernel function that it waits in, where that may be read."""


class Stat(NamedTuple):
    """The fields of /proc/<pid>/stat that we use."""

    name: str
    state: str
    parent: int
    start_ticks: int
    cpu_ticks: int
    """User and system time, its own and of children it has waited for."""
    own_ticks: int


def stat(pid: int) -> Stat | None:
    """None when there is no such process. Raises OSError where we cannot look: who is not seen is not dead."""
    try:
        text = _read(f"{pid}/stat")
    except OSError as error:
        if error.errno in BLIND:
            raise
        return None
    opened, closed = text.index(b"("), text.rindex(b")")  # the name in between may hold spaces and brackets
    fields = text[closed + 2 :].split()
    return Stat(
        name=text[opened + 1 : closed].decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        start_ticks=int(fields[19]),
        cpu_ticks=sum(int(f) for f in fields[11:15]),
        own_ticks=sum(int(f) for f in fields[11:13]),
    )


def identify(pid: int) -> Identity | None:
    """The identity of a live process; None when there is none."""
    found = stat(pid)
    return None if found is None else Identity(pid=pid, start_ticks=found.start_ticks, boot=boot_id())


def alive(who: Identity | None) -> bool:
    """Whether exactly this process still runs (a zombie does not)."""
    if who is None or who.boot != boot_id():
        return False
    found = stat(who.pid)
    return found is not None and found.start_ticks == who.start_ticks and found.state not in "ZX"


def stopped(who: Identity) -> bool:
    """Whether it is held by SIGSTOP or a debugger."""
    found = stat(who.pid)
    return found is not None and found.start_ticks == who.start_ticks and found.state in "Tt"


def open_pidfd(who: Identity) -> int | None:
    """A pidfd of exactly this process, or None when it is gone. Raises OSError where we cannot look."""
    try:
        fd = os.pidfd_open(who.pid)
    except OSError as error:
        if error.errno in BLIND:
            raise
        return None
    lives = False
    try:
        lives = alive(who)  # compared after opening: the fd can no longer come to mean another process
    finally:
        if not lives:
            os.close(fd)
    return fd if lives else None


def gone(who: Identity, timeout_s: float) -> bool:
    """Wait for the end of a process; whether it came in time."""
    fd = open_pidfd(who)
    if fd is None:
        return True
    try:
        return bool(select.select([fd], [], [], max(0.0, timeout_s))[0])
    finally:
        os.close(fd)


def send(who: Identity, number: int) -> bool:
    """Signals exactly this process, never one that has reused its pid; False when it is gone, or not permitted.

    Raises OSError where we cannot look.
    """
    fd = open_pidfd(who)
    if fd is None:
        return False
    try:
        signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    return _in_mask(pid, b"SigCgt:", number)


def ignores(pid: int, number: int) -> bool:
    """Whether a process ignores a signal. (What it blocks does not show while it waits for it.)"""
    return _in_mask(pid, b"SigIgn:", number)


def _in_mask(pid: int, name: bytes, number: int) -> bool:
    try:
        text = _read(f"{pid}/status")
    except OSError:
        return False
    mask = next((line.split()[1] for line in text.splitlines() if line.startswith(name)), b"0")
    return bool(int(mask, 16) >> (number - 1) & 1)


def is_python(pid: int) -> bool:
    """Whether a process runs a Python interpreter."""
    try:
        return os.path.basename(os.readlink(f"{_PROC}/{pid}/exe")).startswith("python")
    except OSError:
        return False


def children(pid: int) -> list[int]:
    """Direct children, of every thread."""
    found: list[int] = []
    try:
        threads = os.listdir(f"{_PROC}/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        with contextlib.suppress(OSError):
            found += [int(p) for p in _read(f"{pid}/task/{thread}/children").split()]
    return found


def descendants(pid: int) -> Iterator[int]:
    """All of them, parents before children; not `pid` itself."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def alive_below(roots: Collection[int]) -> list[Identity]:
    """These processes and all that descend from them, as far as they live; ourselves excepted."""
    tree = set(roots).union(*(descendants(pid) for pid in roots)) - {os.getpid()}
    found = [identify(pid) for pid in sorted(tree)]
    return [who for who in found if who is not None and alive(who)]


def pids() -> list[int]:
    """Every process that can be seen."""
    return [int(entry) for entry in os.listdir(_PROC) if entry.isdigit()]


def owner(pid: int) -> int | None:
    """The user id that a process was started by; None when there is none."""
    try:
        text = _read(f"{pid}/status")
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(b"Uid:")), None)


def environment(pid: int, names: Collection[str]) -> dict[str, str]:
    """These variables of a process, as it was started; without those that it was not given, or that may not be read."""
    try:
        text = _read(f"{pid}/environ")
    except OSError:
        return {}
    pairs = (os.fsdecode(one).partition("=") for one in text.split(b"\0"))
    return {name: value for name, _, value in pairs if name in names}


def session_of(pid: int) -> str | None:
    """The kernel's name of the session that a process is in, which is never used again; None where it has none."""
    try:
        return _read(f"{pid}/autogroup").split()[0].decode("ascii")
    except (OSError, IndexError):
        return None


def in_session(pid: int, leader: Identity, name: str | None) -> bool:
    """Whether a process is in the session that `leader` began, which may be dead. `name`: see `session_of`."""
    try:
        if os.getsid(pid) != leader.pid or leader.boot != boot_id():
            return False
    except OSError:
        return False
    now = stat(leader.pid)  # another process by now: then it is another session
    member = stat(pid)
    return (
        (now is None or now.start_ticks == leader.start_ticks)
        and member is not None
        and member.start_ticks >= leader.start_ticks
        and (name is None or session_of(pid) in (None, name))
    )


def is_wsl() -> bool:
    """Whether this is the Windows Subsystem for Linux, whose CUDA driver lacks some calls."""
    try:
        return b"microsoft" in _read("sys/kernel/osrelease").lower()
    except OSError:
        return False


def available_memory_mib() -> float | None:
    """What new programs can have without swapping."""
    try:
        with open(f"{_PROC}/meminfo") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith("MemAvailable:")), None)
    except (OSError, ValueError, IndexError):
        return None


def command_line(pid: int) -> list[str]:
    """The words that a process was started with; empty when there is none."""
    try:
        return [os.fsdecode(word) for word in _read(f"{pid}/cmdline").split(b"\0")]
    except OSError:
        return []


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process lead to, in the kernel's words; empty where that may not be read."""
    found = []
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"{_PROC}/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"{_PROC}/{pid}/fd/{fd}"))
    return found


def wait_channel(pid: int) -> str | None:
    """The kernel function that a process sleeps in, where that may be read."""
    try:
        return _read(f"{pid}/wchan").decode("ascii") or None
    except OSError:
        return None


def become_subreaper() -> None:
    """Orphans of our process tree become our children, not those of PID 1. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def release_memory() -> None:
    """Gives what the imports no longer need back to the system (glibc's malloc_trim; elsewhere nothing happens)."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def drop_oom_protection() -> None:
    """Drops protection from the out-of-memory killer (OOMScoreAdjust=): it is for the supervisor, not the trainer."""
    with contextlib.suppress(OSError, ValueError), open(f"{_PROC}/self/oom_score_adj", "r+") as file:
        if int(file.read()) < 0:
            file.seek(0)
            file.write("0")


def kill_children(spare: frozenset[int] = frozenset()) -> None:
    """Sends SIGKILL to every descendant of ours, except `spare` and their descendants."""
    for child in children(os.getpid()):
        if child not in spare:
            for member in (*descendants(child), child):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(member, signal.SIGKILL)
