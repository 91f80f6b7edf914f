"""An error of the machine: which, where, and how it is told."""

from enum import StrEnum
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import Message, Topic, say


class FaultKind(StrEnum):
    """What the machine lacks; a word of it stands in messages."""

    FULL = "full"
    """No room, no quota, no free name."""
    MISSING = "missing"
    """A program, a folder or a data path that was there."""
    NO_ANSWER = "answer"
    """A file system on which every call hangs."""
    UNREADABLE = "read"
    UNWRITABLE = "written"
    UNEXECUTABLE = "executed"
    NO_PROCESS = "process"
    NO_MEMORY = "memory"
    NO_DESCRIPTOR = "open file"


@record
class MachineFault:
    """An error of the machine, and what can be looked at to see whether it is over."""

    kind: FaultKind
    path: str | None = None
    why: str | None = None
    """In the words of the operating system."""
    free_mib: float | None = None
    wanted_mib: float | None = None
    since: str | None = None
    """When it was first seen: RFC 3339, UTC."""
    seen: bool = False
    """It was still so when somebody looked; False: only somebody's words speak of it."""

    @property
    def message(self) -> Message:
        topic = _FAULTS.get(self.kind, Topic.MACHINE_SHORT)
        sizes = {"free_mib": self.free_mib, "wanted_mib": self.wanted_mib}
        return say(topic, kind=str(self.kind), path=self.path, why=self.why, since=self.since, **sizes)


_FAULTS: Final = {
    FaultKind.FULL: Topic.DISK_FULL,
    FaultKind.MISSING: Topic.DATA_GONE,
    FaultKind.NO_ANSWER: Topic.NO_ANSWER,
    FaultKind.UNREADABLE: Topic.PATH_UNUSABLE,
    FaultKind.UNWRITABLE: Topic.PATH_UNUSABLE,
    FaultKind.UNEXECUTABLE: Topic.PATH_UNUSABLE,
}


def is_environment(text: str) -> bool:
    """Whether an error of a trainer speaks of the machine."""
    signs = (
        "Input/output error",
        "Stale file handle",
        "Address already in use",
        "EADDRINUSE",
        "CUDA driver initialization failed",
        "cudaErrorSystemNotReady",
        "No CUDA GPUs are available",
        "unsupported display driver / cuda driver combination",
    )
    return any(sign in text for sign in signs)
