"""Names of the environment variables that a trainer is given."""

from typing import Final

RUN_ID: Final = "FRED_RUN_ID"
"""The same in all attempts of a run; processes that outlive an attempt are found by it."""
RUN_PLACE: Final = "FRED_RUN_PLACE"
"""Device and inode of the run dir at the launch: tells the processes of a run from those of a copy of its folder."""
RUN_DIR: Final = "FRED_RUN_DIR"
"""Absolute path of the run dir."""
ATTEMPT: Final = "FRED_ATTEMPT"
"""1, 2, …"""
HEARTBEAT: Final = "FRED_HEARTBEAT"
"""Path of the heartbeat file; exists and is empty at launch."""
ERROR_FILE: Final = "FRED_ERROR_FILE"
"""Path where the client writes the exception that ended it."""
RESUME: Final = "FRED_RESUME"
"""Checkpoint to resume from, or empty."""
UNFREEZE_BATCH_SIZE: Final = "FRED_UNFREEZE_BATCH_SIZE"
"""Batch size of the unfreeze phase as the supervisor sets it; empty while nothing was changed or set."""
ACCUMULATE: Final = "FRED_ACCUMULATE"
"""Micro-batches per optimiser step as the supervisor sets them; empty while nothing was changed or set."""

OF_CONTRACT: Final = (
    *(RUN_ID, RUN_PLACE, RUN_DIR, ATTEMPT, HEARTBEAT, ERROR_FILE, RESUME),
    *(UNFREEZE_BATCH_SIZE, ACCUMULATE),
)
"""All of them; other variables that begin with FRED_ are the user's."""

OF_CONFIGURATION: Final = "FRED_SUPERVISE_"
"""Prefix of the variables that configure the supervisor. They may hold secrets: no trainer gets them."""

OF_SYSTEMD: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
"""For talking to systemd: no trainer gets them."""


def rank_path(path: str, rank: int) -> str:
    """The heartbeat or error file of one rank: rank 0 has the plain path, rank r > 0 `<path>.rank<r>`."""
    return path if rank == 0 else f"{path}.rank{rank}"
