"""Writes a line to standard error, reads the end of a file, makes text safe for a terminal."""

import contextlib
import os
import re
import stat
from pathlib import Path


def complain(text: str) -> None:
    """Writes a line to standard error: the terminal of a foreground supervisor, the log of a detached one."""
    with contextlib.suppress(OSError):  # the terminal may have gone away
        os.write(2, f"fred-supervise: {text}\n".encode(errors="replace"))


def tail(path: Path, *, size: int = 65536, end: int | None = None) -> str:
    """The last `size` bytes of a file, or those before position `end`, as text; empty when there is none."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return ""
        with path.open("rb") as file:
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
