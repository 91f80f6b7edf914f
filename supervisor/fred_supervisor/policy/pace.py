"""How fast training goes: images per second, else steps per second, and the time that is left."""

import math
from dataclasses import dataclass, field
from typing import Final, Self

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.contract.record import record
from fred_supervisor.policy.history import advance, measure

MOST: Final = 64
"""Means that are kept; half as many after each time that it is full."""


_GAP_S: Final = 30.0
"""A longer time between two values is a pause, and counts as this much."""


@record
class LossRecord:
    """A `LossHistory`, as it is stored."""

    span_s: float = 0.0
    means: tuple[float, ...] = ()


@record
class PaceRecord:
    """How fast training goes, as it is stored and shown. None is "not known"."""

    images_per_s: float | None = None
    eta_s: float | None = None
    loss: float | None = None
    losses: LossRecord = field(default_factory=LossRecord)
    steps_per_s: float | None = None
    """Where nobody says how many images a step has."""


def _five_digits(value: float) -> float:
    """Rounded; a value that would leave the finite numbers stays as it is."""
    rounded = float(f"{value:.5g}")
    return rounded if math.isfinite(rounded) else value


@dataclass
class LossHistory:
    """Fed with every look; what is between two looks is not seen."""

    span_s: float = 1.0
    """Of one mean."""
    means: list[float] = field(default_factory=list)
    """Oldest first; the last one is not full yet."""
    _filled_s: float = 0.0
    """Of the last mean."""
    _last_s: float | None = None

    @classmethod
    def of(cls, record: LossRecord) -> Self:
        """Go on with what an earlier process has recorded; an empty one when it makes no sense."""
        if not record.span_s > 0:
            return cls()
        return cls(span_s=record.span_s, means=list(record.means[-MOST:]), _filled_s=record.span_s)

    def add(self, now_s: float, value: float) -> None:
        """A value that holds since the one before; monotonic seconds."""
        took_s = 0.0 if self._last_s is None else min(_GAP_S, max(0.0, now_s - self._last_s))
        self._last_s = now_s
        if not math.isfinite(value):
            return
        if not self.means or self._filled_s >= self.span_s:
            self._begin(value)
            return
        weight = took_s / (self._filled_s + took_s) if took_s else 0.0
        self.means[-1] += weight * (value - self.means[-1])
        self._filled_s += took_s

    def _begin(self, value: float) -> None:
        if len(self.means) >= MOST:
            self.means = [(a + b) / 2 for a, b in zip(self.means[::2], self.means[1::2], strict=True)]
            self.span_s *= 2
        self.means.append(value)
        self._filled_s = 0.0

    def record(self) -> LossRecord:
        """As it is stored: five digits of each mean."""
        return LossRecord(
            span_s=self.span_s, means=tuple(_five_digits(mean) for mean in self.means if math.isfinite(mean))
        )


_TIME_CONSTANT_S = 30.0
"""Of the average over images, or steps, per second."""


_FAR_S: Final = 10 * 365 * 86400.0
"""A trainer that names 10**18 epochs means that it has no end; and no clock can show the date of such an end."""


_HELD_UP_S: Final = 15.0
"""No look for so long: we were stopped or asleep, and so may the trainer have been. That time tells no speed."""


def time_left_s(eta_s: float | None) -> float | None:
    """The time until the end, from 0; None when it is so long that nobody can mean it."""
    return None if eta_s is None or not eta_s <= _FAR_S else max(0.0, eta_s)


def _way(beat: Beat) -> tuple[float, float] | None:
    """Where training is, and where it will end, in epochs or steps; None: it does not say where."""
    at = advance(beat)
    if at is not None and beat.epochs is not None and beat.epoch is not None:
        return at, beat.epochs + 1.0
    if beat.epochs is None and beat.epoch is None and beat.step is not None and beat.steps is not None:
        return beat.step, beat.steps
    return None


def _steps_done(beat: Beat) -> int | None:
    """Of the whole training; None: not known."""
    if beat.epoch is None or beat.step is None:
        return beat.step
    return None if beat.steps is None else beat.epoch * beat.steps + beat.step


def _average(so_far: float | None, span_s: float, before: int | None, now: int | None) -> float | None:
    """The rate per second of a count, smoothed."""
    if before is None or now is None or span_s <= 0:
        return so_far
    rate = max(0, now - before) / span_s
    return rate if so_far is None else so_far + (1 - math.exp(-span_s / _TIME_CONSTANT_S)) * (rate - so_far)


@dataclass
class Pace:
    """How fast training goes, and when it will be done."""

    images_per_s: float | None = None
    losses: LossHistory = field(default_factory=LossHistory)
    """Over all attempts."""
    steps_per_s: float | None = None
    _last: tuple[float, Beat] | None = None
    _start: tuple[float, float] | None = None
    """When this process first trained, and where that was."""
    _eta_s: float | None = None

    def see(self, beat: Beat | None, now_s: float) -> None:
        """The newest record of rank 0, at each look."""
        if beat is None:
            return
        before, self._last = self._last, (now_s, beat)
        held_up = before is not None and now_s - before[0] > _HELD_UP_S
        if beat.section is Section.TRAIN and beat.loss is not None:
            self.losses.add(now_s, beat.loss)
        way = _way(beat)
        if before is None or before[1].pid != beat.pid or measure(before[1]) != measure(beat):
            self.images_per_s = self.steps_per_s = self._eta_s = None
            self._start = None
        elif not held_up and beat.section is Section.TRAIN and before[1].section is Section.TRAIN:
            span_s, (_, old) = now_s - before[0], before
            self.images_per_s = _average(self.images_per_s, span_s, old.samples, beat.samples)
            if beat.samples is None:
                self.steps_per_s = _average(self.steps_per_s, span_s, _steps_done(old), _steps_done(beat))
        if way is None:
            return
        at, end = way
        if self._start is None:
            if beat.section is Section.TRAIN:
                self._start = (now_s, at)
            return
        if held_up and before is not None and (was := _way(before[1])) is not None:
            self._start = (self._start[0] + now_s - before[0], self._start[1] + at - was[0])
        done, took_s = at - self._start[1], now_s - self._start[0]
        self._eta_s = None if done <= 0 else time_left_s((end - at) * took_s / done)

    def record(self) -> PaceRecord:
        """As it is now."""
        loss = self._last[1].loss if self._last is not None else None
        return PaceRecord(
            images_per_s=None if self.images_per_s is None else round(self.images_per_s, 2),
            eta_s=None if self._eta_s is None else round(max(0.0, self._eta_s), 1),
            loss=loss if loss is not None and math.isfinite(loss) else None,
            losses=self.losses.record(),
            steps_per_s=None if self.steps_per_s is None else round(self.steps_per_s, 3),
        )
