"""What a run remembers over its attempts; `state.json` keeps it."""

from collections.abc import Mapping
from dataclasses import field, replace
from enum import StrEnum
from typing import Final

from fred_supervisor.contract.heartbeat import Beat, Section
from fred_supervisor.contract.record import record
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.warnings.held import HeldWarning
from fred_supervisor.policy.warnings.learning import BadStretch, LearningHistory, without
from fred_supervisor.policy.warnings.resumed import LossTrace
from fred_supervisor.policy.warnings.speed import UsualSpeed


class RunOutcome(StrEnum):
    """How a run has ended."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"


@record
class BatchOrder:
    """Less batch, ordered after a failure."""

    batch: int
    of: int | None
    """The batch before; None: it was assumed."""
    steps: int | None = None
    """In an epoch, or in the whole, with the batch before."""
    confirmed: bool = False
    """The trainer was seen to take it."""


@record
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
    open_files: bool = False
    """The trainer may have as many files open as the machine allows."""
    blamed: tuple[str, ...] = ()
    """Checkpoints that come last."""
    withdrawn: tuple[str, ...] = ()
    """Remedies that made it worse: they are not tried again in this run."""
    stretch: BadStretch | None = None
    """What was saved in it comes last, too: the run was rolled back."""


@record
class Restarts:
    """Relaunches by kind, for people."""

    crash: int = 0
    hang: int = 0
    oom: int = 0
    others: Mapping[str, int] = field(default_factory=dict)
    """Kind → relaunches, of the other kinds of incidents."""

    @property
    def by_kind(self) -> Mapping[str, int]:
        """Of those that there were."""
        counts = {"crash": self.crash, "hang": self.hang, "oom": self.oom, **self.others}
        return {kind: count for kind, count in counts.items() if count}

    @property
    def total(self) -> int:
        return sum(self.by_kind.values())


@record
class Learned:
    """What a run has taught about its own pace; kept over relaunches."""

    gaps_s: Mapping[str, float] = field(default_factory=dict)
    """Section → largest gap between two signs of progress."""
    cycle: tuple[str, ...] = ()
    """Sections of a cycle seen so far: train, eval, checkpoint, and train again."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """Section → by how much a hang that repeated itself has stretched its limit."""
    beats: bool = False
    """An attempt of this run has beaten."""
    client: bool = False
    """It has written a record of the client."""
    patterns: tuple[str, ...] = ()
    """Names of what was believed of its output."""

    @property
    def whole_cycle(self) -> bool:
        return self.cycle[-1:] == (Section.TRAIN,) and {Section.EVAL, Section.CHECKPOINT} <= set(self.cycle)


@record
class LeftAt:
    """A place short of the goal, or, where nobody says the goal, short of where training had been before."""

    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    certain: bool = True
    """False: it may have been right to end there, for all that is known."""
    early: bool = False
    """Its output spoke of early stopping."""
    furthest: float | None = None
    """Where training had been before; None: it is the goal that is known."""

    def a_step_from(self, before: "LeftAt") -> bool:
        """Whether it is no more than one epoch from another place, as far as both count epochs, and neither is certain.

        What remains is compared: who resumes may count that only.
        """
        if self.epoch is None or self.epochs is None or before.epoch is None or before.epochs is None:
            return False
        remains, remained = self.epochs - self.epoch, before.epochs - before.epoch
        return not self.certain and not before.certain and abs(remained - remains) <= 1


class Remedy(StrEnum):
    """One way on."""

    AT_ONCE = "relaunch at once"
    BACK_OFF = "relaunch after a back-off"
    HOLD = "hold until it clears"
    EXPANDABLE = "the same batch with expandable segments"
    HALVE_UNFREEZE = "half the unfreeze batch"
    HALVE_FREEZE = "half the freeze batch"
    HALVE_EVAL = "half the evaluation batch"
    NO_EVAL_MAP = "no evaluation"
    ONE_OLDER = "one checkpoint older"
    NEWEST_AGAIN = "the newest checkpoint once more"
    FEWER_WORKERS = "half the loader workers"
    MORE_OPEN_FILES = "as many open files as the machine allows"
    FULL_PRECISION = "fp32"
    LONGER_LIMIT = "twice the limit of the section"
    ROLL_BACK = "a checkpoint from before it"
    PAUSE = "pause until a person goes on"
    FAIL = "give up"


@record
class Trial:
    """A remedy that the present attempt tries, and the failure that it is to help against."""

    remedy: Remedy
    cause: str
    overrides: Overrides
    """As they were before."""
    beat: Beat | None = None
    """How far training was."""
    again: bool = False
    """It is tried by degrees, so the same failure once more does not speak against it."""


@record
class RunHistory:
    """What a run remembers over its attempts. A stretch is the time since the last new progress."""

    attempt: int = 0
    overrides: Overrides = field(default_factory=Overrides)
    learned: Learned = field(default_factory=Learned)
    restarts: Restarts = field(default_factory=Restarts)
    furthest: Mapping[str, float] = field(default_factory=dict)
    """Measure → furthest point ever trained to, see `advance`."""
    began: Mapping[str, float] = field(default_factory=dict)
    """Measure → the first point of the run's first attempt that said it."""
    batch_order: BatchOrder | None = None
    """The last one; it counts while its batch is that of the overrides."""
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
    trial: Trial | None = None
    """None: the present attempt was launched as the one before."""
    left_at: LeftAt | None = None
    """Where a trainer left with exit code 0 before its goal, in this stretch."""
    left: tuple[LeftAt, ...] = ()
    """The same of attempts in a row that each brought no more than one epoch, where that may have been right."""
    short_at: LeftAt | None = None
    """Where an attempt ended last, in whatever way, of a trainer that says where it is."""
    progressed: bool = False
    """This attempt has made new progress."""
    waived: bool = False
    """A person has resumed training within these quiet hours: they no longer count."""
    lived_s: float = 0.0
    """Time of attempts and back-offs in the window of the last hours; see `lived`."""
    useful_s: float = 0.0
    """How much of it brought training further than ever."""
    warnings: tuple[HeldWarning, ...] = ()
    usual_speed: Mapping[str, UsualSpeed] = field(default_factory=dict)
    """By phase and batch."""
    learning: LearningHistory = field(default_factory=LearningHistory)
    unanswered: bool = False
    """A divergence has begun that `--on-divergence` is still to answer."""
    leak_restart_s: float | None = None
    """When a trainer was last relaunched because its memory grew, by the monotonic clock."""
    trace: LossTrace = field(default_factory=LossTrace)


