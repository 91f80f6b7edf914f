"""The failure policy: a cause, and its remedies in order. The first matching row counts."""

from collections.abc import Callable
from dataclasses import replace

from fred_supervisor.contract.heartbeat import Section
from fred_supervisor.contract.record import record
from fred_supervisor.policy.cause import Cause, Diagnosis, Evidence, section_of
from fred_supervisor.policy.history import BatchOrder, Learned, Remedy, RunHistory, Trial, halved, rolled_back
from fred_supervisor.policy.message import Message, Topic, say
from fred_supervisor.policy.settings import Settings
from fred_supervisor.policy.warnings.learning import stretch_in


@record
class Case:
    """One failure before its answer. `history` already counts it."""

    settings: Settings
    history: RunHistory
    diagnosis: Diagnosis
    evidence: Evidence

    @property
    def cause(self) -> Cause:
        return self.diagnosis.cause

    @property
    def section(self) -> str:
        return section_of(self.evidence)

    @property
    def phase(self) -> str | None:
        error, beat = self.evidence.error, self.evidence.beat
        return (error.phase if error else None) or (beat.phase if beat else None)

    @property
    def unfreezing(self) -> bool:
        """Anything but the freeze phase: trainers without phases train everything.

        For a foreign trainer only the unfreeze batch can be ordered. Many trainers beat after each step: when memory
        runs out at the phase boundary, their last record is still of the freeze phase.
        """
        return self.settings.foreign or self.phase != "freeze"

    @property
    def steps(self) -> int:
        beat = self.evidence.beat
        return (beat.step or 0) if beat else 0

    @property
    def same(self) -> int:
        return self.history.failures.get(self.diagnosis.signature, 0)


@record
class Row:
    """One row of the table."""

    name: str
    matches: Callable[[Case], bool]
    remedies: tuple[Remedy, ...]
    """Each tried once per stretch, in order; then the run has failed."""
    again: bool = False
    """The last remedy may be tried again and again, as long as it can be applied and the budget lasts."""


def _may_clear(case: Case) -> bool:
    """What somebody has seen may last a day; what only words speak of, as often as a day has longest back-offs."""
    fault = case.evidence.fault
    seen = fault is not None and fault.seen
    return seen or case.same * case.settings.backoff_max_s < case.settings.hold_max_s


def _by_hand(case: Case) -> bool:
    """The limit that has passed was set by hand."""
    return case.evidence.missing_line is not None or case.section in case.settings.hang_timeout_s


def _may_be_longer(case: Case) -> bool:
    """A resume from further on skips longer, without a sign of life: up to 16 times the limit."""
    return not _by_hand(case) and case.history.learned.factors.get(case.section, 1.0) < 16


def _workers(case: Case) -> int:
    """Loader workers that can be ordered to be fewer."""
    learned = case.history.overrides.workers
    return 0 if case.settings.foreign else (case.settings.workers or 0) if learned is None else learned


def _oom(case: Case) -> bool:
    """Also one that waiting for others has not helped against."""
    return case.cause in (Cause.CUDA_OOM, Cause.GPU_MEMORY)


def _may_be_fragments(case: Case) -> bool:
    """Expandable segments come first: it fitted for long, or nobody can be seen to take another batch."""
    beat = case.evidence.beat
    client = case.history.learned.client or (beat is not None and not beat.printed)
    return case.steps > 100 or not (case.settings.takes_batch or client)


