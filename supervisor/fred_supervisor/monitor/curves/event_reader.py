"""Reads on in one TensorBoard event file: whole records that are new, with a limit for each look.

`monitor.tensorboard` describes the format. Large records (pictures, graphs) are stepped over, unread.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fred_supervisor.store.tensorboard.crc import masked_crc

_LARGE: Final = 1 << 14
"""A record of scalars is smaller."""
_MOST_BYTES: Final = 1 << 19
_MOST_RECORDS: Final = 4000
_TAIL: Final = 1 << 17
"""Of a file that was long when it was first seen, so much of its end is read."""
_HEAD: Final = 12
_FLOAT: Final = 1
"""DT_FLOAT of TensorFlow."""

Scalar = tuple[int, str, float]
"""Step, tag, value."""


class EventReader:
    """One file. Raises OSError where it cannot be read; what is garbled in it ends the reading of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None
        self._garbled = False

    def read(self) -> list[Scalar]:
        """The scalars of the records that are new."""
        if self._garbled:
            return []
        with open(self._path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if self._offset is None:
                self._offset = self._first(file.fileno(), size)
            found: list[Scalar] = []
            left = _MOST_BYTES
            for _ in range(_MOST_RECORDS):
                head = os.pread(file.fileno(), _HEAD, self._offset)
                if len(head) < _HEAD or left <= 0:
                    break
                length, checksum = struct.unpack("<QI", head)
                if masked_crc(head[:8]) != checksum:
                    self._garbled = True
                    break
                end = self._offset + _HEAD + length + 4
                if end > size:  # it is still being written
                    break
                if length <= _LARGE:
                    found += _scalars(os.pread(file.fileno(), length, self._offset + _HEAD))
                    left -= length
                self._offset = end
        return found

    @staticmethod
    def _first(fd: int, size: int) -> int:
        """Where a record begins from which on it is read."""
        if size <= _TAIL:
            return 0
        begin = size - _TAIL
        data = os.pread(fd, _TAIL, begin)
        for at in range(len(data) - _HEAD):
            length = int.from_bytes(data[at : at + 8], "little")
            if length <= _TAIL and masked_crc(data[at : at + 8]) == int.from_bytes(data[at + 8 : at + 12], "little"):
                return begin + at
        return size


def _scalars(event: bytes) -> list[Scalar]:
    """Of one record; empty where it has none, or makes no sense."""
    try:
        fields = list(_fields(event))
        step = next((value for number, value in fields if number == 2 and isinstance(value, int)), 0)
        summaries = [value for number, value in fields if number == 5 and isinstance(value, bytes)]
        return [
            (step, *scalar)
            for summary in summaries
            for number, value in _fields(summary)
            if number == 1 and isinstance(value, bytes) and (scalar := _scalar(value)) is not None
        ]
    except (ValueError, IndexError, struct.error):
        return []


def _scalar(value: bytes) -> tuple[str, float] | None:
    """Tag and number of one value of a summary: a plain one, or a tensor of one number, as TensorFlow 2 writes it."""
    fields = dict(_fields(value))
    tag, number = fields.get(1), fields.get(2)
    if not isinstance(tag, bytes):
        return None
    if isinstance(number, float):
        return tag.decode(errors="replace"), number
    tensor = fields.get(8)
    if not isinstance(tensor, bytes):
        return None
    parts = dict(_fields(tensor))
    if parts.get(1) != _FLOAT:
        return None
    whole = parts.get(4) if parts.get(4) is not None else parts.get(5)
    if isinstance(whole, float):
        return tag.decode(errors="replace"), whole
    if isinstance(whole, bytes) and len(whole) == 4:
        return tag.decode(errors="replace"), struct.unpack("<f", whole)[0]
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Number and value of each field of a protobuf message. Raises ValueError, IndexError, struct.error."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
        elif kind == 1:
            yield number, struct.unpack_from("<d", data, at)[0]
            at += 8
        elif kind == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field that is longer than its message")
            yield number, data[at : at + length]
            at += length
        elif kind == 5:
            yield number, struct.unpack_from("<f", data, at)[0]
            at += 4
        else:
            raise ValueError("a field of no known kind")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError("a number of more than 64 bits")
