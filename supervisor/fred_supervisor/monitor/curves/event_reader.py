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
    """One file. Raises OSError where it cannot be read; what is garbled in it is stepped over, to the next record."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None

    def read(self) -> list[Scalar]:
        """The scalars of the records that are new."""
        with open(self._path, "rb", buffering=0) as file:
            fd = file.fileno()
            size = os.fstat(fd).st_size
            if self._offset is None or size < self._offset:  # it was written anew
                self._offset = 0 if size <= _TAIL else _next_record(fd, size - _TAIL)
            found: list[Scalar] = []
            most = self._offset + _MOST_BYTES
            for _ in range(_MOST_RECORDS):
                record = _record_at(fd, self._offset, size)
                if record is None or self._offset >= most:
                    break
                end, data = record
                if data is not None:
                    found += _scalars(data)
                    self._offset = end
                else:
                    self._offset = _next_record(fd, end)
        return found


def _record_at(fd: int, begin: int, size: int) -> tuple[int, bytes | None] | None:
    """The end of a record and its data, empty where it is large; without data: where to look for the next one.

    None: it is still being written.
    """
    head = os.pread(fd, _HEAD, begin)
    if len(head) < _HEAD:
        return None
    length, checksum = struct.unpack("<QI", head)
    if masked_crc(head[:8]) != checksum:
        return begin + 1, None
    end = begin + _HEAD + length + 4
    if end > size:
        return None
    if length > _LARGE:
        return end, b""
    data = os.pread(fd, length + 4, begin + _HEAD)
    if masked_crc(data[:length]) != int.from_bytes(data[length:], "little"):
        return begin + _HEAD, None
    return end, data[:length]


def _next_record(fd: int, begin: int) -> int:
    """Where the first record from `begin` on begins; as far as one look goes, where there is none so near."""
    data = os.pread(fd, _TAIL, begin)
    for at in range(len(data) - _HEAD + 1):
        length = int.from_bytes(data[at : at + 8], "little")
        if 0 < length <= _TAIL and masked_crc(data[at : at + 8]) == int.from_bytes(data[at + 8 : at + 12], "little"):
            return begin + at
    return begin + max(0, len(data) - _HEAD + 1)


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
