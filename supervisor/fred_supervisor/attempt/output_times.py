"""When the trainer's output grew: `output.times` beside it, a line for each look that found it longer.

Each line is the size that was seen, in bytes, and the wall clock, in seconds: what lies before that size was printed by
then. The trainer's own file stays as the trainer writes it.
"""

import bisect
import os
from dataclasses import dataclass, field
from typing import Final

from fred_supervisor.contract.files import read_file
from fred_supervisor.store.layout import AttemptDir

_EVERY_S: Final = 1.0
_OFTEN_BYTES: Final = 64 << 10
"""While the file is smaller; a day of a trainer that prints all the time is 200 kB then."""
_SELDOM_S: Final = 10.0
_NAME: Final = "output.times"


@dataclass
class OutputTimes:
    """Writes them, for one attempt."""

    folder: AttemptDir
    _size: int = 0
    _noted_s: float = float("-inf")

    def note(self, *, mono_s: float, wall_s: float) -> None:
        """At each look. Raises OSError."""
        size = os.stat(self.folder.output).st_size
        if size == self._size or mono_s - self._noted_s < self._pause_s():
            return
        self._size, self._noted_s = size, mono_s
        fd = os.open(self.folder.path / _NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"%d %d\n" % (size, wall_s))
        finally:
            os.close(fd)

    def _pause_s(self) -> float:
        try:
            return _EVERY_S if os.stat(self.folder.path / _NAME).st_size < _OFTEN_BYTES else _SELDOM_S
        except FileNotFoundError:
            return _EVERY_S


@dataclass(frozen=True)
class TimesOfOutput:
    """Reads them."""

    sizes: list[int] = field(default_factory=list)
    """Rising."""
    wall_s: list[int] = field(default_factory=list)
    last_s: float | None = None
    """When the output was written to last."""

    @classmethod
    def of(cls, folder: AttemptDir) -> "TimesOfOutput":
        """Empty where nobody has noted them; lines that make no sense are left out."""
        try:
            found = cls(last_s=os.stat(folder.output).st_mtime)
        except OSError:
            found = cls()
        try:
            lines = read_file(folder.path / _NAME)[0].splitlines()
        except OSError:
            return found
        for line in lines:
            size, _, when = line.partition(b" ")
            if size.isdigit() and when.isdigit() and int(size) > (found.sizes[-1] if found.sizes else 0):
                found.sizes.append(int(size))
                found.wall_s.append(int(when))
        return found

    def at(self, position: int) -> float | None:
        """By when the byte at a position was printed, in seconds of the wall clock; None: not known."""
        at = bisect.bisect_right(self.sizes, position)
        return float(self.wall_s[at]) if at < len(self.wall_s) else self.last_s
