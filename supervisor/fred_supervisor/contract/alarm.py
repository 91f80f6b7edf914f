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

    @classmethod
    def of(cls, error: OSError) -> "Alarm":
        """What a failed write means."""
        return _BY_ERRNO.get(error.errno or 0, cls.DISK_ERROR)


_BY_ERRNO: Final = {
    errno.ENOSPC: Alarm.DISK_FULL,
    errno.EDQUOT: Alarm.QUOTA,
    errno.EROFS: Alarm.READ_ONLY,
    errno.EACCES: Alarm.PERMISSION,
    errno.EPERM: Alarm.PERMISSION,
}
