"""Text of strangers made fit for a terminal."""

import re

_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])")
"""What terminals obey: control sequences with parameters, titles and links, single letters (ECMA-48)."""


def printable_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(printable(line) for line in text.splitlines())


def printable(text: str) -> str:
    """Without colours and control characters: a trainer's output must not drive the reader's terminal."""
    text = _ESCAPES.sub("", text) if "\x1b" in text else text
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
