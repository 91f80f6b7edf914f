"""What a trainer that trains on has to say: the word `alarm` of its heartbeat.

It is there, not in a file of its own, because a full disk refuses files: the record is overwritten in place.
"""

import errno
from enum import StrEnum
from typing import Final


class Alarm(StrEnum):
    """Something that a person should see to, while training goes on."""

    DISK_FULL = "disk-full"
    QUOTA = "quota"
    READ_ONLY = "read-only"
    PERMISSION = "permission"
    DISK_ERROR = "disk-error"
    THINNED = "thinned"

    @property
    def sentence(self) -> str:
        """For a person."""
        return _SENTENCES[self]

    @classmethod
    def of(cls, error: OSError) -> "Alarm":
        """What a failed write means."""
        return _BY_ERRNO.get(error.errno or 0, cls.DISK_ERROR)


def sentence_of(word: str) -> str:
    """For a person; of any word, for a trainer may have its own."""
    return Alarm(word).sentence if word in set(Alarm) else f"The trainer says: {word}."


_BY_ERRNO: Final = {
    errno.ENOSPC: Alarm.DISK_FULL,
    errno.EDQUOT: Alarm.QUOTA,
    errno.EROFS: Alarm.READ_ONLY,
    errno.EACCES: Alarm.PERMISSION,
    errno.EPERM: Alarm.PERMISSION,
}
_GOES_ON: Final = "Training goes on, the last checkpoint stays whole, and what a crash would cost grows."
_SENTENCES: Final = {
    Alarm.DISK_FULL: f"Checkpoints cannot be written: the disk is full. {_GOES_ON}",
    Alarm.QUOTA: f"Checkpoints cannot be written: the disk quota is used up. {_GOES_ON}",
    Alarm.READ_ONLY: f"Checkpoints cannot be written: the file system is read-only. {_GOES_ON}",
    Alarm.PERMISSION: f"Checkpoints cannot be written: the run dir must not be written. {_GOES_ON}",
    Alarm.DISK_ERROR: f"Checkpoints cannot be written: the disk or file system fails. {_GOES_ON}",
    Alarm.THINNED: "The disk is nearly full: the oldest epoch checkpoints were deleted to make room for new ones.",
}
