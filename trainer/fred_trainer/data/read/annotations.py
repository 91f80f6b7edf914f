"""FRED's annotation lines: one parser for every published form."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the source frame, continuous: a pixel i covers i to i + 1."""

FRAME_PERIOD_S: Final = 0.033333
"""Frame k, from 1, is annotated at k times this: the clock of FRED's official loader."""
CLOCKS_S: Final[Mapping[float, str]] = {FRAME_PERIOD_S: "0.033333 s", 1 / 30: "1/30 s"}
"""Periods that tools count label times in, and their names; the first is FRED's."""
CLOCK_TOLERANCE_S: Final = 1e-3
"""An annotation further from its frame than this belongs to none: a thirtieth of a period, far above rounding."""
_LONGEST_S: Final = 86_400.0
"""A day: a time beyond is a slip, and would overflow when it is turned into a frame number."""
DEFAULT_DRONE: Final = 1
DEFAULT_MODEL: Final = "drone"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One drone in one frame."""

    time_s: float
    """Since the start of the sequence."""
    box: Box
    """As written: may cross the border or be degenerate."""
    drone: int
    """Identity within the sequence."""
    model: str
    """Such as `DJI Mini 2`."""


def parse_line(line: str) -> Annotation | None:
    """`time: x1, y1, x2, y2[, id[, class]]`, or None for anything else. Never raises.

    All published forms: six fields (Hugging Face), four (`coordinates.txt` of the Drive release) and five with the
    id as a float (`interpolated_coordinates.txt`). The class may hold spaces, commas and trailing blanks.
    """
    time, colon, rest = line.partition(":")
    fields = [field.strip() for field in rest.split(",")]
    if not colon or len(fields) < 4:
        return None
    try:
        numbers = [float(word) for word in (time, *fields[:5])]
    except ValueError:
        return None
    if not all(map(math.isfinite, numbers)):
        return None
    return Annotation(
        time_s=numbers[0],
        box=(numbers[1], numbers[2], numbers[3], numbers[4]),
        drone=int(numbers[5]) if len(numbers) > 5 else DEFAULT_DRONE,
        model=", ".join(fields[5:]) or DEFAULT_MODEL,
    )


def line_time_s(line: str) -> float | None:
    """The time of a line that is no annotation otherwise: which frame it was meant for."""
    try:
        time_s = float(line.partition(":")[0].partition(",")[0])
    except ValueError:
        return None
    return time_s if math.isfinite(time_s) else None


def frame_number(time_s: float, period_s: float = FRAME_PERIOD_S) -> int | None:
    """The frame annotated at `time_s`, from 1 (0 and below lie before the first frame); None when it is between two.

    Integers, because the text drops trailing zeros and frame periods do not add up exactly in floating point.
    """
    if not abs(time_s) < _LONGEST_S:
        return None
    number = round(time_s / period_s)
    return number if abs(time_s - number * period_s) < CLOCK_TOLERANCE_S else None


def label_clock(times_s: Iterable[float]) -> float:
    """The period, of `CLOCKS_S`, that more of `times_s` are multiples of; FRED's own where both fit.

    From frame 3,000 on k/30 s is more than the tolerance away from k x 0.033333 s.
    """
    times = list(times_s)
    return max(CLOCKS_S, key=lambda period_s: sum(frame_number(time_s, period_s) is not None for time_s in times))


def parse_track(line: str) -> Annotation | None:
    """`time,id,x,y,w,h` of the Drive release's `tracks.txt`, x and y of the upper left corner; None for all else."""
    try:
        time_s, drone, x, y, width, height = (float(word) for word in line.split(","))
    except ValueError:
        return None
    if not all(map(math.isfinite, (time_s, drone, x, y, width, height))):
        return None
    return Annotation(time_s, (x, y, x + width, y + height), int(drone), DEFAULT_MODEL)


def parse_yolo(line: str, width: int, height: int) -> Box | None:
    """`class cx cy w h`, in shares of a `width` x `height` image, to xyxy px; None for anything else."""
    try:
        _, x, y, wide, high = (float(word) for word in line.split())
    except ValueError:
        return None
    if not all(map(math.isfinite, (x, y, wide, high))):
        return None
    return ((x - wide / 2) * width, (y - high / 2) * height, (x + wide / 2) * width, (y + high / 2) * height)