def refilled(history: RunHistory, furthest: Mapping[str, float]) -> RunHistory:
    """The history of a run that has made new progress: nothing was spent, and nothing has failed."""
    early = history.left_at if history.left_at is not None and history.left_at.early else None
    return replace(unspent(history), furthest=furthest, left_at=early, left=history.left, progressed=True)


def unspent(history: RunHistory) -> RunHistory:
    """The history without failures, and with the whole budget; what was learnt stays."""
    whole = replace(history, spent=0, backoffs=0, tried=(), left_at=None, left=(), short_at=None)
    return replace(whole, failures={}, eval_failures={}, signal_crashes=0)


def rolled_back(history: RunHistory, stretch: BadStretch) -> RunHistory:
    """A run that goes on from before a stretch: what was trained in it is no progress, and no measure."""
    learning, trace = without(history.learning, stretch), LossTrace()
    after = replace(history, learning=learning, trace=trace, furthest={}, unanswered=False)
    return replace(after, overrides=replace(history.overrides, stretch=stretch))


def lived(history: RunHistory, *, lived_s: float, useful_s: float, window_s: float) -> RunHistory:
    """The history with the time of an attempt added; what is older than about two windows weighs less and less."""
    lived_s, useful_s = history.lived_s + lived_s, history.useful_s + useful_s
    while lived_s > 2 * window_s:
        lived_s, useful_s = lived_s / 2, useful_s / 2
    return replace(history, lived_s=lived_s, useful_s=useful_s)


