"""The states that a run can be in."""

from enum import StrEnum

from fred_supervisor.contract.record import record
from fred_supervisor.linux.proc import Survivor
from fred_supervisor.policy.cause import Cause, EndedBy
from fred_supervisor.policy.history import RunHistory, RunOutcome
from fred_supervisor.policy.machine_fault import MachineFault
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.warnings.machine import MachineLook
from fred_supervisor.policy.warnings.memory import MemoryWatch
from fred_supervisor.policy.warnings.speed import SpeedWatch
from fred_supervisor.policy.watch import Watch


@record
class AwaitingGpu:
    """The next attempt waits for word whether it can have a GPU; `history` ends with the attempt before."""

    history: RunHistory
    ask_s: float | None = None
    """When the monitor is asked again; None: it was asked, and its answer is to come."""
    waits_for: Message | None = None
    """What was in the way, and may be gone in a moment; for a person."""
    at_start: bool = False
    """The command `start` waits for word."""


@record
class Starting:
    """A launch was ordered; the keeper has not yet said that the trainer runs."""

    history: RunHistory
    request: Request | None = None
    """Asked for meanwhile; obeyed when there is a trainer that can be asked."""
    at_start: bool = False
    """The command `start` waits for word."""


@record
class EpochTimes:
    """How long epochs last."""

    epoch: int
    began_s: float
    before_s: float | None = None
    """How long the one before took; None: not known."""


@record
class Running:
    """The trainer is alive."""

    history: RunHistory
    watch: Watch
    since_s: float
    """When it was launched, or adopted."""
    passed_s: tuple[float, float] | None = None
    """When this attempt first and last trained further than ever."""
    speed: SpeedWatch = SpeedWatch()
    memory: MemoryWatch = MemoryWatch()
    machine: MachineLook | None = None
    """The newest sample of the monitor."""
    epoch: EpochTimes | None = None
    told_seq: int | None = None
    """The record that the learning was last read from."""


class Rung(StrEnum):
    """The steps by which a trainer is ended."""

    DUMP = "dump"
    TERM = "term"
    KILL = "kill"


@record
class Stopping:
    """The trainer is being ended."""

    history: RunHistory
    watch: Watch
    by: EndedBy
    rung: Rung
    until_s: float
    """When the next rung follows."""
    dump_s: float | None = None
    """When the stacks are dumped once more, to see whether they move, or looked for once more, while they are still
    being written; None: they were, or need not be."""
    stalled_s: float | None = None
    """How long it had made no progress, for a hang."""
    rank: int | None = None
    """Which of several ranks hangs."""
    missing_line: str | None = None
    """The pattern of a line that has not come again in time."""
    line: Message | None = None
    """What means that it has failed, though it went on."""


@record
class Unkillable:
    """The end of a trainer that SIGKILL has begun and not finished."""

    survivors: tuple[Survivor, ...]
    by: EndedBy | None
    """Why we ended it, if we did."""
    stalled_s: float | None = None


@record
class BackingOff:
    """Back-off before a relaunch."""

    history: RunHistory
    until_s: float


@record
class Holding:
    """Will not relaunch until a condition clears."""

    history: RunHistory
    cause: Cause
    condition: Message
    """What is waited for, for a person."""
    since_s: float
    probe_s: float
    """When the condition is looked at next."""
    fault: MachineFault | None = None
    """The same as something to look at; None: whether it is over, only the next attempt can tell."""
    failing: Message | None = None
    """How the run ends unless a replay, which runs meanwhile, does not fail again."""
    unkillable: Unkillable | None = None
    """What is waited for is the end of these processes; nothing else clears it."""


@record
class Paused:
    """Let go of the GPU, by request."""

    history: RunHistory
    quiet: Message | None = None
    """The quiet hours whose end ends it; None: a person asked, and a person ends it."""


@record
class Ended:
    """Nothing of the run is left."""

    history: RunHistory
    outcome: RunOutcome
    message: Message
    again: bool = False
    """An engine has asked us to leave, and is to run us again."""


State = AwaitingGpu | Starting | Running | Stopping | BackingOff | Holding | Paused | Ended
