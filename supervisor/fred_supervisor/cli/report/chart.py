"""Charts as SVG: one time axis for all of them, incidents as lines that lead to their story. Pure."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from fred_supervisor.cli.report.history import Attempt
from fred_supervisor.cli.report.scalars import Point
from fred_supervisor.words.terminal_text import printable

WIDTH: Final = 1000
LEFT: Final = 56
RIGHT: Final = 12
HEIGHT: Final = 190
TOP: Final = 12
BOTTOM: Final = 24
BINS: Final = 320
_GAP_BINS: Final = 6
"""A line is broken where this many bins are empty and the points are dense elsewhere: nobody trained there."""
_KINDS: Final = ("crash", "oom", "hang")
_LABEL_PX: Final = 16


def kind_class(kind: str) -> str:
    """The CSS class of an incident or attempt."""
    return f"k-{kind}" if kind in (*_KINDS, "end", "live") else "k-other"


@dataclass(frozen=True)
class Axis:
    """Wall clock → pixels."""

    start_s: float
    end_s: float

    def x(self, wall_s: float) -> float:
        share = (wall_s - self.start_s) / (self.end_s - self.start_s)
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, share))

    def ticks(self) -> list[tuple[float, str]]:
        """Positions and words, of a person's own clock."""
        span_s = self.end_s - self.start_s
        steps = (10, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400)
        step_s = next((step for step in steps if span_s / step <= 8), 30 * 86400)
        form = "%H:%M:%S" if step_s < 60 else "%H:%M" if step_s < 86400 else "%d %b"
        offset_s = time.localtime(self.start_s).tm_gmtoff
        at = math.ceil((self.start_s + offset_s) / step_s) * step_s - offset_s
        found = []
        while at <= self.end_s:
            midnight = form == "%H:%M" and time.strftime("%H:%M", time.localtime(at)) == "00:00"
            found.append((self.x(at), time.strftime("%d %b" if midnight else form, time.localtime(at))))
            at += step_s
        return found


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve of a chart."""

    points: Sequence[Point]
    style: str
    """CSS class."""
    name: str = ""
    area: bool = False
    dots: bool = False


def timeline(axis: Axis, attempts: Sequence[Attempt], incidents: Sequence[dict[str, Any]]) -> str:
    """Attempts as bars, incidents as marks above them."""
    height, bar_y = 74, 30
    parts: list[str] = []
    for attempt in attempts:
        x, right = axis.x(attempt.start_s), axis.x(attempt.end_s)
        told = escape(
            f"Attempt {attempt.number}: {_clock(attempt.start_s)} to {_clock(attempt.end_s)}, {attempt.ended}"
        )
        parts.append(
            f'<rect class="bar {kind_class(attempt.kind)}" x="{x:.1f}" width="{max(0.8, right - x - 0.6):.1f}"'
            f' y="{bar_y}" height="20" rx="2"><title>{told}</title></rect>'
        )
    last_x = -math.inf
    for incident in incidents:
        x = axis.x(incident["at_s"])
        label = ""
        if x - last_x >= _LABEL_PX:
            label, last_x = f'<text class="n" x="{x:.1f}" y="12">{incident["id"]}</text>', x
        parts.append(
            f'<a href="#incident-{incident["id"]}"><title>{_title(incident)}</title>{label}'
            f'<path class="mark {kind_class(str(incident.get("kind")))}" d="M{x:.1f} 28l-4-9h8z"/></a>'
        )
    return _svg(height, "Attempts and incidents over time", [*parts, _x_axis(axis, height)])


def chart(
    axis: Axis,
    series: Sequence[Series],
    incidents: Sequence[dict[str, Any]],
    *,
    title: str,
    unit: str = "",
    ceiling: float | None = None,
) -> str:
    """Curves over time; `ceiling` is drawn as a line of its own, and is the top. Empty without points."""
    drawn = [(each, _binned(axis, each.points)) for each in series if each.points]
    if not drawn:
        return ""
    low, high = _range(drawn, ceiling)
    scale = (HEIGHT - TOP - BOTTOM) / (high - low)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (min(high, max(low, value)) - low) * scale

    parts: list[str] = []
    for value, label in _nice(low, high):
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{label}</text>')
    for incident in incidents:
        x = axis.x(incident["at_s"])
        parts.append(
            f'<a href="#incident-{incident["id"]}"><path class="at {kind_class(str(incident.get("kind")))}"'
            f' d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/><title>{_title(incident)}</title></a>'
        )
    if ceiling is not None:
        parts.append(f'<path class="ceiling" d="M{LEFT} {y(ceiling):.1f}H{WIDTH - RIGHT}"/>')
    for each, bins in drawn:
        parts += _curve(each, bins, y, dense=len(bins) > BINS / 3)
    legend = ""
    if len(drawn) > 1:
        names = "".join(f'<span class="key {each.style}">{escape(each.name)}</span>' for each, _ in drawn)
        legend = f'<span class="legend">{names}</span>'
    heading = f"<h3>{escape(title)} <small>{escape(unit)}</small>{legend}</h3>"
    return heading + _svg(HEIGHT, title, [*parts, _x_axis(axis, HEIGHT)])


@dataclass(frozen=True)
class _Bin:
    at: int
    x: float
    mean: float
    low: float
    high: float


def _binned(axis: Axis, points: Sequence[Point]) -> list[_Bin]:
    by_bin: dict[int, list[Point]] = {}
    for point in points:
        if axis.start_s <= point.wall_s <= axis.end_s:
            share = (point.wall_s - axis.start_s) / (axis.end_s - axis.start_s)
            by_bin.setdefault(min(BINS - 1, int(share * BINS)), []).append(point)
    found = []
    for at, each in sorted(by_bin.items()):
        values = [point.value for point in each]
        x = axis.x(sum(point.wall_s for point in each) / len(each))
        found.append(_Bin(at, x, sum(values) / len(values), min(values), max(values)))
    return found


def _range(drawn: Sequence[tuple[Series, list[_Bin]]], ceiling: float | None) -> tuple[float, float]:
    """Of the axis: from zero, to what nearly all points stay below; the wild first minutes are cut off."""
    means = sorted(each.mean for _, bins in drawn for each in bins) or [0.0]
    usual = max(means[int(0.985 * (len(means) - 1))] * 1.12, means[len(means) // 2] * 1.2)
    high = usual if ceiling is None else ceiling
    low = min(0.0, means[0])
    return (low, high * 1.02) if high > low else (low, low + 1.0)


def _curve(series: Series, bins: Sequence[_Bin], y: Any, *, dense: bool) -> list[str]:
    runs: list[list[_Bin]] = []
    for each in bins:
        if runs and (not dense or each.at - runs[-1][-1].at <= _GAP_BINS):
            runs[-1].append(each)
        else:
            runs.append([each])
    parts: list[str] = []
    for run in runs:
        line = "L".join(f"{each.x:.1f} {y(each.mean):.1f}" for each in run)
        if series.area:
            floor = HEIGHT - BOTTOM
            parts.append(
                f'<path class="area {series.style}" d="M{run[0].x:.1f} {floor}L{line}L{run[-1].x:.1f} {floor}z"/>'
            )
        elif dense:
            upper = "L".join(f"{each.x:.1f} {y(each.high):.1f}" for each in run)
            lower = "L".join(f"{each.x:.1f} {y(each.low):.1f}" for each in reversed(run))
            parts.append(f'<path class="band {series.style}" d="M{upper}L{lower}z"/>')
        parts.append(f'<path class="line {series.style}" d="M{line}"/>')
        if series.dots or len(run) == 1:
            parts += [
                f'<circle class="dot {series.style}" cx="{each.x:.1f}" cy="{y(each.mean):.1f}" r="2.4">'
                f"<title>{each.mean:.4g}</title></circle>"
                for each in run
            ]
    return parts


def _nice(low: float, high: float) -> list[tuple[float, str]]:
    """Round values, about four of them."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [(n * step, f"{n * step:.6g}") for n in range(first, int(high / step) + 1)]


def _x_axis(axis: Axis, height: int) -> str:
    base = height - BOTTOM
    ticks = "".join(
        f'<path class="tick" d="M{x:.1f} {base}v4"/><text class="x" x="{x:.1f}" y="{base + 17}">{label}</text>'
        for x, label in axis.ticks()
    )
    return f'<path class="base" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>{ticks}'


def _svg(height: int, title: str, parts: Sequence[str]) -> str:
    label = escape(title, quote=True)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _title(incident: dict[str, Any]) -> str:
    return escape(printable(f"Incident {incident['id']} ({incident.get('kind')}): {incident.get('cause')}"))


def _clock(wall_s: float) -> str:
    return time.strftime("%d %b %H:%M:%S", time.localtime(wall_s))
