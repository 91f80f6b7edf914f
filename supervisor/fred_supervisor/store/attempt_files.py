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
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the trainer was given: the variables of the contract, and those of CUDA."""


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
    if group is not None and not (ours and _is_group(group) and _speaks_for(folder.launch, supervisor, group)):
        group = None
    return replace(launch, keeper=checked(launch.keeper), trainer=checked(launch.trainer), cgroup=group)


def _is_group(path: str) -> bool:
    """Whether a path may be that of a group that a keeper has made."""
    return os.path.isabs(path) and os.path.basename(path).startswith("fred-")


def _speaks_for(file: Path, supervisor: Path, group: str) -> bool:
    try:
        return may_speak_for(file, supervisor, os.lstat(group).st_uid)
    except OSError:  # gone: nothing is in it
        return False


def read_exit(folder: AttemptDir) -> ExitRecord | None:
    """None while it has not ended, or when nobody could write how."""
    return decode(ExitRecord, read_json(folder.exit))


def trainer_lives(run: RunDir) -> bool:
    """Whether the trainer of the newest attempt is alive."""
    return proc.alive(read_launch(run.attempt(last_attempt(run))).trainer)
