"""Does it still learn? From the loss and the metric that a trainer tells, by epoch.

A loss that explodes, a metric that collapses or stays at 0, a loss that no longer changes at all, a learning rate of 0.
Robust: medians of several epochs, and never one value.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.warnings.explosion import (
    EARLIER,
    EPOCHS,
    EXPLODES,
    WELL,
    Explosion,
    LossParts,
    explosion,
    medians,
)
from fred_supervisor.policy.warnings.metric import ROSE, MetricValue, collapse, with_value
from fred_supervisor.policy.warnings.robust import median

_MOST: Final = 128
"""Epochs that are kept."""
_EPOCHS: Final = EPOCHS + EARLIER
"""Of a phase with fewer, the loss is judged by its parts."""
_AT_ZERO: Final = 10
"""So many evaluations at exactly 0 are no beginning any more; twice as many while the loss falls, for a detector may
learn for long before its first box counts."""
_FALLS: Final = 0.8
"""Times the first epoch's loss: below that it has fallen."""
_STILL: Final = 5
"""So many epochs with the same loss to the last digit."""
_DIGITS: Final = 3
"""A loss that is told with so few has been rounded, and may well repeat."""
STEPS: Final = 100
"""So many looks at a learning rate, or gradients, of 0: a warm-up begins there, and a batch may teach nothing."""
_ZERO_EPOCHS: Final = 5
"""Or all looks of so many epochs: some say it once in each."""


class Ill(StrEnum):
    """What is wrong with the learning."""

    LOSS_EXPLODES = "loss explodes"
    METRIC_COLLAPSED = "metric collapsed"
    METRIC_ZERO = "metric zero"
    LOSS_STILL = "loss still"
    LR_ZERO = "lr zero"
    GRADIENT_ZERO = "gradient zero"


@record
class LearningPoint:
    """What a trainer says of its learning at one moment; None: nothing."""

    seq: int = 0
    epoch: int | None = None
    phase: str | None = None
    loss: float | None = None
    metric: float | None = None
    metric_epoch: int | None = None
    """Of that evaluation; None: the present one."""
    lr: float | None = None
    gradient: float | None = None
    """The norm of all gradients."""
    samples: int | None = None


@record
class EpochLoss:
    """The loss of one epoch."""

    epoch: int
    mean: float
    looks: int = 1
    phase: str | None = None
    """One phase's loss is not compared with another's."""
    since: str | None = None
    """When it was first seen: RFC 3339, UTC."""


@record
class Onset:
    """Where a loss became high that has stayed so: samples of the run."""

    after: int | None
    """The last ones that were well."""
    by: int
    usual: float


@record
class BadStretch:
    """Training that went wrong, and is not gone on from."""

    well_epoch: int
    """The last epoch that was well."""
    since: str | None = None
    """By then that epoch had begun: RFC 3339, UTC; None: not known."""
    until: str | None = None
    """By then it was over."""


@record
class Zeros:
    """Looks in a row at something that was exactly 0."""

    looks: int = 0
    since: int | None = None
    """The epoch of the first."""

    def then(self, value: float, epoch: int | None) -> "Zeros":
        if value != 0:
            return Zeros()
        return Zeros(looks=self.looks + 1, since=epoch if self.since is None else self.since)

    def long(self, epoch: int) -> bool:
        return self.looks >= STEPS or (self.since is not None and epoch - self.since >= _ZERO_EPOCHS <= self.looks)


@record
class LearningHistory:
    """Of a run, over its attempts. An epoch that is trained again replaces itself and what followed it."""

    epochs: tuple[EpochLoss, ...] = ()
    evaluations: tuple[MetricValue, ...] = ()
    lr_zero: Zeros = Zeros()
    gradient_zero: Zeros = Zeros()
    parts: LossParts = LossParts()
    """Of a phase with few epochs."""
    high: Explosion | None = None
    """One of which the beginning is not known any more."""
    usual: float | None = None
    """What the loss was at its best; None: not known yet."""
    well_samples: int | None = None
    """Samples of the run at the last look at a loss that was not high."""
    onset: Onset | None = None

    @property
    def of_phase(self) -> tuple[MetricValue, ...]:
        """The evaluations of the present phase: what thaws learns anew, and may be worse at first."""
        return tuple(one for one in self.evaluations if one.phase == self.evaluations[-1].phase)

    @property
    def judged(self) -> tuple[object, ...]:
        """While this is the same, nothing new can be said."""
        epoch = self.epochs[-1].epoch if self.epochs else -1
        return epoch, self.evaluations, self.zeros, self.parts.points

    def curve(self, phase: str | None) -> list[tuple[int, float]]:
        """The loss in the epochs of a phase, also that of the present one."""
        return [(one.epoch, one.mean) for one in self.epochs if one.phase == phase]

    @property
    def best(self) -> MetricValue | None:
        return max(self.of_phase, key=lambda one: one.value, default=None)

    @property
    def zeros(self) -> tuple[bool, bool]:
        """Whether the learning rate, and the gradients, have been 0 for long."""
        epoch = self.epochs[-1].epoch if self.epochs else 0
        return self.lr_zero.long(epoch), self.gradient_zero.long(epoch)


