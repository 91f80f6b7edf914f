"""Which frame an image file is: event files by the time in their name, RGB files by their order and their clock.

Frame k, from 1, ends k x 33,333 us after the start of a sequence. A wrong number gives an image the boxes of another
frame, so files whose number cannot be decided are left out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from fred_supervisor.language import mark
from fred_trainer.data.read.annotations import FRAME_PERIOD_S

EVENT_PERIOD_US: Final = 33_333
"""Event frame k, from 1, is named after its end: k times this, in microseconds since the start."""
_EVENT_TOLERANCE_US: Final = EVENT_PERIOD_US // 4
"""Names of FRED are exact. Other tools are off by 1 us, or count k x 33,333.33 us, 8 ms more after 14 minutes."""
_GAP: Final = 1.5
"""Periods between two RGB files from which on files are missing between them. On FRED's sequence 36, which is whole,
intervals are 33.3 to 40.1 ms, that is up to 1.2 periods."""
_WALL_CLOCK: Final = re.compile(r"(\d+)_(\d+)_(\d+(?:\.\d+)?)\.(?:jpe?g|png)", re.IGNORECASE)
"""The end of an RGB name: hours, minutes, seconds. Sequence 68 lacks the `Video_68_` before it."""
_EVENT_NAME: Final = re.compile(r"(?:Video_\d+_)?(?:frame_)?(\d+)\.(?:png|txt)", re.IGNORECASE)
"""Both published forms, with and without `frame_`; never zero padded, so 99999 comes before 166665."""
_HALF_A_DAY_S: Final = 43_200.0

Numbering = Literal["rank", "clock", "left out"]


@dataclass(frozen=True, slots=True)
class NumberedFrames:
    """File names by frame number, and what happened to the other files."""

    names: dict[int, str]
    numbering: Numbering
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
    """Reason -> names."""
    rate_hz: float | None = None
    """Files a second by the clock of the names; None when they have none or there is one file."""
    gaps: int = 0
    """Places where the clock says that files are missing."""
    drift_ms: float | None = None
    """How much later the last file is by the clock of the names than by its number."""


_MOST_DIGITS: Final = 18
"""More are no time."""


def image_names(names: Iterable[str], suffixes: tuple[str, ...]) -> list[str]:
    """Those of images: macOS leaves ._*.jpg beside them."""
    return [name for name in names if name.lower().endswith(suffixes) and not name.startswith(".")]


def event_time_us(name: str) -> int | None:
    """In the name of an event frame or of its label file."""
    match = _EVENT_NAME.fullmatch(name)
    return int(match[1]) if match and len(match[1]) <= _MOST_DIGITS else None


def event_frame(time_us: int) -> int | None:
    """The frame that ends at `time_us`; None between two frames. May be 0."""
    number = round(time_us / EVENT_PERIOD_US)
    return number if abs(time_us - number * EVENT_PERIOD_US) <= _EVENT_TOLERANCE_US else None


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key: runs of digits by value, so that frame_9 comes before frame_10."""
    return [(int(word), "") if word.isdecimal() else (-1, word) for word in re.split(r"(\d+)", name) if word]


def number_events(names: Iterable[str], rgb_files: int) -> NumberedFrames:
    """Number event files by the microseconds in their names.

    A file at 0 us is either the first of a folder that is named after starts instead of ends, or one too many: the
    number of RGB files decides, and when it does not, the folder is left out.
    """
    left_out: dict[str, list[str]] = {}
    frames: dict[int, str] = {}
    times = {name: event_time_us(name) for name in image_names(names, (".png",))}
    for name in sorted(times, key=lambda name: (times[name] or 0, name)):
        time_us = times[name]
        number = None if time_us is None else event_frame(time_us)
        if time_us is None:
            left_out.setdefault(mark("event files with a name of another form, left out"), []).append(name)
        elif number is None:
            left_out.setdefault(mark("event files between two frames, left out"), []).append(name)
        elif number in frames:
            left_out.setdefault(mark("event files twice in one frame, left out"), []).append(name)
        else:
            frames[number] = name
    if 0 in frames:
        first = frames[0]
        if rgb_files == len(frames):
            frames = {number + 1: name for number, name in frames.items()}
        elif rgb_files == max(frames):
            del frames[0]
            left_out[mark("event files before the first frame, left out")] = [first]
        else:
            left_out[mark("event folders that begin at 0 us, which may be frame 1 or none, left out")] = [first]
            return NumberedFrames({}, "left out", left_out)
    return NumberedFrames(frames, "clock", left_out)


