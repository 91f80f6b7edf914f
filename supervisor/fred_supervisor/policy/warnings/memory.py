"""Does memory, or the number of open files, grow towards a limit, and who grows?

A robust slope (Theil-Sen): the median of the slopes between points, so that a save, an evaluation or an epoch's cache
is no trend. It must be seen in both halves of what was watched.
"""

from dataclasses import field, replace
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.warnings.machine import MachineLook, TrainerProcess
from fred_supervisor.policy.warnings.robust import slope

_POINTS: Final = 60
"""In a window."""
_LEAST_POINTS: Final = 8
LEAST_WINDOW_S: Final = 90.0
"""It holds so many, one in ten seconds."""
_LEAST: Final = 0.4
"""Of a window: there is no forecast before so much of it was watched."""
_LONG: Final = 10
"""Windows that make the long one: a leak may be quick, or last all night."""
_SETTLE: Final = 0.2
"""Of a window, after a launch: caches, workers and the allocator fill up."""
SOON_S: Final = 6 * 3600.0
"""A limit that is reached within this time is worth a warning."""
_STEADY: Final = 0.5
"""Of the slope of the whole: that of each half must be at least so large."""
_ONWARD: Final = 0.7
"""Of the slope of the earlier half, the later half's: what grows less and less comes to rest."""
_LEAST_MIB: Final = 64.0
"""What has grown less is no leak."""
_LEAST_FILES: Final = 64


@record
class RecentValues:
    """One value over the newest window of time."""

    points: tuple[tuple[float, float], ...] = ()

    def add(self, now_s: float, value: float, window_s: float) -> "RecentValues":
        if self.points and now_s - self.points[-1][0] < window_s / _POINTS:
            return self
        return RecentValues(points=(*(one for one in self.points if one[0] > now_s - window_s), (now_s, value)))

    def growth(self, window_s: float) -> float | None:
        """Per second, where it rises steadily; 0: it does not; None: not known yet."""
        points = self.points
        if len(points) < _LEAST_POINTS or points[-1][0] - points[0][0] < _LEAST * window_s:
            return None
        half = len(points) // 2
        whole, earlier, later = slope(points), slope(points[:half]), slope(points[half:])
        steady = earlier >= _STEADY * whole and later >= _STEADY * whole and later >= _ONWARD * earlier
        return min(whole, later) if whole > 0 and steady else 0.0


@record
class MemoryWatch:
    """Of one attempt."""

    first_s: float | None = None
    used: RecentValues = field(default_factory=RecentValues)
    used_long: RecentValues = field(default_factory=RecentValues)
    files: RecentValues = field(default_factory=RecentValues)
    by_pid: tuple[tuple[int, float], ...] = ()
    """pid → MiB, when the watch began: who has grown since."""
    newest: tuple[TrainerProcess, ...] = ()


@record
class Growth:
    """What grows towards a limit."""

    what: str
    """memory, or files."""
    left_s: float | None
    """Until it is reached as it goes; None: it does not go there."""
    per_hour: float = 0.0
    used: float = 0.0
    limit: float = 0.0
    process: TrainerProcess | None = None
    """Who has grown most; None: not known, or many have."""
    grown_mib: float = 0.0


def look(watch: MemoryWatch, seen: MachineLook, now_s: float, window_s: float) -> MemoryWatch:
    """Take in one sample."""
    if watch.first_s is None:
        return MemoryWatch(first_s=now_s)
    if now_s - watch.first_s < _SETTLE * window_s:
        return watch
    sizes = tuple((one.pid, one.mib) for one in seen.processes)
    watch = replace(watch, newest=seen.processes or watch.newest, by_pid=watch.by_pid or sizes)
    if seen.used_mib is not None:
        used, long = watch.used, watch.used_long
        used, long = used.add(now_s, seen.used_mib, window_s), long.add(now_s, seen.used_mib, _LONG * window_s)
        watch = replace(watch, used=used, used_long=long)
    files = [one.open_files for one in seen.processes if one.open_files is not None]
    return replace(watch, files=watch.files.add(now_s, max(files), window_s)) if files else watch


def judge(watch: MemoryWatch, seen: MachineLook, window_s: float) -> tuple[Growth, ...]:
    """Of memory and of open files what can be said."""
    files = None if seen.open_files_limit is None else float(seen.open_files_limit)
    quick = _growth("memory", watch.used, seen.limit_mib, _LEAST_MIB, window_s)
    slow = _growth("memory", watch.used_long, seen.limit_mib, _LEAST_MIB, _LONG * window_s)
    known = [one for one in (quick, slow) if one is not None]
    found = [min(known, key=lambda one: float("inf") if one.left_s is None else one.left_s)] if known else []
    of_files = _growth("files", watch.files, files, _LEAST_FILES, window_s)
    return tuple(_named(watch, one) for one in (*found, of_files) if one is not None)


def _growth(what: str, series: RecentValues, limit: float | None, least: float, window_s: float) -> Growth | None:
    rate = series.growth(window_s)
    if rate is None or limit is None or limit <= 0:
        return None
    used = series.points[-1][1]
    grown = used - series.points[0][1]
    if rate <= 0 or grown < least:
        return Growth(what=what, left_s=None)
    left_s = max(0.0, (limit - used) / rate)
    return Growth(what=what, left_s=left_s, per_hour=rate * 3600, used=used, limit=limit)


def _named(watch: MemoryWatch, growth: Growth) -> Growth:
    """With the process that has grown most, where it has made at least half of it."""
    if growth.left_s is None:
        return growth
    if growth.what == "files":
        return replace(growth, process=max(watch.newest, key=lambda one: one.open_files or 0, default=None))
    before = dict(watch.by_pid)
    grown = {one.pid: one.mib - before.get(one.pid, 0.0) for one in watch.newest if one.pid in before}
    if not grown:
        return growth
    pid = max(grown, key=lambda one: grown[one])
    total = sum(value for value in grown.values() if value > 0)
    if grown[pid] <= 0 or grown[pid] < total / 2:
        return growth
    process = next(one for one in watch.newest if one.pid == pid)
    return replace(growth, process=process, grown_mib=grown[pid])
