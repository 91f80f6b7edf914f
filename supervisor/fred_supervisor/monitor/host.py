"""What the host has left: memory, swap, the trainer's cgroup, the run's disk, shared memory."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

_MIB: Final = 1 << 20
_CGROUPS: Final = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Reading:
    """Values by name, and a plain text for each that is None."""

    values: dict[str, Any]
    unknown: dict[str, str]


def read(sources: dict[str, Callable[[], Any]]) -> Reading:
    """Ask each source by itself: one that fails is unknown, and the rest is told."""
    values: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for name, source in sources.items():
        try:
            values[name] = source()
        except (OSError, ValueError, LookupError, psutil.Error) as error:
            values[name] = None
            unknown[name] = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Reading(values, unknown)


def memory(trainer_pid: int | None) -> Reading:
    """Of the host, and of the cgroup of the trainer, or of ours without one."""
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
            "shm_free_mib": lambda: free_bytes("/dev/shm") // _MIB,  # noqa: S108 - what DataLoader workers share
        }
    )


def free_bytes(path: str) -> int:
    """Room for an ordinary user. Raises OSError."""
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


@dataclass(frozen=True)
class Cgroup:
    """The memory controller of one cgroup, version 2 or 1."""

    path: Path
    version: int

    def memory_mib(self) -> int:
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        return int((self.path / name).read_text()) // _MIB

    def limit_mib(self) -> int:
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        text = (self.path / name).read_text().strip()
        if text == "max" or int(text) >= 1 << 62:
            raise LookupError("there is no limit")
        return int(text) // _MIB

    def oom_kills(self) -> int:
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.path / name).read_text().splitlines():
            word, _, number = line.partition(" ")
            if word == "oom_kill":
                return int(number)
        raise LookupError("the kernel does not count them")

    def pressure(self) -> float:
        """Percent of the last 10 s in which some process waited for memory."""
        if self.version != 2:
            raise LookupError("cgroup version 1 does not measure it")
        words = (self.path / "memory.pressure").read_text().split()
        return float(words[1].removeprefix("avg10="))


def cgroup(pid: int) -> Cgroup:
    """The cgroup that accounts for the memory of a process; its files may still be out of reach."""
    unified = Cgroup(_CGROUPS, 2)
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except OSError:
        return unified
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Cgroup(_CGROUPS / "memory" / path.lstrip("/"), 1)
        if not controllers:
            unified = Cgroup(_CGROUPS / path.lstrip("/"), 2)
    return unified