def number_rgb(names: Iterable[str], events: Iterable[int], *, aligned_start: bool) -> NumberedFrames:
    """Number RGB files so that the event frames `events` show the same instants.

    As many files as the last event frame has a number: frame k is the k-th file by wall clock, as FRED's official
    loader pairs them. The wall clock is no time there: it drifts by more than a frame. Otherwise files are missing.
    Then the clock is walked from file to file, and a gap of more than 1.5 periods skips as many numbers as fit into
    it. The result counts when it ends at the last event frame. It also counts with `aligned_start`: the Drive release
    starts both streams at the same instant and does not trim their ends. Without, nobody can tell whether the first
    or the last files are missing, and the RGB files are left out.
    """
    clocks = {name: _seconds_of_day(name) for name in image_names(names, (".jpg", ".jpeg", ".png"))}
    known = {name: clock for name, clock in clocks.items() if clock is not None}
    last_event = max(events, default=0)
    if not clocks:
        return NumberedFrames({}, "left out")
    if not known:
        ordered = sorted(clocks, key=natural_key)
        if not last_event or len(ordered) == last_event:
            return NumberedFrames(dict(enumerate(ordered, 1)), "rank")
        return NumberedFrames({}, "left out", {_unequal(len(ordered), last_event): ordered[:1]})
    left_out: dict[str, list[str]] = {}
    if len(known) < len(clocks):
        left_out[mark("RGB files with a name of another form, left out")] = sorted(set(clocks) - set(known))
    if max(known.values()) - min(known.values()) > _HALF_A_DAY_S:  # recorded over midnight
        known = {name: s + 2 * _HALF_A_DAY_S if s < _HALF_A_DAY_S else s for name, s in known.items()}
    ordered = sorted(known, key=lambda name: (known[name], name))
    steps = [(known[later] - known[earlier]) / FRAME_PERIOD_S for earlier, later in pairwise(ordered)]
    span_s = known[ordered[-1]] - known[ordered[0]]
    rate_hz = (len(ordered) - 1) / span_s if span_s else None
    gaps = sum(step > _GAP for step in steps)
    if len(ordered) == last_event:
        drift_ms = 1000 * (span_s - (last_event - 1) * FRAME_PERIOD_S)
        return NumberedFrames(dict(enumerate(ordered, 1)), "rank", left_out, rate_hz, gaps, drift_ms)
    frames = {1: ordered[0]}
    number = 1
    for name, step in zip(ordered[1:], steps, strict=True):
        skipped = round(step) if step > _GAP or step < 0.5 else 1
        number += skipped
        if skipped:
            frames[number] = name
        else:
            left_out.setdefault(mark("RGB files twice at one time, left out"), []).append(name)
    if last_event and number != last_event and not aligned_start:
        left_out[_unequal(len(ordered), last_event)] = ordered[:1]
        return NumberedFrames({}, "left out", left_out, rate_hz, gaps)
    drift_ms = 1000 * (span_s - (number - 1) * FRAME_PERIOD_S)
    return NumberedFrames(frames, "clock" if gaps else "rank", left_out, rate_hz, gaps, drift_ms)


def _unequal(rgb_files: int, last_event: int) -> str:
    if rgb_files < last_event:
        return mark("RGB folders with fewer files than event frames and no telling which, RGB left out")
    return mark("RGB folders with more files than event frames and no telling which, RGB left out")


def _seconds_of_day(name: str) -> float | None:
    match = _WALL_CLOCK.search(name)
    if match is None or any(len(part) > _MOST_DIGITS for part in match.groups()):
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
