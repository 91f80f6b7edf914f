"""Which processes are of a run: found by control group, keeper, session and environment together.

Each alone misses somebody: a wrapper clears the environment, a daemon leaves the session, a keeper dies, and not every
machine has control groups that we may use.
"""

import os
import re
import signal
from typing import Final

from fred_supervisor.contract import environment
from fred_supervisor.linux import cgroup, proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.store import lock
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.place import may_name, place_of, says_so
from fred_supervisor.store.registry import known_runs
from fred_supervisor.store.run_spec import RunSpec


def processes_of(spec: RunSpec) -> list[Identity]:
    """Every live process of a run that lies where it lies, ourselves excepted."""
    folder = spec.dir.attempt(last_attempt(spec.dir))
    launch, here, owner = read_launch(folder), place_of(spec.run_dir), _owner(spec)
    roots = {who.pid for who in (launch.keeper, launch.trainer) if who is not None and proc.alive(who)}
    if launch.cgroup is not None:
        roots.update(cgroup.members(launch.cgroup))
    for pid in proc.pids():
        if launch.trainer is not None and proc.in_session(pid, launch.trainer, launch.session):
            found = may_name(folder.launch, spec.dir.supervisor, pid)
        else:
            found = says_so(pid, here, spec.run_id) and owner in (0, proc.owner(pid))
        if found:
            roots.add(pid)
    return proc.alive_below(roots)


def remove_group(spec: RunSpec) -> None:
    """The control group of the newest attempt, where nobody is left in it: its keeper could not."""
    group = read_launch(spec.dir.attempt(last_attempt(spec.dir))).cgroup
    if group is not None:
        cgroup.remove(group)


_DELETED: Final = re.compile(r"/supervisor/attempts/\d+(/[^/]*)? \(deleted\)$")
"""What the kernel calls an open folder or file of an attempt whose run dir was deleted."""


def left_behind(spec: RunSpec) -> Identity | None:
    """A process of the run's id whose run dir was deleted, and which nobody watches; what it writes there is lost.

    Its run dir may have been moved, and restored from a backup since: nothing else tells of which folder it was.
    """
    here, owner = place_of(spec.run_dir), _owner(spec)
    found = {
        pid
        for pid in proc.pids()
        if proc.environment(pid, {environment.RUN_ID}).get(environment.RUN_ID) == spec.run_id
        and not says_so(pid, here)
        and owner in (None, 0, proc.owner(pid))
        and any(map(_DELETED.search, proc.open_files(pid)))
        and not proc.ignores(pid, signal.SIGTERM)  # its keeper, which leaves after it
    }
    topmost = [who for pid in sorted(found) if (who := proc.identify(pid)) is not None and not _below(pid, found)]
    if not topmost or any(lock.held(one.dir) for one in known_runs() if one.run_id == spec.run_id):
        return None
    return topmost[0]


def _below(pid: int, others: set[int]) -> bool:
    seen = proc.stat(pid)
    return seen is not None and seen.parent in others


def _owner(spec: RunSpec) -> int | None:
    """Whose run it is: another user's processes are not of it, whatever stands in their environment."""
    try:
        return os.stat(spec.dir.supervisor).st_uid
    except OSError:
        return None
