"""Where everything in a chart lies, in pixels: one time axis for all charts. Pure; `templates/charts.html` draws it.

Each chart is drawn twice, wide and for a phone: shrunk, its words could not be read.
"""

import math
import time
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from fred_supervisor.cli.report.history import Attempt
from fred_supervisor.cli.report.stretches import Stretch
from fred_supervisor.contract.record import record
from fred_supervisor.language import tr
from fred_supervisor.store.journal import Incident
from fred_supervisor.store.tensorboard.scalars import Point
from fred_supervisor.words.terms import term

WIDTH: Final = 1000
NARROW: Final = 420
"""As wide as a phone that is held upright."""
LEFT: Final = 56
RIGHT: Final = 12
HEIGHT: Final = 190
TOP: Final = 12
BOTTOM: Final = 24
BINS: Final = 320
_GAP_BINS: Final = 6
"""A line is broken where this many bins are empty and the points are dense elsewhere: nobody trained there."""
_KINDS: Final = ("crash", "oom", "hang")
_LABEL_PX: Final = (6, 7)
"""Room of a number: its margin, and each of its digits."""
_MOST_RULES: Final = 60
"""Incidents that are also drawn across the curves: more would hide them."""


def kind_class(kind: str) -> str:
    """The CSS class of an incident or attempt."""
    return f"k-{kind}" if kind in (*_KINDS, "end", "live") else "k-other"


@dataclass(frozen=True)
class Axis:
    """Wall clock → pixels."""

    start_s: float
    end_s: float
    width: int = WIDTH
    resumed: Sequence[float] = ()
    """When training went on after it had not run: curves are not drawn across, their gaps stay open."""

    @property
    def bins(self) -> int:
        return BINS * self.width // WIDTH

    def x(self, wall_s: float) -> float:
        share = (wall_s - self.start_s) / (self.end_s - self.start_s)
        return LEFT + (self.width - LEFT - RIGHT) * min(1.0, max(0.0, share))

    def ticks(self) -> list[tuple[float, str]]:
        """(x, text) of each tick, in local time."""
        span_s = self.end_s - self.start_s
        steps = (10, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400)
        step_s = next((step for step in steps if span_s / step <= 8 * self.width / WIDTH + 1), 30 * 86400)
        form = "%H:%M:%S" if step_s < 60 else "%H:%M" if step_s < 86400 else tr("%d %b")
        offset_s = time.localtime(self.start_s).tm_gmtoff
        at = math.ceil((self.start_s + offset_s) / step_s) * step_s - offset_s
        found = []
        while at <= self.end_s:
            midnight = form == "%H:%M" and time.strftime("%H:%M", time.localtime(at)) == "00:00"
            found.append((_px(self.x(at)), time.strftime(tr("%d %b") if midnight else form, time.localtime(at))))
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
class StretchBar:
    """A stretch in which a warning held."""

    x: float
    width: float
    title: str


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

    width: int
    bars: Sequence[AttemptBar]
    marks: Sequence[Mark]
    stretches: Sequence[StretchBar]
    ticks: Sequence[tuple[float, str]]
    """(x, words)."""


@record
class Chart:
    """Curves over time."""

    width: int
    title: str
    unit: str
    keys: Sequence[tuple[str, str]]
    """(CSS class, name) of each curve; empty: there is only one."""
    grid: Sequence[tuple[float, str]]
    """(y, value)."""
    marks: Sequence[Mark]
    stretches: Sequence[StretchBar]
    ceiling_y: float | None
    lines: Sequence[CurvePiece]
    ticks: Sequence[tuple[float, str]]


def timeline(
    axis: Axis, attempts: Sequence[Attempt], incidents: Sequence[Incident], stretches: Sequence[Stretch] = ()
) -> Timeline:
    bars = []
    for attempt in attempts:
        x = axis.x(attempt.start_s)
        told = tr(
            "Attempt {number}: {start} to {end}, {ended}",
            number=attempt.number,
            start=_clock(attempt.start_s),
            end=_clock(attempt.end_s),
            ended=attempt.ended,
        )
        width = max(0.8, axis.x(attempt.end_s) - x - 0.6)
        bars.append(AttemptBar(x=_px(x), width=_px(width), style=kind_class(attempt.kind), title=told))
    marks, warned = _marks(axis, incidents), stretch_bars(axis, stretches)
    return Timeline(width=axis.width, bars=bars, marks=marks, stretches=warned, ticks=axis.ticks())


def stretch_bars(axis: Axis, stretches: Sequence[Stretch]) -> list[StretchBar]:
    """One that has not ended reaches to the right."""
    bars = []
    for stretch in stretches:
        x, end = axis.x(stretch.start_s), axis.x(axis.end_s if stretch.end_s is None else stretch.end_s)
        when = _clock(stretch.start_s)
        if stretch.end_s is not None:
            when = tr("{start} to {end}", start=when, end=_clock(stretch.end_s))
        title = tr("{kind}, {when}: {text}", kind=term(stretch.kind).replace("_", " "), when=when, text=stretch.text)
        bars.append(StretchBar(x=_px(x), width=_px(max(1.0, end - x)), title=title))
    return bars


def chart(
    axis: Axis,
    series: Sequence[Series],
    incidents: Sequence[Incident],
    *,
    stretches: Sequence[Stretch] = (),
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
        width=axis.width,
        title=title,
        unit=unit,
        keys=[(each.style, each.name) for each, _ in drawn] if len(drawn) > 1 else [],
        grid=[(y(value), label) for value, label in _nice(low, high)],
        marks=_marks(axis, incidents) if len(incidents) <= _MOST_RULES else [],
        stretches=stretch_bars(axis, stretches),
        ceiling_y=None if ceiling is None else y(ceiling),
        lines=[line for each, bins in drawn for line in _lines(each, bins, y, dense=len(bins) > axis.bins / 3)],
        ticks=axis.ticks(),
    )


def _marks(axis: Axis, incidents: Sequence[Incident]) -> list[Mark]:
    marks: list[Mark] = []
    margin, digit = _LABEL_PX
    last_x = -math.inf
    for incident in incidents:
        assert incident.at_s is not None  # see History
        x = axis.x(incident.at_s)
        labelled = x - last_x >= margin + digit * len(str(incident.id))
        last_x = x if labelled else last_x
        number, kind = incident.id, str(incident.kind)
        title = tr("Incident {number} ({kind}): {cause}", number=number, kind=kind, cause=incident.cause)
        marks.append(Mark(x=_px(x), style=kind_class(kind), number=number, title=title, labelled=labelled))
    return marks


def _px(value: float) -> float:
    return round(value, 1)


@dataclass(frozen=True)
class _Bin:
    at: int
    piece: int
    x: float
    mean: float
    low: float
    high: float


def _binned(axis: Axis, points: Sequence[Point]) -> list[_Bin]:
    by_bin: dict[tuple[int, int], list[Point]] = {}
    for point in points:
        if axis.start_s <= point.wall_s <= axis.end_s:
            share = (point.wall_s - axis.start_s) / (axis.end_s - axis.start_s)
            at = min(axis.bins - 1, int(share * axis.bins))
            by_bin.setdefault((at, bisect(axis.resumed, point.wall_s)), []).append(point)
    found = []
    for (at, piece), each in sorted(by_bin.items()):
        values = [point.value for point in each]
        x = _px(axis.x(sum(point.wall_s for point in each) / len(each)))
        found.append(_Bin(at, piece, x, sum(values) / len(values), min(values), max(values)))
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
        before = pieces[-1][-1] if pieces else None
        if before and before.piece == each.piece and (not dense or each.at - before.at <= _GAP_BINS):
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
