"""Is training slower than it was in this run? Steps or samples per second of training, by phase and batch.

Time is counted between two positions within training only: an evaluation, a save, an epoch's end and a start cost
nothing. What is usual is the median over the run; a slow stretch does not become usual.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.contract.record import record
from fred_supervisor.policy.warnings.robust import median

SLICE: Final = 0.1
"""Of the window, in training: then it is a rate, at the next position."""
SETTLING: Final = 2
"""Slices after a launch, or a change of phase or batch, that say nothing yet."""
LEAST: Final = 20
"""Rates without which nothing is usual: ten minutes of training, where a window is five."""
FEW: Final = 3
"""Rates without which nothing is said of the present."""
_MOST: Final = 64
_MOST_KEYS: Final = 8


@record
class UsualSpeed:
    """Rates of one phase and batch, spread evenly over the run."""

    rates: tuple[float, ...] = ()
    every: int = 1
    """One of so many slices is kept."""
    passed: int = 0
    """Slices since the last one that was kept."""

    @property
    def rate(self) -> float | None:
        """The median; None: there are too few."""
        return median(self.rates) if len(self.rates) >= LEAST else None

    def add(self, rate: float) -> "UsualSpeed":
        if self.passed + 1 < self.every:
            return replace(self, passed=self.passed + 1)
        rates, every = (*self.rates, rate), self.every
        if len(rates) > _MOST:
            rates, every = rates[::2], every * 2
        return UsualSpeed(rates=rates, every=every)


@record
class SpeedWatch:
    """The recent past of one attempt."""

    key: str = ""
    """What is compared with what: phase, batch, and what is counted."""
    pid: int | None = None
    last: tuple[float, int] | None = None
    """When training was where; None: it was interrupted since."""
    epoch: int | None = None
    active_s: float = 0.0
    """Of the slice that fills up."""
    done: int = 0
    """In it."""
    settling: int = SETTLING
    recent: tuple[tuple[float, float], ...] = ()
    """(when, rate) of the newest slices."""
    slow_s: float = 0.0
    """For so long, of training, it has been slow."""
    slow_since: str | None = None
    """RFC 3339."""


@record
class Slowness:
    """How fast training is, beside what is usual."""

    rate: float
    usual: float
    samples: bool
    """Samples are counted, not steps."""
    slow_s: float


def look(
    watch: SpeedWatch,
    usual: Mapping[str, UsualSpeed],
    beat: Beat | None,
    *,
    at_s: float,
    time: str | None,
    batch: str,
    share: float,
    window_s: float,
) -> tuple[SpeedWatch, Mapping[str, UsualSpeed]]:
    """Take in where training is since `at_s`; `batch` says what else makes a speed incomparable."""
    if beat is None:
        return watch, usual
    count = beat.step if beat.samples is None else beat.samples
    full = beat.samples is None and beat.steps is not None and beat.step is not None and beat.step >= beat.steps
    if beat.section is not Section.TRAIN or count is None:
        return (watch if watch.last is None else replace(watch, last=None)), usual
    of = "samples" if beat.samples is not None else f"step of {beat.steps}"
    key = f"{beat.phase or ''} {batch} {of}"
    if key != watch.key or beat.pid != watch.pid:
        return SpeedWatch(key=key, pid=beat.pid, last=(at_s, count), epoch=beat.epoch), usual
    last = watch.last
    if last is None or beat.epoch != watch.epoch or count < last[1]:
        return replace(watch, last=None if full else (at_s, count), epoch=beat.epoch), usual
    if count == last[1]:
        return watch, usual
    active_s = watch.active_s + max(0.0, at_s - last[0])
    watch = replace(watch, last=None if full else (at_s, count), active_s=active_s, done=watch.done + count - last[1])
    if active_s < SLICE * window_s:
        return watch, usual
    return _slice(watch, usual, at_s=at_s, time=time, share=share, window_s=window_s)


def _slice(
    watch: SpeedWatch,
    usual: Mapping[str, UsualSpeed],
    *,
    at_s: float,
    time: str | None,
    share: float,
    window_s: float,
) -> tuple[SpeedWatch, Mapping[str, UsualSpeed]]:
    """A slice is full: a rate more."""
    rate, took_s = watch.done / watch.active_s, watch.active_s
    watch = replace(watch, active_s=0.0, done=0)
    if watch.settling:
        return replace(watch, settling=watch.settling - 1), usual
    recent = (*watch.recent, (at_s, rate))
    recent = tuple(one for one in recent[:-FEW] if one[0] > at_s - window_s) + recent[-FEW:]
    watch = replace(watch, recent=recent)
    known = usual.get(watch.key, UsualSpeed())
    slow = known.rate is not None and len(recent) >= FEW and _now(watch) < share * known.rate
    if slow:
        since = watch.slow_since if watch.slow_s else time
        return replace(watch, slow_s=watch.slow_s + took_s, slow_since=since), usual
    if known.rate is None or rate >= share * known.rate:
        kept = {key: one for key, one in usual.items() if key != watch.key}
        usual = {**dict(list(kept.items())[-_MOST_KEYS + 1 :]), watch.key: known.add(rate)}
    return replace(watch, slow_s=0.0, slow_since=None), usual


def _now(watch: SpeedWatch) -> float:
    return median(rate for _, rate in watch.recent)


def judge(watch: SpeedWatch, usual: Mapping[str, UsualSpeed]) -> Slowness | None:
    """What is seen; None: nothing can be said."""
    known = usual.get(watch.key, UsualSpeed()).rate
    if known is None or len(watch.recent) < FEW:
        return None
    samples = watch.key.endswith(" samples")
    return Slowness(rate=_now(watch), usual=known, samples=samples, slow_s=watch.slow_s)
