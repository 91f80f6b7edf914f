"""Reads scalars from TensorBoard event files in bounded time, without the package tensorboard; thins out long curves.

`monitor.tensorboard` describes the format. A value is found by its tag, and its event by the checksum of the record
around it. So unknown records and a torn end do no harm, and a file of a gigabyte costs no more than a small one.
"""

import math
import mmap
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from fred_supervisor.store.layout import RunDir
from fred_supervisor.store.tensorboard.crc import masked_crc

TAGS: Final = {
    "loss": ("train/loss", "supervisor/loss"),
    "images": ("train/images_per_s", "supervisor/images_per_s"),
    "map50": ("val/map50",),
    "map50_95": ("val/map50_95",),
}
"""Curve → tags; the first one that occurs is used. The supervisor's tags exist for any trainer that beats."""
MOST: Final = 3000
"""Points of one curve, about."""
_FARTHEST: Final = 1 << 16
"""A record that holds a scalar is not larger."""
_HEAD: Final = 12
"""Bytes before the data of a record: its length and the length's checksum."""


class Point(NamedTuple):
    """One value of a curve."""

    wall_s: float
    value: float


def event_files(run: RunDir) -> list[Path]:
    """Of the trainer, and of the monitor."""
    return [*run.path.glob("loss_*/events.out.tfevents.*"), *run.supervisor.glob("events.out.tfevents.*")]


def read_curve(run: RunDir, name: str, most: int = MOST) -> list[Point]:
    """One of `TAGS`."""
    found = read_scalars(event_files(run), TAGS[name], most)
    return next((found[tag] for tag in TAGS[name] if tag in found), [])


def read_scalars(files: Iterable[Path], tags: Sequence[str], most: int = MOST) -> dict[str, list[Point]]:
    """Curves by tag, in the order of time; about `most` points of each. Tags that nowhere occur are left out."""
    sizes = {path: size for path in files if (size := _size(path))}
    stride = max(1, sum(sizes.values()) // most)
    found: dict[str, list[Point]] = {}
    for path in sizes:
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                for tag in tags:
                    found.setdefault(tag, []).extend(_points(data, tag, stride))
        except (OSError, ValueError):  # gone, or empty by now
            continue
    return {tag: sorted(points) for tag, points in found.items() if points}


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _points(data: mmap.mmap, tag: str, stride: int) -> list[Point]:
    name = tag.encode()
    needle = b"\x0a" + bytes((len(name),)) + name + b"\x15"
    points: list[Point] = []
    at = data.find(needle)
    while 0 <= at <= len(data) - len(needle) - 4:
        (value,) = struct.unpack_from("<f", data, at + len(needle))
        wall_s = _time_of(data, at)
        if wall_s is not None and math.isfinite(value):
            points.append(Point(wall_s, value))
        at = data.find(needle, at + max(stride, len(needle)))
    return points


def _time_of(data: mmap.mmap, at: int) -> float | None:
    """When the event around position `at` was written; None when no whole record is there."""
    least = max(_HEAD, at - _FARTHEST)
    start = data.rfind(b"\x09", least, at)
    while start >= 0:
        (length,) = struct.unpack_from("<Q", data, start - _HEAD)
        if at < start + length <= len(data) and length <= _FARTHEST:
            (checksum,) = struct.unpack_from("<I", data, start - 4)
            if masked_crc(data[start - _HEAD : start - 4]) == checksum:
                (wall_s,) = struct.unpack_from("<d", data, start + 1)
                return wall_s if math.isfinite(wall_s) and wall_s > 0 else None
        start = data.rfind(b"\x09", least, start)
    return None
