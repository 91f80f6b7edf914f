"""What a run remembers, and the states that it can be in."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fred_supervisor.contract.heartbeat import Beat
from fred_supervisor.policy.cause import Cause, EndedBy
from fred_supervisor.policy.message import Message
from fred_supervisor.policy.requests import Request
from fred_supervisor.policy.watch import Learned, Watch


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the trainer is launched with beyond what was asked for: learnt from failures, kept for the run."""

    unfreeze_batch: int | None = None
    accumulate: int | None = None
    freeze_batch: int | None = None
    eval_batch: int | None = None
    workers: int | None = None
    no_eval_map: bool = False
    full_precision: bool = False
    expandable_segments: bool = False
    blamed: tuple[str, ...] = ()
    """Checkpoints that come last."""


@dataclass(frozen=True, kw_only=True)
class Restarts:
    """Relaunches by kind, for people."""

    crash: int = 0
    hang: int = 0
    oom: int = 0

    @property
    def total(self) -> int:
        return self.crash + self.hang + self.oom


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """What a run remembers over its attempts. A stretch is the time since the last new progress."""

    attempt: int = 0
    overrides: Overrides = field(default_factory=Overrides)
    learned: Learned = field(default_factory=Learned)
    restarts: Restarts = field(default_factory=Restarts)
    furthest: float | None = None
    """Furthest point ever trained to, see `advance`."""
    spent: int = 0
    """Relaunches in this stretch."""
    backoffs: int = 0
    """Back-offs in this stretch."""
    tried: tuple[str, ...] = ()
    """Remedies tried in this stretch, as "row: remedy"."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Signature → how often in this stretch."""
    eval_failures: Mapping[str, int] = field(default_factory=dict)
    """Epoch → failures during its evaluation, in this stretch."""
    signal_crashes: int = 0
    """Crashes by a signal while unfreezing, in this stretch."""
    progressed: bool = False
    """This attempt has made new progress."""
    waived: bool = False
    """A person has resumed training within these quiet hours: they no longer count."""
    lived_s: float = 0.0
    """Time of attempts and back-offs in the window of the last hours; see `lived`."""
    useful_s: float = 0.0
    """How much of it brought training further than ever."""


def lived(history: RunHistory, *, lived_s: float, useful_s: float, window_s: float) -> RunHistory:
    """The history with the time of an attempt added; what is older than about two windows weighs less and less."""
    lived_s, useful_s = history.lived_s + lived_s, history.useful_s + useful_s
    while lived_s > 2 * window_s:
        lived_s, useful_s = lived_s / 2, useful_s / 2
    return replace(history, lived_s=lived_s, useful_s=useful_s)


def advance(beat: Beat | None) -> float | None:
    """How far a record is in training, comparable over attempts and batch sizes; None when it does not say."""
    if beat is None:
        return None
    if beat.epoch is not None:
        return beat.epoch + ((beat.step or 0) / beat.steps if beat.steps else (beat.step or 0) * 1e-9)
    if beat.samples is not None:
        return float(beat.samples)
    return None if beat.step is None else float(beat.step)


@dataclass(frozen=True, kw_only=True)
class AwaitingGpu:
    """The next attempt waits for word whether it can have a GPU; `history` ends with the attempt before."""

    history: RunHistory
    ask_s: float | None = None
    """When the monitor is asked again; None: it was asked, and its answer is to come."""
    waits_for: Message | None = None
    """What was in the way, and may be gone in a moment; for a person."""
    at_start: bool = False
    """The command `start` waits for word."""


@dataclass(frozen=True, kw_only=True)
class Starting:
    """A launch was ordered; the keeper has not yet said that the trainer runs."""

    history: RunHistory
    request: Request | None = None
    """Asked for meanwhile; obeyed when there is a trainer that can be asked."""
    at_start: bool = False
    """The command `start` waits for word."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """The trainer is alive."""

    history: RunHistory
    watch: Watch
    since_s: float
    """When it was launched, or adopted."""
    passed_s: tuple[float, float] | None = None
    """When this attempt first and last trained further than ever."""


class Rung(StrEnum):
    """Of the ladder by which a trainer is ended."""

    DUMP = "dump"
    TERM = "term"
    KILL = "kill"


@dataclass(frozen=True, kw_only=True)
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


@dataclass(frozen=True, kw_only=True)
class Survivor:
    """A process of the trainer that SIGKILL does not end."""

    pid: int
    wchan: str | None = None
    """The kernel function that it waits in, where that may be read."""


@dataclass(frozen=True, kw_only=True)
class Unkillable:
    """The end of a trainer that SIGKILL has begun and not finished."""

    survivors: tuple[Survivor, ...]
    by: EndedBy | None
    """Why we ended it, if we did."""
    stalled_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class BackingOff:
    """Back-off before a relaunch."""

    history: RunHistory
    until_s: float


@dataclass(frozen=True, kw_only=True)
class Holding:
    """Will not relaunch until a condition clears."""

    history: RunHistory
    cause: Cause
    condition: Message
    """What is waited for, for a person."""
    since_s: float
    probe_s: float
    """When the condition is looked at next."""
    unkillable: Unkillable | None = None
    """What is waited for is the end of these processes; nothing else clears it."""


@dataclass(frozen=True, kw_only=True)
class Paused:
    """Let go of the GPU, by request."""

    history: RunHistory
    quiet: Message | None = None
    """The quiet hours whose end ends it; None: a person asked, and a person ends it."""


class RunOutcome(StrEnum):
    """How a run has ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Nothing of the run is left."""

    history: RunHistory
    outcome: RunOutcome
    message: Message


State = AwaitingGpu | Starting | Running | Stopping | BackingOff | Holding | Paused | Ended
