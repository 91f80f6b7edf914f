"""Who else may read a run: its state, curves and incidents; never addresses, environment, output and the lock."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fred_supervisor.store.layout import RunDir, last_attempt

SHARES: Final = ("group", "all")
"""With whom: the group of the run dir, or everybody."""
_FILES: Final = (
    "run.json",
    "state.json",
    "journal*.jsonl",
    "monitor.json",
    "monitor_ring.jsonl",
    "events.out.tfevents.*",
    "verified.json",
    "proofs.json",
)
_OF_ATTEMPT: Final = ("heartbeat*", "printed", "exit.json")
_READ: Final = {None: 0, "group": stat.S_IRGRP, "all": stat.S_IRGRP | stat.S_IROTH}
_ENTER: Final = {None: 0, "group": stat.S_IXGRP, "all": stat.S_IXGRP | stat.S_IXOTH}


def let_read(run: RunDir, share: str | None, *, newest: int | None = None) -> None:
    """Give the files of a run the modes that `share` asks for. Raises OSError.

    A file that is written again keeps its mode (`write_atomic`), so that the newest ones are enough while it lives:
    those of the last attempt, and of the incident of number `newest`. None: all.
    """
    read, enter, group = _READ[share], _READ[share] | _ENTER[share], None
    if share is not None:
        found = os.stat(run.path)
        group = found.st_gid if share == "group" else None
        if enter & ~found.st_mode:
            os.chmod(run.path, stat.S_IMODE(found.st_mode) | enter)
    for path in _folders(run, every=newest is None):
        _open(path, 0o700 | enter | (stat.S_ISGID if group is not None else 0), group)
    for path in _files(run, newest):
        _open(path, 0o600 | read, group)


def closed_above(run: RunDir, share: str) -> list[Path]:
    """The folders above a run dir through which its readers do not get."""
    group = os.stat(run.path).st_gid
    closed = []
    for folder in run.path.parents:
        found = os.stat(folder)
        enter = _ENTER["group"] if share == "group" and found.st_gid == group else stat.S_IXOTH
        if not found.st_mode & enter:
            closed.append(folder)
    return closed


def _folders(run: RunDir, *, every: bool) -> Iterator[Path]:
    yield run.supervisor
    yield run.attempts
    yield run.incidents
    yield from run.attempts.glob("[0-9]*") if every else (run.attempt(last_attempt(run)).path,)


def _files(run: RunDir, newest: int | None) -> Iterator[Path]:
    for pattern in _FILES:
        yield from run.supervisor.glob(pattern)
    attempts = "[0-9]*" if newest is None else f"{last_attempt(run):04d}"
    for pattern in _OF_ATTEMPT:
        yield from run.attempts.glob(f"{attempts}/{pattern}")
    yield from run.incidents.glob("[0-9]*.json") if newest is None else (run.incident(newest),)


def _open(path: Path, mode: int, group: int | None) -> None:
    """What is no file or folder of ours, or has gone meanwhile, is left as it is."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return
    if group is not None and found.st_gid != group:
        os.chown(path, -1, group, follow_symlinks=False)
    if stat.S_IMODE(found.st_mode) != mode:
        os.chmod(path, mode)
