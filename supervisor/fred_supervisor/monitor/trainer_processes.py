"""The trainer's processes, what they use, and whose the processes on a GPU are.

A process is ours when it is in the trainer's tree or carries the run's id in its environment. A reused pid is told from
the old process by its start time.
"""

import contextlib
import os
import pwd
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import psutil

from fred_supervisor.contract import environment
from fred_supervisor.contract.record import record
from fred_supervisor.monitor.memory_shares import MemoryShares
from fred_supervisor.words.monitor import NO_TRAINER, NOT_PERMITTED

_COMMAND_CHARS: Final = 200
_PROC: Final = Path("/proc")
_MIB: Final = 1 << 20


@record
class ProcessOwner:
    """What is known of a pid that the driver names."""

    user: str | None
    command: str | None
    ours: bool | None
    """Whether it belongs to this run; None: not visible (we are in a container), or gone."""


@dataclass(frozen=True)
class _KnownProcess:
    start_s: float
    owner: ProcessOwner


class TrainerProcesses:
    """The processes of one run; `refresh` reads them again."""

    def __init__(self, run_id: str) -> None:
        self._wanted = f"{environment.RUN_ID}={run_id}".encode()
        self._trainer: psutil.Process | None = None
        self._known: dict[int, _KnownProcess] = {}
        """Holders of GPU memory; a dead one stays until the driver no longer names it."""
        self._shares = MemoryShares()
        self.tree: list[psutil.Process] = []
        """The trainer and its descendants, parents first; empty without a trainer."""

    def set_trainer(self, pid: int | None) -> None:
        """Watch another trainer; None: there is none."""
        self._trainer = None
        if pid is not None:
            with contextlib.suppress(psutil.Error):
                self._trainer = psutil.Process(pid)  # keeps its start time: a reused pid is another process

    @property
    def trainer_pid(self) -> int | None:
        """The live trainer."""
        return self.tree[0].pid if self.tree else None

    def refresh(self) -> None:
        """Reads the tree again."""
        tree: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            trainer = self._trainer
            if trainer is not None and trainer.is_running() and trainer.status() != psutil.STATUS_ZOMBIE:
                tree = [trainer]
        for process in tree:  # the list grows while we go through it
            for pid in _children(process.pid):
                with contextlib.suppress(psutil.Error):
                    tree.append(psutil.Process(pid))
        self.tree = tree

    def owners(self, pids: set[int]) -> dict[int, ProcessOwner]:
        """The owner of every pid that the driver names."""
        members = {process.pid for process in self.tree}
        self._known = {pid: seen for pid, seen in self._known.items() if pid in pids}
        return {pid: self._owner(pid, ours=pid in members) for pid in pids}

    def _owner(self, pid: int, *, ours: bool) -> ProcessOwner:
        before = self._known.get(pid)
        try:
            process = psutil.Process(pid)
            start_s = process.create_time()
            if before is not None and before.start_s == start_s and (before.owner.ours or not ours):
                return before.owner
            with process.oneshot():
                owner = ProcessOwner(user=_user(process), command=_command(process), ours=ours or self._carries_id(pid))
        except psutil.Error:  # gone meanwhile
            return before.owner if before is not None else ProcessOwner(user=None, command=None, ours=None)
        self._known[pid] = _KnownProcess(start_s, owner)
        return owner

    def _carries_id(self, pid: int) -> bool:
        try:
            return self._wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:  # another user's
            return False

    def host_values(self) -> tuple[dict[str, Any], dict[str, str]]:
        """What the trainer's tree uses of the host, and why a value is missing."""
        keys = ("trainer_rss_mib", "trainer_mib", "trainer_processes", "open_files", "open_files_limit")
        if not self.tree:
            return dict.fromkeys(keys), dict.fromkeys(keys, NO_TRAINER)
        resident = 0
        most_files: int | None = None
        each: list[dict[str, Any]] = []
        shares_mib: dict[int, float] = {}
        for process in self.tree:
            try:
                memory = process.memory_info()
                name = process.name()
            except psutil.Error:
                continue
            resident += memory.rss
            files = None
            with contextlib.suppress(psutil.Error, OSError):
                files = process.num_fds()
                most_files = files if most_files is None else max(most_files, files)
            each.append({"pid": process.pid, "name": printable(name), "rss_mib": memory.rss >> 20, "open_files": files})
            shares_mib[process.pid] = (memory.rss - memory.shared) / _MIB
        shares_mib |= self._shares.of(list(shares_mib))
        for one in each:
            one["mib"] = round(shares_mib[one["pid"]], 1)
        each.sort(key=lambda process: -process["rss_mib"])
        limit = None
        with contextlib.suppress(psutil.Error, OSError):
            limit = self.tree[0].rlimit(psutil.RLIMIT_NOFILE)[0]
        values = {
            "trainer_rss_mib": resident >> 20,
            "trainer_processes": each[:16],
            "trainer_mib": round(sum(shares_mib.values()), 1),
            "open_files": most_files,
            "open_files_limit": limit,
        }
        return values, {key: NOT_PERMITTED for key, value in values.items() if value is None}


def _children(pid: int) -> list[int]:
    """Direct children. psutil's `children` reads every process of the machine."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(_PROC / str(pid) / "task"):
            with contextlib.suppress(OSError):
                found += map(int, (_PROC / str(pid) / "task" / thread / "children").read_bytes().split())
    return found


@lru_cache(maxsize=64)
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def user_of(pid: int) -> str | None:
    """Who runs a process; None: it is gone, or not to be known."""
    try:
        return _user(psutil.Process(pid))
    except psutil.Error:
        return None


def command_of(pid: int) -> str | None:
    """Its command line; None: it is gone, or not to be known."""
    try:
        return _command(psutil.Process(pid))
    except psutil.Error:
        return None


def _user(process: psutil.Process) -> str | None:
    try:
        return _user_name(process.uids().effective)
    except psutil.AccessDenied:
        return None


def _command(process: psutil.Process) -> str | None:
    try:
        return printable(" ".join(process.cmdline()) or process.name())[:_COMMAND_CHARS]
    except psutil.AccessDenied:
        return None


def printable(text: str) -> str:
    """Without control characters: a process's name must not control the reader's terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
