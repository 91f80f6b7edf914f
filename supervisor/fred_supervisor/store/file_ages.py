"""How old things are. The wall clock may have been set: what cannot be right is not known, and what can be is asked of
the clock since boot, which nobody sets and which goes on while the machine sleeps.
"""

import os
import time
from pathlib import Path
from typing import Final

from fred_supervisor.contract.checkpoint_content import files_of
from fred_supervisor.linux.proc import Identity

FUTURE_NS: Final = 3600 * 10**9
"""Clocks of file servers are ahead by seconds; what is ahead by more was written under a wrong clock."""
_SKEW_S: Final = 5.0


def uptime_s(who: Identity) -> float:
    """How long a live process has run."""
    return round(max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - who.start_ticks / os.sysconf("SC_CLK_TCK")), 1)


def file_age_s(changed_s: float, *, at_most_s: float | None = None) -> float | None:
    """How long ago, by the wall clock; None when that cannot be: in the future, or longer ago than `at_most_s`."""
    age = time.time() - changed_s
    if age < -_SKEW_S or (at_most_s is not None and age > at_most_s + _SKEW_S):
        return None
    return round(max(0.0, age), 1)


def size_and_time(path: Path) -> tuple[int, int]:
    """Of a file, or of all that a folder holds: bytes, and the latest change in ns. Raises OSError."""
    found = [os.stat(file) for file in files_of(path)]
    own = os.stat(path)
    return sum(one.st_size for one in found), max((one.st_mtime_ns for one in found), default=own.st_mtime_ns)
