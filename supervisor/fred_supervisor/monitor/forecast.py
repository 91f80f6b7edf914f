"""When a value reaches a bound if it goes on as it does: free disk space, the trainer's GPU memory. Pure."""

from collections import deque
from dataclasses import dataclass, field

_LEAST_POINTS = 4


def slope(points: list[tuple[float, float]]) -> float | None:
    """By least squares, in value per second; None for too few points, or no time between them."""
    if len(points) < _LEAST_POINTS:
        return None
    mean_t = sum(t for t, _ in points) / len(points)
    mean_v = sum(v for _, v in points) / len(points)
    spread = sum((t - mean_t) ** 2 for t, _ in points)
    return None if spread == 0 else sum((t - mean_t) * (v - mean_v) for t, v in points) / spread


@dataclass
class Trend:
    """The recent past of one value, thinned out to a few hundred points."""

    window_s: float
    """How far back it looks."""
    least_s: float
    """There is no forecast before this much time was watched."""
    points: deque[tuple[float, float]] = field(default_factory=deque)
    """(monotonic seconds, value)."""

    def add(self, now_s: float, value: float) -> None:
        if self.points and now_s - self.points[-1][0] < self.window_s / 400:
            return
        self.points.append((now_s, value))
        while self.points[0][0] < now_s - self.window_s:
            self.points.popleft()

    def clear(self) -> None:
        self.points.clear()

    def reaches_in_s(self, bound: float) -> float | None:
        """Seconds until the value reaches `bound`; None when it does not go there steadily, or is not known.

        Steadily: both halves of the window go the same way, so that a single step (a new phase, an allocator's first
        reservation) is no trend.
        """
        points = list(self.points)
        if not points or points[-1][0] - points[0][0] < self.least_s:
            return None
        half = len(points) // 2
        rate, earlier, later = slope(points), slope(points[:half]), slope(points[half:])
        if rate is None or earlier is None or later is None:
            return None
        left = bound - points[-1][1]
        if left * rate <= 0 or earlier * rate <= 0 or later * rate <= 0:
            return 0.0 if left == 0 else None
        return left / rate
