"""Where a run lies, and who may speak for it. A run is its id and its place: a copy of its folder is another run.

Files can be copied, moved, restored and forged; what the kernel says of a process cannot. So a file that names a
process is believed only where the process itself says so, or where nobody else can have written the file.
"""

import os
import stat
from functools import partial
from pathlib import Path

from fred_supervisor.contract import environment
from fred_supervisor.linux import proc
from fred_supervisor.linux.lookout import Lookout, NoAnswerError

_elsewhere = Lookout()
"""Who looks at paths that processes name: anybody can write one, into a mount that hangs."""


def place_of(run_dir: str | os.PathLike[str]) -> str | None:
    """Device and inode of a run dir: it keeps them when it is moved, and a copy has others. None when it is gone."""
    try:
        found = os.stat(run_dir)
    except OSError:
        return None
    return f"{found.st_dev:x}.{found.st_ino:x}"


def leads_to(here: str | None, place: str | None, run_dir: str | None) -> bool:
    """Whether who was launched in `place`, with the path `run_dir`, belongs to what lies `here` now.

    By its place, also after a move; by its path, also after a backup was restored there.
    """
    return here is not None and (place == here or (bool(run_dir) and _place_named(run_dir or "") == here))


def _place_named(run_dir: str) -> str | None:
    """None, too, where it does not answer: what we know the place of does."""
    try:
        return _elsewhere.look((run_dir,), partial(place_of, run_dir))
    except (NoAnswerError, OSError):
        return None


def says_so(pid: int, here: str | None, run_id: str | None = None) -> bool:
    """Whether a process was given the environment of a trainer of the run that lies `here`, and of this id."""
    given = proc.environment(pid, (environment.RUN_ID, environment.RUN_PLACE, environment.RUN_DIR))
    theirs = given.get(environment.RUN_ID)
    if not theirs or (run_id is not None and theirs != run_id):
        return False
    return leads_to(here, given.get(environment.RUN_PLACE), given.get(environment.RUN_DIR))


def of_folder(run_dir: str | os.PathLike[str]) -> list[int]:
    """Every process that says that it is of the run which lies there."""
    here = place_of(run_dir)
    return [pid for pid in proc.pids() if says_so(pid, here)]


def may_name(file: Path, supervisor: Path, pid: int) -> bool:
    """Whether a file below the folder `supervisor` is believed when it names a process: its owner has written it.

    Or we could not signal it anyway, as with what `sudo` has started.
    """
    owner = proc.owner(pid)
    return owner is not None and (os.geteuid() not in (0, owner) or may_speak_for(file, supervisor, owner))


def may_speak_for(file: Path, supervisor: Path, owner: int) -> bool:
    """Whether nobody but `owner` and root can have written a file below the folder `supervisor`."""
    folders = [folder for folder in file.parents if folder == supervisor or supervisor in folder.parents]
    writers = set()
    for path in (file, *folders):
        try:
            found = os.lstat(path)
        except OSError:
            return False
        if stat.S_ISLNK(found.st_mode) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        writers.add(found.st_uid)
    return writers <= {0, owner}
