"""What keeps a trainer from the processor: a quota, other processes, swap, a disk. Rates since the reading before."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from fred_supervisor.monitor.host import ControlGroup, cgroups
from fred_supervisor.monitor.trainer_processes import command_of, user_of

_OTHERS_S: Final = 60.0
"""Between two looks at all processes of the machine."""
_BUSY: Final = 0.3
"""Of a core: who uses less is nobody's trouble."""
_MOST: Final = 3
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1 << 20


class Pressure:
    """Keeps the counters of the reading before."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}
        self._quota = (0, 0)
        self._cpu = psutil.cpu_times()
        self._ticks: dict[int, int] = {}
        self._ticks_s = float("-inf")
        self._others: list[dict[str, object]] = []

    def read(self, trainer_pid: int | None, tree: frozenset[int]) -> dict[str, object]:
        """Values by name; None: not known."""
        now_s = time.monotonic()
        return {
            "cpu_used": self._used(),
            **self._of_quota(trainer_pid),
            "swap_in_mib_s": self._rate("swap", psutil.swap_memory().sin / _MIB, now_s),
            "io_pressure": _io_pressure(),
            "other_processes": self._of_others(tree, now_s),
        }

    def _used(self) -> float | None:
        now, before = psutil.cpu_times(), self._cpu
        self._cpu = now
        spent = sum(now[:8]) - sum(before[:8])
        return None if spent <= 0 else round(1 - (now.idle + now.iowait - before.idle - before.iowait) / spent, 3)

    def _rate(self, name: str, value: float, now_s: float) -> float | None:
        before = self._before.get(name)
        self._before[name] = (now_s, value)
        if before is None or now_s - before[0] < 0.5 or value < before[1]:
            return None
        return round((value - before[1]) / (now_s - before[0]), 2)

    def _of_quota(self, pid: int | None) -> dict[str, object]:
        """Of the tightest quota of the trainer's control group and those above it."""
        cores: float | None = None
        folder: Path | None = None
        for group in () if pid is None else cgroups(pid, "cpu"):
            limit = _quota_cores(group)
            if limit is not None and (cores is None or limit < cores):
                cores, folder = limit, group.path
        periods, held = (0, 0) if folder is None else _periods(folder)
        before, self._quota = self._quota, (periods, held)
        passed = periods - before[0]
        share = None if folder is None or passed <= 0 or held < before[1] else round((held - before[1]) / passed, 3)
        return {"quota_cores": cores, "quota_share": share}

    def _of_others(self, tree: frozenset[int], now_s: float) -> list[dict[str, object]]:
        """The busiest processes that are not of the trainer, over the last minute."""
        span_s = now_s - self._ticks_s
        if span_s < _OTHERS_S:
            return self._others
        before, self._ticks, self._ticks_s = self._ticks, dict(_ticks()), now_s
        spent = {pid: ticks - before[pid] for pid, ticks in self._ticks.items() if pid in before and pid not in tree}
        busiest = sorted(spent, key=lambda pid: -spent[pid])[:_MOST] if before else []
        self._others = [
            {"pid": pid, "user": user_of(pid), "command": command_of(pid), "cores": round(cores, 2)}
            for pid in busiest
            if (cores := spent[pid] / _TICKS / span_s) >= _BUSY
        ]
        return self._others


def _ticks() -> Iterator[tuple[int, int]]:
    """Processor time of every process of the machine."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            fields = (Path("/proc") / name / "stat").read_bytes().rpartition(b")")[2].split()
            yield int(name), int(fields[11]) + int(fields[12])
        except (OSError, ValueError, IndexError):
            continue


def _quota_cores(group: ControlGroup) -> float | None:
    try:
        if group.version == 2:
            quota, period = (group.path / "cpu.max").read_text().split()
        else:
            quota, period = ((group.path / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return None if quota == "max" or int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _periods(folder: Path) -> tuple[int, int]:
    """Periods of the quota so far, and how many of them ended early."""
    try:
        words = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return int(words["nr_periods"]), int(words["nr_throttled"])
    except (OSError, ValueError, LookupError):
        return 0, 0


def _io_pressure() -> float | None:
    try:
        return float(Path("/proc/pressure/io").read_text().split()[2].removeprefix("avg60=")) / 100
    except (OSError, ValueError, IndexError):
        return None
