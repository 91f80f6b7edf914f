"""What stands in place of blocks and arrows where the encoding of the terminal has none, e.g. with LC_ALL=C."""

import codecs
from collections.abc import Mapping
from typing import Final

_NAME: Final = "fred-plain"
_INSTEAD: Final[Mapping[str, str]] = {
    **dict(zip("▁▂▃▄▅▆▇█░▒", "_.,-~=*#.:", strict=True)),
    "×": "x",
    "→": "->",
    "…": "...",
    "–": "-",
    "≥": ">=",
    "≤": "<=",
    "µ": "u",
    "°": " deg ",
    "·": "*",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
}


def register_plain() -> str:
    """The name of the error handler for streams; whatever it does not know is written as an escape."""
    codecs.register_error(_NAME, _plain)
    return _NAME


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_INSTEAD.get(c) or c.encode("ascii", "backslashreplace").decode() for c in wrong), error.end
