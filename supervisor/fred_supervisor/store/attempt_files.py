"""The small files of one attempt: who runs (`launch.json`), and how it ended (`exit.json`).

The keeper writes them, and imports no more than it must; here is their one reader.
"""

import os
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from fred_supervisor.contract import environment
from fred_supervisor.contract.decode import decode, decode_or
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity, Survivor
from fred_supervisor.policy.history import Overrides
from fred_supervisor.store import lock
from fred_supervisor.store.layout import AttemptDir, RunDir, last_attempt
from fred_supervisor.store.place import leads_to, may_name, may_speak_for, place_of, says_so


@record
class LaunchRecord:
    """One launch. What is not known is None or empty."""

    time: str | None = None
    """RFC 3339, UTC."""
    keeper: Identity | None = None
    trainer: Identity | None = None
    resume: str | None = None
    """The checkpoint that the attempt was told to resume from."""
    session: str | None = None
    """The kernel's name of the trainer's session, where it has one."""
    cgroup: str | None = None
    """The folder of the trainer's own control group."""
    place: str | None = None
    """Device and inode of the run dir at the launch."""
    paths: Mapping[str, int] = field(default_factory=dict)
    """What the command names and needs, and was there: path → device."""
    overrides: Overrides | None = None
    members: tuple[int, ...] = ()
    """The machines that it counts on, where there is no scheduler."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the trainer was given: the variables of the contract, and those of CUDA."""


@record
class EndedProcess:
    """One that the command has left, and the keeper has ended."""

    pid: int
    name: str


@record
class ExitRecord:
    """How the trainer ended."""

    time: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    exec_error: str | None = None
    """The command could not be executed."""
    exec_errno: int | None = None
    exec_path: str | None = None
    """The program or folder that the error is about."""
    survivors: tuple[Survivor, ...] = ()
    """Processes that SIGKILL has not ended yet."""
    ended: tuple[EndedProcess, ...] | None = None
    """None: not known."""


def read_launch(folder: AttemptDir) -> LaunchRecord:
    """Without live processes and control groups that are not of this run dir: copies and forgeries name such, too."""
    launch = decode_or(LaunchRecord, read_json(folder.launch))
    supervisor = folder.path.parents[1]
    here = place_of(supervisor.parent)
    ours = leads_to(here, launch.place, launch.environment.get(environment.RUN_DIR))

    def checked(who: Identity | None) -> Identity | None:
        """The environment of a process is no forgery; where a wrapper has cleared it, the file has to do."""
        if who is None or who.boot != proc.boot_id():
            return who
        if not proc.alive(who):
            return who if ours else None
        return who if says_so(who.pid, here) or (ours and may_name(folder.launch, supervisor, who.pid)) else None

    group = launch.cgroup
    if group is not None and not (
        ours and _is_group(group, launch.place) and _speaks_for(folder.launch, supervisor, group)
    ):
        group = None
    return replace(launch, keeper=checked(launch.keeper), trainer=checked(launch.trainer), cgroup=group)


def _is_group(path: str, place: str | None) -> bool:
    """Whether a path may be that of a group that a keeper has made, for a run that lay there; see `launch.spawn`."""
    name = os.path.basename(path)
    return os.path.isabs(path) and name.startswith("fred-") and (place is None or f"-{place}-" in name)


def _speaks_for(file: Path, supervisor: Path, group: str) -> bool:
    try:
        return may_speak_for(file, supervisor, os.lstat(group).st_uid)
    except OSError:  # gone: nothing is in it
        return False


def read_exit(folder: AttemptDir) -> ExitRecord | None:
    """None while it has not ended, or when nobody could write how."""
    return decode(ExitRecord, read_json(folder.exit))


def launched_elsewhere(run: RunDir, number: int) -> str | None:
    """The run dir that an attempt was launched for, where this one is a copy of it that does not know how it ended."""
    launch = read_launch(run.attempt(number))
    before = launch.environment.get(environment.RUN_DIR)
    if launch.place is None or leads_to(place_of(run.path), launch.place, before) or read_exit(run.attempt(number)):
        return None
    return before


def trainer_lives(run: RunDir) -> bool:
    """Whether the trainer of the newest attempt is alive."""
    return proc.alive(read_launch(run.attempt(last_attempt(run))).trainer)


def keeper_unseen(run: RunDir) -> bool:
    """Whether the keeper of the newest attempt lives where we do not see it, or not as who it is.

    It holds a lock on the attempt's folder. In a pid namespace of its own nobody is seen who holds it, in a time
    namespace everybody has started at another time (time_namespaces(7)).
    """
    folder = run.attempt(last_attempt(run))
    holders = lock.holders_of(folder.path)
    if holders is None:
        return False
    keeper = decode_or(LaunchRecord, read_json(folder.launch)).keeper
    return not holders or (keeper is not None and keeper.pid in {who.pid for who in holders} and keeper not in holders)


def is_live(run: RunDir) -> bool:
    """Its supervisor or its trainer lives, here or where we cannot see it."""
    return lock.held(run) or trainer_lives(run) or keeper_unseen(run)
