"""The list of known runs. A convenience only: a run dir is complete without it."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.run.asked import Asked, load_asked
from fred_supervisor.run.journal import complain

SYSTEM_STATE = Path("/var/lib/fred-supervise")
"""Where the system service keeps its list."""


def state_dir() -> Path:
    """`$STATE_DIRECTORY` (of systemd), else `$XDG_STATE_HOME/fred-supervise`, else below `~/.local/state`."""
    of_systemd = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if of_systemd:
        return Path(of_systemd)
    xdg, home = os.environ.get("XDG_STATE_HOME", ""), os.path.expanduser("~")
    if not os.path.isabs(home):  # a number without a name, as in containers
        home = "/"
    return (Path(xdg) if os.path.isabs(xdg) else Path(home, ".local/state")) / "fred-supervise"


def remember(asked: Asked) -> None:
    """Put a run on the list; a list that cannot be written is no reason not to train."""
    entry = _entry(asked)
    try:
        entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(entry, {"name": asked.name, "run_dir": asked.run_dir}, durable=False)
    except OSError as error:
        complain(f"this run will not be on the list of runs: {error}")


def forget(asked: Asked) -> None:
    """Take a run off the list again."""
    _entry(asked).unlink(missing_ok=True)


def _entry(asked: Asked) -> Path:
    path = os.fsencode(asked.run_dir)
    key = f"{zlib.crc32(path):08x}{zlib.crc32(path[::-1]):08x}"  # hashlib is 4 MB in a supervisor that needs it nowhere
    return state_dir() / "runs" / f"{key}.json"


def known_runs() -> Iterator[Asked]:
    """Every run on our list and on the system service's that is still there, by name."""
    seen: dict[str, Asked] = {}
    for folder in (state_dir() / "runs", SYSTEM_STATE / "runs"):
        try:
            files = sorted(folder.glob("*.json"))
        except OSError:
            continue
        for file in files:
            run_dir = (read_json(file) or {}).get("run_dir")
            asked = load_asked(Path(run_dir)) if isinstance(run_dir, str) else None
            if asked is not None:
                seen[asked.run_dir] = asked
    yield from sorted(seen.values(), key=lambda a: (a.name, a.run_dir))
