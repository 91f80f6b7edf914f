"""What a person is to be told, as facts: a topic of a closed set, and its values. `words` makes the sentence.

Nothing here, and nothing else in the policy, speaks a language: so a message can be stored, compared, and said in
another language later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class Topic(StrEnum):
    """Every sentence, clause or name that is said of a run. Its values are listed beside its words."""

    # Where in training, on which GPU, what hangs: parts of other messages.
    PLACE = "place"
    LEFT_AT = "left at"
    GPU_PLACE = "gpu place"
    GPU_HEALTH = "gpu health"
    GPU_HEALTH_AT = "gpu health at"
    GPU_UNNAMED = "gpu unnamed"
    GPU_HELD_BY = "gpu held by"
    GPU_HOLDER = "gpu holder"
    GPU_HOLDERS = "gpu holders"
    HANG_PLACE = "hang place"
    HANG_STOPPED = "hang: stopped"
    HANG_IN_KERNEL = "hang: in the kernel"
    HANG_COLLECTIVE = "hang: collective operation"
    HANG_DATA = "hang: data"
    HANG_GPU = "hang: gpu"
    HANG_INTERPRETER_LOCK = "hang: interpreter lock"
    HANG_COMPUTES = "hang: computes"
    HANG_LOCK = "hang: lock"
    STUCK = "stuck"

    # Why an attempt ended.
    GOAL_REACHED = "goal reached"
    NOT_EXECUTED = "not executed"
    GPU_TROUBLE = "gpu trouble"
    NO_PROGRESS = "no progress"
    CONFIG_REFUSED = "configuration refused"
    STATE_SAVED = "state saved"
    STATE_NOT_SAVED = "state not saved"
    DISK_FULL = "disk full"
    DATA_GONE = "data gone"
    PATH_UNUSABLE = "path unusable"
    NO_ANSWER = "no answer"
    ANSWERS_AGAIN = "answers again"
    MACHINE_SHORT = "machine short"
    MACHINE_FAILED = "machine failed"
    GPU_MEMORY_OF_OTHERS = "gpu memory of others"
    CUDA_OOM = "cuda out of memory"
    HOST_OOM = "host out of memory"
    SHARED_MEMORY_SMALL = "shared memory small"
    OPEN_FILES = "open files"
    DEVICE_ASSERT = "device assert"
    CHECKPOINT_FAILED = "checkpoint failed"
    LOSS_NOT_FINITE = "loss not finite"
    CANNOT_LEARN = "cannot learn"
    DATA_UNUSABLE = "data unusable"
    NOT_LOADED = "not loaded"
    KILLED = "killed"
    SIGNAL = "signal"
    SILENT_EXIT = "silent exit"
    END_UNKNOWN = "end unknown"
    EXCEPTION = "exception"
    EXIT_CODE = "exit code"
    FAILED_LINE = "failed line"
    LOSS_PRINTED = "loss printed"
    NOT_RECURRED = "not recurred"
    REBOOTED = "rebooted"

    # What is done about it.
    RELAUNCHED_AT_ONCE = "relaunched at once"
    RELAUNCHED_AFTER = "relaunched after a back-off"
    HELD_UNTIL_CLEAR = "held until clear"
    EXPANDABLE_SEGMENTS = "expandable segments"
    HALF_UNFREEZE_BATCH = "half the unfreeze batch"
    HALF_FREEZE_BATCH = "half the freeze batch"
    HALF_EVAL_BATCH = "half the evaluation batch"
    NO_EVALUATION = "no evaluation"
    ONE_OLDER = "one checkpoint older"
    NEWEST_AGAIN = "newest checkpoint again"
    FEWER_WORKERS = "fewer workers"
    MORE_OPEN_FILES = "more open files"
    TAKEN_BACK = "taken back"
    FULL_PRECISION = "full precision"
    OWN_PRECISION = "own precision"
    LONGER_LIMIT = "longer limit"
    LIMIT_STAYS = "limit stays"
    GIVEN_UP = "given up"
    GIVEN_UP_SMALLEST = "given up: smallest batch"
    GIVEN_UP_TRIED = "given up: everything tried"
    GIVEN_UP_BUDGET = "given up: budget"
    GIVEN_UP_USELESS = "given up: hardly trains"

    # How a run ended.
    FAILED = "failed"
    COMPLETED = "completed"
    COMPLETED_BEFORE_CRASH = "completed before a crash"
    COMPLETED_DONE_FILE = "completed: done file"
    COMPLETED_UNVERIFIED = "completed: unverified"
    COMPLETED_EARLY = "completed: early"
    COMPLETED_TWICE = "completed: ended twice"
    STOPPED = "stopped"
    STOPPED_BEFORE_LAUNCH = "stopped before the launch"
    STOPPED_BACKING_OFF = "stopped while backing off"
    STOPPED_HOLDING = "stopped while holding"
    STOPPED_PAUSED = "stopped while paused"
    STOPPED_BY_OTHERS = "stopped without its supervisor"
    STOPPED_UNKILLABLE = "stopped: unkillable"
    HELD_TOO_LONG = "held too long"

    # Why nothing is launched now.
    NO_SUCH_GPU = "no such gpu"
    GPU_LEFT_OVER = "gpu: left over"
    GPU_TAKEN = "gpu: taken"
    GPU_TOO_LITTLE = "gpu: too little memory"
    SEVERAL = "several"
    UNKILLABLE = "unkillable"

    # How a GPU and its driver do.
    HEALTH_ADVISED = "health: the driver advises"
    HEALTH_LOST = "health: lost"
    HEALTH_NEEDS_RESET = "health: needs a reset"
    HEALTH_ROW_PENDING = "health: memory row pending"
    HEALTH_SLOWED = "health: slowed"
    HEALTH_UNKNOWN = "health: unknown"
    HEALTH_XID = "health: xid"
    NVML_ANSWERS = "nvml: answers"
    NVML_CLOSED = "nvml: closed"
    NVML_DIED = "nvml: died"
    NVML_ERROR = "nvml: error"
    NVML_FIRST_SAMPLE = "nvml: first sample"
    NVML_NO_BINDINGS = "nvml: no bindings"
    NVML_NO_GPU = "nvml: no gpu"
    NVML_NOT_STARTED = "nvml: not started"
    NVML_OPENING = "nvml: opening"
    NVML_SILENT = "nvml: silent"
    NVML_WEDGED = "nvml: wedged"

    # Which GPUs a program will see.
    CUDA_UNSET = "cuda: unset"
    CUDA_UNKNOWN = "cuda: unknown"
    CUDA_NAMED_TWICE = "cuda: named twice"
    CUDA_NO_SUCH_GPU = "cuda: no such gpu"
    CUDA_MEANS = "cuda: means"

    # What happens meanwhile.
    ADOPTED = "adopted"
    ALARM = "alarm"
    ALARM_OVER = "alarm over"
    ASKED = "asked"
    ASKED_BEFORE = "asked before"
    CHECKPOINT_PASSED_OVER = "checkpoint passed over"
    CLEARED = "cleared"
    DISK_FORECAST = "disk forecast"
    DISK_NO_ROOM = "disk: no room"
    FILE_RESTORED = "file restored"
    FULL_PRECISION_BY_HAND = "full precision by hand"
    GPU_DRIVER = "gpu driver"
    GPU_WILL_BE_FULL = "gpu will be full"
    INCIDENT = "incident"
    KEEPER_LOST = "keeper lost"
    LAUNCHED = "launched"
    MONITOR_HANGS = "monitor hangs"
    MOVES_AGAIN = "moves again"
    NOT_LAUNCHED = "not launched"
    NOT_DONE = "not done"
    OUTPUT_CAPPED = "output capped"
    PAUSED = "paused"
    PAUSED_FOR = "paused for"
    PAUSED_GPU_FREE = "paused: gpu free"
    QUIET_HOURS = "quiet hours"
    QUIET_GPU_FREE = "quiet hours: gpu free"
    QUIET_HOURS_BEGIN = "quiet hours begin"
    PATTERN_TOO_SLOW = "pattern too slow"
    READS_POSITION = "reads position"
    RUN_DIR_LOST = "run dir lost"
    RUN_DIR_MOVED = "run dir moved"
    SET_BY_HAND = "set by hand"
    SILENT = "silent"
    SILENT_ENDED = "silent: ended"
    STRAY = "stray"
    SUPERVISOR_PLACE = "supervisor place"
    SUPERVISOR_LOGOUT = "supervisor place: logout"
    SUPERSEDED = "superseded"
    UNKILLABLE_HELD = "unkillable: held"

    # What people are alerted of, and whether it reached them.
    ALERT_DISK = "alert: disk"
    ALERT_HELD = "alert: held"
    ALERT_LOST = "alert lost"
    ALERT_SENT = "alert sent"
    ALERTS_LATE = "alerts late"
    PING_LOST = "ping lost"
    ADDRESS_UNKNOWN = "address: unknown to Apprise"
    ADDRESS_REFUSES = "address: unreachable, or refuses"
    COMMAND_NOT_STARTED = "alert command: not started"
    COMMAND_ENDLESS = "alert command: does not end"
    COMMAND_FAILED = "alert command: failed"
    SERVER_REFUSES = "server: refuses"
    SERVER_SILENT = "server: no answer"


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
    DAILY_SUMMARY = "daily summary"
    DISK = "disk"
    """The disk is on its way to be full."""
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
    KEEPER_LOST = "keeper lost"
    LAUNCHED = "launched"
    MEMORY_FORECAST = "memory forecast"
    """The trainer's memory on a GPU rises towards its end."""
    MONITOR = "monitor"
    """The monitor hangs, and is started anew."""
    MOVES_AGAIN = "moves again"
    """A stalled trainer makes progress."""
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
    RESTART = "restart"
    """Asked for."""
    RUN_DIR_LOST = "run dir lost"
    RUN_DIR_MOVED = "run dir moved"
    SAVED = "saved"
    """The trainer has left with its state saved, and is launched again."""
    SET_BY_HAND = "set by hand"
    """A value that was learned is outranked."""
    STALLED = "stalled"
    """The trainer makes no progress; it is not ended yet."""
    STOP = "stop"
    """Asked for."""
    STOPPED = "stopped"
    STRAY = "stray"
    """A process of the run was left over, and is ended."""
    SUPERSEDED = "superseded"
    UNKILLABLE = "unkillable"

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


_ALERTS: Final[Mapping[JournalEvent, AlertKind]] = {
    JournalEvent.ALARM: AlertKind.WARNING,
    JournalEvent.GPU: AlertKind.WARNING,
    JournalEvent.MEMORY_FORECAST: AlertKind.WARNING,
    JournalEvent.STALLED: AlertKind.STALLED,
    JournalEvent.FAILED: AlertKind.FAILED,
    JournalEvent.COMPLETED: AlertKind.COMPLETED,
}


@dataclass(frozen=True)
class Message:
    """One thing that is said."""

    topic: Topic
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Strings, numbers, None, further messages, or tuples of these."""

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {"topic": str(self.topic), **{key: _plain(value) for key, value in self.facts.items()}}


def say(topic: Topic, **facts: Any) -> Message:
    """A message of these facts."""
    return Message(topic, facts)


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return value.document()
    return [_plain(one) for one in value] if isinstance(value, tuple) else value
