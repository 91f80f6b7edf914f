"""Where the bytes of a data set lie: plain files, or members of zip archives that are read in place."""

import os
import re
import stat
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from fred_trainer.data.errors import DataError

_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
"""Signature and the lengths of name and extra field: 30 bytes, section 4.3.7 of PKWARE's APPNOTE."""
_OPEN_ARCHIVES: Final = 256
"""A process keeps at most so many open: more than FRED has sequences, fewer than the usual limit of 1024 files."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a zip archive, found once: reading it needs no directory of the archive."""

    archive: Path
    name: str
    offset: int
    """Of its local header, bytes."""
    size: int
    """As stored, bytes."""
    crc: int
    """CRC-32 of its content."""
    deflated: bool

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"


File = Path | Member
"""`str` of either names it for people."""


class _Archives:
    """File descriptors of archives, opened when first read from, the least used closed when they are many.

    Reading is by position, so that a descriptor inherited by a forked worker is as good as one of its own.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[str, int] = OrderedDict()

    def pread(self, path: str, size: int, offset: int) -> bytes:
        fd = self._open.pop(path, None)
        if fd is None:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._open[path] = fd
        while len(self._open) > _OPEN_ARCHIVES:
            os.close(self._open.popitem(last=False)[1])
        return os.pread(fd, size, offset)


_archives = _Archives()


def read_bytes(file: File) -> bytes:
    """The content. Raises OSError, and DataError when a member is not where the archive's directory has it."""
    if isinstance(file, Path):
        return file.read_bytes()
    archive = str(file.archive)
    header = _archives.pread(archive, _LOCAL_HEADER.size, file.offset)
    if len(header) == _LOCAL_HEADER.size:
        signature, name, extra = _LOCAL_HEADER.unpack(header)
        if signature == b"PK\x03\x04":
            data = _archives.pread(archive, file.size, file.offset + _LOCAL_HEADER.size + name + extra)
            try:
                content = zlib.decompress(data, -zlib.MAX_WBITS) if file.deflated else data
            except zlib.error:
                content = b""
            if zlib.crc32(content) == file.crc:
                return content
    raise DataError("{file} is torn: download {archive} again", file=file, archive=file.archive)


def pack(file: File) -> bytes:
    """As one line of bytes, for flat arrays that workers share."""
    if isinstance(file, Path):
        return os.fsencode(file)
    numbers = f"{file.offset}\0{file.size}\0{file.crc}\0{file.deflated:d}".encode()
    return b"\0".join((os.fsencode(file.archive), os.fsencode(file.name), numbers))


def unpack(line: bytes) -> File:
    """What `pack` was given."""
    archive, *rest = line.split(b"\0")
    path = Path(os.fsdecode(archive))
    if not rest:
        return path
    name, offset, size, crc, deflated = rest
    return Member(path, os.fsdecode(name), int(offset), int(size), int(crc), deflated == b"1")


class Folder(Protocol):
    """The folder of one sequence; `str` of it names it for people."""

    def files(self, place: str = "") -> dict[str, File]:
        """Name -> file, of the files directly in the subfolder `place`; empty when there is no such subfolder."""
        ...

    def folders(self) -> frozenset[str]:
        """Names of the subfolders at the top."""
        ...

    def state(self) -> list[tuple[str, int, int]]:
        """(name, size, time of the last change in ns) of what changes when the sequence does; cheap."""
        ...


_INSIDE: Final = ("RGB", "PADDED_RGB", "Event")
"""Folders by one of which a sequence is known."""


def sequence_top(folders: Iterable[str]) -> str:
    """Of folder paths such as `train/0/RGB`: where the sequence begins, `train/0/`; empty when it is not wrapped.

    Raises DataError when there are several sequences.
    """
    tops = {
        "".join(f"{part}/" for part in parts[:at])
        for parts in (folder.split("/") for folder in folders)
        for at, part in enumerate(parts)
        if part in _INSIDE and not set(_INSIDE) & set(parts[:at])
    }
    if len(tops) > 1 and "" not in tops:
        raise DataError("it holds several sequences, {tops}: one each is wanted", tops=" and ".join(sorted(tops)[:2]))
    return "" if "" in tops else next(iter(tops), "")


