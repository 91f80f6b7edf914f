"""How fast training goes: images per second, and the time that is left."""

import math
from dataclasses import dataclass, field

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.policy.state import advance
from fred_supervisor.policy.watch import Look
from fred_supervisor.run.trail import Trail

_TIME_CONSTANT_S = 30.0
"""Of the average over images per second."""


@dataclass
class Pace:
    """Fed with every look at rank 0."""

    images_per_s: float | None = None
    losses: Trail = field(default_factory=Trail)
    """Over all attempts."""
    _last: tuple[float, Beat] | None = None
    _start: tuple[float, float] | None = None
    """When this process first trained, and where that was."""
    _eta_s: float | None = None

    def see(self, looks: tuple[Look, ...], now_s: float) -> None:
        beat = next((look.beat for look in looks if look.rank == 0), None)
        if beat is None:
            return
        before, self._last = self._last, (now_s, beat)
        if beat.section is Section.TRAIN and beat.loss is not None:
            self.losses.add(now_s, beat.loss)
        at = advance(beat)
        if before is None or before[1].pid != beat.pid:
            self.images_per_s = self._eta_s = None
            self._start = None
        elif beat.section is Section.TRAIN and before[1].section is Section.TRAIN:
            self._average(now_s - before[0], before[1], beat)
        if at is None or beat.epochs is None or beat.epoch is None:
            return
        if self._start is None:
            if beat.section is Section.TRAIN:
                self._start = (now_s, at)
            return
        done, took_s = at - self._start[1], now_s - self._start[0]
        self._eta_s = None if done <= 0 else (beat.epochs + 1 - at) * took_s / done

    def _average(self, span_s: float, before: Beat, beat: Beat) -> None:
        if beat.samples is None or before.samples is None or span_s <= 0:
            return
        rate = max(0, beat.samples - before.samples) / span_s
        weight = 1 - math.exp(-span_s / _TIME_CONSTANT_S)
        self.images_per_s = (
            rate if self.images_per_s is None else self.images_per_s + weight * (rate - self.images_per_s)
        )

    def document(self) -> dict[str, float | None]:
        """As it is now."""
        loss = self._last[1].loss if self._last is not None else None
        return {
            "images_per_s": None if self.images_per_s is None else round(self.images_per_s, 2),
            "eta_s": None if self._eta_s is None else round(max(0.0, self._eta_s), 1),
            "loss": loss if loss is not None and math.isfinite(loss) else None,
        }
