"""What is seen of the world at one moment."""

from dataclasses import dataclass
from enum import StrEnum

from fred_supervisor.policy.admission import Deny
from fred_supervisor.policy.cause import Evidence
from fred_supervisor.policy.state import Survivor
from fred_supervisor.policy.watch import HeartbeatReading


class Request(StrEnum):
    """What a person or the service manager asks for; last, what the clock does."""

    STOP = "stop"
    PAUSE = "pause"
    RESUME = "resume"
    RESTART = "restart"
    QUIET = "quiet hours"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One observation. What was not looked at, or could not be seen, is None or empty."""

    now_s: float
    """CLOCK_MONOTONIC."""
    late_s: float = 0.0
    """How much later than asked we woke up: our own starvation."""
    launched: bool = False
    """The keeper said that the trainer runs."""
    looks: tuple[HeartbeatReading, ...] = ()
    new_checkpoint: bool = False
    """A new file of `--checkpoints` appeared."""
    busy: bool | None = None
    """The trainer's tree burned CPU or did I/O since the look before."""
    stacks_moved: bool | None = None
    """Two stack dumps differ."""
    dumping: bool = False
    """The stacks are still being written."""
    survivors: tuple[Survivor, ...] = ()
    """The trainer has ended, or was told to by SIGKILL; these processes of it have not, for seconds now."""
    ended: Evidence | None = None
    """The trainer and its whole tree are gone."""
    request: Request | None = None
    clear: bool | None = None
    """What is held for has cleared."""
    barred: Deny | None = None
    """The launch that was ordered cannot be made now, or what is held for has not cleared: why."""
    quiet: str = ""
    """The quiet hours that hold now, for a person; empty: none."""