@record
class Illness:
    """What is wrong, and since which epoch."""

    what: Ill
    epoch: int
    now: float
    before: float = 0.0
    best_epoch: int | None = None
    well_epoch: int = 0
    """The last one that was well."""


def look(history: LearningHistory, seen: LearningPoint, time: str | None = None) -> LearningHistory:
    """Take in what a trainer says of itself; what is not finite is somebody else's business."""
    if seen.lr is not None:
        history = replace(history, lr_zero=history.lr_zero.then(seen.lr, seen.epoch))
    if seen.gradient is not None:
        history = replace(history, gradient_zero=history.gradient_zero.then(seen.gradient, seen.epoch))
    epoch, loss, metric = seen.epoch, seen.loss, seen.metric
    if epoch is None:
        return history
    if loss is not None and math.isfinite(loss):
        history = _with_loss(history, EpochLoss(epoch=epoch, mean=loss, phase=seen.phase, since=time))
        history = _with_onset(history, loss, seen.samples)
    if metric is not None and math.isfinite(metric):
        evaluated = epoch if seen.metric_epoch is None else seen.metric_epoch
        looks = sum(one.looks for one in history.epochs[-1:] if one.epoch == evaluated)
        value = MetricValue(epoch=evaluated, value=metric, phase=seen.phase, since=time, looks=looks)
        history = replace(history, evaluations=with_value(history.evaluations, value))
    return history


def _with_loss(history: LearningHistory, seen: EpochLoss) -> LearningHistory:
    epochs, loss = history.epochs, seen.mean
    last = epochs[-1] if epochs else None
    if last is not None and last.epoch == seen.epoch and last.phase == seen.phase:
        looks = last.looks + 1
        now = replace(last, mean=last.mean + (loss - last.mean) / looks, looks=looks)
        parts = history.parts.add(seen.epoch, loss) if len(history.curve(seen.phase)) <= _EPOCHS else history.parts
        return replace(history, epochs=(*epochs[:-1], now), parts=parts)
    earlier = tuple(one for one in epochs if one.epoch < seen.epoch)
    same = [one.mean for one in earlier if one.phase == seen.phase]
    history = _with_high(replace(history, epochs=earlier), seen)
    if len(earlier) == _MOST:  # the first one stays
        earlier = (earlier[0], *earlier[2:])
    usual = min(medians(same, EARLIER)) if len(same) >= EARLIER else None
    return replace(history, epochs=(*earlier, seen), usual=usual)


def _with_high(history: LearningHistory, seen: EpochLoss) -> LearningHistory:
    """Before a new epoch: what is known of the loss beside the epochs that are kept."""
    known, high, parts = history.epochs, history.high, history.parts.before(seen.epoch)
    if (high is not None and seen.epoch <= high.since) or (known and known[-1].phase != seen.phase):
        high, parts = None, LossParts()
    curve = history.curve(seen.phase)
    if len(curve) >= _EPOCHS and parts.points:
        high, parts = parts.explosion(), LossParts()
    if len(known) == _MOST:
        high = explosion(curve, high)
    return replace(history, high=high, parts=parts.add(seen.epoch, seen.mean) if len(curve) < _EPOCHS else parts)


def _with_onset(history: LearningHistory, loss: float, samples: int | None) -> LearningHistory:
    """Where the loss became high; forgotten when it is well again."""
    usual, onset = history.usual, history.onset
    if samples is None or not usual:
        return history
    if onset is None and loss >= EXPLODES * usual:
        return replace(history, onset=Onset(after=history.well_samples, by=samples, usual=usual))
    if onset is not None and loss > WELL * onset.usual:
        return history
    return replace(history, onset=None, well_samples=samples)


