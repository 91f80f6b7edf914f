"""A file that can be written on a full disk."""

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Final

from fred_supervisor.contract.files import TEMPORARY_SUFFIX, write_json

_RESERVE_BYTES: Final = 16384
"""An `exit.json` with the longest names of all processes that it may name."""


class ReservedFile:
    """Room for a small JSON file, taken while there is some: the disk may be full when it is to be written."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._beside = f"{os.path.dirname(path)}/.{os.path.basename(path)}.reserve{TEMPORARY_SUFFIX}"
        self._fd: int | None = None
        try:
            self._fd = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(self._fd, bytes(_RESERVE_BYTES))
        except OSError:
            self._drop()

    def write(self, document: Mapping[str, object]) -> None:
        """Beside it and renamed where there is room, else into the reserve. What cannot be written at all is lost."""
        self._put_aside()
        try:
            write_json(self._path, document)
        except OSError:
            self._use(json.dumps(document).encode())
        else:
            self._drop()

    def _put_aside(self) -> None:
        """A folder in its place, of somebody else: nothing of it is deleted."""
        if os.path.isdir(self._path) and not os.path.islink(self._path):
            with contextlib.suppress(OSError):
                os.rename(self._path, f"{self._path}.{os.urandom(4).hex()}")

    def _drop(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._beside)

    def _use(self, data: bytes) -> None:
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, data.ljust(_RESERVE_BYTES), 0)
            os.fsync(self._fd)
            os.replace(self._beside, self._path)  # a second time it is there already
