"""Files that another process reads: written beside, then renamed."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Replace `path` by `data` so that every reader sees the old bytes or the new ones, never a part.

    `durable` also forces file and folder to disk before and after the rename.
    Raises OSError, and then leaves `path` as it was and no temporary file behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(fd)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    if durable:
        sync_folder(path.parent)


def write_json(path: Path, document: object, *, durable: bool = True) -> None:
    """`write_atomic` of a JSON document; NaN and Infinity are refused with ValueError, for they are not JSON."""
    data = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    write_atomic(path, data.encode(), durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None when there is none to be had (absent, unreadable, torn, another type)."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def sync_folder(folder: Path) -> None:
    """Force a rename or unlink in `folder` to disk. File systems that cannot sync a folder are left alone."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
