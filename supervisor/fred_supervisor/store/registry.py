"""The list of known runs. A convenience only: a run dir is complete without it."""

import os
import time
import zlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from fred_supervisor.contract.decode import decode_or
from fred_supervisor.contract.files import read_json, write_json
from fred_supervisor.contract.record import record
from fred_supervisor.linux.lookout import Lookout, NoAnswerError
from fred_supervisor.linux.proc import Identity
from fred_supervisor.linux.text_io import complain, printable
from fred_supervisor.store import lock
from fred_supervisor.store.lost_run import lost_run
from fred_supervisor.store.run_spec import NAME, RunSpec, load_run_spec
from fred_supervisor.store.sharing.box import live_runs, state_folders

SYSTEM_STATE = Path("/var/lib/fred-supervise")
"""Where the system service keeps its list."""

_PATIENCE_S: Final = 1.5
"""For all run dirs that do not answer together."""
_LEAST_S: Final = 0.1


@record
class ListedRun:
    """What the list says of a run, which is all that is known while its file system does not answer."""

    name: str | None = None
    run_dir: str | None = None
    supervisor: Identity | None = None
    """The one that took it up last."""
    file: str = ""
    """That says so."""


@record
class SilentRun:
    """A known run whose file system does not answer."""

    run: ListedRun
    mount: str

    def __str__(self) -> str:
        name = self.run.name or self.run.run_dir
        return f"the run {name!r}: {printable(self.mount)} does not answer"


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


def remember(spec: RunSpec, supervisor: Identity | None = None) -> None:
    """Put a run on the list; a list that cannot be written is no reason not to train."""
    entry = _entry(spec)
    document: dict[str, object] = {"name": spec.name, "run_dir": spec.run_dir}
    if supervisor is not None:
        document["supervisor"] = supervisor.document()
    try:
        make_state_folder(entry.parent)
        write_json(entry, document, durable=False)
    except OSError as error:
        complain(f"this run will not be on the list of runs: {error}")


def forget(spec: RunSpec, supervisor: Identity | None = None) -> None:
    """Take a run off the list again; with `supervisor`, unless another one has taken up a run there since."""
    entry = _entry(spec)
    if supervisor is None or decode_or(ListedRun, read_json(entry)).supervisor == supervisor:
        entry.unlink(missing_ok=True)


def _entry(spec: RunSpec) -> Path:
    path = os.fsencode(spec.run_dir)
    key = f"{zlib.crc32(path):08x}{zlib.crc32(path[::-1]):08x}"  # hashlib is 4 MB in a supervisor that needs it nowhere
    return state_dir() / "runs" / f"{key}.json"


def known_runs() -> Iterator[RunSpec]:
    """Every run on our list and on the system service's that is still there, by name.

    One whose file system does not answer is left out, and standard error says so.
    """
    runs, silent = list_runs()
    for one in silent:
        complain(f"{one}; it is left out")
    yield from runs


def list_runs(*, everybody: bool = False) -> tuple[list[RunSpec], list[SilentRun]]:
    """Every known run that is still there, by name; and those whose file system does not answer.

    `everybody`: of all users, as far as we may read them.
    """
    seen: dict[str, RunSpec] = {}
    silent: dict[str, SilentRun] = {}
    lookout, end_s = Lookout(), time.monotonic() + _PATIENCE_S
    for run in (*listed_runs(), *(_of_everybody() if everybody else ())):
        if run.run_dir is None or run.run_dir in seen:
            continue
        try:
            patience_s = max(_LEAST_S, end_s - time.monotonic())
            spec = lookout.reach((run.run_dir,), partial(_read, run), patience_s=patience_s)
        except NoAnswerError as error:
            silent[run.run_dir] = SilentRun(run=run, mount=error.path)
            continue
        except PermissionError:
            continue
        except OSError:  # the server of its mount has died
            silent[run.run_dir] = SilentRun(run=run, mount=run.run_dir)
            continue
        if spec is not None:
            seen[spec.run_dir] = spec
    return sorted(seen.values(), key=lambda a: (a.name, a.run_dir)), list(silent.values())


def listed_as(run_dir: Path) -> ListedRun:
    """What the list says of the run in a folder; its path alone where it is not listed."""
    fitting = (run for run in listed_runs() if run.run_dir == str(run_dir))
    return next(fitting, ListedRun(run_dir=str(run_dir)))


def closed_list() -> Path | None:
    """The folder of the system service's runs, where it is there and closed to us."""
    try:
        os.listdir(SYSTEM_STATE / "runs")
    except PermissionError:
        return SYSTEM_STATE
    except OSError:
        return None
    return None


def gone_runs(known: Collection[RunSpec], silent: Collection[SilentRun] = ()) -> list[ListedRun]:
    """Those of the lists that are none of these: their run dir is gone, or holds no run any more."""
    there = {spec.run_dir for spec in known} | {one.run.run_dir for one in silent}
    others = [run for run in listed_runs() if run.run_dir is not None and run.run_dir not in there]
    here = [run for run in others if _moved(run) is None]
    return [run for run in here if not os.path.lexists(os.path.join(str(run.run_dir), "supervisor"))]


def listed_runs() -> Iterator[ListedRun]:
    """Of our list, and of the system service's."""
    yield from chain(*map(_listed_in, (state_dir(), SYSTEM_STATE)))


def _of_everybody() -> Iterator[ListedRun]:
    """What lives here, and what the lists of other people say, where we may read them."""
    yield from (ListedRun(name=run.name, run_dir=run.run_dir) for run in live_runs())
    yield from chain(*map(_listed_in, state_folders()))


def _listed_in(state: Path) -> Iterator[ListedRun]:
    try:
        files = sorted((state / "runs").glob("*.json"))
    except OSError:
        return
    yield from (replace(decode_or(ListedRun, read_json(file)), file=str(file)) for file in files)


def _read(run: ListedRun) -> RunSpec | None:
    run_dir = Path(run.run_dir or os.devnull)
    known = run.name if run.name is not None and NAME.fullmatch(run.name) else None
    return load_run_spec(run_dir) or lost_run(run_dir, known) or _moved(run)


def _moved(run: ListedRun) -> RunSpec | None:
    """Where it is, before its supervisor has noticed."""
    there = None if run.supervisor is None else lock.folder_of(run.supervisor)
    return None if there is None else load_run_spec(there)
