"""Quiet hours, by the wall clock as it stands: looked at again and again, so that a clock that is set is followed."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from fred_supervisor.monitor.quiet import Window, parse_window, quiet_at
from fred_supervisor.run.journal import complain

_LOOK_S: Final = 5.0


class Hours:
    """The quiet hours of one run. The supervisor looks by itself: a monitor may hang."""

    def __init__(self, windows: Iterable[str]) -> None:
        self._windows = tuple(filter(None, map(_parsed, windows)))
        self._looked_s = float("-inf")
        self._text = ""

    @property
    def due_s(self) -> float | None:
        """When to look again; None: there are none."""
        return self._looked_s + _LOOK_S if self._windows else None

    def now(self) -> str:
        """The quiet hours that hold now, for a person; empty: none."""
        now_s = time.monotonic()
        if self._windows and now_s >= self._looked_s + _LOOK_S:
            self._looked_s = now_s
            found = quiet_at(self._windows, datetime.now(UTC))
            until = "for ever" if found.until is None else f"until {found.until:%Y-%m-%dT%H:%M:%SZ}"
            self._text = f"quiet hours ({found.window}) {until}" if found.now else ""
        return self._text


def _parsed(text: str) -> Window | None:
    """None for one that was fine at the start and no longer is: a time zone may be gone."""
    try:
        return parse_window(text)
    except ValueError as error:
        complain(str(error))
        return None
