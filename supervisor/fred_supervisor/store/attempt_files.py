"""The small files of one attempt: who runs (`launch.json`), and how it ended (`exit.json`).

The keeper writes them, and imports no more than it must; here is their one reader.
"""

from collections.abc import Mapping
from dataclasses import field

from fred_supervisor.contract.decode import decode, decode_or
from fred_supervisor.contract.files import read_json
from fred_supervisor.contract.record import record
from fred_supervisor.linux import proc
from fred_supervisor.linux.proc import Identity, Survivor
from fred_supervisor.store.layout import AttemptDir, RunDir, last_attempt


@record
class LaunchRecord:
    """One launch. What is not known is None or empty."""

    time: str | None = None
    """RFC 3339, UTC."""
    keeper: Identity | None = None
    trainer: Identity | None = None
    resume: str | None = None
    """The checkpoint that the attempt was told to resume from."""
    cgroup: str | None = None
    """The folder of the trainer's own control group."""
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
    survivors: tuple[Survivor, ...] = ()
    """Processes that SIGKILL has not ended yet."""


def read_launch(folder: AttemptDir) -> LaunchRecord:
    return decode_or(LaunchRecord, read_json(folder.launch))


def read_exit(folder: AttemptDir) -> ExitRecord | None:
    """None while it has not ended, or when nobody could write how."""
    return decode(ExitRecord, read_json(folder.exit))


def trainer_lives(run: RunDir) -> bool:
    """Whether the trainer of the newest attempt is alive."""
    return proc.alive(read_launch(run.attempt(last_attempt(run))).trainer)
