"""Reads on in one table like `results.csv`: rows that are new, with a limit for each look."""

import os
from pathlib import Path
from typing import Final

from fred_supervisor.monitor.curves.roles import Role, role_of
from fred_supervisor.output.patterns import is_rounded_away

_MOST_BYTES: Final = 1 << 16
_HEADER: Final = 1 << 13

_OF_ZERO: Final = (Role.LR, Role.GRADIENT)
"""Of these exactly 0 is an alarm; a number that has been rounded to it is not known."""

Row = list[tuple[str, float]]
"""Column and number; cells without one are left out."""


class TableReader:
    """One file. Raises OSError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header = b""
        self._columns: list[str] = []
        self._separator = ","
        self._offset = 0

    def read(self) -> list[Row]:
        """The rows that are new; of many, the last ones."""
        with open(self._path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            header = os.pread(file.fileno(), _HEADER, 0).partition(b"\n")
            if not header[1]:
                return []
            if size < self._offset or header[0] != self._header:  # written anew, perhaps longer: Lightning does so
                self._begin(header[0])
            skipped = size - self._offset > _MOST_BYTES
            begin = size - _MOST_BYTES if skipped else self._offset
            data = os.pread(file.fileno(), _MOST_BYTES, begin)
        whole, end, _ = data.rpartition(b"\n")
        self._offset = begin + len(whole) + len(end)
        lines = whole.decode(errors="replace").splitlines()
        return [row for line in (lines[1:] if skipped else lines) if (row := self._row(line))]

    def _begin(self, header: bytes) -> None:
        text = header.decode(errors="replace")
        self._header, self._offset = header, len(header) + 1
        self._separator = max(",\t;", key=text.count)
        self._columns = [cell.strip().strip("\"'") for cell in text.split(self._separator)]

    def _row(self, line: str) -> Row:
        found = []
        for name, cell in zip(self._columns, line.split(self._separator), strict=False):
            text = cell.strip().strip("\"'")
            try:
                value = float(text)
            except ValueError:
                continue
            if not (is_rounded_away(text) and role_of(name) in _OF_ZERO):
                found.append((name, value))
        return found
