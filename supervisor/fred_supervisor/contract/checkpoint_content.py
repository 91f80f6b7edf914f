"""Whether another tool's checkpoint, a file or a folder, is whole: as far as that can be told without loading it."""

import fnmatch
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from fred_supervisor.contract.checkpoint import why_no_zip
from fred_supervisor.contract.files import open_file, read_file
from fred_supervisor.language import tr

MARKERS: Final = (
    "trainer_state.json",
    ".metadata",
    "random_states_*.pkl",
    "_CHECKPOINT_METADATA",
    "commit_success.txt",
)
"""What a framework writes last: the Hugging Face Trainer, torch's distributed checkpoints, accelerate, Orbax twice."""
_DEEPSPEED: Final = "mp_rank_*_model_states.pt"
_LATEST: Final = "latest"
"""DeepSpeed's, in the folder around its checkpoints; written last, it names the newest."""
_DONE: Final = re.compile(
    r"[._]*(?:done|complete|completed|success|finished|committed)(?:\.(?:txt|json|flag))?", re.IGNORECASE
)
"""Names of files that say by being there that all others in their folder are whole; they may be empty."""
_MOST: Final = 4096
"""Files of a folder that are looked at."""
_ZEROS: Final = 1024
_HEADER_BYTES: Final = 64 << 20
_JSON_BYTES: Final = 16 << 20


def files_of(path: Path) -> Iterator[Path]:
    """The files of a checkpoint: itself, or all below it, in order. What vanishes meanwhile is left out."""
    if not path.is_dir():
        yield path
        return
    left = _MOST
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            if not left:
                return
            left -= 1
            yield Path(folder, name)


def why_not_whole(path: Path, *, quick: bool = False, settled: Callable[[Path], bool] | None = None) -> str | None:
    """None when it looks whole, else the reason; `quick` leaves out what needs all of its bytes.

    `settled`: whether a folder without a marker has long stayed as it is.
    """
    try:
        if not path.is_dir():
            return _why_folder_damaged(path.parent, quick=quick) if is_marker(path) else _why_damaged(path, quick=quick)
        if marker_of(path) is None and (settled is None or not settled(path)):
            return tr("not finished, or of no framework that is known: no file in it says that it is whole")
        return _why_folder_damaged(path, quick=quick)
    except OSError as error:
        return tr("cannot be read: {strerror}", strerror=error.strerror)


def is_marker(path: Path) -> bool:
    """Whether a file only says that the folder around it is whole."""
    return _DONE.fullmatch(path.name) is not None


def _why_folder_damaged(folder: Path, *, quick: bool) -> str | None:
    """Of the files below it. Raises OSError."""
    empty = True
    for file in files_of(folder):
        if file.stat().st_size == 0:
            continue
        empty = empty and is_marker(file)
        reason = _why_damaged(file, quick=quick)
        if reason is not None:
            return f"{file.relative_to(folder).as_posix()}: {reason}"
    return "empty" if empty else None


def marker_of(folder: Path) -> Path | None:
    """The file by which a framework says that a folder is whole; None: it has not said so. Raises OSError."""
    names = sorted(os.listdir(folder))
    if (own := next(filter(_DONE.fullmatch, names), None)) is not None:
        return folder / own
    for pattern in (*MARKERS, _DEEPSPEED):
        for name in fnmatch.filter(names, pattern):
            if (folder / name).stat().st_size and (pattern != _DEEPSPEED or _is_named(folder)):
                return folder / name
    return None


def _is_named(folder: Path) -> bool:
    """Whether the folder around says that it is its newest, or that a later one is."""
    try:
        latest = read_file(folder.parent / _LATEST, 4096)[0].decode(errors="replace").strip()
    except OSError:
        return False
    return latest == folder.name or _number(latest) > _number(folder.name)


def _number(name: str) -> int:
    digits = "".join(c if c.isascii() and c.isdigit() else " " for c in name).split()
    return int(digits[-1][:18]) if digits else -1


def _why_damaged(path: Path, *, quick: bool) -> str | None:
    """Of one file, by what it begins with and by its name. Raises OSError."""
    start, found = read_file(path, 8)
    if found.st_size == 0:
        return "empty"
    if not any(start) and found.st_size > _ZEROS and not any(_end_of(path, found.st_size)):
        return tr("begins and ends with zeros, as a file does whose content was lost")
    if start.startswith(b"PK"):
        return why_no_zip(path, quick=quick, of_torch=False)
    if path.suffix == ".safetensors":
        return _why_no_tensors(path, start, found.st_size)
    if path.suffix == ".json" and found.st_size <= _JSON_BYTES:
        return None if _json(read_file(path, _JSON_BYTES)[0]) is not None else tr("not a whole JSON file")
    return None


def _end_of(path: Path, size: int) -> bytes:
    fd = open_file(path)
    try:
        return os.pread(fd, _ZEROS, size - _ZEROS)
    finally:
        os.close(fd)


def _why_no_tensors(path: Path, start: bytes, size: int) -> str | None:
    """Eight bytes with the length of a JSON header, the header, and then exactly the tensors that it names."""
    length = int.from_bytes(start, "little")
    if len(start) < 8 or 8 + length > size or length > _HEADER_BYTES:
        return tr("not a whole safetensors file: its header is longer than it")
    header = _json(read_file(path, 8 + length)[0][8:])
    if not isinstance(header, dict):
        return tr("not a whole safetensors file: its header is no JSON")
    try:
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        end = 8 + length + max(ends, default=0)
    except (TypeError, LookupError):
        return tr("not a whole safetensors file: its header names no tensors")
    return (
        None
        if end == size
        else tr("not a whole safetensors file: {size} bytes, its header says {end}", size=size, end=end)
    )


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
