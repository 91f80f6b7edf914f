"""Colours, where they are wanted: on a terminal, and without NO_COLOR (no-color.org)."""

import os
import sys
from collections.abc import Mapping
from typing import Final, TextIO

_CODES: Final[Mapping[str, str]] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}


class TerminalStyle:
    """Paints words of a line; plain when switched off."""

    def __init__(self, *, on: bool) -> None:
        self.on = on

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str] = os.environ) -> "TerminalStyle":
        """For what is written to `stream`."""
        wanted = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
        return cls(on=wanted)

    def __call__(self, style: str, text: str) -> str:
        """`text` in one or more styles, e.g. "bold red"; an empty style paints nothing."""
        if not self.on or not style or not text:
            return text
        codes = ";".join(_CODES[word] for word in style.split())
        return f"\x1b[{codes}m{text}\x1b[0m"


PLAIN: Final = TerminalStyle(on=False)


def columns() -> int:
    """Of the terminal; 80 without one."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                return os.get_terminal_size(stream.fileno()).columns or 80
        except (OSError, ValueError):  # not a terminal, or closed
            continue
    return 80
