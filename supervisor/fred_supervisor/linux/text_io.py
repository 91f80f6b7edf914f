"""Writes a line to standard error, reads the end of a file, makes text safe for a terminal."""

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

from fred_supervisor.contract.files import open_file

_AGAIN_S: Final = 3600.0
_MOST_TOLD: Final = 1000
_told: dict[str, float] = {}
"""What was complained of, and when: what does not work is tried again every few seconds."""


def complain(text: str) -> None:
    """Writes a line to standard error: the terminal of a foreground supervisor, the log of a detached one.

    The same line once an hour at most.
    """
    now_s = time.monotonic()
    if now_s - _told.get(text, -_AGAIN_S) < _AGAIN_S:
        return
    if len(_told) >= _MOST_TOLD:
        _told.clear()
    _told[text] = now_s
    with contextlib.suppress(OSError):  # the terminal may have gone away
        os.write(2, f"fred-supervise: {text}\n".encode(errors="replace"))


def tail(path: Path, *, size: int = 65536, end: int | None = None) -> str:
    """The last `size` bytes of a file, or those before position `end`, as text; empty when there is none."""
    try:
        with open(open_file(path), "rb") as file:
            end = file.seek(0, os.SEEK_END) if end is None else end
            file.seek(max(0, end - size))
            return file.read(min(size, end)).decode(errors="replace")
    except OSError:
        return ""


_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])")
"""Escape sequences of terminals: with parameters, titles and links, single letters (ECMA-48)."""


def printable_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(printable(line) for line in text.splitlines())


def printable(text: str) -> str:
    """Without colours and control characters: a trainer's output must not control the reader's terminal."""
    text = _ESCAPES.sub("", text) if "\x1b" in text else text
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


_CHUNK: Final = 65536
_MOST_READ: Final = 64 << 20
"""A progress bar may have written so much since the line before it; beyond that nobody looks."""
_LINE: Final = 4096
"""Characters of one line."""


def last_lines(path: Path, count: int, *, end: int | None = None) -> list[str]:
    """The last lines of a file, or of what stands before position `end`, as a terminal shows them.

    Of the updates of one line, which a progress bar makes by carriage returns, the last one that is not empty.
    """
    lines: list[str] = []
    rest = b""
    try:
        with open(open_file(path), "rb") as file:
            at = file.seek(0, os.SEEK_END) if end is None else end
            least = max(0, at - _MOST_READ)
            while at > least and len(lines) <= count:
                start = max(least, at - _CHUNK)
                file.seek(start)
                rest, *whole = (file.read(at - start) + rest).split(b"\n")
                lines[:0] = map(_shown, whole)
                rest, at = _folded(rest), start
    except OSError:
        return []
    lines = [_shown(rest), *lines]
    if lines[-1] == "":
        lines.pop()
    return lines[-count:]


def _folded(line: bytes) -> bytes:
    """A line without the updates that were written over; its beginning, up to a carriage return, is not read yet."""
    first, cut, updates = line.partition(b"\r")
    last = next((one for one in reversed(updates.split(b"\r")) if one), b"")
    return first[-_LINE:] + cut + last[-_LINE:]


def _shown(line: bytes) -> str:
    last = next((one for one in reversed(line.split(b"\r")) if one), b"")
    return last[:_LINE].decode(errors="replace")