ROWS: tuple[Row, ...] = (
    Row(
        name="state saved",
        matches=lambda c: c.cause is Cause.SAVED and c.history.progressed,
        remedies=(Remedy.AT_ONCE,),
        again=True,
    ),
    Row(name="configuration", matches=lambda c: c.cause is Cause.CONFIG, remedies=(Remedy.FAIL,)),
    Row(
        name="import",
        matches=lambda c: c.cause is Cause.IMPORT and c.same < c.settings.same_failure,
        remedies=(Remedy.BACK_OFF,),
        again=True,
    ),
    Row(name="import, again", matches=lambda c: c.cause is Cause.IMPORT, remedies=(Remedy.FAIL,)),
    Row(
        name="environment",
        matches=lambda c: c.cause in (Cause.DISK, Cause.ENVIRONMENT) and _may_clear(c),
        remedies=(Remedy.HOLD,),
        again=True,
    ),
    Row(name="GPU", matches=lambda c: c.cause is Cause.GPU, remedies=(Remedy.HOLD,), again=True),
    Row(
        name="GPU memory that others hold",
        matches=lambda c: c.cause is Cause.GPU_MEMORY and c.same < c.settings.same_failure,
        remedies=(Remedy.HOLD,),
        again=True,
    ),
    Row(
        name="CUDA out of memory in evaluation",
        matches=lambda c: _oom(c) and c.section == Section.EVAL and not c.settings.foreign,
        remedies=(Remedy.HALVE_EVAL, Remedy.NO_EVAL_MAP),
    ),
    Row(
        name="CUDA out of memory after 100 steps",
        matches=lambda c: (
            _oom(c) and _may_be_fragments(c) and c.settings.expandable and not c.history.overrides.expandable_segments
        ),
        remedies=(Remedy.EXPANDABLE,),
    ),
    Row(
        name="CUDA out of memory while unfreezing",
        matches=lambda c: _oom(c) and c.settings.halve and c.unfreezing,
        remedies=(Remedy.HALVE_UNFREEZE,),
        again=True,
    ),
    Row(
        name="CUDA out of memory in the freeze phase",
        matches=lambda c: _oom(c) and c.settings.halve and not c.settings.foreign,
        remedies=(Remedy.HALVE_FREEZE,),
        again=True,
    ),
    Row(
        name="checkpoint",
        matches=lambda c: (
            c.evidence.resumed_from is not None
            and (c.cause is Cause.CHECKPOINT or (c.cause is Cause.NAN and not c.history.progressed))
        ),
        remedies=(Remedy.ONE_OLDER, Remedy.NEWEST_AGAIN),
    ),
    Row(
        name="host out of memory",
        matches=lambda c: c.cause is Cause.HOST_OOM,
        remedies=(Remedy.FEWER_WORKERS, Remedy.HALVE_UNFREEZE),
    ),
    Row(
        name="too many open files",
        matches=lambda c: c.cause is Cause.OPEN_FILES and (not c.history.overrides.open_files or _workers(c) > 0),
        remedies=(Remedy.MORE_OPEN_FILES, Remedy.FEWER_WORKERS),
        again=True,
    ),
    Row(
        name="shared memory too small",
        matches=lambda c: c.cause is Cause.SHARED_MEMORY and _workers(c) > 0,
        remedies=(Remedy.FEWER_WORKERS,),
        again=True,
    ),
    Row(name="a part of the model is dead", matches=lambda c: c.cause is Cause.LEARNING, remedies=(Remedy.FAIL,)),
    Row(
        name="training diverges",
        matches=lambda c: c.cause is Cause.DIVERGENCE,
        remedies=(Remedy.ROLL_BACK, Remedy.PAUSE),
    ),
    Row(name="loss not finite", matches=lambda c: c.cause is Cause.NAN, remedies=(Remedy.FULL_PRECISION,)),
    Row(
        name="evaluation, again",
        matches=lambda c: (
            c.section == Section.EVAL
            and not c.settings.foreign
            and not c.history.overrides.no_eval_map
            and max(c.history.eval_failures.values(), default=0) > 1
        ),
        remedies=(Remedy.NO_EVAL_MAP,),
    ),
    Row(
        name="hang of a trainer without sections",
        matches=lambda c: c.cause is Cause.HANG and c.evidence.beat is None and _may_be_longer(c),
        remedies=(Remedy.AT_ONCE, Remedy.LONGER_LIMIT),
        again=True,
    ),
    Row(
        name="the same failure at the same step",
        matches=lambda c: c.same >= c.settings.same_failure,
        remedies=(Remedy.FAIL,),
    ),
    Row(
        name="hang",
        matches=lambda c: c.cause is Cause.HANG,
        remedies=(Remedy.AT_ONCE, Remedy.LONGER_LIMIT),
    ),
    Row(
        name="signal while unfreezing, again",
        matches=lambda c: (
            c.cause is Cause.SIGNAL
            and c.settings.halve
            and c.phase == "unfreeze"
            and c.history.signal_crashes > 1
            and halved(c.history.overrides, c.settings) is not None
        ),
        remedies=(Remedy.HALVE_UNFREEZE,),
        again=True,
    ),
    Row(name="any other", matches=lambda _: True, remedies=(Remedy.BACK_OFF,), again=True),
)


@record
class Choice:
    """What is done about a failure."""

    remedy: Remedy
    history: RunHistory
    action: Message
    """What was done, for a person."""


def choose(case: Case) -> Choice:
    """The answer to one failure."""
    withdrawn = set(case.history.overrides.withdrawn)
    row = next(row for row in ROWS if row.matches(case) and not withdrawn.issuperset(row.remedies))
    for at, remedy in enumerate(row.remedies):
        key = f"{row.name}: {remedy}" if case.cause is not Cause.HANG else f"{row.name} in {case.section}: {remedy}"
        repeatable = row.again and at == len(row.remedies) - 1
        if (key in case.history.tried and not repeatable) or remedy in withdrawn:
            continue
        applied = _apply(remedy, case)
        if applied is None:
            continue
        history, told = applied
        if key not in history.tried:
            history = replace(history, tried=(*history.tried, key))
        if history.overrides != case.history.overrides and remedy is not Remedy.ROLL_BACK:
            trial = Trial(
                remedy=remedy,
                cause=str(case.cause),
                overrides=case.history.overrides,
                beat=case.evidence.beat,
                again=repeatable,
            )
            history = replace(history, trial=trial)
        return Choice(remedy=remedy, history=history, action=told)
    return Choice(remedy=Remedy.FAIL, history=case.history, action=_why_spent(case, row))


