"""What a trainer reports while it goes on: the word `alarm` of its heartbeat.

It is in the heartbeat and not in a file of its own, because a full disk takes no new file; the record is overwritten.
"""

import errno
from enum import StrEnum
from typing import Final


class Alarm(StrEnum):
    """Something that needs a person, while training goes on."""

    DISK_FULL = "disk-full"
    QUOTA = "quota"
    READ_ONLY = "read-only"
    PERMISSION = "permission"
    DISK_ERROR = "disk-error"
    THINNED = "thinned"
    RESUME = "resume"
    """What was resumed is not what was saved."""

    @classmethod
    def of(cls, error: OSError) -> "Alarm":
        """The alarm for a failed write."""
        return _BY_ERRNO.get(error.errno or 0, cls.DISK_ERROR)


_BY_ERRNO: Final = {
    errno.ENOSPC: Alarm.DISK_FULL,
    errno.EDQUOT: Alarm.QUOTA,
    errno.EROFS: Alarm.READ_ONLY,
    errno.EACCES: Alarm.PERMISSION,
    errno.EPERM: Alarm.PERMISSION,
}
