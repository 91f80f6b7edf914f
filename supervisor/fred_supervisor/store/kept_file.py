"""A file of ours that its writer keeps: who garbles or deletes it is noticed, and it is written on a full disk, too."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from fred_supervisor.contract.files import read_file, write_atomic
from fred_supervisor.linux.mounts import gave_up_writing

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)

_KEPT_BYTES: Final = 16 << 10
Stamp = tuple[int, int, int, int]
"""A file in one state: inode, size, times of the last change of its bytes and of its inode, in ns."""


class KeptFile:
    """One file that only we write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: Stamp | None = None
        """As we left it."""

    @property
    def owed(self) -> bool:
        """Whether it has not been written, or not with the newest bytes."""
        return self._stamp is None

    @property
    def touched(self) -> bool:
        """Whether it is not as we left it: somebody has written or removed it, or we have not written it yet."""
        return self._stamp is None or _stamp(self.path) != self._stamp

    def write(self, data: bytes, *, durable: bool = True) -> None:
        """Atomically; where the disk is full, over the bytes that are there. Raises OSError, and is `touched` then."""
        self._stamp = None
        write_kept(self.path, data, durable=durable)
        self._stamp = _stamp(self.path)

    def restore(self, data: bytes) -> bool:
        """Have it hold `data` again; whether it did before, and no longer. Raises OSError."""
        if not self.touched:
            return False
        was_known = not self.owed
        with contextlib.suppress(OSError):
            if read_file(self.path, len(data) + 1)[0].rstrip() == data.rstrip():
                self._stamp = _stamp(self.path)
                return False
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.write(data)
        return was_known


def write_kept(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file atomically; where the disk is full, write over what is there. Raises OSError.

    Over it means within the room that it has: white space fills the rest, which JSON allows. A reader may see half of
    it for an instant, and a power cut may leave it so; the alternative is that what is written there stays untrue.
    """
    try:
        write_atomic(path, data, durable=durable)
    except IsADirectoryError:  # of somebody else: nothing of it is deleted
        os.rename(path, path.with_name(f"{path.name}.{os.urandom(4).hex()}"))
        write_atomic(path, data, durable=durable)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        try:
            _overwrite(path, data)
        except FileNotFoundError:  # there is nothing to write over
            raise error from None


def why_unwritten(folder: str) -> int | None:
    """The error number with which what is kept there may not be written: of no room, or of a read-only file system."""
    try:
        found, device = os.statvfs(folder), os.stat(folder).st_dev
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY or gave_up_writing(device):
        return errno.EROFS
    return errno.ENOSPC if found.f_bavail * found.f_frsize < _KEPT_BYTES else None


def _overwrite(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        try:  # what is longer than before comes first: it may need room that there is not
            _write_at(fd, data[size:], size)
        except OSError:
            os.ftruncate(fd, size)
            raise
        _write_at(fd, data[:size].ljust(size), 0)
    finally:
        os.close(fd)


def _write_at(fd: int, data: bytes, at: int) -> None:
    if data and os.pwrite(fd, data, at) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _stamp(path: Path) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
