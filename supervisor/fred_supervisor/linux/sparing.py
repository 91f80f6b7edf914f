"""A look that is taken again and again, and costs more the more there is to see: so seldom that it costs little."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Seen = TypeVar("Seen")

_SHARE: Final = 0.01
"""Of a core."""
_CHEAP_S: Final = 0.005
"""A look that costs less may be taken whenever there is something else to do."""


@dataclass
class Sparing(Generic[Seen]):
    """A look, and what was seen last."""

    look: Callable[[], Seen]
    most_s: float
    """No longer than this between two looks, whatever one costs."""
    _due_s: float = float("-inf")
    _seen: Seen | None = None

    def seen(self, *, now: bool = False) -> Seen:
        """What there is to see, or was a moment ago; `now`: whatever it costs. Raises what `look` raises."""
        began_s, cost_s = time.monotonic(), -time.process_time()
        if self._seen is None or now or began_s >= self._due_s:
            self._seen = self.look()
            cost_s += time.process_time()
            self._due_s = began_s + (0.0 if cost_s < _CHEAP_S else min(self.most_s, cost_s / _SHARE))
        return self._seen
