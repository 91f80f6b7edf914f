"""Periodic jobs by APScheduler, which go on when the wall clock is set.

APScheduler's deadlines are wall-clock times: when the clock is set back by an hour, no job runs for an hour.
`ClockWatch` notices that by the monotonic clock, and `JobScheduler.reschedule` gives every job a new deadline.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

_STEP_S: Final = 1.0
"""A wall clock that moves further than this against the monotonic clock was set."""
_GRACE_S: Final = 2.0
"""Added to two periods before a job counts as overdue."""
_WORKERS: Final = 3
"""When one job hangs (a dead network disk), two threads are left for the others."""


class FixedPeriodTrigger(BaseTrigger):  # type: ignore[misc]  # apscheduler ships no types
    """Fires every so many seconds from now on; a missed run is not made up for.

    APScheduler's own interval trigger goes through each missed run: when the clock jumps by a year, for minutes.
    """

    def __init__(self, period_s: float) -> None:
        self.period = timedelta(seconds=period_s)

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        due = now if previous_fire_time is None else previous_fire_time + self.period
        return due if previous_fire_time is None or due > now else now + self.period


@dataclass
class JobRun:
    """The last run of a job."""

    mono_s: float
    error: str | None


class JobScheduler:
    """The scheduler and its jobs, by name: UTC, coalesced, one instance each."""

    def __init__(self) -> None:
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # `runs` tells the same
        self.runs: dict[str, JobRun] = {}
        self._periods: dict[str, float] = {}
        self._rescheduled_s = time.monotonic()
        self._scheduler: Any = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(_WORKERS)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._note, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)

    def every(self, name: str, period_s: float, call: Callable[[], None]) -> None:
        """Run `call` now, and every `period_s` seconds."""
        self._periods[name] = period_s
        self._scheduler.add_job(call, FixedPeriodTrigger(period_s), id=name)

    def daily(self, name: str, call: Callable[[], None]) -> None:
        """Run `call` at every midnight, UTC."""
        self._scheduler.add_job(call, CronTrigger(hour=0, timezone=UTC), id=name)

    def start(self) -> None:
        self._scheduler.start()

    def set_period(self, name: str, period_s: float, *, at_once: bool = False) -> None:
        """Run a job now, and every `period_s` seconds; the same period changes nothing, unless `at_once`."""
        if at_once or self._periods[name] != period_s:
            self._periods[name] = period_s
            self._scheduler.reschedule_job(name, trigger=FixedPeriodTrigger(period_s))

    def reschedule(self) -> None:
        """After a step of the clock: periodic jobs run now, the daily one at its hour."""
        self._rescheduled_s = time.monotonic()
        for job in self._scheduler.get_jobs():
            period_s = self._periods.get(job.id)
            job.reschedule(job.trigger if period_s is None else FixedPeriodTrigger(period_s))

    def overdue(self) -> bool:
        """Whether a periodic job has not run for two periods: it hangs, or the clock was set forth and back."""
        now_s = time.monotonic()
        return any(
            now_s - max(self._rescheduled_s, done.mono_s) > 2 * self._periods[name] + _GRACE_S
            for name, done in self.runs.items()
            if name in self._periods
        )

    def _note(self, event: JobExecutionEvent) -> None:
        error = None if event.exception is None else f"{type(event.exception).__name__}: {event.exception}"
        self.runs[event.job_id] = JobRun(time.monotonic(), error)

    def document(self) -> dict[str, Any]:
        """For `monitor.json`."""
        now_s = time.monotonic()
        return {
            name: {"age_s": round(now_s - done.mono_s, 1), "error": done.error}
            for name, done in sorted(self.runs.items())
        }


@dataclass
class ClockWatch:
    """Compares the wall clock with the monotonic clock."""

    steps: int = 0
    last_step_s: float | None = None
    """How far the wall clock was set; negative: back."""
    stopped_s: float = 0.0
    """How long this process could not run (SIGSTOP, a paused virtual machine)."""
    suspended_s: float = 0.0
    """How long the machine slept."""
    _offset_s: float = field(default_factory=lambda: time.time() - time.monotonic())
    _asleep_s: float = field(default_factory=lambda: _boot_s() - time.monotonic())

    def compare(self, late_s: float) -> bool:
        """Whether the wall clock was set since the last call; `late_s`: how much later than wanted this call comes."""
        offset_s, asleep_s = time.time() - time.monotonic(), _boot_s() - time.monotonic()
        step_s, slept_s = offset_s - self._offset_s, asleep_s - self._asleep_s
        self._offset_s, self._asleep_s = offset_s, asleep_s
        if late_s > _STEP_S:
            self.stopped_s += late_s
        if slept_s > _STEP_S:
            self.suspended_s += slept_s
        if abs(step_s) <= _STEP_S:
            return False
        if abs(step_s - slept_s) > _STEP_S:  # more than the sleep explains
            self.steps += 1
            self.last_step_s = round(step_s - slept_s, 1)
        return True

    def document(self) -> dict[str, object]:
        """For `monitor.json`."""
        return {
            "steps": self.steps,
            "last_step_s": self.last_step_s,
            "stopped_s": round(self.stopped_s, 1),
            "suspended_s": round(self.suspended_s, 1),
        }


def _boot_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
