"""Who holds a lock on a file, by what the kernel says of open files: nothing that anybody has written is believed."""

import contextlib
import os
from collections.abc import Callable

from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity

_PROC = "/proc"


def exclusive_holders(path: str) -> list[Identity]:
    """Processes with an exclusive flock on the file at this absolute path, the youngest first; ourselves excepted.

    Compares names as the kernel has them, and opens nothing: it answers for a file system that hangs, too. Who lives
    on another machine, in another container, or belongs to another user is not seen.
    """
    found = []
    for entry in os.listdir(_PROC):
        if entry.isdigit() and int(entry) != os.getpid() and locked_by(entry, path.__eq__):
            who = proc.identify(int(entry))
            if who is not None and proc.alive(who):
                found.append(who)
    return sorted(found, key=lambda who: who.start_ticks, reverse=True)


def locked_by(pid: int | str, wanted: Callable[[str], bool]) -> str | None:
    """The path, as it is now, of a file of which a process holds an exclusive flock and whose name is `wanted`."""
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"{_PROC}/{pid}/fd"):
            with contextlib.suppress(OSError):
                path = os.readlink(f"{_PROC}/{pid}/fd/{fd}")
                if wanted(path) and _locks(pid, fd):
                    return path
    return None


def _locks(pid: int | str, fd: str) -> bool:
    """Whether this open file, not only the file, holds the lock (proc(5), fdinfo)."""
    with open(f"{_PROC}/{pid}/fdinfo/{fd}", "rb") as info:
        return any(line.startswith(b"lock:") and b" FLOCK " in line and b" WRITE " in line for line in info)
