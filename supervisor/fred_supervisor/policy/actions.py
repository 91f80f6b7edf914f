"""What is done about it: the closed set of actions."""

from dataclasses import dataclass

from fred_supervisor.policy.cause import Diagnosis, Evidence


@dataclass(frozen=True)
class Launch:
    """Start attempt `book.attempt` of the state that comes with this."""


@dataclass(frozen=True)
class DumpStacks:
    """Have the trainer's stacks written to its output."""


@dataclass(frozen=True)
class Terminate:
    """SIGTERM to the trainer alone, and SIGCONT where it may be stopped."""

    wake: bool = False


@dataclass(frozen=True)
class Kill:
    """SIGKILL to the whole tree."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write an incident."""

    diagnosis: Diagnosis
    evidence: Evidence
    told: str
    """What was done about it."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """A line for the journal, and for `detail` of the status."""

    event: str
    text: str


@dataclass(frozen=True)
class Recovered:
    """Training has passed the furthest point again: incidents before are over."""


Action = Launch | DumpStacks | Terminate | Kill | Report | Note | Recovered
