"""Every run that lives on this machine, whoever started it, as the command line of its monitor names it."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc

MONITOR: Final = "fred_supervisor.monitor"


@record
class BoxRun:
    """A live run of some user."""

    uid: int
    name: str
    run_dir: str
    supervisor: int
    """Its pid."""

    @property
    def user(self) -> str:
        return user_name(self.uid)


def live_runs() -> list[BoxRun]:
    """Those whose monitor can be seen: not within another container, nor where /proc hides other people's processes."""
    found = []
    for pid in proc.pids():
        words = proc.command_line(pid)[:-1]
        if words[1:3] != ["-m", MONITOR] or len(words) != 5:
            continue
        process, uid = proc.stat(pid), proc.owner(pid)
        if process is not None and uid is not None:
            found.append(BoxRun(uid=uid, name=words[3], run_dir=words[4], supervisor=process.parent))
    return found


def of_others() -> list[BoxRun]:
    """Those of other users. Our own are in our list, or in one that we did not ask for."""
    return [run for run in live_runs() if run.uid != os.geteuid()]


def state_folders() -> Iterator[Path]:
    """Where every user of this machine keeps the list of runs; root may read them."""
    for home in dict.fromkeys(user.pw_dir for user in pwd.getpwall()):
        yield Path(home, ".local/state/fred-supervise")


def owner_name(path: Path) -> str | None:
    """Whose a file or folder is; None when there is none."""
    try:
        return user_name(os.stat(path).st_uid)
    except OSError:
        return None


def user_name(uid: int) -> str:
    """The number of a user who has no name here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
