"""What a person says that a line means, beside a position: this attempt has failed, or it must come again."""

import re
from typing import Final

from fred_supervisor.language import tr
from fred_supervisor.output.patterns import LINE_CHARS, not_compiled

_SHOWN: Final = 120
"""Characters of a line that are shown."""


class LineSigns:
    """Fed with the lines of one attempt, in order."""

    def __init__(self, fail: tuple[str, ...] = (), recur: tuple[str, ...] = ()) -> None:
        """Patterns of `--fail-output` and `--must-recur`. Raises ValueError for what is none, see `not_compiled`."""
        for text in (*fail, *recur):
            if (wrong := not_compiled(text)) is not None:
                raise ValueError(wrong)
        self._fail = [re.compile(text) for text in fail]
        self.failed: tuple[str, str] | None = None
        """The first line that means a failure, and its pattern."""
        self._recur = [re.compile(text) for text in recur]
        self.recurred: dict[str, int] = {}
        """Pattern → how often such a line has come, or may have; of those that have come."""

    @property
    def needs_lines(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._fail or self._recur)

    def feed(self, line: str) -> None:
        text = line[:LINE_CHARS]
        if self.failed is None:
            regex = next((regex for regex in self._fail if regex.search(text)), None)
            self.failed = None if regex is None else (text.strip()[:_SHOWN], regex.pattern)
        for regex in self._recur:
            if regex.search(text):
                self.recurred[regex.pattern] = self.recurred.get(regex.pattern, 0) + 1

    def miss(self) -> None:
        """Lines may have come that nobody has read."""
        self.recurred = {text: count + 1 for text, count in self.recurred.items()}


def wrong_fail_pattern(text: str) -> str | None:
    """Why a text is no pattern of `--fail-output`; None when it is one."""
    if (wrong := not_compiled(text)) is not None:
        return wrong
    return tr("fits every line, also an empty one") if re.search(text, "") else None
