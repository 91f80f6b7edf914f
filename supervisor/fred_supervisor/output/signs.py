"""What a person says that a line means, beside a position: with `--fail-output`, that this attempt has failed."""

import re
from typing import Final

from fred_supervisor.output.patterns import LINE_CHARS, not_compiled

_SHOWN: Final = 120
"""Characters of a line that are shown."""


class LineSigns:
    """Fed with the lines of one attempt, in order."""

    def __init__(self, fail: tuple[str, ...] = ()) -> None:
        """Raises ValueError for what is no regular expression, see `not_compiled`."""
        for text in fail:
            if (wrong := not_compiled(text)) is not None:
                raise ValueError(wrong)
        self._fail = [re.compile(text) for text in fail]
        self.failed: tuple[str, str] | None = None
        """The first line that means a failure, and its pattern."""

    @property
    def needs_lines(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._fail)

    def feed(self, line: str) -> None:
        text = line[:LINE_CHARS]
        if self.failed is None:
            regex = next((regex for regex in self._fail if regex.search(text)), None)
            self.failed = None if regex is None else (text.strip()[:_SHOWN], regex.pattern)


def wrong_fail_pattern(text: str) -> str | None:
    """Why a text is no pattern of `--fail-output`; None when it is one."""
    if (wrong := not_compiled(text)) is not None:
        return wrong
    return "fits every line, also an empty one" if re.search(text, "") else None
