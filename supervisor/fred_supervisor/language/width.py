"""How many columns of a terminal a text takes: a Chinese character takes two, an accent that is combined none."""

import textwrap
from itertools import accumulate
from typing import Final
from unicodedata import combining, east_asian_width

_WIDE: Final = ("W", "F")


def columns_of(text: str) -> int:
    """East Asian Width (UAX 11); what is ambiguous is narrow, as it is outside of old Chinese fonts."""
    return len(text) if text.isascii() else sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if char.isascii():
        return 1
    return 0 if combining(char) else 1 + (east_asian_width(char) in _WIDE)


def padded(text: str, columns: int) -> str:
    """With spaces behind it, up to so many columns."""
    return text + " " * (columns - columns_of(text))


def cut(text: str, columns: int) -> str:
    """As much as fits into so many columns, with an ellipsis where something is missing."""
    return text if columns_of(text) <= columns else _head(text, columns - 1) + "…"


def _head(text: str, columns: int) -> str:
    """The longest beginning that takes no more."""
    return text[: sum(total <= columns for total in accumulate(map(_columns, text)))]


def wrapped(text: str, columns: int, first: str = "", then: str = "") -> list[str]:
    """Lines of so many columns at most; the first begins with `first`, the others with `then`.

    Chinese is broken between any two characters, but for those that may not begin or end a line.
    """
    if columns_of(text) == len(text):
        lines = textwrap.wrap(text, columns, initial_indent=first, subsequent_indent=then, break_on_hyphens=False)
        return lines or [first.rstrip()]
    columns = max(columns, columns_of(first) + 2, columns_of(then) + 2)
    lines, line, begun = [], first, False
    for word in _words(text):
        if begun and columns_of(line + word.rstrip()) > columns:
            lines.append(line.rstrip())
            line, begun = then, False
        line += word if begun else word.lstrip()
        begun = begun or bool(word.strip())
        while columns_of(line.rstrip()) > columns:  # one word that is longer than a line
            head = _head(line, columns)
            lines.append(head)
            line = then + line[len(head) :]
    return [*lines, line.rstrip()]


_NOT_FIRST: Final = "，。；：、？！）》」』”’…%,.;:?!)"
_NOT_LAST: Final = "（《「『“‘("


def _words(text: str) -> list[str]:
    """Pieces between which a line may break; spaces belong to the piece before them."""
    found: list[str] = []
    for char in text:
        if found and (char.isspace() or _sticks(found[-1], char)):
            found[-1] += " " if char.isspace() else char
        else:
            found.append(char)
    return found


def _sticks(last: str, char: str) -> bool:
    """Whether no line may break between the end of `last` and `char`."""
    end = last[-1]
    if end.isspace():
        return False
    if char in _NOT_FIRST or end in _NOT_LAST:
        return True
    return east_asian_width(char) not in _WIDE and east_asian_width(end) not in _WIDE
