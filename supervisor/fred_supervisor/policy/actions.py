"""What is done about it: the closed set of actions."""

from dataclasses import dataclass, field
from typing import Final

from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.contract.record import record
from fred_supervisor.policy.cause import Diagnosis, Evidence
from fred_supervisor.policy.message import JournalEvent, Message


@dataclass(frozen=True)
class AskGpu:
    """Ask the monitor whether the next attempt can have a GPU; the answer comes as `Observation.admission`."""


@record
class ReleaseGpus:
    """Let other runs have our GPUs; an answer that is still to come is no longer wanted."""

    nvml: bool = False
    """Have the monitor close NVML, too: an open one blocks the GPU reset that is waited for."""


@record
class Spawn:
    """Start attempt `history.attempt` of the state that comes with this."""

    gpus: tuple[str, ...] = ()
    """UUIDs; empty: none was chosen, and the trainer sees what it would see without us."""
    shared: bool = False
    """Another run may hold them as well."""


@record
class AnswerStart:
    """Tell the command `start`, which waits for it, how the first launch went."""

    error: str | Message | None
    """Why the command cannot be launched; None: the run is on its way."""


@dataclass(frozen=True)
class DumpStacks:
    """Have the trainer's stacks written to its output."""


@dataclass(frozen=True)
class Terminate:
    """SIGTERM to every process that beats, else to the command, and SIGCONT where it may be stopped."""

    wake: bool = False


@dataclass(frozen=True)
class Kill:
    """SIGKILL to the whole tree."""


@dataclass(frozen=True)
class Replay:
    """Run to the failing step of the newest incident again, alone; what came of it is `Observation.replayed`."""


@record
class Report:
    """Write an incident."""

    diagnosis: Diagnosis
    evidence: Evidence
    action: Message
    """What is done about it."""


@record
class Note:
    """A line for the journal, and for `detail` of the status."""

    event: JournalEvent
    message: Message


@dataclass(frozen=True)
class Recovered:
    """Training has come further than ever: the incidents that it has passed are over."""

    beat: Beat | None = field(default=None, compare=False)
    """Where it is."""


@dataclass(frozen=True)
class WentOn:
    """An attempt has said its first position: what the failure before it has cost can be told."""

    beat: Beat
    """That position."""
    from_the_beginning: bool
    """No further than where the run began."""


Action = (
    AskGpu
    | ReleaseGpus
    | Spawn
    | AnswerStart
    | DumpStacks
    | Terminate
    | Kill
    | Replay
    | Report
    | Note
    | Recovered
    | WentOn
)

PASSING: Final = (AskGpu, DumpStacks)
"""Actions of which the next supervisor need not know: the snapshot before them is not forced onto the disk."""
