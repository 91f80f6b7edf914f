"""A state written to a file with its digest, and what a killed writer left behind."""

import hashlib
import os
import re
from io import BufferedWriter
from pathlib import Path
from typing import Final

import torch

from fred_supervisor.contract.builtin.trainer_files import is_step_name
from fred_supervisor.contract.files import TEMPORARY_SUFFIX
from fred_trainer.checkpoint.saver import State

_TEMPORARY: Final = re.compile(rf"\..*?(?:\.(?P<pid>\d+))?{re.escape(TEMPORARY_SUFFIX)}")


def write_state(state: State, path: Path) -> str:
    """Write `state` to `path`, and give its digest. Not yet forced to disk. Raises OSError."""
    with path.open("wb") as file:
        digested = _Digested(file)
        torch.save(state, digested)  # type: ignore[arg-type]  # write and flush are all it needs
        if digested.error is not None:
            raise digested.error
    return f"sha256:{digested.hash.hexdigest()}"


class _Digested:
    """A file for torch.save: takes the digest of what passes, and keeps the first error to itself until the end.

    torch's writer turns an exception from below into one of its own, and hides the cause (a full disk).
    """

    def __init__(self, file: BufferedWriter) -> None:
        self._file = file
        self.hash = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: memoryview) -> int:
        if self.error is None:
            try:
                self._file.write(data)
                self.hash.update(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Buffers are emptied when the file is closed."""


def remove_leftovers(run_dir: Path) -> None:
    """Remove files under construction whose process is gone, and those that do not name one."""
    for path in run_dir.glob(f".*{TEMPORARY_SUFFIX}"):
        named = _TEMPORARY.fullmatch(path.name)
        if named is not None and (named["pid"] is None or not _alive(int(named["pid"]))):
            path.unlink(missing_ok=True)
    for path in run_dir.glob("*.pth.json"):  # of a process that was killed between a file and its sidecar
        checkpoint = path.with_suffix("")
        if is_step_name(checkpoint.name) and not checkpoint.exists():
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
