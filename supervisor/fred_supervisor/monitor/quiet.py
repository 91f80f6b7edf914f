"""Quiet hours: when training pauses, so that others can use the machine. Pure; the standard library only.

A window is `[DAYS] HH:MM-HH:MM [ZONE]`, e.g. `mon-fri 08:00-19:00 Europe/Rome`. DAYS is a list of days and ranges
(`mon,wed,sat-sun`), `daily`, or nothing for every day. An end before the start lies on the next day; the days are those
on which the window begins. 24:00 is the end of a day. Without a ZONE the machine's own is used.
The local clock counts: when it goes back at night, an hour comes twice, and both are in the window or neither is.
"""

import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fred_supervisor.contract.record import record

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FULL_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HOURS: Final = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")
_DAY_MIN: Final = 24 * 60
_HORIZON_DAYS: Final = 9
"""A window of one day a week changes within eight days, and a change of the clock may move it once."""
_EXAMPLE: Final = "for example: mon-fri 08:00-19:00 Europe/Rome"


@record
class QuietWindow:
    """Hours of the week in which training pauses."""

    text: str
    """As it was written."""
    days: frozenset[int]
    """On which it begins; Monday is 0."""
    start_min: int
    """Minutes since midnight, 0..1439."""
    end_min: int
    """Minutes since midnight, 1..1440; not more than `start_min`: on the next day."""
    zone: tzinfo


def parse_window(text: str) -> QuietWindow:
    """The window that `text` describes. Raises ValueError, which says what is wrong and gives an example."""
    words = text.split()
    at = next((i for i, word in enumerate(words) if ":" in word), None)
    if at is None:
        raise ValueError(f"quiet window {text!r} has no hours; {_EXAMPLE}")
    hours = _HOURS.fullmatch(words[at].replace("\N{EN DASH}", "-"))
    if hours is None:
        raise ValueError(f"quiet window {text!r}: hours are HH:MM-HH:MM, not {words[at]!r}; {_EXAMPLE}")
    if len(words) > at + 2:
        raise ValueError(f"quiet window {text!r}: after the hours comes one time zone; {_EXAMPLE}")
    start_min = _minutes(text, hours[1], hours[2])
    end_min = _minutes(text, hours[3], hours[4])
    if start_min == end_min:
        raise ValueError(f"quiet window {text!r} is empty; a whole day is 00:00-24:00")
    if start_min == _DAY_MIN:
        raise ValueError(f"quiet window {text!r} cannot begin at 24:00; write 00:00 of the next day")
    return QuietWindow(
        text=text,
        days=_days(text, "".join(words[:at])),
        start_min=start_min,
        end_min=end_min or _DAY_MIN,
        zone=_zone(text, words[at + 1]) if len(words) > at + 1 else local_zone(),
    )


def _minutes(text: str, hour: str, minute: str) -> int:
    value = int(hour) * 60 + int(minute)
    if int(minute) > 59 or value > _DAY_MIN:
        raise ValueError(f"quiet window {text!r}: there is no {hour}:{minute} o'clock")
    return value


def _days(text: str, part: str) -> frozenset[int]:
    if part.lower() in ("", "daily", "*"):
        return frozenset(range(7))
    found: set[int] = set()
    for item in part.lower().split(","):
        first, dash, last = item.partition("-")
        begin = _day(text, first)
        end = _day(text, last) if dash else begin
        found |= {(begin + i) % 7 for i in range((end - begin) % 7 + 1)}
    return frozenset(found)


def _day(text: str, word: str) -> int:
    for names in (_DAYS, _FULL_DAYS):
        if word in names:
            return names.index(word)
    raise ValueError(f"quiet window {text!r}: {word!r} is no day; days are {' '.join(_DAYS)}, or daily")


def _zone(text: str, name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"quiet window {text!r}: there is no time zone {name!r} on this machine; zones are written like "
            "Europe/Rome or UTC (without any: install tzdata)"
        ) from None


def local_zone() -> tzinfo:
    """The machine's own time zone; UTC where none is set."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return UTC
    try:
        with open("/etc/localtime", "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


def in_window(window: QuietWindow, when: datetime) -> bool:
    """Whether `when` (with a time zone) lies in the window; its start belongs to it, its end does not."""
    local = when.astimezone(window.zone)
    minute = local.hour * 60 + local.minute
    today, yesterday = local.weekday() in window.days, (local.weekday() - 1) % 7 in window.days
    if window.start_min < window.end_min:
        return today and window.start_min <= minute < window.end_min
    return (today and minute >= window.start_min) or (yesterday and minute < window.end_min)


def next_change(window: QuietWindow, when: datetime) -> datetime | None:
    """The next instant after `when` (with a time zone) at which `in_window` changes, in UTC; None: it never does."""
    when = when.astimezone(UTC)
    now = in_window(window, when)
    for instant in sorted(_candidates(window, when)):
        if instant > when and in_window(window, instant) != now:
            return instant
    return None


def _candidates(window: QuietWindow, when: datetime) -> Iterable[datetime]:
    """Every instant in the next days at which the window may begin or end; at some it does neither."""
    midnight = when.astimezone(window.zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    for day in range(-1, _HORIZON_DAYS + 1):
        for minute in (window.start_min, window.end_min):
            wall = midnight + timedelta(days=day, minutes=minute)
            for fold in (0, 1):  # an hour that comes twice
                yield wall.replace(tzinfo=window.zone, fold=fold).astimezone(UTC)
        begin = (midnight + timedelta(days=day)).replace(tzinfo=window.zone).astimezone(UTC)
        yield from _clock_change(window.zone, begin, begin + timedelta(days=1, hours=2))


def _clock_change(zone: tzinfo, begin: datetime, end: datetime) -> Iterable[datetime]:
    """The instant between `begin` and `end` at which the zone's clock changes, to the second; may be none."""
    before = begin.astimezone(zone).utcoffset()
    if before == end.astimezone(zone).utcoffset():
        return
    while end - begin > timedelta(seconds=1):
        middle = (begin + (end - begin) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            begin = middle
        else:
            end = middle
    yield end.replace(microsecond=0)


@record
class QuietState:
    """What holds at one time, over all windows."""

    now: bool
    until: datetime | None
    """When that changes, in UTC; None: never."""
    window: str | None
    """The present window, or the next one."""


def quiet_at(windows: Iterable[QuietWindow], when: datetime) -> QuietState:
    """Whether `when` is in any window, and until when that stays so."""
    windows = tuple(windows)
    when = when.astimezone(UTC)
    now = [window for window in windows if in_window(window, when)]
    if not now:
        coming = [(at, window.text) for window in windows if (at := next_change(window, when)) is not None]
        until, text = min(coming, default=(None, None), key=lambda found: found[0])
        return QuietState(now=False, until=until, window=text)
    last, at = now[0], when
    limit = when + timedelta(days=_HORIZON_DAYS)
    while now:  # windows that follow one another, or overlap, are one
        ends = [(end, window) for window in now if (end := next_change(window, at)) is not None]
        if len(ends) < len(now) or at > limit:
            return QuietState(now=True, until=None, window=last.text)
        at, last = max(ends, key=lambda found: found[0])
        now = [window for window in windows if in_window(window, at)]
    return QuietState(now=True, until=at, window=last.text)
