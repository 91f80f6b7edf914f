"""Where everything in a chart lies, in pixels: one time axis for all charts. Pure; `templates/charts.html` draws it."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fred_supervisor.cli.report.history import Attempt
from fred_supervisor.cli.report.scalars import Point
from fred_supervisor.contract.record import record
from fred_supervisor.store.journal import Incident

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
        """(x, text) of each tick, in local time."""
        span_s = self.end_s - self.start_s
        steps = (10, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400)
        step_s = next((step for step in steps if span_s / step <= 8), 30 * 86400)
        form = "%H:%M:%S" if step_s < 60 else "%H:%M" if step_s < 86400 else "%d %b"
        offset_s = time.localtime(self.start_s).tm_gmtoff
        at = math.ceil((self.start_s + offset_s) / step_s) * step_s - offset_s
        found = []
        while at <= self.end_s:
            midnight = form == "%H:%M" and time.strftime("%H:%M", time.localtime(at)) == "00:00"
            found.append((_px(self.x(at)), time.strftime("%d %b" if midnight else form, time.localtime(at))))
            at += step_s
        return found


@record
class Series:
    """One curve of a chart."""

    points: Sequence[Point]
    style: str
    """CSS class."""
    name: str = ""
    area: bool = False
    dots: bool = False


@record
class Mark:
    """An incident in a chart; it leads to its story."""

    x: float
    style: str
    number: int
    title: str
    labelled: bool
    """Whether its number is shown: not where the number of another one stands."""


@record
class AttemptBar:
    """An attempt in the timeline."""

    x: float
    width: float
    style: str
    title: str


@record
class Dot:
    """One value of a curve."""

    x: float
    y: float
    value: str


@record
class CurvePiece:
    """One unbroken piece of a curve; paths are in SVG's words."""

    style: str
    path: str
    area: str
    """Down to the axis; empty: not filled."""
    band: str
    """From the least to the most; empty: there is none."""
    dots: Sequence[Dot]


@record
class Timeline:
    """Attempts as bars, incidents as marks above them."""

    bars: Sequence[AttemptBar]
    marks: Sequence[Mark]
    ticks: Sequence[tuple[float, str]]
    """(x, words)."""


@record
class Chart:
    """Curves over time."""

    title: str
    unit: str
    keys: Sequence[tuple[str, str]]
    """(CSS class, name) of each curve; empty: there is only one."""
    grid: Sequence[tuple[float, str]]
    """(y, value)."""
    marks: Sequence[Mark]
    ceiling_y: float | None
    lines: Sequence[CurvePiece]
    ticks: Sequence[tuple[float, str]]


def timeline(axis: Axis, attempts: Sequence[Attempt], incidents: Sequence[Incident]) -> Timeline:
    bars = []
    for attempt in attempts:
        x = axis.x(attempt.start_s)
        told = f"Attempt {attempt.number}: {_clock(attempt.start_s)} to {_clock(attempt.end_s)}, {attempt.ended}"
        width = max(0.8, axis.x(attempt.end_s) - x - 0.6)
        bars.append(AttemptBar(x=_px(x), width=_px(width), style=kind_class(attempt.kind), title=told))
    return Timeline(bars=bars, marks=_marks(axis, incidents), ticks=axis.ticks())


def chart(
    axis: Axis,
    series: Sequence[Series],
    incidents: Sequence[Incident],
    *,
    title: str,
    unit: str = "",
    ceiling: float | None = None,
) -> Chart | None:
    """The chart of `series`; None without points. `ceiling` is the top of the axis and a line of its own."""
    drawn = [(each, _binned(axis, each.points)) for each in series if each.points]
    if not drawn:
        return None
    low, high = _range(drawn, ceiling)
    scale = (HEIGHT - TOP - BOTTOM) / (high - low)

    def y(value: float) -> float:
        return _px(HEIGHT - BOTTOM - (min(high, max(low, value)) - low) * scale)

    return Chart(
        title=title,
        unit=unit,
        keys=[(each.style, each.name) for each, _ in drawn] if len(drawn) > 1 else [],
        grid=[(y(value), label) for value, label in _nice(low, high)],
        marks=_marks(axis, incidents),
        ceiling_y=None if ceiling is None else y(ceiling),
        lines=[line for each, bins in drawn for line in _lines(each, bins, y, dense=len(bins) > BINS / 3)],
        ticks=axis.ticks(),
    )


def _marks(axis: Axis, incidents: Sequence[Incident]) -> list[Mark]:
    marks: list[Mark] = []
    last_x = -math.inf
    for incident in incidents:
        assert incident.at_s is not None  # see History
        x = axis.x(incident.at_s)
        labelled = x - last_x >= _LABEL_PX
        last_x = x if labelled else last_x
        number, kind = incident.id, str(incident.kind)
        title = f"Incident {number} ({kind}): {incident.cause}"
        marks.append(Mark(x=_px(x), style=kind_class(kind), number=number, title=title, labelled=labelled))
    return marks


def _px(value: float) -> float:
    return round(value, 1)


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
        x = _px(axis.x(sum(point.wall_s for point in each) / len(each)))
        found.append(_Bin(at, x, sum(values) / len(values), min(values), max(values)))
    return found


def _range(drawn: Sequence[tuple[Series, list[_Bin]]], ceiling: float | None) -> tuple[float, float]:
    """Of the axis: from zero, to what nearly all points stay below; the wild first minutes are cut off."""
    means = sorted(each.mean for _, bins in drawn for each in bins) or [0.0]
    usual = max(means[int(0.985 * (len(means) - 1))] * 1.12, means[len(means) // 2] * 1.2)
    high = usual if ceiling is None else ceiling
    low = min(0.0, means[0])
    return (low, high * 1.02) if high > low else (low, low + 1.0)


def _lines(series: Series, bins: Sequence[_Bin], y: Callable[[float], float], *, dense: bool) -> list[CurvePiece]:
    pieces: list[list[_Bin]] = []
    for each in bins:
        if pieces and (not dense or each.at - pieces[-1][-1].at <= _GAP_BINS):
            pieces[-1].append(each)
        else:
            pieces.append([each])
    lines: list[CurvePiece] = []
    floor = HEIGHT - BOTTOM
    for piece in pieces:
        line = _path((each.x, y(each.mean)) for each in piece)
        band = ""
        if dense and not series.area:
            lower = _path((each.x, y(each.low)) for each in reversed(piece))
            band = f"M{_path((each.x, y(each.high)) for each in piece)}L{lower}z"
        dots = piece if series.dots or len(piece) == 1 else []
        lines.append(
            CurvePiece(
                style=series.style,
                path=f"M{line}",
                area=f"M{piece[0].x} {floor}L{line}L{piece[-1].x} {floor}z" if series.area else "",
                band=band,
                dots=[Dot(x=each.x, y=y(each.mean), value=f"{each.mean:.4g}") for each in dots],
            )
        )
    return lines


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "L".join(f"{x} {y}" for x, y in points)


def _nice(low: float, high: float) -> list[tuple[float, str]]:
    """Round values, about four of them."""
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [(n * step, f"{n * step:.6g}") for n in range(first, int(high / step) + 1)]


def _clock(wall_s: float) -> str:
    return time.strftime("%d %b %H:%M:%S", time.localtime(wall_s))
