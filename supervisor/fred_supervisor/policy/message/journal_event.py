"""What the journal is about, and which of its lines people are alerted of."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class JournalEvent(StrEnum):
    """What a line of the journal is about; the words stand in `journal.jsonl`."""

    ADOPTED = "adopted"
    """A supervisor has found the attempt alive that another one had started."""
    ALARM = "alarm"
    """The trainer says that a person should see to something, and trains on."""
    ALARM_OVER = "alarm over"
    ANSWERS_AGAIN = "answers again"
    ALERT_LOST = "alert lost"
    """An address did not take an alert."""
    ALERT_SENT = "alert sent"
    CHECKPOINT_PASSED_OVER = "checkpoint passed over"
    """A checkpoint is not valid."""
    CLEARED = "cleared"
    """What the run was held for is over."""
    COMPLETED = "completed"
    COPIED = "copied"
    """The newest attempt was launched for another folder, of which this one is a copy."""
    DAILY_SUMMARY = "daily summary"
    DISK = "disk"
    """The disk is on its way to be full."""
    DIVERGING = "diverging"
    """The trainer is ended, because training goes wrong (`--on-divergence`)."""
    FAILED = "failed"
    FAILED_LINE = "failed line"
    """The trainer has printed that it has failed, and is ended."""
    FILE_RESTORED = "file restored"
    """A file of ours was garbled or deleted by somebody, and is written again."""
    GPU = "GPU"
    """A GPU of the trainer is not well."""
    GPU_UNKNOWN = "GPU unknown"
    """The driver does not answer."""
    HANG = "hang"
    """The trainer is ended, because it makes no progress."""
    HELD = "held"
    """A launch has to wait for a condition."""
    INCIDENT = "incident"
    INCIDENT_LOST = "incident lost"
    """It waited for room on the disk when its supervisor died."""
    KEEPER_LOST = "keeper lost"
    LAUNCHED = "launched"
    MEMORY_FORECAST = "memory forecast"
    """The trainer's memory on a GPU rises towards its end."""
    MONITOR = "monitor"
    """The monitor hangs, and is started anew."""
    MOVES_AGAIN = "moves again"
    """A stalled trainer makes progress."""
    MACHINE = "machine"
    """An error of the machine costs one thing that was to be seen, written or done; the watch goes on."""
    NO_ANSWER = "no answer"
    """A file system that a pattern or the data lead to; what would be seen there is not known meanwhile."""
    NOT_DONE = "not done"
    """A defect of ours costs one thing that was to be seen, written or done; the watch goes on."""
    OUTPUT_CAPPED = "output capped"
    PAUSE = "pause"
    """Asked for."""
    PAUSED = "paused"
    PING_LOST = "ping lost"
    PLACE = "place"
    """The control group that a detached supervisor lives in."""
    QUIET_HOURS = "quiet hours"
    POSITION = "position"
    """How the position is read from the trainer's output."""
    LEAVE = "leave"
    """Asked for by the engine that placed us."""
    REQUEUED = "requeued"
    """The engine has started the job again."""
    RESTART = "restart"
    """Asked for."""
    RUN_DIR_LOST = "run dir lost"
    RUN_DIR_MOVED = "run dir moved"
    SAVED = "saved"
    """The trainer has left with its state saved, and is launched again."""
    SAMPLES = "samples"
    """Those at which the loss rose."""
    SET_BY_HAND = "set by hand"
    """A value that was learned is outranked."""
    STALLED = "stalled"
    """The trainer makes no progress; it is not ended yet."""
    STOP = "stop"
    """Asked for."""
    STOPPED = "stopped"
    STARTED_OVER = "started over"
    """An attempt has begun from the beginning, although there was a checkpoint."""
    STRAY = "stray"
    """A process of the run was left over, and is ended."""
    SUPERSEDED = "superseded"
    UNKILLABLE = "unkillable"
    WARNING = "warning"
    """Something goes wrong without failing; which kind, its facts say."""
    WARNING_OVER = "warning over"
    WENT_ON = "went on"
    """The first position of an attempt after a failure."""

    @property
    def alert(self) -> "AlertKind | None":
        """The alert that goes with it; None: nobody is alerted."""
        return _ALERTS.get(self)


class AlertKind(StrEnum):
    """The `event` of an alert, as programs read it."""

    INCIDENT = "incident"
    """A failure, and what is done about it."""
    STALLED = "stalled"
    """No progress: the trainer will be ended unless it moves again."""
    HOLDING = "holding"
    """Nothing is relaunched until a condition clears."""
    DISK = "disk"
    """The disk will be full before long."""
    WARNING = "warning"
    """A person should see to something while training goes on."""
    FAILED = "failed"
    """Given up: somebody has to come."""
    COMPLETED = "completed"
    """The goal is reached."""
    DAILY = "daily"
    """How the last day went; nothing is wrong."""


_ALERTS: Final[Mapping[JournalEvent, AlertKind]] = {
    JournalEvent.ALARM: AlertKind.WARNING,
    JournalEvent.GPU: AlertKind.WARNING,
    JournalEvent.STARTED_OVER: AlertKind.WARNING,
    JournalEvent.MEMORY_FORECAST: AlertKind.WARNING,
    JournalEvent.WARNING: AlertKind.WARNING,
    JournalEvent.DISK: AlertKind.DISK,
    JournalEvent.STALLED: AlertKind.STALLED,
    JournalEvent.FAILED: AlertKind.FAILED,
    JournalEvent.COMPLETED: AlertKind.COMPLETED,
}
