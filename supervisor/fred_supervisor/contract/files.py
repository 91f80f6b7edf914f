"""Files that another process reads: written under another name, then renamed. And how times are written in them."""

import contextlib
import errno
import json
import os
import stat
import time
from typing import Final

AnyPath = str | os.PathLike[str]
"""This module does without pathlib, which costs the keeper 3 ms and 1 MB."""

TEMPORARY_SUFFIX: Final = ".tmp"
"""Unfinished files are hidden and end with this; nothing reads them."""


def write_atomic(path: AnyPath, data: bytes, *, mode: int | None = None, durable: bool = True) -> None:
    """Replace `path` by `data` so that every reader sees the old bytes or the new ones, never a part.

    `mode`: None for those who may read what is replaced, 0600 where there is nothing.
    `durable` also forces file and folder to disk before and after the rename.
    Raises OSError, and then leaves `path` as it was and no temporary file behind.
    """
    folder, name = os.path.split(os.fspath(path))
    beside = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode or 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if mode is None and (readers := _readers(path)):
                os.fchmod(fd, 0o600 | readers)
            if durable:
                os.fsync(fd)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    if durable:
        sync_folder(folder or os.curdir)


def _readers(path: AnyPath) -> int:
    """The bits of a file's mode by which others may read it."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    return found.st_mode & (stat.S_IRGRP | stat.S_IROTH) if stat.S_ISREG(found.st_mode) else 0


def remove_unfinished(folder: AnyPath) -> None:
    """Removes what `write_atomic` left in `folder` when its process was killed; a live process's file stays."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            parts = name.split(".")
            if (
                name[0] == "."
                and parts[-1] == "tmp"
                and parts[-2].isdigit()
                and not os.path.exists(f"/proc/{parts[-2]}")
            ):
                os.unlink(os.path.join(folder, name))


def write_json(path: AnyPath, document: object, *, durable: bool = True) -> None:
    """`write_atomic` of a JSON document; NaN and Infinity are refused with ValueError, for they are not JSON."""
    write_atomic(path, json_bytes(document), durable=durable)


def json_bytes(document: object) -> bytes:
    """A file that holds a JSON document. Raises ValueError for NaN and Infinity, which are not JSON."""
    return (json.dumps(document, allow_nan=False, separators=(",", ":")) + "\n").encode()


def append_json(path: AnyPath, document: object) -> None:
    """One line at the end of a file, in one write: concurrent writers never mix. Raises OSError."""
    line = (json.dumps(document, default=str) + "\n").encode()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(fd, line)
        if written != len(line):  # half a line would garble the next one
            os.ftruncate(fd, os.fstat(fd).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
    finally:
        os.close(fd)


MOST_BYTES: Final = 32 << 20
"""No file that is read as a whole is larger; one that is has been garbled."""


def open_file(path: AnyPath, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file that is there. Raises OSError for anything else.

    Never waits, and has an end: what should be a file may have become a FIFO, or a link to /dev/zero.
    """
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


def read_file(path: AnyPath, size: int = MOST_BYTES) -> tuple[bytes, os.stat_result]:
    """The first `size` bytes of a regular file, and its stat. Raises OSError for anything else."""
    fd = open_file(path)
    try:
        found = os.fstat(fd)
        wanted = min(size, found.st_size + 1)
        data = os.read(fd, wanted)
        while len(data) < wanted and (more := os.read(fd, wanted - len(data))):
            data += more
    finally:
        os.close(fd)
    return data, found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def read_json(path: AnyPath) -> dict[str, object] | None:
    """The JSON object in `path`; None when there is none (absent, unreadable, torn, another type)."""
    try:
        data, found = read_file(path)
        if found.st_size > MOST_BYTES:
            return None
        document = json.loads(data, parse_constant=_refuse)
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def sync_folder(folder: AnyPath) -> None:
    """Forces renames and unlinks in `folder` to disk; does nothing on file systems that cannot sync a folder."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def now_text() -> str:
    """Now, as it is written in every file of a run: RFC 3339, UTC, milliseconds."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{milliseconds:03d}Z"
