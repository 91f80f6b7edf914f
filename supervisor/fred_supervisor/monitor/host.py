"""Free memory and swap of the host, memory of the trainer's cgroup, free space on disk and in /dev/shm."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from fred_supervisor.words.monitor import NO_LIMIT, NO_OOM_COUNT, NO_PRESSURE

_MIB: Final = 1 << 20
_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class HostReading:
    """Values by name, and for each that is None why it is unknown."""

    values: dict[str, Any]
    unknown: dict[str, str]


def read(sources: dict[str, Callable[[], Any]]) -> HostReading:
    """Calls each source; the value of one that fails is unknown."""
    values: dict[str, object] = {}
    unknown: dict[str, str] = {}
    for name, source in sources.items():
        try:
            values[name] = source()
        except (OSError, ValueError, LookupError, psutil.Error) as error:
            values[name] = None
            unknown[name] = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return HostReading(values, unknown)


def memory(trainer_pid: int | None) -> HostReading:
    """Memory of the host and of the trainer's cgroup; without a trainer, of our own cgroup."""
    virtual = psutil.virtual_memory()
    swap = psutil.swap_memory()
    group = cgroup(trainer_pid or os.getpid())
    return read(
        {
            "memory_total_mib": lambda: virtual.total // _MIB,
            "memory_available_mib": lambda: virtual.available // _MIB,
            "swap_total_mib": lambda: swap.total // _MIB,
            "swap_used_mib": lambda: swap.used // _MIB,
            "cgroup_memory_mib": group.memory_mib,
            "cgroup_limit_mib": group.limit_mib,
            "cgroup_oom_kills": group.oom_kills,
            "cgroup_pressure": group.pressure,
            "cgroup_room_mib": lambda: room_mib(trainer_pid or os.getpid()),
            "shm_free_mib": lambda: free_bytes("/dev/shm") // _MIB,  # noqa: S108 - what DataLoader workers share
        }
    )


def free_bytes(path: str) -> int:
    """Free space for an ordinary user. Raises OSError."""
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


@dataclass(frozen=True)
class ControlGroup:
    """One control group, of version 2 or 1."""

    path: Path
    version: int

    def memory_mib(self) -> int:
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        return int((self.path / name).read_text()) // _MIB

    def limit_mib(self) -> int:
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        text = (self.path / name).read_text().strip()
        if text == "max" or int(text) >= 1 << 60:
            raise LookupError(NO_LIMIT)
        return int(text) // _MIB

    def oom_kills(self) -> int:
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.path / name).read_text().splitlines():
            word, _, number = line.partition(" ")
            if word == "oom_kill":
                return int(number)
        raise LookupError(NO_OOM_COUNT)

    def pressure(self) -> float:
        """Percent of the last 10 s in which some process waited for memory."""
        if self.version != 2:
            raise LookupError(NO_PRESSURE)
        words = (self.path / "memory.pressure").read_text().split()
        return float(words[1].removeprefix("avg10="))


def cgroups(pid: int, controller: str) -> list[ControlGroup]:
    """The group of a process that a controller counts in, and those above it, as far as they can be seen."""
    path, root, version = "", _CGROUPS, 0
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, where = line.split(":", 2)
        if controller in controllers.split(","):
            path, root, version = where, _CGROUPS / controller, 1
            break
        if not controllers:
            path, version = where, 2
    own = root / path.lstrip("/")
    return [ControlGroup(one, version) for one in (own, *own.parents) if one == root or root in one.parents]


def room_mib(pid: int) -> int:
    """Until a control group of the process reaches its limit; what the kernel would give back counts as room.

    Raises LookupError without a limit, OSError, ValueError.
    """
    rooms = []
    for group in cgroups(pid, "memory"):
        try:
            limit = group.limit_mib()
        except (LookupError, OSError):
            continue
        words = dict(line.split() for line in (group.path / "memory.stat").read_text().splitlines())
        total = "total_" if group.version == 1 else ""
        files_mib = (int(words[f"{total}active_file"]) + int(words[f"{total}inactive_file"])) // _MIB
        rooms.append(limit - group.memory_mib() + files_mib)
    if not rooms:
        raise LookupError(NO_LIMIT)
    return min(rooms)


def cgroup(pid: int) -> ControlGroup:
    """The cgroup that counts the memory of a process; its files may not be readable."""
    unified = ControlGroup(_CGROUPS, 2)
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return unified
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return ControlGroup(_CGROUPS / "memory" / path.lstrip("/"), 1)
        if not controllers:
            unified = ControlGroup(_CGROUPS / path.lstrip("/"), 2)
    return unified
