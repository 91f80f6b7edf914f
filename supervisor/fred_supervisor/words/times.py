"""Times and spans of time, as a person's own clock shows them."""

import time
from datetime import datetime

from fred_supervisor.language import tr


def age_s(text: object) -> float | None:
    """How long ago an RFC 3339 time was; None when it is none."""
    at_s = written_s(text)
    return None if at_s is None else max(0.0, time.time() - at_s)


def written_s(text: object) -> float | None:
    """An RFC 3339 time on the wall clock; None when it is none."""
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None


def local_time(text: object) -> str:
    """An RFC 3339 time as a person's own clock shows it."""
    ago = age_s(text)
    return (
        tr("at a time not known")
        if ago is None
        else time.strftime(tr("%a %d %b %H:%M:%S"), time.localtime(time.time() - ago))
    )


def clock_time(text: str) -> str:
    """An RFC 3339 time of a day to come, by a person's own clock; what is none stays as it is."""
    at_s = written_s(text)
    return text if at_s is None else time.strftime(tr("%a %d %b %H:%M"), time.localtime(at_s))


def until(seconds: float) -> str:
    """When a span that begins now ends: the time, and the day where it is not soon."""
    form = "%H:%M" if seconds < 12 * 3600 else tr("%a %H:%M")
    return time.strftime(form, time.localtime(time.time() + seconds))


def next_at(clock: str, now_s: float) -> float | None:
    """When the local clock shows HH:MM next, on the wall clock; None for what is no such time."""
    day = time.localtime(now_s)
    try:
        hour, minute = map(int, clock.split(":"))
        times = [time.mktime((day.tm_year, day.tm_mon, day.tm_mday + n, hour, minute, 0, 0, 0, -1)) for n in range(3)]
    except (ValueError, OverflowError):
        return None
    return next((at_s for at_s in times if at_s > now_s), None)


def span(seconds: float) -> str:
    """A time span in words: 8 s, 3 min, 2 h 05 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 90:
        return tr("{seconds} s", seconds=whole)
    minutes = round(whole / 60)
    if minutes < 90:
        return tr("{minutes} min", minutes=minutes)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return tr("{hours} h {minutes:02d} min", hours=hours, minutes=minutes)
    days, hours = divmod(hours, 24)
    return tr("{days} d {hours} h", days=days, hours=hours)
