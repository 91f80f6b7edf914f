"""Which checkpoints of a run dir are kept. A damaged one is never deleted: it may be all that is left of something."""

import logging
import os
from pathlib import Path
from typing import Final

from fred_supervisor.contract.builtin.checkpoint_list import list_checkpoints
from fred_supervisor.contract.builtin.trainer_files import is_epoch_name, is_step_name
from fred_supervisor.contract.checkpoint import CheckpointFile, sidecar_path, why_invalid

log = logging.getLogger("fred_trainer")

STEP_STATES_KEPT: Final = 3
LAST_KEPT: Final = 2
"""Newest valid checkpoints, whatever their names, that are never deleted."""
ROOM: Final = 2.0
"""Room on the disk, in checkpoints, below which old epochs make way."""


class RetentionPolicy:
    """The checkpoints of one run dir. A file that was found whole once is not read again while it stays as it is."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._judged: dict[tuple[str, int, int], bool] = {}

    def add(self, path: Path) -> None:
        """`path` was written by this process just now, so it is known to be whole."""
        self._judged[_key(path)] = True

    def thin(self) -> None:
        """Delete the valid step states beyond the newest ones."""
        states = [found for found in list_checkpoints(self._run_dir) if is_step_name(found.path.name)]
        if len(states) > STEP_STATES_KEPT:
            for found in [found for found in states if self._valid(found)][STEP_STATES_KEPT:]:
                delete(found.path)

    def make_room(self, size: int) -> list[Path]:
        """Delete the oldest epochs until the disk has room for `ROOM` checkpoints of `size` bytes; those deleted."""
        deleted = []
        while _room(self._run_dir) < ROOM * size:
            oldest = self.drop_oldest()
            if oldest is None:
                break
            deleted.append(oldest)
        return deleted

    def drop_oldest(self) -> Path | None:
        """Delete the oldest checkpoint of a named epoch; None when there is none that may go."""
        found = list_checkpoints(self._run_dir)
        kept = self._last_valid(found)
        for one in reversed(found):
            if is_epoch_name(one.path.name) and one.path not in kept and _alone(one.path) and self._valid(one):
                delete(one.path)
                log.warning("the disk is nearly full: %s was deleted to make room", one.path.name)
                return one.path
        return None

    def _last_valid(self, found: list[CheckpointFile]) -> set[Path]:
        """The newest valid ones; several names of one file are one."""
        files: set[tuple[int, int]] = set()
        kept = set()
        for one in found:
            if self._valid(one):
                now = one.path.stat()
                files.add((now.st_dev, now.st_ino))
                if len(files) > LAST_KEPT:
                    break
                kept.add(one.path)
        return kept

    def _valid(self, found: CheckpointFile) -> bool:
        try:
            key = _key(found.path)
        except FileNotFoundError:
            return False
        if key not in self._judged:
            self._judged[key] = why_invalid(found) is None
        return self._judged[key]


def delete(path: Path) -> None:
    """A checkpoint and its sidecar. One that cannot be deleted is told and left."""
    try:
        path.unlink(missing_ok=True)
        sidecar_path(path).unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be deleted: %s", path, error.strerror)


def _key(path: Path) -> tuple[str, int, int]:
    now = path.stat()
    return path.name, now.st_size, now.st_mtime_ns


def _alone(path: Path) -> bool:
    """Whether deleting it frees anything: a second name of the same file does not."""
    return path.stat().st_nlink == 1


def _room(folder: Path) -> int:
    """Bytes that this user may still write."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
