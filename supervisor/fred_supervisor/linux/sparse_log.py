"""The trainer's output file. The trainer writes it; we keep it small by making a hole in its middle."""

import ctypes
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

HEAD_BYTES: Final = 1 << 20
"""The beginning that is always kept: versions, configuration, the first lines."""
_PUNCH_HOLE_KEEP_SIZE: Final = 0x02 | 0x01  # linux/falloc.h
_BLOCK: Final = 1 << 20


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return libc


def cap(path: Path, limit_bytes: int) -> int:
    """Makes a hole in a file that takes more than `limit_bytes` on disk; the bytes that it takes afterwards.

    Positions do not change: the trainer appends, readers skip the hole. Half the limit stays at the end, so that this
    is rarely needed. Where the file system makes no holes, the file is emptied. Raises OSError.
    """
    used = os.stat(path).st_blocks * 512
    if used <= limit_bytes:
        return used
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        end = os.fstat(fd).st_size - limit_bytes // 2
        length = (end - HEAD_BYTES) // _BLOCK * _BLOCK
        if length <= 0:
            return used
        if _libc().fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, HEAD_BYTES, length) != 0:
            os.ftruncate(fd, 0)
        return os.fstat(fd).st_blocks * 512
    finally:
        os.close(fd)


def pieces(file: BinaryIO, position: int) -> Iterator[bytes | int]:
    """A file's content from a position on: blocks of bytes, and for each hole its length."""
    fd = file.fileno()
    size = os.fstat(fd).st_size
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            start = size
        if start > position:
            yield start - position
            position = start
            continue
        end = os.lseek(fd, position, os.SEEK_HOLE)
        file.seek(position)
        while position < end and (block := file.read(min(65536, end - position))):
            yield block
            position += len(block)
