"""The kernel log during an attempt: out-of-memory kills, GPU errors, segfaults, failing disks."""

import errno
import os
import re
import time
from typing import Final

from fred_supervisor.linux.proc import Identity

_RELEVANT: Final = re.compile(
    r"out of memory|oom-kill|oom_reaper|killed process|NVRM|segfault at|general protection|trap invalid opcode|\btraps:"
    r"|I/O error|remount|blocked for more than|not responding|hardware error|\bmce:|PCIe Bus Error|filesystem error",
    re.IGNORECASE,
)
_MOST: Final = 20
_FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
_RECORD_BYTES: Final = 8192
"""More than a record can have; a shorter buffer is an error (Documentation/ABI/testing/dev-kmsg)."""


def relevant_lines(since_s: float) -> list[str] | None:
    """The last relevant lines since `since_s` on CLOCK_MONOTONIC; None when the kernel log may not be read."""
    try:
        fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    found = []
    try:
        while record := _next(fd):
            head, _, text = record.partition(";")
            line = text.partition("\n")[0]
            if float(head.split(",")[2]) / 1e6 >= since_s and _RELEVANT.search(line):
                found.append(line)
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(fd)
    return found[-_MOST:]


def _next(fd: int) -> str:
    """The next record; empty at the end of the log."""
    while True:
        try:
            return os.read(fd, _RECORD_BYTES).decode(errors="replace")
        except BlockingIOError:
            return ""
        except OSError as error:
            if error.errno != errno.EPIPE:  # overwritten while we read: the next read gives the oldest record
                raise


def began_s(who: Identity) -> float:
    """When a process began, on CLOCK_MONOTONIC: the kernel counts its start from boot, with suspended time."""
    suspended_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return who.start_ticks / os.sysconf("SC_CLK_TCK") - suspended_s


def counts_our_pids() -> bool:
    """Whether the pids in the kernel's log are ours: not so in a container with a pid namespace of its own."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False


_VICTIM: Final = re.compile(r"killed process (\d+)\b", re.IGNORECASE)


def killed(lines: list[str]) -> set[int]:
    """The processes that the out-of-memory killer names in these lines."""
    return {int(pid) for line in lines for pid in _VICTIM.findall(line)}
