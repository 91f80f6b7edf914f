"""What `status` says for those who cannot speak: the supervisor, the monitor, a trainer that only has a word."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.contract.alarm import Alarm

MONITOR_SILENT: Final = "Unknown: the monitor is silent."
"""Instead of a GPU's health."""
SUPERVISOR_STARTS: Final = "The supervisor is starting."
SUPERVISOR_STOPPED: Final = "The supervisor itself is stopped (SIGSTOP)."
"""Added to the last words of a supervisor that is still there."""


def supervisor_gone(run_dir: str) -> str:
    """The trainer of a run lives, its supervisor does not."""
    return f"The supervisor is gone, the trainer trains on; `fred-supervise start --run-dir {run_dir}` adopts it."


def supervisor_gone_ending(run_dir: str, request: str) -> str:
    """The trainer of a run lives, its supervisor does not, and was ending it by request."""
    goes_on = f"`fred-supervise start --run-dir {run_dir}` goes on with that"
    return f"The supervisor is gone in the middle of a {request}, the trainer lives; {goes_on}."


def interrupted(run_dir: str, request: str | None) -> str:
    """Nothing of a run lives, though it has not ended; `request`: under which it was being ended."""
    if request is not None:
        trains = f"`fred-supervise start --run-dir {run_dir}` trains on"
        return f"The supervisor ended in the middle of a {request}, and the trainer has ended, too; {trains}."
    return f"Interrupted: neither supervisor nor trainer lives; `fred-supervise start --run-dir {run_dir}` goes on."


def alarm_sentence(word: str) -> str:
    """What a trainer that trains on complains of. A trainer of somebody else may have words of its own."""
    return _ALARMS[Alarm(word)] if word in set(Alarm) else f"The trainer says: {word}."


_GOES_ON: Final = "Training goes on, the last checkpoint stays whole, and what a crash would cost grows."
_ALARMS: Final[Mapping[Alarm, str]] = {
    Alarm.DISK_FULL: f"Checkpoints cannot be written: the disk is full. {_GOES_ON}",
    Alarm.QUOTA: f"Checkpoints cannot be written: the disk quota is used up. {_GOES_ON}",
    Alarm.READ_ONLY: f"Checkpoints cannot be written: the file system is read-only. {_GOES_ON}",
    Alarm.PERMISSION: f"Checkpoints cannot be written: the run dir must not be written. {_GOES_ON}",
    Alarm.DISK_ERROR: f"Checkpoints cannot be written: the disk or file system fails. {_GOES_ON}",
    Alarm.THINNED: "The disk is nearly full: the oldest epoch checkpoints were deleted to make room for new ones.",
}
