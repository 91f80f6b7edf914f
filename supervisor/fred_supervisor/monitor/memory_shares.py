"""How much memory each process really adds: its proportional share of what cannot be read again from a file.

Resident memory counts what forked workers share once for each of them, and does not see when they cease to share it,
which is how most loader workers leak. The kernel walks the page tables for the share: 10 GiB take some 30 ms, so
it is read the more seldom the longer it takes.
"""

import contextlib
import time
from typing import Final

_LEAST_S: Final = 10.0
_MOST_S: Final = 300.0
_COST: Final = 0.001
"""Of one core."""


class MemoryShares:
    """The last shares of the processes of one tree."""

    def __init__(self) -> None:
        self._due_s = float("-inf")
        self._known: dict[int, float] = {}

    def of(self, pids: list[int]) -> dict[int, float]:
        """Pid → MiB of those that are known; all are read again where that is due, or one is new."""
        now_s = time.monotonic()
        new = [pid for pid in pids if pid not in self._known]
        if now_s < self._due_s and not new:
            return {pid: self._known[pid] for pid in pids}
        due, began_s = now_s >= self._due_s, time.thread_time()
        known = {} if due else {pid: mib for pid, mib in self._known.items() if pid in pids}
        for pid in pids if due else new:
            share = share_mib(pid)
            if share is not None:
                known[pid] = share
        if due:
            spent_s = time.thread_time() - began_s  # a machine that is busy with others costs nothing
            self._due_s = now_s + min(_MOST_S, max(_LEAST_S, spent_s / _COST))
        self._known = known
        return dict(known)


def share_mib(pid: int) -> float | None:
    """Anonymous and shared memory of a process, each page divided by how many have it; None: not to be known."""
    kib = {b"Pss_Anon": 0, b"Pss_Shmem": 0}
    found = 0
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            name, _, rest = line.partition(b":")
            if name in kib:
                kib[name] = int(rest.split()[0])
                found += 1
    return sum(kib.values()) / 1024 if found == len(kib) else None
