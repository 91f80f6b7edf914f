"""The newest records of an attempt: of the trainer's own, by rank, else what was read from its output."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from fred_supervisor.contract import environment, heartbeat
from fred_supervisor.contract.files import read_file
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.store.layout import AttemptDir


def newest_beat(folder: AttemptDir) -> Beat | None:
    """The record of rank 0, else of the lowest rank that has one, else of the output."""
    return next(iter(rank_beats(folder.heartbeat).values()), None) or _read(str(folder.printed))


def rank_beats(path: Path) -> dict[int, Beat]:
    """The records of all ranks that have one, by rank; `path` is the heartbeat file of rank 0."""
    found = {}
    for rank in range(_RANKS):
        name = environment.rank_path(str(path), rank)
        if not os.path.exists(name):
            break
        beat = _read(name)
        if beat is not None:
            found[rank] = beat
    return found


def _read(name: str) -> Beat | None:
    try:
        return heartbeat.parse(read_file(name, 4096)[0])
    except OSError:
        return None


def write_printed(folder: AttemptDir, beat: Beat) -> None:
    """Overwrites in place, as the client does: a full disk does not silence it. What cannot be written is lost."""
    data = heartbeat.record_of(beat)
    if len(data) > heartbeat.RECORD_BYTES:  # of numbers that nobody counts to
        data = heartbeat.record_of(replace(beat, lr=None, metric=None, began_epoch=None, began_step=None))
    with contextlib.suppress(OSError):
        fd = os.open(folder.printed, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, data, 0)
        finally:
            os.close(fd)


_RANKS = 64
"""More GPUs than one machine has."""
