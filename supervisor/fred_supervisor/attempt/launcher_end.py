"""A launcher in Python that starts one program, as `accelerate launch` does: what it says of that one's end."""

import re
import signal
from collections.abc import Sequence
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


_SHELLS: Final = re.compile(r"(?:.*/)?(?:ba|da|z|k|a)?sh")
_IN_SHELL: Final = 128
"""Plus the number of a signal is how a shell reports that its last program was ended by it (POSIX 2.8.2)."""
_DEADLY: Final = frozenset(
    getattr(signal, name) for name in ("SIGILL", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGSEGV")
)


def is_shell(program: str) -> bool:
    """Whether a program is a shell, by its name."""
    return _SHELLS.fullmatch(program) is not None


def signal_in_shell(command: Sequence[str], exit_code: int | None) -> int | None:
    """The signal that has ended the last program of a shell, by the shell's own exit code."""
    if exit_code is None or not is_shell(command[0]):
        return None
    number = exit_code - _IN_SHELL
    return number if number in _DEADLY else None


def passed_on(text: str) -> LauncherEnd | None:
    """What the last line of an output says of a program's end; None where it is no launcher's."""
    lines = text.rstrip().splitlines()
    said = _SAID.fullmatch(lines[-1].strip()) if lines else None
    if said is None:
        return None
    begin = text.rfind(_TRACEBACK)
    code, number = said["code"], said["signal"]
    own = text[:begin] if begin >= 0 else ""
    return LauncherEnd(
        exit_code=None if code is None else int(code),
        signal=None if number is None else int(number),
        text=own if own.strip() else text,
    )
