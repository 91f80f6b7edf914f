"""Xid errors of the last half hour, from NVML's events and the kernel log: each of the two misses some."""

import os
import re
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fred_supervisor.monitor import health
from fred_supervisor.words.gpu_health import xid_text
from fred_supervisor.words.monitor import kernel_log_sentence

_SAME_S: Final = 30.0
"""Both sources report one error within this time."""
_XID: Final = re.compile(rb"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")
_KERNEL: Final = re.compile(rb"\d+,\d+,(\d+),")
"""Priority, sequence number, microseconds since boot."""
_BUS: Final = re.compile(r"(?:([0-9a-f]+):)?([0-9a-f]{2}):([0-9a-f]{2})", re.IGNORECASE)


@dataclass(frozen=True)
class KernelXid:
    """One line of the kernel log."""

    bus: tuple[int, int, int] | None
    code: int
    mono_s: float


def bus_key(text: str | None) -> tuple[int, int, int] | None:
    """(domain, bus, device) of `00000000:10:00.0` and of `0000:10:00`, so that they compare equal."""
    found = _BUS.match(text or "")
    return None if found is None else (int(found[1] or "0", 16), int(found[2], 16), int(found[3], 16))


class KernelXidReader:
    """Reads Xids from /dev/kmsg, where that is allowed: to root, with CAP_SYSLOG, or with kernel.dmesg_restrict = 0."""

    def __init__(self, path: Path) -> None:
        self._fd: int | None = None
        self.text: str | None = None
        """Why it cannot be read; None when it can."""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self.text = kernel_log_sentence(error.strerror)

    def read(self) -> list[KernelXid]:
        """The Xids that were logged since the last call; the first call gives all that the kernel still has."""
        found: list[KernelXid] = []
        while self._fd is not None:
            try:
                part = os.read(self._fd, 8192)
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten before we read it; the next read goes on behind
                continue
            except OSError as error:
                self.text = kernel_log_sentence(error.strerror)
                os.close(self._fd)
                self._fd = None
                break
            if not part:
                break
            for line in part.splitlines():
                xid = _XID.search(line)
                if xid is not None:
                    stamp = _KERNEL.match(line)
                    mono_s = time.monotonic() if stamp is None else int(stamp[1]) / 1e6
                    found.append(KernelXid(bus_key(xid[1].decode()), int(xid[2]), mono_s))
        return found


@dataclass
class _Entry:
    uuid: str | None
    code: int
    mono_s: float
    at: str
    wall_s: float
    sources: set[str]


class XidLog:
    """The Xids that one monitor has seen."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self.counts: Counter[tuple[str, int]] = Counter()
        """Since the monitor started, by GPU and code."""

    def add(self, uuid: str | None, code: int, source: str, mono_s: float) -> bool:
        """Records one; False when it is old, or when the other source has reported it already."""
        now_s = time.monotonic()
        if now_s - mono_s > health.FRESH_S:
            return False
        for entry in self._entries:
            same = entry.uuid == uuid and entry.code == code and abs(entry.mono_s - mono_s) <= _SAME_S
            if same and source not in entry.sources:
                entry.sources.add(source)
                return False
        wall_s = time.time() - max(0.0, now_s - mono_s)
        at = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._entries.append(_Entry(uuid, code, mono_s, at, wall_s, {source}))
        self._entries.sort(key=lambda entry: entry.mono_s)
        self.counts[uuid or "unknown", code] += 1
        return True

    def of(self, uuid: str | None) -> list[dict[str, Any]]:
        """Those of one GPU, oldest first; of None: those whose GPU is not known."""
        now_s = time.monotonic()
        self._entries = [entry for entry in self._entries if now_s - entry.mono_s <= health.FRESH_S]
        return [
            {
                "code": entry.code,
                "at": entry.at,
                "age_s": round(now_s - entry.mono_s, 1),
                "wall_s": round(entry.wall_s, 3),
                "text": xid_text(entry.code),
                "remedy": str(health.xid_remedy(entry.code)),
                "sources": sorted(entry.sources),
            }
            for entry in self._entries
            if entry.uuid == uuid
        ]
