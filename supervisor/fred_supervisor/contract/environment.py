"""Names of the environment variables that a trainer is given."""

from typing import Final

RUN_ID: Final = "FRED_RUN_ID"
"""Stable over all attempts of a run; strays are found by it."""
RUN_DIR: Final = "FRED_RUN_DIR"
"""Absolute path of the run dir."""
ATTEMPT: Final = "FRED_ATTEMPT"
"""1, 2, …"""
HEARTBEAT: Final = "FRED_HEARTBEAT"
"""Path of the heartbeat file; exists and is empty at launch."""
ERROR_FILE: Final = "FRED_ERROR_FILE"
"""Path where the client leaves the exception that ended it."""
RESUME: Final = "FRED_RESUME"
"""Checkpoint to resume from, or empty."""
UNFREEZE_BATCH_SIZE: Final = "FRED_UNFREEZE_BATCH_SIZE"
"""Ordered batch size of the unfreeze phase; empty while nothing was changed or set."""
ACCUMULATE: Final = "FRED_ACCUMULATE"
"""Ordered micro-batches per optimiser step; empty while nothing was changed or set."""

OF_CONFIGURATION: Final = "FRED_SUPERVISE_"
"""What the variables begin with that configure the supervisor; they may hold secrets, and no trainer is given them."""

OF_SYSTEMD: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
"""Speaks to systemd, and is therefore never handed on to a trainer."""


def rank_path(path: str, rank: int) -> str:
    """The heartbeat or error file of one rank: rank 0 has the plain path, rank r > 0 `<path>.rank<r>`."""
    return path if rank == 0 else f"{path}.rank{rank}"
