"""One supervisor a run: a lock on a file that is never unlinked."""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Final

from fred_supervisor.linux import proc
from fred_supervisor.linux.file_locks import exclusive_holders, locked_by
from fred_supervisor.linux.proc import Identity
from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.state_file import read_state

_TRIES: Final = 5
_LOOK_S: Final = 0.01


def take(run: RunDir) -> int | None:
    """The lock's file descriptor, which holds it until closed; None when another holds it. Raises OSError."""
    fd = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_S)  # a `status` that looks whether it is held holds it for an instant
        else:
            return fd
    os.close(fd)
    return None


def is_at(fd: int, run: RunDir) -> bool:
    """Whether the lock file that `fd` holds is still the one in the run dir."""
    try:
        there, ours = os.stat(run.lock), os.fstat(fd)
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def moved_to(fd: int, run: RunDir) -> Path | None:
    """Where the run dir is now whose lock file `fd` holds; None when it has been deleted, or is where it was."""
    path = Path(os.readlink(f"/proc/self/fd/{fd}"))
    there = path.parents[len(run.lock.relative_to(run.path).parts) - 1] if path.is_absolute() else run.path
    return there if there != run.path and is_at(fd, RunDir(there)) else None


def folder_of(supervisor: Identity) -> Path | None:
    """Where the run dir is now whose lock a supervisor holds; None when it has ended, or cannot be seen from here."""
    below = RunDir(Path(os.sep)).lock
    found = locked_by(supervisor.pid, lambda path: path.endswith(str(below))) if proc.alive(supervisor) else None
    return None if found is None else Path(found.removesuffix(str(below)))


def holds(pid: int, run: RunDir) -> bool:
    """Whether a process has the lock file open, as the supervisor of this run dir and of no copy of it has."""
    try:
        wanted = os.stat(run.lock)
        fds = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for fd in fds:
        with contextlib.suppress(OSError):
            found = os.stat(f"/proc/{pid}/fd/{fd}")
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False


def held(run: RunDir) -> bool:
    """Whether a supervisor lives, also one that is stopped or hung."""
    try:
        fd = os.open(run.lock, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:  # a reader's (`store.sharing`): who could lock it could keep a supervisor away
        return proc.alive(read_state(run).supervisor.identity)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def holders_of(folder: Path) -> list[Identity] | None:
    """Who holds a lock on a folder, as far as we see them; None: nobody, or it cannot be told."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return exclusive_holders(os.path.realpath(folder))
    except OSError:
        return None
    finally:
        os.close(fd)
    return None


def of_another(run: RunDir) -> bool:
    """Whether it is another user's run, which we may at most read."""
    try:
        owner = os.stat(run.lock).st_uid
    except OSError:
        return False
    return os.geteuid() not in (0, owner) and not os.access(run.lock, os.W_OK)  # ours may be on a read-only disk


def holder(run: RunDir) -> Identity | None:
    """The supervisor that holds it; None: nobody, or nobody that can be seen from here."""
    return next(iter(exclusive_holders(os.path.realpath(run.lock))), None)
