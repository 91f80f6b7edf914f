"""A launcher in Python that starts one program, as `accelerate launch` does: what it says of that one's end."""

import re
from typing import Final

from fred_supervisor.contract.record import record

_TRACEBACK: Final = "Traceback (most recent call last):"
_SAID: Final = re.compile(
    r"(?:subprocess\.)?CalledProcessError: Command .*?"
    r"(?:returned non-zero exit status (?P<code>\d{1,3})|died with <Signals\.SIG\w+: (?P<signal>\d{1,2})>)\.?"
)


@record
class LauncherEnd:
    """How the program that it has started ended."""

    exit_code: int | None
    signal: int | None
    text: str
    """The output without the launcher's own traceback."""


def passed_on(text: str) -> LauncherEnd | None:
    """What the last line of an output says of a program's end; None where it is no launcher's."""
    lines = text.rstrip().splitlines()
    said = _SAID.fullmatch(lines[-1].strip()) if lines else None
    if said is None:
        return None
    begin = text.rfind(_TRACEBACK)
    code, signal = said["code"], said["signal"]
    own = text[:begin] if begin >= 0 else ""
    return LauncherEnd(
        exit_code=None if code is None else int(code),
        signal=None if signal is None else int(signal),
        text=own if own.strip() else text,
    )
