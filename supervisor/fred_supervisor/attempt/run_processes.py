"""Which processes are of a run: found by control group, keeper, session and environment together.

Each alone misses somebody: a wrapper clears the environment, a daemon leaves the session, a keeper dies, and not every
machine has control groups that we may use.
"""

import os

from fred_supervisor.linux import cgroup, proc
from fred_supervisor.linux.proc import Identity
from fred_supervisor.store.attempt_files import read_launch
from fred_supervisor.store.layout import last_attempt
from fred_supervisor.store.place import may_name, place_of, says_so
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
    tree = roots.union(*(proc.descendants(pid) for pid in roots)) - {os.getpid()}
    identities = [proc.identify(pid) for pid in sorted(tree)]
    return [who for who in identities if who is not None and proc.alive(who)]


def _owner(spec: RunSpec) -> int | None:
    """Whose run it is: another user's processes are not of it, whatever stands in their environment."""
    try:
        return os.stat(spec.dir.supervisor).st_uid
    except OSError:
        return None
