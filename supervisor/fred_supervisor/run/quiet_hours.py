"""Quiet hours, by the wall clock as it stands: looked at again and again, so that a clock that is set is followed."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fred_supervisor.linux.text_io import complain
from fred_supervisor.policy.message import Message, Topic, say

if TYPE_CHECKING:
    from fred_supervisor.monitor.quiet import QuietWindow

_LOOK_S: Final = 5.0


class QuietHours:
    """The quiet hours of one run. The supervisor looks by itself: a monitor may hang.

    Without any, the time zones' modules are not even loaded.
    """

    def __init__(self, windows: Iterable[str]) -> None:
        self._windows = tuple(window for text in windows if (window := _parsed(text)) is not None)
        self._looked_s = float("-inf")
        self._quiet: Message | None = None

    @property
    def due_s(self) -> float | None:
        """When to look again; None: there are none."""
        return self._looked_s + _LOOK_S if self._windows else None

    @property
    def last(self) -> Message | None:
        """As they were when they were looked at last."""
        return self._quiet

    def now(self) -> Message | None:
        """The quiet hours that hold now."""
        now_s = time.monotonic()
        if self._windows and now_s >= self._looked_s + _LOOK_S:
            self._looked_s = now_s
            self._quiet = _holding(self._windows)
        return self._quiet


def _parsed(text: str) -> "QuietWindow | None":
    """None for one that was fine at the start and no longer is: a time zone may be gone."""
    from fred_supervisor.monitor.quiet import parse_window  # noqa: PLC0415 - see QuietHours

    try:
        return parse_window(text)
    except ValueError as error:
        complain(str(error))
        return None


def _holding(windows: "tuple[QuietWindow, ...]") -> Message | None:
    from fred_supervisor.monitor.quiet import quiet_at  # noqa: PLC0415 - see QuietHours

    found = quiet_at(windows, datetime.now(UTC))
    until = None if found.until is None else f"{found.until:%Y-%m-%dT%H:%M:%SZ}"
    return say(Topic.QUIET_HOURS, window=found.window, until=until) if found.now else None
