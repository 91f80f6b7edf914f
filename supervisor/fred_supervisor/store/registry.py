"""The list of known runs. A convenience only: a run dir is complete without it."""

import os
import time
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.text_io import complain, printable
from fred_supervisor.store.lost_run import lost_run
from fred_supervisor.store.run_spec import NAME, RunSpec, load_run_spec

SYSTEM_STATE = Path("/var/lib/fred-supervise")
"""Where the system service keeps its list."""

_PATIENCE_S: Final = 1.5
"""For all run dirs that do not answer together."""
_LEAST_S: Final = 0.1


def state_dir() -> Path:
    """`$STATE_DIRECTORY` (of systemd), else `$XDG_STATE_HOME/fred-supervise`, else below `~/.local/state`."""
    of_systemd = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if of_systemd:
        return Path(of_systemd)
    xdg, home = os.environ.get("XDG_STATE_HOME", ""), os.path.expanduser("~")
    if not os.path.isabs(home):  # a number without a name, as in containers
        home = "/"
    return (Path(xdg) if os.path.isabs(xdg) else Path(home, ".local/state")) / "fred-supervise"


def make_state_folder(folder: Path) -> None:
    """Make a folder of `state_dir`, for its owner alone; `mkdir(parents=True)` gives its mode to the last one only."""
    state_dir().mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def remember(spec: RunSpec) -> None:
    """Put a run on the list; a list that cannot be written is no reason not to train."""
    entry = _entry(spec)
    try:
        make_state_folder(entry.parent)
        write_json(entry, {"name": spec.name, "run_dir": spec.run_dir}, durable=False)
    except OSError as error:
        complain(f"this run will not be on the list of runs: {error}")


def forget(spec: RunSpec) -> None:
    """Take a run off the list again."""
    _entry(spec).unlink(missing_ok=True)


def _entry(spec: RunSpec) -> Path:
    path = os.fsencode(spec.run_dir)
    key = f"{zlib.crc32(path):08x}{zlib.crc32(path[::-1]):08x}"  # hashlib is 4 MB in a supervisor that needs it nowhere
    return state_dir() / "runs" / f"{key}.json"


def known_runs() -> Iterator[RunSpec]:
    """Every run on our list and on the system service's that is still there, by name.

    One whose file system does not answer is left out, and standard error says so.
    """
    seen: dict[str, RunSpec] = {}
    lookout, end_s = Lookout(), time.monotonic() + _PATIENCE_S
    for folder in (state_dir() / "runs", SYSTEM_STATE / "runs"):
        try:
            files = sorted(folder.glob("*.json"))
        except OSError:
            continue
        for file in files:
            entry = read_json(file) or {}
            listed = partial(_listed, entry)
            try:
                patience_s = max(_LEAST_S, end_s - time.monotonic())
                spec = lookout.reach((str(entry.get("run_dir")),), listed, patience_s=patience_s)
            except NoAnswerError as error:
                complain(f"run {entry.get('name')!r} is left out: {printable(error.path)} does not answer")
                continue
            except OSError:
                continue
            if spec is not None:
                seen[spec.run_dir] = spec
    yield from sorted(seen.values(), key=lambda a: (a.name, a.run_dir))


def _listed(entry: Mapping[str, object]) -> RunSpec | None:
    run_dir, name = entry.get("run_dir"), entry.get("name")
    if not isinstance(run_dir, str):
        return None
    known = name if isinstance(name, str) and NAME.fullmatch(name) else None
    return load_run_spec(Path(run_dir)) or lost_run(Path(run_dir), known)
