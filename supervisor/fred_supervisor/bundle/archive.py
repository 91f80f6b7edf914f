"""The archive: a zip file of members that have fixed names. Nothing in it is ever extracted under a name of its own."""

import contextlib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from fred_supervisor.bundle.manifest import FORMAT, Manifest, Weights
from fred_supervisor.contract.decode import decode_strictly

MANIFEST: Final = "bundle.json"
WEIGHTS: Final = "checkpoint.pth"
_MOST_TEXT: Final = 32 << 20
"""Of one member that is read as a whole."""
_MOST_WEIGHTS: Final = 64 << 30
_CHUNK: Final = 1 << 20


class BundleError(Exception):
    """A file is no bundle, or not a whole one. One line: which, why."""


def write(path: Path, members: Mapping[str, str], weights: Path | None) -> None:
    """Write texts and the checkpoint to a new archive, which appears when it is whole. Raises OSError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w+b") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members.items():
                archive.writestr(name, text.encode(errors="replace"))
            if weights is not None:
                archive.write(weights, WEIGHTS, compress_type=zipfile.ZIP_STORED)  # weights are not compressible
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def read_manifest(path: Path) -> Manifest:
    """What the archive at `path` says of itself. Raises BundleError."""
    try:
        with _opened(path) as archive:
            document = json.loads(_text(archive, MANIFEST))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is no bundle: its {MANIFEST} is garbled ({error})") from None
    found = decode_strictly(Manifest, document)
    if found is None or any(number < 0 for number in _numbers(found)):
        raise BundleError(f"{path} is no bundle: its {MANIFEST} makes no sense")
    if found.format != FORMAT:
        raise BundleError(f"{path} is of format {found.format}, this version reads {FORMAT}: update fred-supervise")
    return found


def _numbers(found: Manifest) -> list[int]:
    """Of the attempt, and of the place in training."""
    place = found.place
    said = (found.attempt, found.incident, place.epoch, place.step, place.steps, place.samples)
    return [number for number in said if number is not None]


def take_weights(path: Path, weights: Weights, target: Path) -> None:
    """Write the checkpoint in the archive to `target`, no longer than it says it is. Raises BundleError, OSError."""
    if not 0 < weights.size <= _MOST_WEIGHTS:
        raise BundleError(f"{path} is no bundle: its checkpoint would have {weights.size} bytes")
    free = os.statvfs(target.parent)
    if free.f_bavail * free.f_frsize < weights.size:
        raise BundleError(f"no room in {target.parent} for the checkpoint, {weights.size >> 20} MiB; set TMPDIR")
    digest = hashlib.sha256()
    try:
        with _opened(path) as archive, archive.open(WEIGHTS) as member, target.open("xb") as file:
            left = weights.size
            while data := member.read(min(_CHUNK, left + 1)):
                left -= len(data)
                if left < 0:
                    break
                digest.update(data)
                file.write(data)
    except (KeyError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise BundleError(f"{path} is damaged: its checkpoint cannot be read ({error})") from None
    if left or f"sha256:{digest.hexdigest()}" != weights.digest:
        raise BundleError(f"{path} is damaged or forged: its checkpoint is not the one that {MANIFEST} describes")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive, open. Raises BundleError."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # a FIFO would never be opened
            raise BundleError(f"{path} is no regular file, and no bundle")
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is no bundle, or not a whole one: {error}") from None
    except IsADirectoryError:
        raise BundleError(f"{path} is a folder, not a bundle") from None
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from None


def _text(archive: zipfile.ZipFile, name: str) -> str:
    """A member as text. Raises BundleError, ValueError."""
    try:
        with archive.open(name) as member:
            data = member.read(_MOST_TEXT + 1)
    except KeyError:
        raise BundleError(f"{archive.filename or 'the file'} is no bundle: it has no {name}") from None
    except (RuntimeError, zlib.error) as error:  # encrypted, or damaged
        raise ValueError(str(error)) from None
    if len(data) > _MOST_TEXT:
        raise ValueError(f"longer than {_MOST_TEXT >> 20} MiB")
    return data.decode()
