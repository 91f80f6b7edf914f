"""What is seen of the world at one moment, and what has happened since the last look."""

from enum import StrEnum

from fred_supervisor.contract.record import record
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.policy.actions import Note
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.gpu_admission import Admit, Deny
from fred_supervisor.policy.machine_fault import MachineFault
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.warnings.held import Sign
from fred_supervisor.policy.warnings.learning import LearningPoint
from fred_supervisor.policy.warnings.machine import MachineLook
from fred_supervisor.policy.watch import HeartbeatReading


@record
class SpawnFailure:
    """The attempt that was to be started has no process."""

    reason: str = ""
    """For a person."""
    fault: MachineFault | None = None
    """The machine is to blame; None: the command is, or it is not known."""
    ours: bool = False
    """A defect of ours, and nothing that is known of the command."""
    gpu_taken: bool = False
    """Another run was faster: its GPU is no longer to be had."""


@record
class ReplayOutcome:
    """What a replay of a failure has shown."""

    passed: bool
    """It did not fail again; False also where that cannot be told."""
    message: Message


class FreshCheckpoint(StrEnum):
    """How a checkpoint is fresh."""

    NEW = "new"
    """There was none of its name."""
    REWRITTEN = "rewritten"
    """A trainer that begins at zero again writes such a one, too."""


@record
class Observation:
    """One observation. What was not looked at, or could not be seen, is None or empty."""

    now_s: float
    """CLOCK_MONOTONIC."""
    time: str | None = None
    """The wall clock, RFC 3339, for people."""
    late_s: float = 0.0
    """How much later than asked we woke up: our own starvation."""
    admission: Admit | Deny | None = None
    """The answer to `AskGpu`, once; None: there is none, or it is still to come."""
    spawn_failure: SpawnFailure | None = None
    """What became of `Spawn`."""
    launched: bool = False
    """The keeper said that the trainer runs."""
    looks: tuple[HeartbeatReading, ...] = ()
    fits: bool | None = None
    """Whether anything fits `--checkpoints`; None: it was not given, or nobody could look."""
    fresh_checkpoint: FreshCheckpoint | None = None
    """A file of `--checkpoints` appeared, or has changed."""
    saved_before: bool | None = None
    """There is a checkpoint from before the stretch in which training diverged; None: not looked at."""
    busy: bool | None = None
    """The trainer's tree burned CPU or did I/O since the look before."""
    stacks_moved: bool | None = None
    """Two stack dumps differ."""
    dumping: bool = False
    """The stacks are still being written."""
    failed_line: Message | None = None
    """What the trainer has printed that means that it has failed, though it goes on."""
    survivors: tuple[Survivor, ...] = ()
    """The trainer has ended, or was told to by SIGKILL; these processes of it have not, for seconds now."""
    ended: Evidence | None = None
    """The trainer and its whole tree are gone."""
    request: Request | None = None
    replayed: ReplayOutcome | None = None
    """What came of `Replay`, once."""
    clear: bool | None = None
    """What the run is held for is over, as far as that can be seen."""
    fault: MachineFault | None = None
    """The fault of the machine that it is held for, as it is now."""
    quiet: Message | None = None
    """The quiet hours that hold now."""
    signs: tuple[Sign, ...] = ()
    """What warnings are made of: of everything that was looked at."""
    told: tuple[LearningPoint, ...] = ()
    """What the trainer's files have told of its learning since the look before."""
    machine: MachineLook | None = None
    """A new sample of the monitor."""
    notes: tuple[Note, ...] = ()
    """For people only: nothing is decided by them."""
