"""After a resume: is the loss of the first steps what it was at that place before?

A trainer that does not compare its own state may have lost averages, batch norm or optimiser: its loss then jumps at
once. It is held against the losses that the attempt before had around the same place, within their own noise.
"""

import math
from itertools import pairwise
from typing import Final

from fred_supervisor.contract.alarm import Alarm
from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import Topic, say
from fred_supervisor.policy.warnings.held import Sign
from fred_supervisor.policy.warnings.robust import median, spread
from fred_supervisor.policy.warnings.rows import WarningKind

_MOST: Final = 128
"""Losses of an attempt that are kept; the older half is thinned where it has more."""
_FIRST: Final = 6
"""Looks after a resume that are judged together."""
_NEAR: Final = 8
"""Losses before that are nearest to the place of those looks: few, for a loss may fall quickly."""
_AROUND: Final = 24
"""The nearest of which the noise is taken: the ratio of each to the one before, which no fall widens."""
_LEAST: Final = 12
"""Of an attempt of which less was seen, nothing is said."""
_NOISE: Final = 8.0
"""Times the spread of the losses before."""
_TIMES: Final = 1.5
"""And times the loss before: where that hardly varied, a small step is no loss of anything."""


@record
class LossTrace:
    """Losses by place in training, of the present attempt and of the one before it."""

    attempt: int = 0
    points: tuple[tuple[float, float], ...] = ()
    """(place, loss), in the order in which they were seen."""
    before: tuple[tuple[float, float], ...] = ()
    judged: bool = False


def look(known: LossTrace, attempt: int, beat: Beat | None, place: float | None) -> tuple[LossTrace, tuple[Sign, ...]]:
    """One more record of the trainer: what it says of its own resume, and, once an attempt, what its losses do."""
    if beat is None:
        return known, ()
    own = beat.alarm == Alarm.RESUME  # it stays so for the whole attempt
    signs = (Sign(kind=WarningKind.RESUME, message=say(Topic.RESUMED_UNLIKE)),) if own else ()
    if beat.section is not Section.TRAIN:
        return known, signs
    known, sign = judge(trace(known, attempt, place, beat.loss))
    return known, signs if sign is None else (*signs, sign)


def trace(known: LossTrace, attempt: int, place: float | None, loss: float | None) -> LossTrace:
    """The trace after one more look; `place` in epochs or steps, None for what is not said."""
    if attempt != known.attempt:
        before = known.points if len(known.points) >= _LEAST else known.before
        known = LossTrace(attempt=attempt, before=before)
    if place is None or loss is None or not math.isfinite(loss) or (known.points and known.points[-1][0] == place):
        return known
    points = (*known.points, (place, loss))
    if len(points) > _MOST:
        half = len(points) // 2
        points = (*points[:half:2], *points[half:])
    return LossTrace(attempt=attempt, points=points, before=known.before, judged=known.judged)


def judge(known: LossTrace) -> tuple[LossTrace, Sign | None]:
    """Once an attempt, after its first looks: what they say of the resume. None: nothing can be said, or not yet."""
    if known.judged or len(known.points) < _FIRST:
        return known, None
    after = LossTrace(attempt=known.attempt, points=known.points, before=known.before, judged=True)
    if len(known.before) < _LEAST or known.points[0][0] <= known.before[0][0]:  # it began from the beginning
        return after, None
    usual, noise = _at(known.before, known.points[_FIRST // 2][0])
    now = median(loss for _, loss in known.points[:_FIRST])
    if usual <= 0 or now <= usual + _NOISE * noise or now <= _TIMES * usual:
        return after, Sign(kind=WarningKind.RESUME, about="loss")
    return after, Sign(
        kind=WarningKind.RESUME, about="loss", message=say(Topic.LOSS_AFTER_RESUME, loss=now, before=usual)
    )


def _at(points: tuple[tuple[float, float], ...], place: float) -> tuple[float, float]:
    """The loss at a place, and its noise there; 0 for a loss that is not always above 0."""
    nearest = sorted(points, key=lambda one: abs(one[0] - place))
    around = [loss for _, loss in sorted(nearest[:_AROUND])]
    if min(around) <= 0:
        return 0.0, 0.0
    usual = median(loss for _, loss in nearest[:_NEAR])
    return usual, usual * spread([math.log(later / loss) for loss, later in pairwise(around)]) / math.sqrt(2)
