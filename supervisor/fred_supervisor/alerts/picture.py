"""Curves as a picture of a few kilobytes, for channels that take one. Numbers and names only: every language reads it.

Pillow draws; without it there is no picture.
"""

import io
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fred_supervisor.store.tensorboard.scalars import Point

_WIDTH: Final = 1000
_HEIGHT: Final = 260
"""Of one curve."""
_LEFT: Final = 90
_RIGHT: Final = 30
_TOP: Final = 44
_BOTTOM: Final = 40
_INK: Final = {"loss": "#1f6feb", "mAP50": "#c2410c"}
_TEXT: Final = "#57606a"
_GRID: Final = "#d8dee4"
_LINES: Final = 4
"""Of the grid, across."""
_SHOWN: Final = {"loss": 0.98}
"""Share of the points that a vertical axis shows: the first losses of a run would flatten the rest."""


def draw(curves: Mapping[str, Sequence[Point]]) -> bytes | None:
    """A PNG, one curve above the other on one time axis; None without curves, or without Pillow."""
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - of the extra `notify`, 20 MB
    except ImportError:
        return None
    if not curves:
        return None
    start_s = min(points[0].wall_s for points in curves.values())
    end_s = max(*(points[-1].wall_s for points in curves.values()), start_s + 1)
    image = Image.new("RGB", (_WIDTH, _HEIGHT * len(curves)), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(20)
    for at, (label, points) in enumerate(curves.items()):
        _curve(pen, font, label, points, top=at * _HEIGHT, span_s=(start_s, end_s))
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _curve(pen: Any, font: Any, label: str, points: Sequence[Point], *, top: int, span_s: tuple[float, float]) -> None:
    """One curve with its axes; `pen` is Pillow's, `top` in pixels."""
    low, high = _bounds([point.value for point in points], _SHOWN.get(label, 1.0))
    over, under = top + _TOP, top + _HEIGHT - _BOTTOM

    def x(wall_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (wall_s - span_s[0]) / (span_s[1] - span_s[0])

    def y(value: float) -> float:
        return under - (under - over) * (min(high, max(low, value)) - low) / (high - low)

    for line in range(_LINES + 1):
        value = low + (high - low) * line / _LINES
        pen.line((_LEFT, y(value), _WIDTH - _RIGHT, y(value)), fill=_GRID)
        pen.text((_LEFT - 10, y(value)), f"{value:.3g}", fill=_TEXT, font=font, anchor="rm")
    for at, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        wall_s = span_s[0] + (span_s[1] - span_s[0]) * at
        text = time.strftime("%m-%d %H:%M", time.localtime(wall_s))
        pen.text((x(wall_s), under + 8), text, fill=_TEXT, font=font, anchor=anchor)
    ink = _INK.get(label, _TEXT)
    pen.line([(x(point.wall_s), y(point.value)) for point in points], fill=ink, width=3, joint="curve")
    pen.text((_LEFT, top + 10), f"{label}  {points[-1].value:.4g}", fill=ink, font=font)


def _bounds(values: Sequence[float], shown: float) -> tuple[float, float]:
    """Of the vertical axis: least and greatest, without the highest few."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(len(ordered) - 1, math.ceil(len(ordered) * shown))]
    if high > low:
        return low, high
    return (low - 0.5, low + 0.5) if low else (0.0, 1.0)
