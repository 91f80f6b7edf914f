"""The newest heartbeat records of an attempt, read from its files."""

from pathlib import Path

from fred_supervisor.contract import environment, heartbeat
from fred_supervisor.contract.files import read_file
from fred_supervisor.contract.heartbeat import Beat


def newest_beat(path: Path) -> Beat | None:
    """The record of rank 0, else of the lowest rank that has one."""
    return next(iter(rank_beats(path).values()), None)


def rank_beats(path: Path) -> dict[int, Beat]:
    """The records of all ranks that have one, by rank; `path` is the heartbeat file of rank 0."""
    found = {}
    for rank in range(_RANKS):
        try:
            beat = heartbeat.parse(read_file(environment.rank_path(str(path), rank), 4096)[0])
        except OSError:
            break
        if beat is not None:
            found[rank] = beat
    return found


_RANKS = 64
"""More GPUs than one machine has."""
