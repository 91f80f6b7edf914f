"""What a trainer that trains on complains of, in words."""

from collections.abc import Mapping
from typing import Final

from fred_supervisor.contract.alarm import Alarm


def alarm_sentence(word: str) -> str:
    """The sentence of any word: a trainer of somebody else may have its own."""
    return _SENTENCES[Alarm(word)] if word in set(Alarm) else f"The trainer says: {word}."


_GOES_ON: Final = "Training goes on, the last checkpoint stays whole, and what a crash would cost grows."
_SENTENCES: Final[Mapping[Alarm, str]] = {
    Alarm.DISK_FULL: f"Checkpoints cannot be written: the disk is full. {_GOES_ON}",
    Alarm.QUOTA: f"Checkpoints cannot be written: the disk quota is used up. {_GOES_ON}",
    Alarm.READ_ONLY: f"Checkpoints cannot be written: the file system is read-only. {_GOES_ON}",
    Alarm.PERMISSION: f"Checkpoints cannot be written: the run dir must not be written. {_GOES_ON}",
    Alarm.DISK_ERROR: f"Checkpoints cannot be written: the disk or file system fails. {_GOES_ON}",
    Alarm.THINNED: "The disk is nearly full: the oldest epoch checkpoints were deleted to make room for new ones.",
}
