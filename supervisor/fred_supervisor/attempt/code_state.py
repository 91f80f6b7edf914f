"""The state of a trainer's code, so that an incident can say what has changed since the first attempt.

Runs as a background job of its own: git may be slow, and nothing waits for it.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fred_supervisor.contract.files import write_json

_GIT_S: Final = 10.0
_SUFFIXES: Final = frozenset({".py", ".sh", ".toml", ".yaml", ".yml", ".json", ".cfg", ".ini"})
_MOST_FILES: Final = 200
_MOST_BYTES: Final = 1 << 20


def main(folder: str, target: str) -> None:
    """Write the state of `folder` as JSON to `target`."""
    write_json(target, state(Path(folder)))


def state(folder: Path) -> dict[str, object]:
    """Commit, and a digest of each file that differs from it; without git of each source file in the folder itself."""
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
        return {"folder": str(folder), "commit": None, "files": _digests(folder, names)}
    root = Path((_git(folder, "rev-parse", "--show-toplevel") or str(folder)).strip())
    dirty = _git(root, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal") or ""
    return {
        "folder": str(root),
        "commit": head.strip(),
        "files": _digests(root, [entry[3:] for entry in dirty.split("\0") if len(entry) > 3]),
    }


def _digests(folder: Path, names: list[str]) -> dict[str, str]:
    """Name → digest of the sources among some files; deleted ones are told as such."""
    import hashlib  # noqa: PLC0415 - the supervisor compares states only; it never computes one

    found = {}
    for name in [name for name in names if Path(name).suffix in _SUFFIXES][:_MOST_FILES]:
        try:
            path = folder / name
            if path.stat().st_size <= _MOST_BYTES:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        except FileNotFoundError:
            found[name] = "deleted"
        except OSError as error:
            found[name] = error.strerror or "unreadable"
    return found


def _git(folder: Path, *words: str) -> str | None:
    """What git answers; None when there is no git, no repository, or no answer in time."""
    import shutil  # noqa: PLC0415 - likewise
    import subprocess  # noqa: PLC0415 - likewise

    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # never in the way of somebody's own git
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(
            [git, "-C", str(folder), *words], capture_output=True, text=True, timeout=_GIT_S, check=False, env=environ
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[str] | None:
    """What differs between two states, in words; None when one of them is not known."""
    if not before or not after or not isinstance(before.get("files"), dict) or not isinstance(after.get("files"), dict):
        return None
    told = []
    if before.get("commit") != after.get("commit"):
        told.append(f"commit {_short(before.get('commit'))} → {_short(after.get('commit'))}")
    was, now = before["files"], after["files"]
    told += [f"{name} changed" for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    return told


def _short(commit: object) -> str:
    return commit[:10] if isinstance(commit, str) else "none"


def folder_of(command: list[str] | None, cwd: str, own: Path) -> Path:
    """Where a trainer's code lies: beside the script that its command names, else where it runs; `own` for ours."""
    if command is None:
        return own
    for word in command[1:] if len(command) > 1 else command:
        path = Path(cwd, word)
        if path.suffix in _SUFFIXES and path.is_file():
            return path.parent
    return Path(cwd)
