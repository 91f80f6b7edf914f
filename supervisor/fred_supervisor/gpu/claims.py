"""GPUs that runs of this user hold: a lock each, so that two launches at once do not start on the same one."""

import contextlib
import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.linux.text_io import complain
from fred_supervisor.store.registry import make_state_folder, state_dir
from fred_supervisor.store.run_spec import RunSpec


@dataclass
class GpuClaims:
    """What one run holds. A lock ends with the process that holds it, so nobody has to clean up."""

    spec: RunSpec
    _held: dict[str, int] = field(default_factory=dict)
    """UUID → file descriptor."""

    def take(self, uuid: str) -> bool:
        """Whether the GPU is ours now; where locks cannot be kept, it is, for that is no reason not to train."""
        if uuid in self._held:
            return True
        path = _path(uuid)
        try:
            make_state_folder(path.parent)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            complain(f"GPU {uuid} is not locked for this run: {error}")
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._held[uuid] = fd
        with contextlib.suppress(OSError):  # only the name in a sentence is lost
            write_json(_owner_path(path), {"name": self.spec.name, "run_dir": self.spec.run_dir}, durable=False)
        return True

    def keep(self, uuids: tuple[str, ...]) -> None:
        """Let go of all others."""
        for uuid in self._held.keys() - set(uuids):
            os.close(self._held.pop(uuid))

    def other_owner(self, uuid: str) -> str | None:
        """The name of another run that holds a GPU; None: none does, or it cannot be told."""
        if uuid in self._held:
            return None
        path = _path(uuid)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look at once do not see each other
        except BlockingIOError:
            return str((read_json(_owner_path(path)) or {}).get("name") or "of an unknown name")
        except OSError:
            return None
        finally:
            os.close(fd)
        return None


def _path(uuid: str) -> Path:
    return state_dir() / "gpus" / f"{uuid.replace('/', '_')}.lock"


def _owner_path(path: Path) -> Path:
    return path.with_suffix(".json")
