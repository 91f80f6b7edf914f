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
_BUSY: Final = 0.1
"""Of a core: who uses less is nobody's trouble."""
_MOST: Final = 3
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1 << 20


class Pressure:
    """Keeps the counters of the reading before."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}
        self._quota = (0, 0)
        self._delays: dict[int, int] = {}
        self._delays_s = 0.0
        self._ticks: dict[int, int] = {}
        self._ticks_s = float("-inf")
        self._others: list[dict[str, object]] = []

    def read(self, trainer_pid: int | None, tree: frozenset[int]) -> dict[str, object]:
        """Values by name; None: not known."""
        now_s = time.monotonic()
        return {
            "core_wait": self._core_wait(tree, now_s),
            **self._of_quota(trainer_pid),
            "swap_in_mib_s": self._rate("swap", psutil.swap_memory().sin / _MIB, now_s),
            "io_pressure": _io_pressure(),
            "other_processes": self._of_others(trainer_pid, tree, now_s),
        }

    def _core_wait(self, tree: frozenset[int], now_s: float) -> float | None:
        """Share of the time in which that process of the tree that waited most could run, and had no core."""
        before, span_s = self._delays, now_s - self._delays_s
        self._delays = {pid: delay for pid in tree if (delay := _delay_ns(pid)) is not None}
        self._delays_s = now_s
        waited = [delay - before[pid] for pid, delay in self._delays.items() if pid in before]
        return round(min(1.0, max(waited) / 1e9 / span_s), 3) if waited and span_s > 0 else None

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

    def _of_others(self, trainer_pid: int | None, tree: frozenset[int], now_s: float) -> list[dict[str, object]]:
        """The busiest processes that are not of the trainer and may run on its cores, over the last minute."""
        span_s = now_s - self._ticks_s
        if span_s < _OTHERS_S:
            return self._others
        before, self._ticks, self._ticks_s = self._ticks, dict(_ticks()), now_s
        spent = {pid: ticks - before[pid] for pid, ticks in self._ticks.items() if pid in before and pid not in tree}
        used = {pid: round(ticks / _TICKS / span_s, 2) for pid, ticks in spent.items()} if before else {}
        ours = _cores(trainer_pid or 0)
        busy = [pid for pid, cores in used.items() if cores >= _BUSY and ours & _cores(pid)]
        self._others = [
            {"pid": pid, "user": user_of(pid), "command": command_of(pid), "cores": used[pid]}
            for pid in sorted(busy, key=lambda pid: -used[pid])[:_MOST]
        ]
        return self._others


def _delay_ns(pid: int) -> int | None:
    """For so long its main thread has been ready to run, on a core's queue."""
    try:
        return int((Path("/proc") / str(pid) / "schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _cores(pid: int) -> frozenset[int]:
    """On which it may run."""
    try:
        return frozenset(os.sched_getaffinity(pid))
    except OSError:
        return frozenset()


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