def stretch_of(history: LearningHistory, ill: Illness) -> BadStretch:
    """Since when training has gone wrong; it is not over yet."""
    told: tuple[EpochLoss | MetricValue, ...] = (*history.evaluations, *history.epochs)
    begun = max((one for one in told if one.epoch <= ill.well_epoch), key=lambda one: one.epoch, default=None)
    return BadStretch(well_epoch=ill.well_epoch, since=None if begun is None else begun.since)


def stretch_in(message: Message) -> BadStretch | None:
    """What a message says that is to be left; None: training goes on with it."""
    facts = message.facts
    return BadStretch(well_epoch=facts["well_epoch"], since=facts["since"]) if facts.get("rollback") else None


def without(history: LearningHistory, stretch: BadStretch) -> LearningHistory:
    """Training goes on from before the stretch."""
    epochs = tuple(one for one in history.epochs if one.epoch <= stretch.well_epoch)
    values = tuple(one for one in history.evaluations if one.epoch <= stretch.well_epoch)
    return LearningHistory(epochs=epochs, evaluations=values)


def judge(history: LearningHistory) -> tuple[Illness, ...]:
    """What is wrong now; the epoch that is under way does not count."""
    done = history.epochs[:-1]
    found = (_explodes(history, done), _collapsed(history), _at_zero(history), _still(done), *_zeros(history))
    return tuple(one for one in found if one is not None)


def _explodes(history: LearningHistory, done: Sequence[EpochLoss]) -> Illness | None:
    phase = history.epochs[-1].phase if history.epochs else None
    curve = [(one.epoch, one.mean) for one in done if one.phase == phase]
    found = explosion(curve, history.high) if len(curve) >= _EPOCHS else history.parts.explosion()
    if found is None or _at_its_best(history, found.since):
        return None
    return Illness(
        what=Ill.LOSS_EXPLODES, epoch=found.since, now=found.now, before=found.before, well_epoch=found.well_epoch
    )


def _at_its_best(history: LearningHistory, since: int) -> bool:
    """Whether the metric, one of which more is better, was never better than it has become since an epoch."""
    values, best = history.of_phase, history.best
    earlier = [one.value for one in values if one.epoch < since]
    if best is None or not earlier or best is not values[-1] or best.epoch < since:
        return False
    return max(earlier) > ROSE * earlier[0]


def _collapsed(history: LearningHistory) -> Illness | None:
    values = history.of_phase
    found = collapse(values, [] if not values else history.curve(values[-1].phase))
    if found is None:
        return None
    return Illness(
        what=Ill.METRIC_COLLAPSED,
        epoch=found.since,
        now=found.now,
        before=found.best.value,
        best_epoch=found.best.epoch,
        well_epoch=found.well_epoch,
    )


def _at_zero(history: LearningHistory) -> Illness | None:
    values, epochs = history.evaluations, history.epochs
    falls = len(epochs) > EPOCHS and median(one.mean for one in epochs[-EPOCHS:]) < _FALLS * epochs[0].mean
    if len(values) < (2 if falls else 1) * _AT_ZERO or any(one.value != 0 for one in values):
        return None
    return Illness(what=Ill.METRIC_ZERO, epoch=values[0].epoch, now=0.0, before=float(len(values)))


def _still(done: Sequence[EpochLoss]) -> Illness | None:
    """Real losses never repeat to the last digit, epoch by epoch."""
    last = done[-_STILL:]
    if len(last) < _STILL or any(one.mean != last[0].mean for one in last):
        return None
    if float(f"{last[0].mean:.{_DIGITS}g}") == last[0].mean:
        return None
    first = max((one.epoch for one in done if one.mean != last[0].mean), default=done[0].epoch - 1)
    return Illness(what=Ill.LOSS_STILL, epoch=first + 1, now=last[-1].mean)


def _zeros(history: LearningHistory) -> tuple[Illness, ...]:
    if not history.epochs:
        return ()
    present = history.epochs[-1].epoch
    zeros = ((Ill.LR_ZERO, history.lr_zero), (Ill.GRADIENT_ZERO, history.gradient_zero))
    return tuple(
        Illness(what=what, epoch=present if zero.since is None else zero.since, now=0.0)
        for what, zero in zeros
        if zero.long(present)
    )
