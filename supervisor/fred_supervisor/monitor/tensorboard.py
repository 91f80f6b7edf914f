"""TensorBoard scalars without the package tensorboard, which is not in the base install.

Event files are a few fixed byte patterns.

A file is a row of records: length (8 bytes, little endian), masked CRC-32C of it, data, masked CRC-32C of the data.
The data is a protobuf message Event: wall_time (field 1, double), step (2, varint), file_version (3, string) or
summary (5), which repeats value (1): tag (1, string), simple_value (2, float32). GiB and not bytes: float32.
"""

import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fred_supervisor.store.tensorboard.crc import masked_crc


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes_field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


_FACTS: Final = ("restarts", "images_per_s", "loss", "beat_age_s")
_HOST: Final = ("memory_available", "trainer_rss", "disk_free", "shm_free")


def scalars_of(document: Mapping[str, Any], facts: Mapping[str, object]) -> dict[str, float]:
    """The curves' values by tag; what is not known is left out. `facts`: what the supervisor has told."""
    found: dict[str, object] = {f"supervisor/{key}": facts.get(key) for key in _FACTS}
    for gpu in document["gpus"]:
        if not gpu["chosen"]:
            continue
        place = f"supervisor/gpu{gpu['index']}" + ("" if gpu["mig"] is None else f".{gpu['mig']}")
        found |= {f"{place}_memory_{key}_gib": _gib(gpu[f"{key}_mib"]) for key in ("used", "free", "total", "trainer")}
        found[f"{place}_temperature_c"] = gpu["temperature_c"]
    found |= {f"supervisor/host_{key}_gib": _gib(document["host"].get(f"{key}_mib")) for key in _HOST}
    return {tag: float(value) for tag, value in found.items() if isinstance(value, int | float)}


def _gib(mib: float | None) -> float | None:
    return None if mib is None else mib / 1024


class ScalarWriter:
    """Writes one event file, beginning with the first flush. Steps are seconds since the folder's first file began."""

    def __init__(self, folder: Path, *, wall_s: float, mono_s: float) -> None:
        self._folder = folder
        self._name = f"events.out.tfevents.{int(wall_s):010d}.{socket.gethostname()}.{os.getpid()}.supervisor"
        self._offset_s = max(0.0, wall_s - _first_start_s(folder, wall_s)) - mono_s
        self._buffer = b""

    def add(self, wall_s: float, mono_s: float, scalars: dict[str, float]) -> None:
        """Keeps scalars, by tag, until the next flush. Steps come from the monotonic clock, so that they only grow."""
        values = b"".join(
            _bytes_field(1, _bytes_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
            for tag, value in scalars.items()
        )
        step = max(0, int(mono_s + self._offset_s))
        event = b"\x09" + struct.pack("<d", wall_s) + b"\x10" + _varint(step) + _bytes_field(5, values)
        self._buffer += _record(event)

    def flush(self, wall_s: float) -> None:
        """Appends what was kept, in one write. Raises OSError; what was kept is lost then."""
        data, self._buffer = self._buffer, b""
        if not data:
            return
        fd = os.open(self._folder / self._name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size == 0:
                version = b"\x09" + struct.pack("<d", wall_s) + _bytes_field(3, b"brain.Event:2")
                data = _record(version) + data
            os.write(fd, data)
        finally:
            os.close(fd)


def _first_start_s(folder: Path, otherwise_s: float) -> float:
    starts = [name.name.split(".")[3] for name in folder.glob("events.out.tfevents.*.supervisor")]
    return min((float(start) for start in starts if start.isdigit()), default=otherwise_s)
