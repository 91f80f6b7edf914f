"""Frames kept as they lie on the canvas, so that an epoch after the first decodes nothing."""

import contextlib
import errno
import hashlib
import logging
import mmap
import os
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
import psutil

from fred_trainer.data.read.image import Image
from fred_trainer.words import Sentence

log = logging.getLogger("fred_trainer")

CacheKind = Literal["ram", "disk"]

GIB: Final = 1 << 30
FREE_SHARE: Final = 0.5
"""Of the memory or the disk that is free at the start: what a cache takes at most unless told."""
_RECORD: Final = struct.Struct("<III")
"""Of a frame: height, width, CRC-32 of its pixels; zeros while there is none."""
_PAGE: Final = 4096
_FORMAT: Final = 1


class _Bytes(Protocol):
    """Room that processes forked later share."""

    def read(self, size: int, offset: int) -> memoryview: ...

    def write(self, data: bytes, offset: int) -> None: ...


class _Ram:
    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size)  # anonymous and shared: not bound by the size of /dev/shm, gone with its users

    def read(self, size: int, offset: int) -> memoryview:
        return memoryview(self._map)[offset : offset + size]

    def write(self, data: bytes, offset: int) -> None:
        self._map[offset : offset + len(data)] = data


class _Disk:
    """By position, so that a descriptor may be shared; not mapped, so that a full disk is an error and no SIGBUS."""

    def __init__(self, path: Path, size: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._fd, size)  # sparse: takes room as it is filled

    def read(self, size: int, offset: int) -> memoryview:
        data = bytearray(size)  # torch wants what it could write to
        return memoryview(data)[: os.preadv(self._fd, [data], offset)]

    def write(self, data: bytes, offset: int) -> None:
        done = os.pwrite(self._fd, data, offset)
        if done < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FrameCache:
    """Slots for frames of one size or smaller, numbered from 0; those from `slots` on are never kept.

    Every frame carries a checksum: what a killed process or a lost power left half written is no frame.
    """

    def __init__(self, room: _Bytes, *, frames: int, slots: int, frame_bytes: int) -> None:
        """The table is laid out for all `frames`, so that a file stays valid when another bound is given."""
        self._room = room
        self.slots = slots
        self._first = _table_bytes(frames)
        self._frame_bytes = _rounded(frame_bytes)
        self._full = False

    def get(self, slot: int) -> Image | None:
        """The frame in `slot`, not to be written to; None when there is none."""
        if slot >= self.slots:
            return None
        record = self._room.read(_RECORD.size, slot * _RECORD.size)
        if len(record) < _RECORD.size:
            return None
        height, width, crc = _RECORD.unpack(record)
        size = height * width * 3
        if not 0 < size <= self._frame_bytes:
            return None
        data = self._room.read(size, self._first + slot * self._frame_bytes)
        if len(data) < size or zlib.crc32(data) != crc:
            return None
        return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)

    def put(self, slot: int, frame: Image) -> None:
        """Keep `frame` in `slot`, unless there is no such slot, it is too large, or the disk is full."""
        if slot >= self.slots or self._full or frame.nbytes > self._frame_bytes:
            return
        data = frame.tobytes()
        height, width = frame.shape[:2]
        try:
            self._room.write(data, self._first + slot * self._frame_bytes)
            self._room.write(_RECORD.pack(height, width, zlib.crc32(data)), slot * _RECORD.size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self._full = True  # training goes on from the files


def open_cache(
    kind: CacheKind, folder: Path, *, key: Sequence[str], frames: int, frame_bytes: int, gib: float | None
) -> FrameCache:
    """A cache for `frames` frames of up to `frame_bytes` each, or for as many as `gib` or half of what is free allow.

    On disk it is a file in `folder` that later processes with the same `key` find filled; those of other keys are
    removed. Says how large it may become.
    """
    name = f"frames-{hashlib.sha256(repr((_FORMAT, frames, frame_bytes, *key)).encode()).hexdigest()[:16]}.cache"
    path = folder / name
    if kind == "disk":
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.glob("frames-*.cache"):
            if other != path:
                other.unlink(missing_ok=True)
    slot = _rounded(frame_bytes) + _RECORD.size
    limit = gib * GIB if gib is not None else FREE_SHARE * (free_memory() if kind == "ram" else _free_disk(path))
    slots = min(frames, max(0, int(limit) - 2 * _PAGE) // slot)
    size = _table_bytes(frames) + slots * _rounded(frame_bytes)
    room: _Bytes = _Ram(size) if kind == "ram" else _Disk(path, size)
    log.info(
        "cache: up to %.2f GiB of %s for %d of %d frames%s",
        slots * slot / GIB,
        Sentence("memory") if kind == "ram" else Sentence("disk"),
        slots,
        frames,
        "" if kind == "ram" else Sentence(", in {path}", path=path),
    )
    return FrameCache(room, frames=frames, slots=slots, frame_bytes=frame_bytes)


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of its control group where that is less."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Version 2 has one line, `0::/path`. Where there is no limit it says `max`, which is no number.
        group = Path("/proc/self/cgroup").read_text(encoding="ascii").split("::")[1].strip()
        place = Path(f"/sys/fs/cgroup{group}")
        limit, used = (int((place / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - used))
    return free


def _free_disk(path: Path) -> int:
    """Bytes: what is free, and what the file itself has taken already."""
    own = path.stat().st_blocks * 512 if path.exists() else 0
    return shutil.disk_usage(path.parent).free + own


def _table_bytes(frames: int) -> int:
    return _rounded(frames * _RECORD.size)


def _rounded(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
