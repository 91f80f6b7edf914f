"""Is training slower than it was in this run? Steps or samples per second of training, by phase and batch.

Time is counted between two positions within training only: an evaluation, a save, an epoch's end and a start cost
nothing. What is usual is the median over the run; a slow stretch does not become usual. What training does by itself
is no slowness: the same at the same place of an earlier epoch (batches sorted by length), and what begins with an
epoch, or little by little in the first one, unless a reason is seen.
"""

from collections.abc import Iterable, Mapping
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
PLACES: Final = 10
"""Of an epoch, each of which has a usual speed of its own."""
_LONG_EPOCH: Final = 10
"""Slices: where an epoch has fewer, nobody can tell whether something began with it."""
_STOOD: Final = 0.85
"""Of what is usual: below that it has begun to be slow."""
_OTHER_STEPS: Final = 1.4
"""Times as many steps in an epoch: this is another batch, and no other number of samples."""
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
    places: tuple[float, ...] = (0.0,) * PLACES
    """The newest rates in each tenth of an epoch; 0: not known."""

    @property
    def rate(self) -> float | None:
        """The median; None: there are too few."""
        return median(self.rates) if len(self.rates) >= LEAST else None

    def add(self, new: "Slice") -> "UsualSpeed":
        here = (new.rate + (new.at_place or new.rate)) / 2
        places = tuple(here if at == new.place else one for at, one in enumerate(self.places))
        if self.passed + 1 < self.every:
            return replace(self, passed=self.passed + 1, places=places)
        rates, every = (*self.rates, new.rate), self.every
        if len(rates) > _MOST:
            rates, every = rates[::2], every * 2
        return UsualSpeed(rates=rates, every=every, places=places)

    def share(self, one: "Slice") -> float:
        """Of what is usual at its place, or, where that is not known, at all."""
        usual = one.at_place or self.rate
        return one.rate / usual if usual else 1.0


@record
class Slice:
    """One rate."""

    at_s: float
    rate: float
    place: int | None = None
    """In its epoch; None: not known."""
    at_place: float = 0.0
    """What was usual there; 0: not known."""


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
    recent: tuple[Slice, ...] = ()
    """The newest slices."""
    in_epoch: int = 0
    """Slices of the present epoch."""
    epoch_slices: int = 0
    """Of the epoch before."""
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
    explained: bool = False,
) -> tuple[SpeedWatch, Mapping[str, UsualSpeed]]:
    """Take in where training is since `at_s`.

    `batch` says what else makes a speed incomparable; `explained`: something is seen that makes training slow.
    """
    if beat is None:
        return watch, usual
    count = beat.step if beat.samples is None else beat.samples
    full = beat.samples is None and beat.steps is not None and beat.step is not None and beat.step >= beat.steps
    if beat.section is not Section.TRAIN or count is None:
        return (watch if watch.last is None else replace(watch, last=None)), usual
    key = _key(f"{beat.phase or ''} {batch} ", beat, (watch.key, *usual))
    if key != watch.key or beat.pid != watch.pid:
        return SpeedWatch(key=key, pid=beat.pid, last=(at_s, count), epoch=beat.epoch), usual
    last = watch.last
    if beat.epoch != watch.epoch:
        watch = replace(watch, in_epoch=0, epoch_slices=watch.in_epoch)
    if last is None or beat.epoch != watch.epoch or count < last[1]:
        return replace(watch, last=None if full else (at_s, count), epoch=beat.epoch), usual
    if count == last[1]:
        return watch, usual
    active_s = watch.active_s + max(0.0, at_s - last[0])
    watch = replace(watch, last=None if full else (at_s, count), active_s=active_s, done=watch.done + count - last[1])
    if active_s < SLICE * window_s:
        return watch, usual
    full_slice = Slice(at_s=at_s, rate=watch.done / active_s, place=_place(beat))
    return _slice(watch, usual, full_slice, time=time, share=share, window_s=window_s, explained=explained)


