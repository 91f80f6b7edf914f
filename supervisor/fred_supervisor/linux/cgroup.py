"""A control group for one trainer: one write kills every process in it. Kept small, because the keeper loads it.

Made only below a group that we may manage: one that systemd delegated to us (it marks such groups), or without systemd.
Sources: cgroup-v2.rst of the kernel (`cgroup.kill`, since 5.14), systemd's CGROUP_DELEGATION.
"""

import contextlib
import os

_SYSTEMD = "/run/systemd/system"
_DELEGATED = ("user.delegate", "trusted.delegate")


def own() -> str | None:
    """The folder of our own control group of version 2; None where there is none."""
    try:
        with open("/proc/self/cgroup") as file:
            path = next((line[3:].strip() for line in file if line.startswith("0::/")), None)
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return None
    root = next((m[4] for m in mounts if m[m.index("-") + 1] == "cgroup2"), None)
    return None if path is None or root is None else os.path.normpath(root + path)


def make(name: str) -> str | None:
    """A new group below our own; None when we may not make one, or cannot."""
    above = own()
    if above is None or not _ours(above):
        return None
    folder = os.path.join(above, name)
    try:
        os.mkdir(folder)
    except FileExistsError:
        pass
    except OSError:
        return None
    if os.access(os.path.join(folder, "cgroup.kill"), os.W_OK):
        return folder
    remove(folder)
    return None


def _ours(folder: str) -> bool:
    if not os.path.isdir(_SYSTEMD):
        return True
    for name in _DELEGATED:
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"1":
                return True
    return False


def enter(folder: str, pid: int) -> bool:
    """Moves a process into a group; False when that failed."""
    return _write(folder, "cgroup.procs", str(pid))


def members(folder: str) -> list[int]:
    """Every process in a group and in those below it."""
    found: list[int] = []
    for path, _, _ in os.walk(folder):
        with contextlib.suppress(OSError, ValueError), open(os.path.join(path, "cgroup.procs")) as file:
            found += [int(line) for line in file]
    return found


def kill(folder: str) -> bool:
    """Sends SIGKILL to every process in a group, new forks included; False when there is no such group."""
    return _write(folder, "cgroup.kill", "1")


def remove(folder: str) -> None:
    """Removes an empty group, and the empty ones that the trainer made below it; others stay."""
    for path, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _write(folder: str, name: str, text: str) -> bool:
    try:
        fd = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