class PlainFolder:
    """A folder of the file system. `unzip 0.zip -d 0` wraps a sequence in a folder of its own: 0/0/RGB."""

    def __init__(self, path: Path) -> None:
        self.path = path / _wrapping(path)

    def __str__(self) -> str:
        return str(self.path)

    def files(self, place: str = "") -> dict[str, File]:
        folder = self.path / place
        if not folder.is_dir():
            return {}
        with os.scandir(folder) as entries:
            return {entry.name: folder / entry.name for entry in entries if not entry.is_dir()}

    def folders(self) -> frozenset[str]:
        with os.scandir(self.path) as entries:
            return frozenset(entry.name for entry in entries if entry.is_dir())

    def state(self) -> list[tuple[str, int, int]]:
        """A folder changes when an entry comes, goes or is renamed; a text file when it is written."""
        names = ["", *sorted(os.listdir(self.path)), "Event/Frames"]
        return [_state_of(self.path / name, name) for name in names if (self.path / name).exists()]


class ZipFolder:
    """A zip archive that holds one sequence, in a top folder of its own or without one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folders: Mapping[str, dict[str, File]] | None = None

    def __str__(self) -> str:
        return str(self.path)

    def files(self, place: str = "") -> dict[str, File]:
        """Raises DataError when the archive cannot be opened."""
        return dict(self._directory().get(place, {}))

    def folders(self) -> frozenset[str]:
        return frozenset(place.split("/")[0] for place in self._directory() if place)

    def state(self) -> list[tuple[str, int, int]]:
        return [_state_of(self.path, self.path.name)]

    def _directory(self) -> Mapping[str, dict[str, File]]:
        if self._folders is None:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    infos = [info for info in archive.infolist() if not info.is_dir()]
            except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
                raise DataError(
                    "{path} is no whole zip archive ({error}): download it again", path=self.path, error=error
                ) from error
            places = {info.filename.rpartition("/")[0] for info in infos}
            try:
                top = sequence_top(place for place in places if not place.startswith("__MACOSX"))
            except DataError as error:
                raise DataError("{path}: {error}", path=self.path, error=error) from error
            found: dict[str, dict[str, File]] = {}
            for info in infos:
                if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise DataError(
                        "{path}/{filename} is encrypted or packed in a rare way: pack it anew",
                        path=self.path,
                        filename=info.filename,
                    )
                place, _, name = info.filename.removeprefix(top).rpartition("/")
                found.setdefault(place, {})[name] = Member(
                    self.path,
                    info.filename,
                    info.header_offset,
                    info.compress_size,
                    info.CRC,
                    info.compress_type == zipfile.ZIP_DEFLATED,
                )
            self._folders = found
        return self._folders


def _wrapping(path: Path) -> str:
    """Folders, at most two, between `path` and the sequence in it."""
    folders: list[str] = []
    places = [""]
    for _ in range(3):
        below = []
        for place in places:
            with os.scandir(path / place) as entries:
                below += [f"{place}{entry.name}" for entry in entries if entry.is_dir() and entry.name != "__MACOSX"]
        folders += below
        if len(below) != 1:
            break
        places = [f"{below[0]}/"]
    return sequence_top(folders)


def _state_of(path: Path, name: str) -> tuple[str, int, int]:
    found = path.stat()
    return name, 0 if stat.S_ISDIR(found.st_mode) else found.st_size, found.st_mtime_ns


_SEQUENCE: Final = re.compile("([0-9]+)(\\.zip)?")


def list_sequences(place: Path) -> tuple[dict[int, Folder], list[Path]]:
    """Number -> sequence, unpacked or zipped, directly in `place`; and the archives that lie beside their folder."""
    folders: dict[int, Folder] = {}
    archives: dict[int, Path] = {}
    with os.scandir(place) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            match = _SEQUENCE.fullmatch(entry.name)
            if match is None:
                continue
            number = int(match[1])
            if match[2] and entry.is_file():
                archives[number] = Path(entry.path)
            elif not match[2] and entry.is_dir():
                if number in folders:
                    raise DataError(
                        "sequence {number} is there twice: {folders} and {path}; remove one",
                        number=number,
                        folders=folders[number],
                        path=entry.path,
                    )
                folders[number] = PlainFolder(Path(entry.path))
    beside = [path for number, path in archives.items() if number in folders]
    return {**{number: ZipFolder(path) for number, path in archives.items()}, **folders}, beside
