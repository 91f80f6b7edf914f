"""One supervisor a run: a lock on a file that is never unlinked."""

import fcntl
import os

from fred_supervisor.contract.layout import RunDir


def take(run: RunDir) -> int | None:
    """The lock's file descriptor, which holds it until closed; None when another holds it. Raises OSError."""
    fd = os.open(run.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def held(run: RunDir) -> bool:
    """Whether a supervisor lives, also one that is stopped or hung."""
    try:
        fd = os.open(run.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
