"""Has a metric collapsed? From its evaluations in one phase, some of which may lie within one epoch."""

from collections.abc import Sequence
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.warnings.explosion import Curve, medians
from fred_supervisor.policy.warnings.robust import median

_MOST: Final = 128
"""Values that are kept."""
_BEST: Final = 0.1
"""A metric that was never better for long has not collapsed."""
_LEVEL: Final = 3
"""Evaluations whose median is a level that the metric has had: a single good one is luck."""
_COLLAPSED: Final = 0.5
ROSE: Final = 1.3
"""Times its first value: a metric that is best at the beginning may be one that is better when it is lower, ..."""
_STOOD: Final = 0.7
"""... unless it fell at once from so much of its level, ..."""
_LOSS_ROSE: Final = 1.2
"""... and the loss rose by so much with it."""
_EPOCHS: Final = 3
"""Of which that loss is the median."""
_EVALUATIONS: Final = 2
_BETWEEN: Final = 5
"""Looks at a loss, between two evaluations in one epoch: what changes at every look is no evaluation."""


@record
class MetricValue:
    """One value of the metric; higher is better."""

    epoch: int
    value: float
    since: str | None = None
    """When it was first seen."""
    phase: str | None = None
    looks: int = 0
    """At the loss of that epoch until it was seen."""


@record
class Collapse:
    """Of a metric."""

    since: int
    """The epoch of the first evaluation that was bad."""
    now: float
    best: MetricValue
    well_epoch: int
    """The last one before that was well."""


def with_value(values: tuple[MetricValue, ...], seen: MetricValue) -> tuple[MetricValue, ...]:
    """A trainer tells its last value again and again: one in a later epoch is new, and one that follows training."""
    last = values[-1] if values else None
    if last is not None and last.epoch == seen.epoch:
        if last.value == seen.value:
            return values
        if seen.looks - last.looks < _BETWEEN:
            return (*values[:-1], seen)
    earlier = tuple(
        one for one in values if one.epoch <= seen.epoch and (one.epoch, one.looks) < (seen.epoch, seen.looks)
    )
    if len(earlier) == _MOST:  # the best one stays
        best = max(earlier, key=lambda one: one.value)
        earlier = tuple(one for at, one in enumerate(earlier) if at >= 2 or one is best)
    return (*earlier, seen)


def collapse(values: Sequence[MetricValue], losses: Curve) -> Collapse | None:
    """Two evaluations are below half of a level that the metric has had; three, where the last one is better again.

    `values` and `losses` (by epoch) are of one phase.
    """
    if len(values) < _LEVEL + _EVALUATIONS:
        return None
    best = max(range(len(values)), key=lambda at: values[at].value)
    level = max(medians([one.value for one in values], _LEVEL))
    bad = [one.value < _COLLAPSED * level for one in values]
    since = max(max((at for at, one in enumerate(bad) if not one), default=best), best) + 1
    recovers = values[-1].value > values[-2].value
    if level <= _BEST or len(values) - since < _EVALUATIONS + recovers:
        return None
    well, first = values[since - 1], values[since]
    rose = best > 0 and values[best].value >= ROSE * values[0].value
    if not rose and (well.value < _STOOD * level or not _loss_rose(losses, first.epoch)):
        return None
    well_epoch = min(well.epoch, first.epoch - 1)
    return Collapse(since=first.epoch, now=values[-1].value, best=values[best], well_epoch=well_epoch)


def _loss_rose(losses: Curve, since: int) -> bool:
    before = [mean for epoch, mean in losses if epoch < since][-_EPOCHS:]
    after = [mean for epoch, mean in losses if epoch >= since][-_EPOCHS:]
    return bool(before and after) and median(before) > 0 and median(after) >= _LOSS_ROSE * median(before)
