"""Does a loss explode? From its mean in each epoch: since which one, and from where.

It begins at three times the lowest level, and holds until the loss is near that again: a high plateau that falls for a
few epochs has not recovered.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.warnings.robust import median, spread

EPOCHS: Final = 3
"""Of which the present is the median."""
EARLIER: Final = 5
"""Epochs before those that the loss is compared with; without them nothing is said of it."""
EXPLODES: Final = 3.0
_EXPLODES_SIGNED: Final = 9.0
"""Times all that a loss was until its least, which may be below 0."""
WELL: Final = 1.5
"""Times the loss at its best: so much is well, and above it the way up may have begun."""
_OF_FIRST: Final = 0.1
"""Of the first epoch's loss: one that is still below that is only not as small as it was."""
_ROSE: Final = 1.2
"""Times the least before: this is no descent, nor its noise."""
_SAME: Final = 1.2
"""Times a level to which the loss has risen before, and from which it came down by itself: that is usual."""
_NOISE: Final = 4.0
"""Times the noise of an epoch's loss: so far medians of a few stray from each other in a long run."""

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


def explosion(curve: Curve, held: Explosion | None = None, *, of_parts: bool = False) -> Explosion | None:
    """The one that holds at the end of a curve; None: there is none.

    `held`: the one that held at its beginning. `of_parts` of epochs, within which a loss may go up and down by the
    order of the data: one that rises little by little, or not above where it began, is none.
    """
    found = held
    least = list(accumulate(medians([mean for _, mean in curve], EARLIER), min))
    for end in range(EPOCHS + EARLIER, len(curve) + 1):
        now = median(mean for _, mean in curve[end - EPOCHS : end])
        if found is None:
            found = _begins(curve[:end], now, least[end - EPOCHS - EARLIER], of_parts=of_parts)
        else:
            found = replace(found, now=now) if now > WELL * found.before else None
    return found


def medians(values: Sequence[float], width: int) -> list[float]:
    """Of so many values in a row, at each place."""
    return [median(values[at : at + width]) for at in range(len(values) - width + 1)]


def _begins(curve: Curve, now: float, least: float, *, of_parts: bool) -> Explosion | None:
    """Whether the last epochs are high, do not fall, and are higher than what this run comes down from by itself."""
    if 0 < now < EXPLODES * least:
        return None
    before, times = _usual(curve[:-EPOCHS], least)
    floor = (1.0 if of_parts else _OF_FIRST) * curve[0][1]
    limit, latest = times * before, [mean for _, mean in curve[-EPOCHS:]]
    falls = all(mean < last for last, mean in pairwise(latest)) and now <= times**2 * before
    if now < max(limit, floor) or latest[-1] < limit or falls or before <= 0:
        return None
    calm = max(at for at, (_, mean) in enumerate(curve) if mean <= WELL * before)
    high = 1 + max(at for at, (_, mean) in enumerate(curve) if mean < limit)
    if now <= _SAME * _usual_height(curve[:calm]) or (of_parts and high - calm > EPOCHS):
        return None
    since = curve[high][0]
    return Explosion(since=since, now=now, before=before, well_epoch=min(curve[calm][0], since - 1))


def _usual(earlier: Curve, least: float) -> tuple[float, float]:
    """What a loss was when it was well, and how many times that is high, whatever its noise."""
    means = [mean for _, mean in earlier]
    if min(means) <= 0:  # no ratio says anything: how far it was from 0 until its least
        return max(abs(mean) for mean in means[: means.index(min(means)) + 1]), _EXPLODES_SIGNED
    noise = spread([math.log(later / mean) for mean, later in pairwise(means)]) / math.sqrt(2)
    return least, max(EXPLODES, math.exp(min(_NOISE * noise, 99.0)))


def _usual_height(curve: Curve) -> float:
    """The highest level to which it has risen, for several epochs, after it had been lower; 0: it only ever fell."""
    least: list[float] = []
    risen: list[float] = []
    for _, mean in curve:
        least.append(min(mean, least[-1] if least else mean))
        risen.append(mean if mean > _ROSE * least[-1] else 0.0)
    return max((min(risen[at : at + EPOCHS]) for at in range(len(risen) - EPOCHS + 1)), default=0.0)


_LOOKS: Final = 10
"""At a loss, that make one part."""
_MOST_PARTS: Final = 64


@record
class LossParts:
    """The curve of a run that has too few epochs to be judged by: means of equally many looks."""

    points: tuple[tuple[int, float], ...] = ()
    """(epoch in which it began, mean)."""
    every: int = _LOOKS
    """Looks that make a part."""
    looks: int = 0
    """Of the part that fills up."""
    mean: float = 0.0
    epoch: int = 0

    def add(self, epoch: int, loss: float) -> "LossParts":
        looks, first = self.looks + 1, self.epoch if self.looks else epoch
        mean = self.mean * (self.looks / looks) + loss / looks
        if looks < self.every:
            return replace(self, looks=looks, mean=mean, epoch=first)
        points, every = (*self.points, (first, mean)), self.every
        if len(points) == _MOST_PARTS:
            points, every = tuple(_merged(points)), 2 * every
        return LossParts(points=points, every=every)

    def before(self, epoch: int) -> "LossParts":
        """Without what is trained again."""
        return LossParts(points=tuple(one for one in self.points if one[0] < epoch), every=self.every)

    def explosion(self) -> Explosion | None:
        """The one that holds."""
        return explosion(self.points, of_parts=True)


def _merged(points: Curve) -> list[tuple[int, float]]:
    return [(epoch, (mean + other) / 2) for (epoch, mean), (_, other) in zip(points[::2], points[1::2], strict=True)]
