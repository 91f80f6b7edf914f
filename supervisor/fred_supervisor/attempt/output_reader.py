"""Reads what a live trainer prints: what is new since the look before, and never much of it."""

import os
import re
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from fred_supervisor.contract.files import open_file
from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.linux.text_io import printable
from fred_supervisor.linux.time_box import OutOfTimeError, time_box
from fred_supervisor.output.built_in import BuiltInPatterns
from fred_supervisor.output.patterns import LINE_CHARS, LinePatterns, OwnPatterns
from fred_supervisor.output.position import OutputPosition
from fred_supervisor.output.signs import LineSigns
from fred_supervisor.policy.history import names_goal
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.store.checkpoints import modified_ns

_BYTES_PER_S: Final = 32768
"""More than this is skipped: the newest lines say where training is."""
_LEAST_BYTES: Final = 8192
_LINE_BYTES: Final = 4 * LINE_CHARS
_REGEX_S: Final = 0.2
"""Of processor time, for a person's patterns in one look; beyond that they are given up."""
_FITS_LINES: Final = 200
"""A person's pattern that has fitted none of so many lines, or none in so long, is said to."""
_FITS_S: Final = 600.0
_END: Final = re.compile(rb"[\r\n\b]+")
"""Of a line; bars are drawn over themselves, that of Keras by going back."""


def patterns_of(progress_output: list[str]) -> LinePatterns | None:
    """The patterns that `--progress-output` asks for; None: the output is not read."""
    if progress_output == ["none"]:
        return None
    return OwnPatterns(tuple(progress_output)) if progress_output not in ([], ["auto"]) else BuiltInPatterns()


class OutputReader:
    """The position in one attempt's output, and what else a person has said that its lines mean."""

    def __init__(
        self,
        path: Path,
        patterns: LinePatterns | None,
        known: tuple[str, ...],
        signs: LineSigns | None = None,
        *,
        goal_elsewhere: bool = False,
    ) -> None:
        """`patterns` None: its position is not read. `known`: what earlier attempts have believed.

        `goal_elsewhere`: a file says that the goal is reached, so lines need not.
        """
        self._path = path
        self._position = None if patterns is None else OutputPosition(patterns, known)
        self.signs = signs or LineSigns()
        self._of_person = self.signs.needs_lines or (patterns is not None and patterns.certain)
        self.told = bool(known)
        """It was said from which lines the position is read, or need not be."""
        self._goal_elsewhere = goal_elsewhere
        self._told_slow = False
        self._told_unfit = patterns is None or not patterns.certain
        self._read = 0
        """Lines so far."""
        self._read_s: tuple[float, float] | None = None
        """When the first and the last of them were read."""
        self._offset = 0
        self._rest = b""
        """The line that has not ended yet."""
        self._looked_s: float | None = None
        self._moved_s: float | None = None
        self.sound_ns: int | None = None
        """The wall clock at the last look up to which the loss was a finite number, as far as it is shown."""
        self.too_slow = False
        """A person's pattern has taken too long: nothing is read any more."""
        self.gap_s = 0.0
        """The longest time between two lines that moved something."""

    def look(self, now_s: float, *, final: bool = False, place: bool = True) -> None:
        """Read on; `final`: nothing comes any more, so what stands at the end is a line, too.

        `place`: the lines are asked where training is, too.
        """
        if self.too_slow:
            self.signs.miss()
            return
        since_s = 1.0 if self._looked_s is None else min(1.0, now_s - self._looked_s)
        self._looked_s = now_s
        position = self._position if place else None
        looked_ns, sound = time.time_ns(), position is not None and not position.lost
        before = 0 if position is None else position.moves
        try:
            with time_box(_REGEX_S) if self._of_person else nullcontext():
                lines = self._lines(max(_LEAST_BYTES, int(_BYTES_PER_S * since_s)))
                if lines:
                    self._read += len(lines)
                    self._read_s = (now_s if self._read_s is None else self._read_s[0], now_s)
                for line in [*lines, _text(self._rest)] if final else lines:
                    self.signs.feed(line)
                    if position is not None:
                        position.feed(line)
                if final and position is not None:
                    position.end()
        except OSError:
            self.signs.miss()
            return  # of a run dir that is gone; the recorder says so
        except OutOfTimeError:
            self.too_slow = True
            self.signs.miss()
        if sound and position is not None and not position.lost:
            self.sound_ns = looked_ns
        if position is not None and position.moves != before:
            self.gap_s = max(self.gap_s, 0.0 if self._moved_s is None else now_s - self._moved_s)
            self._moved_s = now_s

    def _lines(self, most: int) -> list[str]:
        """The whole lines that are new; of more than `most` bytes, the last ones."""
        with open(open_file(self._path), "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size == self._offset:
                return []
            if size < self._offset:  # it was emptied, see `sparse_log.cap`
                self._offset, self._rest = 0, b""
            skipped = size - self._offset > most
            if skipped:
                self._offset, self._rest = size - most, b""
                self.signs.miss()
            data = self._rest + os.pread(file.fileno(), most, self._offset)
        self._offset += len(data) - len(self._rest)
        *lines, rest = _END.split(data)
        self._rest = rest[:_LINE_BYTES]
        whole = lines[1:] if skipped else lines
        return [_text(line) for line in whole if line]

    def beat(self, pid: int) -> Beat | None:
        return None if self._position is None else self._position.beat(pid)

    @property
    def known(self) -> tuple[str, ...]:
        return () if self._position is None else self._position.names

    def failed_line(self) -> Message | None:
        """What was printed that means that this attempt has failed, though it goes on."""
        if self.signs.failed is not None:
            line, pattern = self.signs.failed
            return say(Topic.FAILED_LINE, line=line, pattern=pattern)
        if self._position is not None and self._position.not_finite:
            return say(Topic.LOSS_PRINTED, line=self._position.not_finite.strip()[:_SHOWN])
        return None

    def lost_ns(self, launched: Path) -> int | None:
        """The wall clock since which the loss may be no number, where it was printed that it is none; else None.

        `launched`: the file that was written at the launch; nothing is known from before it.
        """
        line = self.failed_line()
        if line is None or line.topic is not Topic.LOSS_PRINTED:
            return None
        return self.sound_ns or next(iter(modified_ns([launched])), None)

    def _fits_nothing(self) -> bool:
        """Whether a person's patterns have fitted no line of many."""
        if self._position is None or self._position.fits or self._read_s is None:
            return False
        return self._read >= _FITS_LINES or self._read_s[1] - self._read_s[0] >= _FITS_S

    def news(self) -> tuple[Message, ...]:
        """What a person is to be told of the reading, once."""
        found: tuple[Message, ...] = ()
        if self._position is not None and self._position.line and not self.told:
            self.told = True
            beat = self._position.beat(0)
            open_end = beat is not None and not names_goal(beat) and not self._goal_elsewhere
            found += (say(Topic.READS_POSITION, line=self._position.line.strip()[:_SHOWN], open_end=open_end),)
        if not self._told_unfit and not self.told and self._fits_nothing():
            self._told_unfit = True
            found += (say(Topic.PATTERN_FITS_NOTHING, count=self._read),)
        if self.too_slow and not self._told_slow:
            self._told_slow = True
            found += (say(Topic.PATTERN_TOO_SLOW),)
        return found


def _text(line: bytes) -> str:
    return printable(line[:_LINE_BYTES].decode(errors="replace"))


_SHOWN: Final = 120
"""Characters of a line that are shown."""
