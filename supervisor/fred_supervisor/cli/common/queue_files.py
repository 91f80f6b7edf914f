"""The runs that wait for their turn: one file each, in order, in the state folder of the user.

An entry stays until its run has ended: so one that a reboot has interrupted is started again. Who starts the next is
whoever comes by: `queue add`, every supervisor at its end, and, after a reboot, a unit of the user.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.contract.record import record
from fred_supervisor.store.registry import make_state_folder, state_dir

_OF_ONE_RUN: Final = ("FRED_RUN", "FRED_ATTEMPT", "FRED_HEARTBEAT", "FRED_ERROR", "FRED_RESUME", "MASTER_PORT")
"""Variables that belong to the trainer that somebody calls us from."""


@record
class QueueEntry:
    """One run that waits, or that the queue has started."""

    number: int
    """Its place: the least comes first."""
    name: str
    words: list[str]
    """Of `start`."""
    cwd: str
    environment: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 1
    """That it needs."""
    after: str | None = None
    """A run that must have ended before."""
    completed: bool = False
    """… and as completed."""
    started: bool = False


def queue_folder() -> Path:
    return state_dir() / "queue"


def read_queue() -> list[QueueEntry]:
    """In order; what is garbled is left out."""
    try:
        files = sorted(queue_folder().glob("*.json"))
    except OSError:
        return []
    found = (decode(QueueEntry, read_json(file)) for file in files)
    return sorted((one for one in found if one is not None), key=lambda one: one.number)


def write_entry(entry: QueueEntry) -> None:
    """Raises OSError."""
    make_state_folder(queue_folder())
    write_json(queue_folder() / f"{entry.name}.json", asdict(entry))


def drop_entry(name: str) -> None:
    (queue_folder() / f"{name}.json").unlink(missing_ok=True)


def environment_now() -> dict[str, str]:
    """That of the person who adds a run."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_OF_ONE_RUN)}


def start_next(*, when_gone: int | None = None) -> None:
    """Have the next runs started by a process of its own; `when_gone`: once that process has ended.

    Does nothing where nothing waits. A failure costs the start, and never the one who asks for it.
    """
    import subprocess  # noqa: PLC0415 - `status` reads the queue, too, and starts nothing

    try:
        if not any(queue_folder().glob("*.json")):
            return
        words = [sys.executable, "-m", "fred_supervisor.cli.main", "queue", "next"]
        words += [] if when_gone is None else ["--when-gone", str(when_gone)]
        log = os.open(queue_folder() / "queue.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/")
        finally:
            os.close(log)
    except OSError as error:
        sys.stderr.write(f"fred-supervise: the next run of the queue is not started: {error}\n")
