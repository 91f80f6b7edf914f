"""The last half hour of samples, so that an incident can show the minutes before it.

`monitor_ring.jsonl`: one JSON object a line, oldest first, each in one write, so that a killed monitor leaves whole
lines and at most one torn one::

    {"time": "2026-11-22T02:10:04.120Z",        RFC 3339, UTC
     "mono_s": 4021.5, "boot": "…",             CLOCK_MONOTONIC of that boot: orders records over steps of the clock
     "nvml": "ok",                              state of the driver
     "gpus": {"GPU-…": [used, trainer, °C, W, %, ["power cap"]]},   MiB, MiB; null is unknown
     "host": {"memory_available_mib": …, "swap_used_mib": …, "trainer_rss_mib": …},
     "facts": {…}}                              what the supervisor told last

The file is rewritten with what is not older than half an hour when it has grown to twice that.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.decode import decode
from fred_supervisor.contract.files import read_file, write_atomic
from fred_supervisor.contract.record import record

KEEP_S: Final = 1800.0
_LEAST_BYTES: Final = 256 << 10
"""A smaller file is not worth rewriting."""
_MOST_BYTES: Final = 8 << 20
"""Whatever it holds, the file is not larger."""


def ring_path(monitor: Path) -> Path:
    """Beside `monitor.json`."""
    return monitor.with_name("monitor_ring.jsonl")


RingRecord = dict[str, Any]
"""One line of the ring, as the monitor wrote it."""


def read_ring(path: Path, since_s: float = KEEP_S) -> list[RingRecord]:
    """The records of the last `since_s` seconds before the newest one, oldest first; torn lines are passed over.

    Age is told by the monotonic clock, across a reboot by the wall clock.
    """
    try:
        lines = read_file(path)[0].splitlines()
    except OSError:
        return []
    found: list[dict[str, object]] = []
    newest: dict[str, object] | None = None
    for line in reversed(lines):
        record = _record(line)
        if record is None:
            continue
        newest = newest or record
        if _age_s(record, newest) <= since_s:
            found.append(record)
    found.reverse()
    return found


def as_columns(rows: object) -> object:
    """Samples of an incident, with each name once; see `as_rows`. What are no samples as they are."""
    samples = [decode(_Sample, row) for row in rows] if isinstance(rows, list) else []
    known = [sample for sample in samples if sample is not None]
    if not known or len(known) != len(samples):
        return rows
    gpus = [{str(gpu.get("uuid")): gpu for gpu in sample.gpus} for sample in known]
    columns = {
        uuid: _columns([seen.get(uuid, {}) for seen in gpus])
        for uuid in dict.fromkeys(uuid for seen in gpus for uuid in seen)
    }
    return {
        "time": [sample.time for sample in known],
        "nvml": [sample.nvml for sample in known],
        "host": _columns([sample.host or {} for sample in known]),
        "gpus": {uuid: {name: values for name, values in of.items() if name != "uuid"} for uuid, of in columns.items()},
    }


def _columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def as_rows(columns: object) -> object:
    """The samples again; what has no such columns (an earlier version, or garbled) as it is."""
    table = decode(_Samples, columns)
    if table is None or {len(column) for column in table.all_columns()} != {len(table.time)}:
        return columns
    return [
        {
            "time": time,
            "nvml": table.nvml[at],
            "gpus": [{"uuid": uuid, **row} for uuid, of in table.gpus.items() if any(_known(row := _row(of, at)))],
            "host": _row(table.host, at),
        }
        for at, time in enumerate(table.time)
    ]


def _row(columns: Mapping[str, Sequence[object]], at: int) -> dict[str, object]:
    return {name: values[at] for name, values in columns.items()}


def _known(row: Mapping[str, object]) -> Iterator[bool]:
    return (value is not None for value in row.values())


@record
class _Sample:
    """One of an incident, as people read it."""

    time: str
    nvml: Any = None
    gpus: tuple[Mapping[str, Any], ...] = ()
    host: Mapping[str, Any] | None = None


@record
class _Samples:
    """A value for each sample in each column; None where there was none."""

    time: tuple[str, ...]
    nvml: tuple[Any, ...]
    host: Mapping[str, tuple[Any, ...]]
    gpus: Mapping[str, Mapping[str, tuple[Any, ...]]]

    def all_columns(self) -> Iterator[tuple[Any, ...]]:
        yield from (self.time, self.nvml, *self.host.values())
        yield from (column for gpu in self.gpus.values() for column in gpu.values())


def _record(line: bytes) -> dict[str, object] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    sound = isinstance(record, dict) and isinstance(record.get("mono_s"), int | float)
    return record if sound and isinstance(record.get("time"), str) else None


def _age_s(record: RingRecord, newest: RingRecord) -> float:
    if record.get("boot") == newest.get("boot"):
        return float(newest["mono_s"] - record["mono_s"])
    try:
        return (datetime.fromisoformat(newest["time"]) - datetime.fromisoformat(record["time"])).total_seconds()
    except (ValueError, TypeError):
        return KEEP_S


@dataclass
class Ring:
    """The writer's side."""

    path: Path
    _limit: int = 0
    """Size at which the file is rewritten; 0: not looked at yet."""
    _torn: bool = False
    """The file does not end with a whole line."""

    def append(self, record: dict[str, object]) -> None:
        """One record at the end. Raises OSError, and then the next call begins a line of its own."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if self._limit == 0:
                self._limit = max(_LEAST_BYTES, 2 * size)
                self._torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            data = b"\n" + line if self._torn else line
            self._torn = True
            self._torn = os.write(fd, data) != len(data)
        finally:
            os.close(fd)
        if size > min(self._limit, _MOST_BYTES):
            self._shorten()

    def _shorten(self) -> None:
        kept = [json.dumps(r, ensure_ascii=False, separators=(",", ":")).encode() for r in read_ring(self.path)]
        while sum(map(len, kept)) > _MOST_BYTES // 2:
            del kept[: len(kept) // 4 + 1]
        data = b"".join(line + b"\n" for line in kept)
        with contextlib.suppress(OSError):  # a full disk: the longer file stays
            write_atomic(self.path, data, durable=False)
            self._torn = False
        self._limit = max(_LEAST_BYTES, 2 * len(data))
