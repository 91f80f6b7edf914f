"""A bounded history of one value: means over equal times, which grow twice as long whenever it is full."""

import math
from dataclasses import dataclass, field
from typing import Any, Final, Self

MOST: Final = 64
"""Means that are kept; half as many after each time that it is full."""
_GAP_S: Final = 30.0
"""A longer time between two values is a pause, and counts as this much."""


@dataclass
class Trail:
    """Fed with every look; what is between two looks is not seen."""

    span_s: float = 1.0
    """Of one mean."""
    means: list[float] = field(default_factory=list)
    """Oldest first; the last one is not full yet."""
    _filled_s: float = 0.0
    """Of the last mean."""
    _last_s: float | None = None

    @classmethod
    def load(cls, document: object) -> Self:
        """Go on with what `document` of an earlier process said; an empty one when it makes no sense."""
        found = document if isinstance(document, dict) else {}
        span_s, means = found.get("span_s"), found.get("means")
        if not isinstance(span_s, int | float) or not isinstance(means, list) or not span_s > 0:
            return cls()
        sound = [float(mean) for mean in means if isinstance(mean, int | float) and math.isfinite(mean)]
        return cls(span_s=float(span_s), means=sound[-MOST:], _filled_s=float(span_s))

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

    def document(self) -> dict[str, Any]:
        return {"span_s": self.span_s, "means": [float(f"{mean:.5g}") for mean in self.means]}
