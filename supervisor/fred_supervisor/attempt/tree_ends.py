"""How the processes below a command have ended, which otherwise their own parents alone are told.

`python x | tee log`, `python x & wait`, `python x; true` and a parent that ignores its workers leave with 0, whatever
became of what trained. A pidfd tells it (Linux 6.15 and later); where the kernel does not, nothing is known.
"""

import fcntl
import os
import signal
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc

_PIDFD_GET_INFO: Final = 0xC040FF0B
_INFO_BYTES: Final = 64
_INFO_EXIT: Final = 1 << 3
_STATUS_AT: Final = 60
_MOST: Final = 128
"""Of processes that are followed; a trainer that starts more has shown by then which of them compute."""
_MUCH: Final = 0.1
"""Who has used less than this share of what the busiest one has is a helper."""


@record
class HiddenEnd:
    """The end of the process that trained, where the command has left with exit code 0."""

    pid: int
    name: str
    exit_code: int | None
    signal: int | None


@dataclass
class _Member:
    name: str
    fd: int | None
    """None: the command itself."""
    ticks: int = 0


class TreeEnds:
    """The processes of one attempt."""

    def __init__(self) -> None:
        self._members: dict[tuple[int, int], _Member] = {}
        """By pid and start time, in the order in which they were seen."""

    def look(self, root: int, pids: set[int]) -> None:
        """Take in who is there, and how much each of them has computed."""
        for pid in (root, *sorted(pids - {root})):
            found = proc.stat(pid)
            if found is None or found.state in "ZX":
                continue
            key = pid, found.start_ticks
            if key not in self._members:
                if found.own_ticks == 0 or len(self._members) >= _MOST:  # no descriptor for who has computed nothing
                    continue
                try:
                    fd = None if pid == root else os.pidfd_open(pid)
                except OSError:
                    continue
                self._members[key] = _Member(name=found.name, fd=fd)
            self._members[key].name, self._members[key].ticks = found.name, found.own_ticks

    def hidden(self, ended: Collection[int] | None) -> HiddenEnd | None:
        """How the busiest of them failed, if it did; None where it did not, or that cannot be told.

        `ended`: whom the keeper has ended after the command; None: a kill may have been the keeper's. The command
        itself reports its own end. Who is told to leave (SIGTERM), several that are killed, as at a shutdown, and one
        in whose place another one has computed to a good end, are no failures.
        """
        most = max((member.ticks for member in self._members.values()), default=0)
        busy = [(pid, member) for (pid, _), member in self._members.items() if member.ticks >= max(1, _MUCH * most)]
        ends = {pid: None if member.fd is None else _status(member.fd) for pid, member in busy}
        pid, last = max(busy, key=lambda one: one[1].ticks, default=(0, None))
        status = ends.get(pid)
        if last is None or status is None or status == 0 or (ended is not None and pid in ended):
            return None
        if ended is None and os.WIFSIGNALED(status):
            return None
        later = [other for other, _ in busy[[one for one, _ in busy].index(pid) + 1 :]]
        killed = [one for one in ends.values() if one is not None and os.WIFSIGNALED(one) and _was_sent(one)]
        if len(killed) > 1 or any(ends[other] == 0 for other in later):
            return None
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            told = number == signal.SIGTERM
            return None if told else HiddenEnd(pid=pid, name=last.name, exit_code=None, signal=number)
        return HiddenEnd(pid=pid, name=last.name, exit_code=os.WEXITSTATUS(status), signal=None)

    def close(self) -> None:
        for member in self._members.values():
            if member.fd is not None:
                os.close(member.fd)
        self._members.clear()


def _was_sent(status: int) -> bool:
    """Whether it was ended by a signal that others send, as at a shutdown, and not by a fault of its own."""
    return os.WTERMSIG(status) in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP, signal.SIGINT)


def _status(fd: int) -> int | None:
    """The wait status of a process that was reaped; None while it was not, or where the kernel does not tell."""
    info = bytearray(_INFO_BYTES)
    struct.pack_into("Q", info, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(fd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    told = struct.unpack_from("Q", info, 0)[0] & _INFO_EXIT
    return struct.unpack_from("i", info, _STATUS_AT)[0] if told else None
