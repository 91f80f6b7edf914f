"""The kinds of warnings, and how each begins and ends."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from fred_supervisor.contract.record import record
from fred_supervisor.policy.message import JournalEvent


class WarningKind(StrEnum):
    """Of a warning, as programs read it."""

    SLOW = "slow"
    """Training is slower than it was in this run."""
    LEAK = "leak"
    """Memory or open files grow towards a limit."""
    DIVERGING = "diverging"
    """The loss explodes, or the metric has collapsed."""
    FLAT = "flat"
    """Nothing is learned: a loss, a metric or a learning rate that stays where it is."""
    DISK = "disk"
    """The disk will be full."""
    GPU_MEMORY = "gpu_memory"
    """The trainer's share of a GPU's memory grows towards its end."""
    CLOCK = "clock"
    """The wall clock of the machine was set."""
    CHECKPOINTS = "checkpoints"
    """There is none, though training has gone on long enough for one."""
    RESUME = "resume"
    """What was resumed is not what was saved."""
    SLEEP = "sleep"
    """The machine has slept, or nothing keeps it from it."""
    DRIVER = "driver"
    """The NVIDIA driver was replaced under the run, or may be."""
    WSL = "wsl"
    """A trap of the Windows Subsystem for Linux."""
    SHM = "shm"
    """There is too little room in /dev/shm."""
    STALLED = "stalled"
    """A disk, a network file system or a driver does not answer."""


@record
class WarningRow:
    """How warnings of one kind begin and end. Seconds of the monotonic clock."""

    after_s: float = 0.0
    """A sign must be there for so long before it is a warning."""
    over_s: float = 0.0
    """It must be well for so long before the warning is over."""
    lasts_s: float | None = None
    """Over so long after the last sign, whatever is seen: it is an event, and no state. None: nothing ends it but to
    be seen well."""
    of_attempt: bool = False
    """It is over when the attempt is."""
    begins: JournalEvent = JournalEvent.WARNING
    """Under which it stands in the journal, and goes out as an alert."""


ROWS: Final[Mapping[WarningKind, WarningRow]] = {
    WarningKind.SLOW: WarningRow(over_s=60.0, of_attempt=True),
    WarningKind.LEAK: WarningRow(after_s=60.0, over_s=300.0, of_attempt=True),
    WarningKind.DIVERGING: WarningRow(),
    WarningKind.FLAT: WarningRow(),
    WarningKind.DISK: WarningRow(over_s=120.0, begins=JournalEvent.DISK),
    WarningKind.GPU_MEMORY: WarningRow(over_s=60.0, of_attempt=True, begins=JournalEvent.MEMORY_FORECAST),
    WarningKind.CLOCK: WarningRow(lasts_s=3600.0),
    WarningKind.CHECKPOINTS: WarningRow(after_s=60.0),
    WarningKind.RESUME: WarningRow(of_attempt=True),
    WarningKind.SLEEP: WarningRow(lasts_s=3600.0),
    WarningKind.DRIVER: WarningRow(),
    WarningKind.WSL: WarningRow(),
    WarningKind.SHM: WarningRow(over_s=120.0),
    WarningKind.STALLED: WarningRow(),
}
