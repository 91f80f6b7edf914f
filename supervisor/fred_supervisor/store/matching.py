"""Files of a run dir that fit a pattern. Other programs write there: whatever they do meanwhile, nothing raises."""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final

_MOST: Final = 200_000
"""Entries that are looked at; what comes behind them is not found."""
_OURS: Final = "supervisor"
_OUTPUT: Final = re.compile(r"supervisor/attempts/[0-9]+/output\.log")
"""Of all that is ours, the only file that the trainer writes: people take it for a sign of life."""
_MAGIC: Final = re.compile(r"[*?\[]")


def matching(run_dir: Path, pattern: str) -> list[Path]:
    """In order. What cannot be read, or vanishes meanwhile, is left out; links to folders are not followed by `**`."""
    return [Path(path) for path in sorted(paths_matching(run_dir, pattern))]


def paths_matching(run_dir: Path, pattern: str) -> list[str]:
    """The same in any order: of a hundred thousand files, a `Path` of each costs more than all the rest."""
    try:
        os.fsencode(pattern)
    except UnicodeEncodeError:  # no file can have such a name
        return []
    root = str(run_dir)
    parts = PurePath(pattern).parts
    left = _MOST
    found: set[str] = set()
    todo = [(root, parts)] if parts else []
    while todo and left > 0:
        folder, (head, *more) = todo.pop()
        rest = tuple(more)
        if head == "**":
            if rest:
                todo.append((folder, rest))
            else:
                found.add(folder)
        elif not _MAGIC.search(head):
            path = os.path.join(folder, head)
            if rest:
                todo.append((path, rest))
            elif os.path.lexists(path):
                found.add(path)
            continue
        fits = re.compile(fnmatch.translate(head)).match
        for entry in _entries(folder):
            left -= 1
            if head == "**":
                if _is_folder(entry):
                    todo.append((entry.path, (head, *rest)))
            elif fits(entry.name):
                if rest:
                    todo.append((entry.path, rest))
                else:
                    found.add(entry.path)
    at = len(root.rstrip(os.sep)) + 1
    return [path for path in found if not path.startswith(_OURS, at) or _is_theirs(path[at:])]


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:  # no folder, gone, not permitted, a mount that fails
        return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_theirs(path: str) -> bool:
    """Whether a path below the run dir is not of the supervisor, whose files change by themselves."""
    return path.partition(os.sep)[0] != _OURS or _OUTPUT.fullmatch(path) is not None
