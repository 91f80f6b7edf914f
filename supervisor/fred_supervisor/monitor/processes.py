"""Who holds GPU memory, and what the trainer's processes need: by pid tree, by run id, and never by a reused pid."""

import contextlib
import os
import pwd
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import psutil

from fred_supervisor.contract import environment

_COMMAND_CHARS: Final = 200
_PROC: Final = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Owner:
    """What is known of a pid that the driver names."""

    user: str | None
    command: str | None
    ours: bool | None
    """Of this run; None: not visible from here, as from inside a container or of a process that is gone."""


@dataclass(frozen=True)
class _Seen:
    start_s: float
    owner: Owner


class Processes:
    """The processes of one run, looked at anew with every sample."""

    def __init__(self, run_id: str) -> None:
        self._wanted = f"{environment.RUN_ID}={run_id}".encode()
        self._trainer: psutil.Process | None = None
        self._seen: dict[int, _Seen] = {}
        """Holders of GPU memory so far; the dead stay until the driver no longer names them."""
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
        """Look at the tree again."""
        tree: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            trainer = self._trainer
            if trainer is not None and trainer.is_running() and trainer.status() != psutil.STATUS_ZOMBIE:
                tree = [trainer]
        for process in tree:  # grows while it is gone through
            for pid in _children(process.pid):
                with contextlib.suppress(psutil.Error):
                    tree.append(psutil.Process(pid))
        self.tree = tree

    def owners(self, pids: set[int]) -> dict[int, Owner]:
        """Of every pid that the driver names."""
        members = {process.pid for process in self.tree}
        self._seen = {pid: seen for pid, seen in self._seen.items() if pid in pids}
        return {pid: self._owner(pid, ours=pid in members) for pid in pids}

    def _owner(self, pid: int, *, ours: bool) -> Owner:
        before = self._seen.get(pid)
        try:
            process = psutil.Process(pid)
            start_s = process.create_time()
            if before is not None and before.start_s == start_s and (before.owner.ours or not ours):
                return before.owner
            with process.oneshot():
                owner = Owner(user=_user(process), command=_command(process), ours=ours or self._carries_id(pid))
        except psutil.Error:  # gone meanwhile
            return before.owner if before is not None else Owner(user=None, command=None, ours=None)
        self._seen[pid] = _Seen(start_s, owner)
        return owner

    def _carries_id(self, pid: int) -> bool:
        try:
            return self._wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:  # another user's
            return False

    def host_values(self) -> tuple[dict[str, Any], dict[str, str]]:
        """What the trainer's tree needs of the host, and why a value is missing."""
        keys = ("trainer_rss_mib", "trainer_processes", "open_files", "open_files_limit")
        if not self.tree:
            return dict.fromkeys(keys), dict.fromkeys(keys, "no trainer runs")
        resident = 0
        most_files: int | None = None
        each: list[dict[str, Any]] = []
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
        each.sort(key=lambda process: -process["rss_mib"])
        limit = None
        with contextlib.suppress(psutil.Error, OSError):
            limit = self.tree[0].rlimit(psutil.RLIMIT_NOFILE)[0]
        values = {
            "trainer_rss_mib": resident >> 20,
            "trainer_processes": each[:16],
            "open_files": most_files,
            "open_files_limit": limit,
        }
        return values, {key: "not permitted" for key, value in values.items() if value is None}


def _children(pid: int) -> list[int]:
    """Direct ones; psutil's own reads every process of the machine for this."""
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
    """Without control characters: a process's name must not drive the reader's terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
