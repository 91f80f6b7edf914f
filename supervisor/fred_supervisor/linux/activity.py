"""What a process and those below it do: whether they compute, and how much they have computed and moved."""

import contextlib
import os
from typing import NamedTuple

from fred_supervisor.linux import proc


def computes(pid: int) -> bool:
    """Whether a thread of a process, or of one that descends from it, computes just now, or would on a free core."""
    for member in (pid, *proc.descendants(pid)):
        with contextlib.suppress(OSError):  # it ends meanwhile
            for thread in os.listdir(f"/proc/{member}/task"):
                with contextlib.suppress(OSError):
                    if _read(f"/proc/{member}/task/{thread}/stat").rpartition(b")")[2].split()[0] == b"R":
                        return True
    return False


class KernelWait(NamedTuple):
    """A thread that waits in the kernel, and cannot be killed there. It is the same wait while all of this is so."""

    pid: int
    name: str
    """Of its process."""
    thread: int
    wchan: str | None
    """The kernel function, where that may be read."""
    waits: bytes
    """How often it has gone to sleep so far."""


def kernel_waits(pid: int) -> list[KernelWait]:
    """Threads of a process that wait uninterruptibly just now."""
    found: list[KernelWait] = []
    with contextlib.suppress(OSError):
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):
            with contextlib.suppress(OSError, IndexError):
                folder = f"/proc/{pid}/task/{thread}"
                name, _, rest = _read(f"{folder}/stat").partition(b"(")[2].rpartition(b")")
                if rest.split()[0] == b"D":
                    counts = [one for one in _read(f"{folder}/status").splitlines() if one.startswith(b"voluntary_")]
                    wchan = _read(f"{folder}/wchan").decode("ascii", "replace")
                    found.append(KernelWait(pid, name.decode(errors="replace"), thread, wchan or None, counts[0]))
    return found


def activity(pid: int) -> tuple[int, int] | None:
    """CPU ticks and bytes of I/O of a process and its descendants so far; None when they cannot be read."""
    found = [stat for member in (pid, *proc.descendants(pid)) if (stat := proc.stat(member)) is not None]
    return (sum(one.cpu_ticks for one in found), _bytes(pid, b"rchar:", b"wchar:")) if found else None


def written(pid: int) -> int:
    """Bytes that a process and its descendants have written so far, as far as that may be read."""
    return _bytes(pid, b"wchar:")


def _bytes(pid: int, *counted: bytes) -> int:
    total = 0
    for member in (pid, *proc.descendants(pid)):
        with contextlib.suppress(OSError):
            lines = _read(f"/proc/{member}/io").splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(counted))
    return total


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
