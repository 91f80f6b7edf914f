"""Where a path leads, told without touching what may not answer: from the table of mounts, and links on our own way."""

import os
import re
from collections import deque
from pathlib import PurePath
from typing import Final

_MOST_LINKS: Final = 40
"""The kernel's own limit (path_resolution(7))."""
_MAGIC: Final = re.compile(r"[*?\[]")
_GIVEN_UP: Final = frozenset((b"emergency_ro", b"shutdown"))
"""Words of ext4 (since Linux 6.15) among the options of the file system, the last field."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


def mount_beyond(path: str, home: str, mounts: frozenset[str] | None = None) -> str | None:
    """The mount that the way to `path` leads into and that to folder `home` does not; None where there is none.

    `path` may be a pattern: it leads into what it may find. `home` is an absolute path without links: who can reach
    it can reach all that is looked at here. `mounts`: those that there are, for who has them already.
    """
    mounts = mount_points() if mounts is None else mounts
    known = {mount for mount in mounts if _below(home, mount)}
    at, left = "/", deque(PurePath(home, path).parts[1:])
    links = 0
    while left:
        part = left.popleft()
        if _MAGIC.search(part):
            break
        if part == "..":
            at = os.path.dirname(at)
            continue
        at = os.path.join(at, part)
        if at in mounts and at not in known:
            return at
        try:
            target = os.readlink(at)
        except (OSError, ValueError):
            continue  # no link, or not there, or nothing that could be a name
        links += 1
        if links > _MOST_LINKS:
            return None  # nobody gets there
        left.extendleft(reversed([part for part in PurePath(target).parts if part != "/"]))
        at = "/" if target.startswith("/") else os.path.dirname(at)
    return min((mount for mount in mounts - known if _below(mount, at)), default=None)


def mount_points(table: bytes | None = None) -> frozenset[str]:
    """Of this process's namespace; only / where they cannot be read (proc(5), mountinfo, field 5)."""
    lines = (mount_table() if table is None else table).decode("utf-8", "surrogateescape").splitlines()
    return frozenset({"/"} | {_plain(line.split(" ", 5)[4]) for line in lines})


def mount_types() -> dict[str, str]:
    """Path → type of the file system that is seen there (the last mount covers those before)."""
    found = {}
    for line in mount_table().decode("utf-8", "surrogateescape").splitlines():
        place, _, source = line.partition(" - ")
        found[_plain(place.split(" ", 5)[4])] = source.partition(" ")[0]
    return found


def gave_up_writing(device: int) -> bool:
    """Whether a file system has made itself read-only after an error, by its `st_dev`: statvfs(2) does not tell."""
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    lines = (line.split(b" ") for line in mount_table().splitlines())
    return any(_GIVEN_UP & {*words[-1].split(b",")} for words in lines if words[2:3] == [wanted])


def file_system_of(path: str) -> str | None:
    """E.g. "nfs4 at /data"; by its name alone, so that links in it are not followed. None: not known."""
    types = mount_types()
    at = max((mount for mount in types if _below(path, mount)), key=len, default=None)
    return None if at is None else f"{types[at]} at {at}"


def mount_table() -> bytes:
    """As the kernel writes it; empty where it cannot be read."""
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            return table.read()
    except OSError:
        return b""


def _plain(text: str) -> str:
    """Space, tab, newline and backslash are written as three octal digits."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
