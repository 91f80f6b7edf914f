"""Does a loss explode? From its mean in each epoch: since which one, and from where.

It begins at three times the lowest level, and holds until the loss is near that again: a high plateau that falls for a
few epochs has not recovered.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.warnings.robust import median

EPOCHS: Final = 3
"""Of which the present is the median."""
EARLIER: Final = 5
"""Epochs before those that the loss is compared with; without them nothing is said of it."""
EXPLODES: Final = 3.0
WELL: Final = 1.5
"""Times the loss at its best: so much is well, and above it the way up may have begun."""
_OF_FIRST: Final = 0.1
"""Of the first epoch's loss: one that is still below that is only not as small as it was."""
_ROSE: Final = 1.2
"""Times the least before: this is no descent, nor its noise."""
_SAME: Final = 1.2
"""Times a level to which the loss has risen before, and from which it came down by itself: that is usual."""

Curve = Sequence[tuple[int, float]]
"""(epoch, mean) of one phase."""


@record
class Explosion:
    """Of a loss that explodes."""

    since: int
    """From this epoch on each was above the limit, when it began."""
    now: float
    before: float
    well_epoch: int
    """The last one before that was well."""


def explosion(curve: Curve) -> Explosion | None:
    """The one that holds at the end of a curve; None: there is none."""
    found: Explosion | None = None
    levels = medians([mean for _, mean in curve], EARLIER)
    for end in range(EPOCHS + EARLIER, len(curve) + 1):
        now = median(mean for _, mean in curve[end - EPOCHS : end])
        if found is not None:
            holds = now > WELL * found.before
            found = (
                Explosion(since=found.since, now=now, before=found.before, well_epoch=found.well_epoch)
                if holds
                else None
            )
        else:
            found = _begins(curve[:end], now, min(levels[: end - EPOCHS - EARLIER + 1]))
    return found


def medians(values: Sequence[float], width: int) -> list[float]:
    """Of so many values in a row, at each place."""
    return [median(values[at : at + width]) for at in range(len(values) - width + 1)]


def _begins(curve: Curve, now: float, before: float) -> Explosion | None:
    """Whether the last epochs are high, do not fall, and are higher than what this run comes down from by itself."""
    limit, latest = EXPLODES * before, [mean for _, mean in curve[-EPOCHS:]]
    falls = all(mean < last for last, mean in pairwise(latest)) and now <= EXPLODES**2 * before
    if before <= 0 or now < max(limit, _OF_FIRST * curve[0][1]) or latest[-1] < limit or falls:
        return None
    calm = max(at for at, (_, mean) in enumerate(curve) if mean <= WELL * before)
    if now <= _SAME * _usual_height(curve[:calm]):
        return None
    since = 1 + max(at for at, (_, mean) in enumerate(curve) if mean < limit)
    return Explosion(since=curve[since][0], now=now, before=before, well_epoch=curve[calm][0])


def _usual_height(curve: Curve) -> float:
    """The highest level to which it has risen, for several epochs, after it had been lower; 0: it only ever fell."""
    least: list[float] = []
    risen: list[float] = []
    for _, mean in curve:
        least.append(min(mean, least[-1] if least else mean))
        risen.append(mean if mean > _ROSE * least[-1] else 0.0)
    return max((min(risen[at : at + EPOCHS]) for at in range(len(risen) - EPOCHS + 1)), default=0.0)