def _why_spent(case: Case, row: Row) -> Message:
    if row.remedies == (Remedy.FAIL,):
        return say(Topic.GIVEN_UP, times=case.same)
    if _oom(case):
        return say(Topic.GIVEN_UP_SMALLEST, takes_batch=case.settings.takes_batch)
    return say(Topic.GIVEN_UP_TRIED)


def _apply(remedy: Remedy, case: Case) -> tuple[RunHistory, Message] | None:
    """The history with the remedy in force, and what to tell; None when it cannot be applied."""
    history, overrides = case.history, case.history.overrides

    def order(told: Message, **changes: object) -> tuple[RunHistory, Message]:
        return replace(history, overrides=replace(overrides, **changes)), told  # type: ignore[arg-type] # field by name

    match remedy:
        case Remedy.FAIL:
            return None
        case Remedy.AT_ONCE:
            return history, say(Topic.RELAUNCHED_AT_ONCE)
        case Remedy.BACK_OFF:
            return replace(history, backoffs=history.backoffs + 1), say(Topic.RELAUNCHED_AT_ONCE)
        case Remedy.HOLD:
            return history, say(Topic.HELD_UNTIL_CLEAR)
        case Remedy.EXPANDABLE:
            return order(say(Topic.EXPANDABLE_SEGMENTS), expandable_segments=True)
        case Remedy.HALVE_UNFREEZE:
            if (sizes := halved(overrides, case.settings)) is None:
                return None
            before, batch, accumulate = sizes
            assumed = case.settings.foreign and not case.settings.batch_set and overrides.unfreeze_batch is None
            sizes_told = {"before": before, "after": batch, "accumulate": accumulate, "assumed": assumed}
            told = say(Topic.HALF_UNFREEZE_BATCH, takes_batch=case.settings.takes_batch, **sizes_told)
            steps = None if case.evidence.beat is None else case.evidence.beat.steps
            ordered = BatchOrder(batch=batch, of=None if assumed else before, steps=steps)
            after, told = order(told, unfreeze_batch=batch, accumulate=accumulate)
            return replace(after, batch_order=ordered), told
        case Remedy.HALVE_FREEZE:
            size = overrides.freeze_batch or case.settings.freeze_batch
            if size is None or size < 2:
                return None
            return order(say(Topic.HALF_FREEZE_BATCH, before=size, after=size // 2), freeze_batch=size // 2)
        case Remedy.HALVE_EVAL:
            size = overrides.eval_batch or case.settings.unfreeze_batch
            if size is None or size < 2:
                return None
            return order(say(Topic.HALF_EVAL_BATCH, before=size, after=size // 2), eval_batch=size // 2)
        case Remedy.NO_EVAL_MAP:
            return order(say(Topic.NO_EVALUATION), no_eval_map=True)
        case Remedy.ONE_OLDER:
            if (path := case.evidence.resumed_from) is None:
                return None
            blamed = (*overrides.blamed, path, *case.evidence.written_lost)
            return order(say(Topic.ONE_OLDER, name=path.rpartition("/")[2]), blamed=blamed)
        case Remedy.NEWEST_AGAIN:
            return order(say(Topic.NEWEST_AGAIN), blamed=())
        case Remedy.FEWER_WORKERS:
            if not (workers := _workers(case)):
                return None
            return order(say(Topic.FEWER_WORKERS, before=workers, after=workers // 2), workers=workers // 2)
        case Remedy.MORE_OPEN_FILES:
            return None if overrides.open_files else order(say(Topic.MORE_OPEN_FILES), open_files=True)
        case Remedy.ROLL_BACK:
            stretch = None if case.evidence.failed_line is None else stretch_in(case.evidence.failed_line)
            if stretch is None:
                return None
            told = say(Topic.ROLLED_BACK, well_epoch=stretch.well_epoch, foreign=case.settings.foreign)
            return rolled_back(history, replace(stretch, until=case.evidence.at)), told
        case Remedy.PAUSE:
            return replace(history, unanswered=False), say(Topic.PAUSED_DIVERGED)
        case Remedy.FULL_PRECISION:
            if case.settings.foreign:
                lost = case.evidence.written_lost
                return order(say(Topic.OWN_PRECISION, before=bool(lost)), blamed=(*overrides.blamed, *lost))
            if overrides.full_precision:
                return None
            return order(say(Topic.FULL_PRECISION), full_precision=True)
        case Remedy.LONGER_LIMIT:
            section = case.section
            if _by_hand(case):
                return history, say(Topic.LIMIT_STAYS)
            factor = history.learned.factors.get(section, 1.0) * 2
            learned: Learned = replace(history.learned, factors={**history.learned.factors, section: factor})
            return replace(history, learned=learned), say(Topic.LONGER_LIMIT, section=section)
