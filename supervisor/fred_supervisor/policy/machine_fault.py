"""An error of the machine: which, where, and how it is told."""

from enum import StrEnum
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.linux.killers import Killer
from fred_supervisor.policy.message import Message, Topic, say


class FaultKind(StrEnum):
    """What the machine lacks; a word of it stands in messages."""

    FULL = "full"
    """No room, no quota, no free name."""
    MISSING = "missing"
    """A program, a folder or a data path that was there."""
    NO_ANSWER = "answer"
    """A file system on which every call hangs."""
    NODE_ABSENT = "machine"
    """Another machine, which has not joined."""
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


def looked_at_after_s(fault: MachineFault | None, reprobe_s: float) -> float:
    """Until the next look: whether another machine has come is one small file, and all of them wait for it."""
    absent = fault is not None and fault.kind is FaultKind.NODE_ABSENT
    return min(reprobe_s, _SIGN_S) if absent else reprobe_s


_SIGN_S: Final = 1.0
_FAULTS: Final = {
    FaultKind.FULL: Topic.DISK_FULL,
    FaultKind.MISSING: Topic.DATA_GONE,
    FaultKind.NO_ANSWER: Topic.NO_ANSWER,
    FaultKind.NODE_ABSENT: Topic.NODE_ABSENT,
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


def cuda_unknown(text: str, *, slept: bool) -> Message | None:
    """CUDA's error without a name, where the machine is to blame: at its start, and anywhere after a sleep.

    A suspend leaves the module nvidia_uvm in a state that new processes cannot use (pytorch#88639).
    """
    if "CUDA unknown error" in text or (slept and "CUDA error: unknown error" in text):
        return say(Topic.CUDA_NAMELESS, slept=slept)
    return None


def said_of(killer: Killer | None) -> Message | None:
    """Who sent the SIGKILL, as the end of a sentence."""
    if killer is None:
        return None
    facts = {"group": killer.group, "why": killer.why, "command": killer.command, "user": killer.user}
    return say(Topic.KILLER, killer=str(killer.kind), **facts)