def _key(of: str, beat: Beat, known: Iterable[str]) -> str:
    """What a speed is compared with. Numbers of steps that are near each other, of epochs that vary, are one."""
    if beat.samples is not None:
        return of + "samples"
    for key in known:
        steps = key.removeprefix(of + "step of ")
        if beat.steps and steps.isdecimal() and int(steps) > 0:
            times = beat.steps / int(steps)
            if 1 / _OTHER_STEPS < times < _OTHER_STEPS:
                return key
    return f"{of}step of {beat.steps}"


def _place(beat: Beat) -> int | None:
    if beat.step is None or not beat.steps or not 0 < beat.step <= beat.steps:
        return None
    return (beat.step - 1) * PLACES // beat.steps


def _slice(
    watch: SpeedWatch,
    usual: Mapping[str, UsualSpeed],
    new: Slice,
    *,
    time: str | None,
    share: float,
    window_s: float,
    explained: bool,
) -> tuple[SpeedWatch, Mapping[str, UsualSpeed]]:
    """A slice is full: a rate more."""
    took_s = watch.active_s
    watch = replace(watch, active_s=0.0, done=0, in_epoch=watch.in_epoch + 1)
    if watch.settling:
        return replace(watch, settling=watch.settling - 1), usual
    known = usual.get(watch.key, UsualSpeed())
    if new.place is None or new.place >= watch.in_epoch:  # one slice holds several places
        new = replace(new, place=None)
    else:
        new = replace(new, at_place=dict(enumerate(known.places)).get(new.place, 0.0))
    recent = (*watch.recent, new)
    recent = tuple(one for one in recent[:-FEW] if one.at_s > new.at_s - window_s) + recent[-FEW:]
    watch = replace(watch, recent=recent)
    others = dict([(key, one) for key, one in usual.items() if key != watch.key][-_MOST_KEYS + 1 :])
    if _is_slow(watch, known, share):
        if watch.slow_s or explained or not (_with_the_epoch(watch, known) or _by_and_by(watch, known, share)):
            since = watch.slow_since if watch.slow_s else time
            return replace(watch, slow_s=watch.slow_s + took_s, slow_since=since), usual
        if _with_the_epoch(watch, known):
            known = UsualSpeed()
    elif known.share(new) < share:
        return replace(watch, slow_s=0.0, slow_since=None), usual
    usual = {**others, watch.key: known.add(new)}
    return replace(watch, slow_s=0.0, slow_since=None), usual


def _is_slow(watch: SpeedWatch, known: UsualSpeed, share: float) -> bool:
    return len(watch.recent) >= FEW and median(map(known.share, watch.recent)) < share


def _with_the_epoch(watch: SpeedWatch, known: UsualSpeed) -> bool:
    """Whether it began with the present epoch, which is a long one: something else is trained, or larger."""
    if watch.epoch_slices < _LONG_EPOCH or watch.in_epoch > len(watch.recent):
        return False
    fast = max((at for at, one in enumerate(watch.recent) if known.share(one) >= _STOOD), default=-1)
    return abs(len(watch.recent) - 1 - fast - watch.in_epoch) <= 1


def _by_and_by(watch: SpeedWatch, known: UsualSpeed, share: float) -> bool:
    """Whether it became slow little by little, at places where no epoch has been before: they may be other batches."""
    if known.rate is None or watch.recent[-1].place is None or watch.recent[-1].at_place:
        return False
    return share <= median(known.rates[-FEW:]) / known.rate < _STOOD


def _now(watch: SpeedWatch) -> float:
    return median(one.rate for one in watch.recent)


def judge(watch: SpeedWatch, usual: Mapping[str, UsualSpeed]) -> Slowness | None:
    """What is seen; None: nothing can be said."""
    known = usual.get(watch.key, UsualSpeed()).rate
    if known is None or len(watch.recent) < FEW:
        return None
    samples = watch.key.endswith(" samples")
    return Slowness(rate=_now(watch), usual=known, samples=samples, slow_s=watch.slow_s)