_EPOCHS_LEFT: Final = "epochs left"
_STEPS_LEFT: Final = "steps left"


def measure(beat: Beat) -> str:
    """What `advance` counts: only points of one measure can be compared. A bar has its own."""
    if beat.epoch is not None:
        return "epoch"
    if beat.samples is not None:
        return "samples"
    return f"step of {beat.steps}" if beat.printed else "step"


def points(beat: Beat) -> Mapping[str, float]:
    """How far a record is in every measure that it has; of what is printed, also by how little remains to its goal.

    A trainer may count only what remains, after a resume: its total is smaller then.
    """
    reached = advance(beat)
    found = {} if reached is None else {measure(beat): reached}
    goal = beat.epochs if beat.epoch is not None else beat.steps
    if reached is None or not beat.printed or goal is None:
        return found
    return {**found, _EPOCHS_LEFT if beat.epoch is not None else _STEPS_LEFT: reached - goal}


def first_of(beat: Beat | None) -> Beat | None:
    """Where the process of a record began; None when it does not say."""
    if beat is None or (beat.began_epoch is None and beat.began_step is None):
        return None
    return replace(beat, epoch=beat.began_epoch, step=beat.began_step, samples=None)


def advance(beat: Beat | None) -> float | None:
    """How far a record is in training, comparable over attempts and batch sizes; None when it does not say."""
    if beat is None:
        return None
    if beat.epoch is not None:
        return beat.epoch + ((beat.step or 0) / beat.steps if beat.steps else (beat.step or 0) * 1e-9)
    if beat.samples is not None:
        return float(beat.samples)
    return None if beat.step is None else float(beat.step)


def halved(overrides: Overrides, settings: Settings) -> tuple[int, int, int] | None:
    """Unfreeze batch before, after, and accumulation after; None at 1, when unknown, or when turned off."""
    before = overrides.unfreeze_batch or settings.unfreeze_batch
    if before is None or before < 2 or not settings.halve:
        return None
    effective = before * (overrides.accumulate or settings.accumulate)
    batch = before // 2
    return before, batch, max(1, round(effective / batch))


def confirm_batch(history: RunHistory, beat: Beat | None) -> RunHistory:
    """The history with the last order of a batch confirmed, where a record shows that it has arrived.

    The trainer says its batch, or what it prints has as many more steps as the batch is smaller.
    """
    ordered = history.batch_order
    if ordered is None or ordered.confirmed or beat is None or ordered.batch != history.overrides.unfreeze_batch:
        return history
    if beat.batch != ordered.batch and not _more_steps(ordered, beat.steps):
        return history
    return replace(history, batch_order=replace(ordered, confirmed=True))


def _more_steps(ordered: BatchOrder, steps: int | None) -> bool:
    if ordered.steps is None or steps is None or steps <= ordered.steps:
        return False
    if ordered.of is None:
        return steps > 1.2 * ordered.steps
    return abs(steps * ordered.batch - ordered.steps * ordered.of) < ordered.of


def short_of_goal(beat: Beat | None) -> bool | None:
    """Whether the last record itself says that epochs are missing, or steps where it names no number of epochs."""
    if beat is None:
        return None
    if beat.epoch is not None and beat.epochs is not None:
        return beat.epoch < beat.epochs
    if beat.epochs is None and beat.step is not None and beat.steps is not None:
        return beat.step < beat.steps
    return None


def names_goal(beat: Beat) -> bool:
    """Whether the end of training stands in a record, and not that of its epoch only."""
    return beat.epochs is not None or (beat.epoch is None and beat.steps is not None)
