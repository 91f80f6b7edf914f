"""The output of a run as `logs` shows it: whole, or the lines that are asked for, over relaunches."""

import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fred_supervisor.attempt.output_times import TimesOfOutput
from fred_supervisor.contract.files import open_file
from fred_supervisor.contract.record import record
from fred_supervisor.language import tr
from fred_supervisor.linux.sparse_log import pieces
from fred_supervisor.linux.text_io import last_lines, printable
from fred_supervisor.store import lock
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.run_spec import RunSpec

_LONGEST: Final = 1 << 20
"""Bytes of a line that is looked at."""


@record
class LineChoice:
    """Which lines are shown, and how. Nothing of it: the output as it is, byte by byte."""

    since_s: float | None = None
    """Wall clock."""
    grep: re.Pattern[str] | None = None
    stamps: bool = False
    prefix: str = ""
    """Before each line: of which run it is."""

    @property
    def plain(self) -> bool:
        return self.since_s is None and self.grep is None and not self.stamps and not self.prefix


@dataclass
class OutputOfRun:
    """One run's output, shown from an attempt on."""

    spec: RunSpec
    number: int
    choice: LineChoice
    only: bool = False
    """Later attempts are not shown."""
    _position: int = 0
    """In the output of that attempt."""
    _rest: bytes = b""
    """A line that has not ended."""
    _last: deque[bytes] | None = None
    """Where lines are kept of which the last ones are shown."""

    def show_last(self, count: int) -> None:
        """The last lines that there are, as a terminal shows them; then what comes after them."""
        if not replace(self.choice, prefix="").plain:
            self._last = deque(maxlen=count)
            self.show_rest()
            lines, self._last = self._last, None
            self._print(b"".join(lines))
            return
        try:
            size = self._path.stat().st_size
        except OSError:
            return
        for line in last_lines(self._path, count, end=size) if count else ():
            self._print(f"{self.choice.prefix}{printable(line)}\n".encode())
        self._position = size

    def advance(self) -> bool:
        """Show what is new; False when nothing can come any more."""
        live = lock.held(self.spec.dir)  # looked at before the file: what was written before the end is not missed
        self.show_rest()
        newest = last_attempt(self.spec.dir)
        if newest > self.number and not self.only:
            self.begin(self.number + 1)
            return True
        return live and not (self.only and newest > self.number)

    def begin(self, number: int) -> None:
        """Go on with an attempt from its first line, with a line that says so."""
        self._end_line()
        self.number, self._position = number, 0
        self._print((self.choice.prefix + tr("--- attempt {number} ---", number=number) + "\n").encode())

    def show_rest(self) -> None:
        """All that there is beyond what was shown."""
        try:
            with open(open_file(self._path), "rb") as file:
                times = TimesOfOutput.of(self.spec.dir.attempt(self.number)) if self._needs_times else TimesOfOutput()
                for piece in pieces(file, self._position):
                    if isinstance(piece, int):
                        self._print(tr("\n--- {mib:.0f} MiB of output are left out ---\n", mib=piece / 2**20).encode())
                        self._position += piece
                    else:
                        self._show(piece, times)
        except OSError:
            return
        if not lock.held(self.spec.dir):
            self._end_line()

    @property
    def _path(self) -> Path:
        return self.spec.dir.attempt(self.number).output

    @property
    def _needs_times(self) -> bool:
        return self.choice.stamps or self.choice.since_s is not None

    def _show(self, piece: bytes, times: TimesOfOutput) -> None:
        start = self._position - len(self._rest)
        self._position += len(piece)
        if self.choice.plain:
            self._print(piece)
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[-_LONGEST:]
        for line in lines:
            self._show_line(line, times.at(start))
            start += len(line) + 1

    def _end_line(self) -> None:
        """What is left of a line is shown when no end of it can come."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._show_line(rest, TimesOfOutput.of(self.spec.dir.attempt(self.number)).at(self._position - 1))

    def _show_line(self, line: bytes, when_s: float | None) -> None:
        choice = self.choice
        if choice.since_s is not None and when_s is not None and when_s < choice.since_s:
            return
        text = printable(next((one for one in reversed(line.split(b"\r")) if one), b"").decode(errors="replace"))
        if choice.grep is not None and not choice.grep.search(text):
            return
        stamp = "" if not choice.stamps else f"{_clock(when_s)}  "
        shown = f"{choice.prefix}{stamp}{text}\n".encode()
        if self._last is not None:
            self._last.append(shown)
        else:
            self._print(shown)

    def _print(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _clock(when_s: float | None) -> str:
    """A line that has just come has no time yet: that is now, within seconds."""
    return time.strftime("%m-%d %H:%M:%S", time.localtime(time.time() if when_s is None else when_s))


def attempts_with_output(spec: RunSpec) -> Iterator[int]:
    """In order."""
    return (n for n in range(1, last_attempt(spec.dir) + 1) if spec.dir.attempt(n).output.exists())
